"""The resumable state of a training, in one file; a resumed training gives the same result as an uninterrupted one.

The file is safetensors, tensors beside JSON: nothing in it is executed. It is replaced as a whole, so that a crash
leaves either the previous one or the new one. It holds no state of random generators: what an update sees and which
features it drops follow from the seed and the update's number.
"""

from __future__ import annotations

import dataclasses
import json
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_safetensors
from torch import Tensor, nn

from torchfakes_cli.detector.checkpoint import Header
from torchfakes_cli.errors import CheckpointError, OutputError, TorchfakesError, UsageError
from torchfakes_cli.files import write_atomically
from torchfakes_cli.training.config import TrainConfig, option_of
from torchfakes_cli.training.fit.log import Record
from torchfakes_cli.training.fit.update import Updater

STATE = "state.safetensors"
#: Key of our JSON in the metadata, and the version of its layout.
_KEY = "torchfakes_training"
_FORMAT = 3
#: Settings that don't decide the result of a training, so that they may differ when it is resumed.
LOCAL = ("out", "workers", "device", "track", "save_minutes", "resume", "force")


@dataclass(slots=True)
class Tally:
    """Sums over the epoch in progress."""

    loss: float = 0.0  # sum over crops
    right: int = 0  # crops on the right side of zero
    seen: int = 0  # crops
    passed_over: int = 0  # crops that couldn't be read
    updates: int = 0  # updates
    norms: list[float] = field(default_factory=list)  # sums over updates of the gradient's norm, and of each block's
    seconds: float = 0.0  # time spent training


@dataclass(slots=True)
class RunState:
    """The state of a training, without its tensors."""

    epoch: int = 1  # epoch in progress, from 1; one more than there are when all is done
    step: int = 0  # updates made
    tally: Tally = field(default_factory=Tally)  # sums over the epoch in progress
    micro_batch: int | None = None  # crops at once; None until one is settled
    best: list[float] | None = None  # video and frame AUC of the best epoch until now
    collapsed: int = 0  # epochs in a row that ended with one answer for all faces
    warnings: list[str] = field(default_factory=list)  # all warnings
    records: list[Record] = field(default_factory=list)  # figures of the finished epochs
    scaler: dict[str, float] = field(default_factory=dict)  # state of the scaler of float16 gradients
    run: str = ""  # an identifier for trackers that stays the same after resuming


@dataclass(frozen=True, slots=True)
class SavedTraining:
    """Contents of a state file."""

    path: Path  # path of the file
    config: TrainConfig  # configuration of the training
    data: str  # fingerprint of its crops
    header: Header  # header of its checkpoints
    run_state: RunState  # its state without tensors
    tensors: dict[str, Tensor]  # network.…, average.…, optimizer.NUMBER.…, and with a teacher map.… and teacher.…

    def restore(self, updater: Updater, average: nn.Module | None) -> None:
        """Load the tensors into a new updater and, if there is one, the moving average."""
        try:
            for part, module in _modules(updater, average).items():
                module.load_state_dict(self._named(part))
            _restore_optimizer(updater.optimizer, self._named("optimizer"))
            if self.run_state.scaler:
                updater.scaler.load_state_dict(self.run_state.scaler)
        except (RuntimeError, KeyError, ValueError) as error:
            cause = f"doesn't fit this training ({' '.join(str(error).split())[:200]})"
            raise CheckpointError(cause, path=self.path, advice="Start over with --force.") from error
        updater.micro_batch = self.run_state.micro_batch or updater.micro_batch
        updater.set_rate(max(0, self.run_state.step - 1))

    def _named(self, part: str) -> dict[str, Tensor]:
        start = f"{part}."
        return {name.removeprefix(start): tensor for name, tensor in self.tensors.items() if name.startswith(start)}


def save_state(
    folder: Path,
    config: TrainConfig,
    data: str,
    header: Header,
    run_state: RunState,
    updater: Updater,
    average: nn.Module | None,
) -> None:
    """Write the state of a training into its folder."""
    run_state.scaler = updater.scaler.state_dict()
    tensors = {
        f"{part}.{name}": tensor
        for part, module in _modules(updater, average).items()
        for name, tensor in module.state_dict().items()
    } | {
        f"optimizer.{number}.{name}": tensor
        for number, kept in updater.optimizer.state_dict()["state"].items()
        for name, tensor in kept.items()
        if tensor is not None
    }
    content = {"config": asdict(config), "data": data, "header": asdict(header), "run_state": asdict(run_state)}
    text = json.dumps({"format": _FORMAT, **content})
    plain = {name: tensor.detach().to("cpu").contiguous() for name, tensor in tensors.items()}
    write_atomically(folder / STATE, to_safetensors(plain, metadata={_KEY: text}))


