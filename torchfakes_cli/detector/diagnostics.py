"""Diagnostics of computing devices, the shipped detector and the cache."""

from __future__ import annotations

import os

import torch

from torchfakes_cli.detector.checkpoint import load_checkpoint
from torchfakes_cli.detector.detector import choose_device, cpu_bf16_instructions, fast_dtype
from torchfakes_cli.detector.download import cache_folder
from torchfakes_cli.detector.registry import recorded_checksum, shipped_checkpoint
from torchfakes_cli.errors import CheckpointError, ModelNotFoundError
from torchfakes_cli.files import sha256_of
from torchfakes_cli.records import Fact, Severity


def computing_diagnostics() -> list[Fact]:
    """Collect the default device, precision and threads of a scan, with the reasons."""
    device = choose_device()
    precision = str(fast_dtype(device)).removeprefix("torch.")
    facts = [_device(device), Fact("precision", precision, _why_precision(device))]
    if device.type == "cpu":
        facts.append(Fact("vector instructions", torch.backends.cpu.get_cpu_capability()))
    variables = [name for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS") if os.environ.get(name)]
    why = f"set by {variables[0]}" if variables else "one a core that this process may use"
    return [*facts, Fact("threads", str(torch.get_num_threads()), why)]


def detector_diagnostics() -> list[Fact]:
    """Check the shipped detector: its checksum, calibration and thresholds."""
    try:
        path = shipped_checkpoint()
        _, header = load_checkpoint(path)
    except (ModelNotFoundError, CheckpointError) as error:
        return [Fact("detector", "can't be used", str(error), Severity.BROKEN)]
    facts = [Fact("detector", header.name, f"ships with torchfakes, made {header.created or 'at an unknown time'}")]
    recorded, found = recorded_checksum(path), sha256_of(path)
    if recorded is None:
        facts.append(Fact("checksum", f"SHA-256 {found[:16]}…", "none is recorded to compare with", Severity.LIMITED))
    elif recorded != found:
        why = f"{recorded[:16]}… is recorded: install torchfakes again"
        facts.append(Fact("checksum", f"wrong: SHA-256 {found[:16]}…", why, Severity.LIMITED))
    else:
        facts.append(Fact("checksum", "right", f"SHA-256 {found[:16]}… as recorded"))
    return [
        *facts,
        Fact(
            "thresholds",
            f"fake from {header.fake_above:.3f} on, real below {header.real_below:.3f}",
            f"fitted on {header.calibrated_on}" if header.calibrated_on else "never calibrated",
            Severity.GOOD if header.calibrated_on else Severity.LIMITED,
        ),
    ]


def cache_diagnostics() -> list[Fact]:
    """Report the cache folder of downloaded weights."""
    folder = cache_folder()
    weights = sorted(path.name for path in folder.glob("*.pt"))
    place = folder if folder.exists() else next(parent for parent in folder.parents if parent.exists())
    writable = os.access(place, os.W_OK)
    why = f"holds {', '.join(weights)}" if weights else "holds no VGGFace2 weights; training fetches them"
    severity = Severity.GOOD if writable else Severity.LIMITED
    return [Fact("cache", str(folder), why if writable else "can't be written: training can't fetch weights", severity)]


def _device(device: torch.device) -> Fact:
    if device.type == "cuda":
        memory = torch.cuda.get_device_properties(device).total_memory / (1 << 30)
        return Fact("device", f"cuda: {torch.cuda.get_device_name(device)}, {memory:.0f} GiB", "PyTorch finds a GPU")
    if torch.version.cuda is None and torch.version.hip is None:
        return Fact("device", "cpu", "this PyTorch was built without CUDA")
    built_for = f"CUDA {torch.version.cuda}" if torch.version.cuda else f"ROCm {torch.version.hip}"
    return Fact("device", "cpu", f"PyTorch finds no GPU, though it was built for {built_for}")


def _why_precision(device: torch.device) -> str:
    if device.type == "cuda":
        has = fast_dtype(device) == torch.bfloat16
        return "this GPU computes in it" if has else "this GPU has no bfloat16"
    if instructions := cpu_bf16_instructions():
        return f"this processor has {instructions}"
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return "this PyTorch has no oneDNN, and would emulate bfloat16"
    if not hasattr(torch.cpu, "get_capabilities"):
        return "this PyTorch doesn't tell whether the processor has bfloat16 instructions"
    return "this processor has no bfloat16 instructions, and would emulate them slowly"