def load_state(folder: Path, *, tensors: bool = True) -> SavedTraining:
    """Read the state of a training; without its tensors it takes milliseconds.

    Raises:
        OutputError: there is nothing to resume.
        CheckpointError: the file is damaged.
    """
    path = folder / STATE
    if not path.is_file():
        found = "its training is finished" if any(folder.glob("*.safetensors")) else "no training was interrupted there"
        raise OutputError(f"there is nothing to resume: {found}", path=folder, advice="Leave --resume out.")
    try:
        with safe_open(path, framework="pt", device="cpu") as handle:
            raw = json.loads((handle.metadata() or {})[_KEY])
            # Copies: the file is replaced while they live, which Windows forbids for one that is mapped.
            names = list(handle.keys()) if tensors else []
            state = {name: handle.get_tensor(name).clone() for name in names}
        if raw["format"] != _FORMAT:
            raise ValueError(f"its format is {raw['format']!r}")
        config, run_state = raw["config"], raw["run_state"]
        return SavedTraining(
            path=path,
            config=TrainConfig(**{**config, "track": tuple(config["track"]), "sizes": tuple(config["sizes"])}),
            data=str(raw["data"]),
            header=Header(**raw["header"]),
            run_state=RunState(**{**run_state, "tally": Tally(**run_state["tally"])}),
            tensors=state,
        )
    except (SafetensorError, OSError, ValueError, TypeError, KeyError, TorchfakesError) as error:
        cause = f"damaged, or of another version ({' '.join(str(error).split())[:200]})"
        raise CheckpointError(cause, path=path, advice="Start over with --force.") from error


def saved_config(folder: str | PathLike[str]) -> TrainConfig:
    """The configuration of the training that was interrupted in a folder, to resume it; errors as of ``load_state``."""
    config = load_state(Path(folder), tensors=False).config
    return dataclasses.replace(config, out=str(folder), resume=True, force=False)


def check_same(saved: SavedTraining, config: TrainConfig, data: str) -> None:
    """Check that a training is resumed with the settings and crops it started with."""
    for known in dataclasses.fields(TrainConfig):
        was, wanted = getattr(saved.config, known.name), getattr(config, known.name)
        if known.name not in LOCAL and was != wanted:
            option = option_of(known.name)
            cause = f"the training in {saved.path.parent} began with {option} {was} and can't go on with {wanted}"
            raise UsageError(cause, advice="Leave the option out, or start another training with --output.")
    if saved.data != data:
        advice = "Bring the same crops back, or start another training with --output."
        raise OutputError("its crops are not those that the training began with", path=saved.path, advice=advice)


def _modules(updater: Updater, average: nn.Module | None) -> Mapping[str, nn.Module]:
    """The modules whose tensors are saved, by prefix."""
    found: dict[str, nn.Module] = {"network": updater.network}
    if updater.student is not None and updater.teacher is not None:
        found |= {"map": updater.student.map, "teacher": updater.teacher.norm}
    return found if average is None else found | {"average": average}


def _restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        number, _, what = name.partition(".")
        parameter = parameters[int(number)]
        # With the memory layout of the weights, which the fused optimizers expect.
        same = tensor.shape == parameter.shape
        state.setdefault(int(number), {})[what] = torch.empty_like(parameter).copy_(tensor) if same else tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold back SIGINT and SIGTERM for the time of the block; one that arrives is raised again at its end.

    Signals reach the main thread alone: elsewhere there is nothing to hold back.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    arrived: list[int] = []
    before: dict[signal.Signals, Any] = {
        kind: signal.signal(kind, lambda number, _: arrived.append(number)) for kind in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for kind, handler in before.items():
            signal.signal(kind, signal.SIG_DFL if handler is None else handler)
    if arrived:
        signal.raise_signal(arrived[0])
