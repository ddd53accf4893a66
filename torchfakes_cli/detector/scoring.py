"""A detector ready to score crops, on whatever this machine has."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from os import PathLike

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from torchfakes_cli.detector.calibration import probability
from torchfakes_cli.detector.checkpoint import Header, load_checkpoint
from torchfakes_cli.detector.eight_bit import EightBitNetwork, eight_bit_instructions
from torchfakes_cli.detector.familiar import strangeness
from torchfakes_cli.detector.fused import fuse
from torchfakes_cli.detector.inception_resnet import InceptionResnetV1
from torchfakes_cli.detector.network import blank_network, fold_batch_norm, load_weights
from torchfakes_cli.detector.preprocess import to_input
from torchfakes_cli.detector.registry import find_checkpoint, shipped_checkpoint
from torchfakes_cli.detector.texture import USUAL, Texture, describe, split_texture
from torchfakes_cli.detector.threads import SideBySide, threads_at_most
from torchfakes_cli.errors import CheckpointError, UsageError

#: Crops given to the network at once.
SCORE_BATCH = 32
#: Crops that make a part of their own at least, on the CPU …
CROPS_A_PART = 4
#: … and crops a thread within one, in 8 bits: threads that share a few wait for each other longer than they compute. On
#: two cores, where all this was measured, one thread scored a single crop in 15 ms, and two in 40.
CROPS_A_THREAD = 2
#: A network that weighs so much beside the texture, or less, counts little.
LITTLE = 0.125
#: 8 bits may change the probability of a validation crop by so much, a small part of what a box a few pixels off does.
TOLERANCE = 0.01


def choose_device(name: str = "auto") -> torch.device:
    """Where to compute.

    Args:
        name: ``auto`` (CUDA when there, else the CPU), ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        UsageError: there is no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    advice = "Choose auto, cpu, cuda or cuda:N."
    kind, _, number = name.partition(":")
    if kind not in ("cpu", "cuda") or (":" in name and (kind == "cpu" or not number.isdecimal())):
        raise UsageError(f"there is no device called {name!r}", advice=advice)
    if kind == "cuda" and not torch.cuda.is_available():
        raise UsageError("CUDA is not available on this machine", advice="Leave --device out to use the CPU.")
    if number and int(number) >= torch.cuda.device_count():
        raise UsageError(f"{name} doesn't exist: {torch.cuda.device_count()} CUDA device(s) found", advice=advice)
    return torch.device(name)


def fast_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where the machine computes in it, else float32 (half precision is never emulated)."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    return torch.bfloat16 if cpu_bf16_instructions() else torch.float32


def cpu_bf16_instructions() -> str:
    """The processor's bfloat16 instructions that oneDNN uses; empty where it would have to emulate, which is slow.

    It is not there at all on Apple's processors.
    """
    has_onednn = bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]
    if not has_onednn or not hasattr(torch.cpu, "get_capabilities"):
        return ""
    capabilities = torch.cpu.get_capabilities()
    return next((name for name in ("amx_bf16", "avx512_bf16", "bf16") if capabilities.get(name)), "")


def eight_bits_suffice(header: Header, texture: Texture | None) -> bool:
    """Whether computing the network in 8 bits changed no probability of a validation crop by more than ``TOLERANCE``.

    False also where nobody measured it. A probability changes at most a quarter as much as its logit.
    """
    weight = texture.network_weight if texture else 1.0
    return bool(header.eight_bit) and header.eight_bit["change"] * weight * header.slope / 4 <= TOLERANCE


@dataclass(frozen=True, slots=True, eq=False)
class Examined:
    """What a detector says of crops.

    Attributes:
        logits: N float32; positive means fake.
        strangeness: N float32, see ``familiar.strangeness``; NaN where the detector has no texture.
    """

    logits: NDArray[np.float32]
    strangeness: NDArray[np.float32]


class Detector:
    """Scores crops and knows how sure a score is.

    Args:
        network: in evaluation mode; it is changed (batch norm folded, moved, converted) and then owned.
        header: of its checkpoint.
        device: where to compute.
        dtype: to compute in; None for 8 bits where ``eight_bits_suffice``, else for what ``fast_dtype`` says.
        texture: judges the detail of faces beside the network; None for the network alone.

    Attributes:
        precision: what the network computes in: ``int8``, ``bfloat16`` or another type.
        dtype: of its input.

    Raises:
        CheckpointError: the header's activations aren't those of this network.
    """

    def __init__(
        self, network: nn.Module, header: Header, device: torch.device, dtype: torch.dtype | None = None,
        texture: Texture | None = None,
    ) -> None:  # fmt: skip
        self.header = header
        self.device = device
        self.texture = texture
        self._side_by_side = SideBySide(SCORE_BATCH // CROPS_A_PART)
        folded = fold_batch_norm(network.eval().requires_grad_(False))
        if dtype is None and device.type == "cpu" and eight_bits_suffice(header, texture) and eight_bit_instructions():
            self.dtype, self.precision = torch.float32, "int8"
            self.network = self._in_eight_bits(folded)
            return
        self.dtype = dtype or fast_dtype(device)
        self.precision = str(self.dtype).removeprefix("torch.")
        ready = folded.to(memory_format=torch.channels_last).to(device, self.dtype)
        self.network = fuse(ready) if device.type == "cpu" else ready

    def _in_eight_bits(self, folded: nn.Module) -> nn.Module:
        assert isinstance(folded, InceptionResnetV1)
        try:
            return EightBitNetwork(folded, self.header.eight_bit["highest"], self.header.input_size, real=True)
        except KeyError as error:
            raise CheckpointError(f"its header doesn't say what 8 bits need of layer {error}") from error

    @property
    def name(self) -> str:
        """As shown beside every verdict."""
        return self.header.name

    @property
    def margin(self) -> float:
        """Factor by which a face's box grows into the crop this detector expects."""
        return self.header.margin

    @property
    def crop_shape(self) -> str:
        """Whether crops are squares or boxes, see ``Header``."""
        return self.header.crop_shape

    @property
    def network_counts_little(self) -> bool:
        """Whether the texture decides nearly alone, as in the detector that ships."""
        return self.texture is not None and self.texture.network_weight <= LITTLE

    @property
    def fake_above(self) -> float:
        """From this probability on a video is called fake."""
        return self.header.fake_above

    @property
    def real_below(self) -> float:
        """Below this probability a video is called real."""
        return self.header.real_below

    def score(
        self, crops: Sequence[NDArray[np.uint8]], landmarks: Sequence[NDArray[np.float32]] | None = None
    ) -> NDArray[np.float32]:
        """The logits that ``examine`` gives, shape (N,) float32, of the same crops."""
        return self.examine(crops, landmarks).logits

    def examine(
        self,
        crops: Sequence[NDArray[np.uint8]],
        landmarks: Sequence[NDArray[np.float32]] | None = None,
        network_of: Sequence[int] | None = None,
    ) -> Examined:
        """Score crops, and tell which ones are unlike what the detector knows.

        Args:
            crops: H×W×3 uint8 RGB each, cut with this detector's margin and shape; sizes may differ.
            landmarks: 5×2 each, (x, y) in pixels of the crop: eyes, nose, corners of the mouth. None takes them to lie
                where they usually do.
            network_of: for each crop the place of the one that the network judges in its stead; None: each itself.
        """
        if self.texture is None or not len(crops):
            return Examined(self._network_logits_of(crops, network_of), np.full(len(crops), np.nan, np.float32))
        places = landmarks or [USUAL * crop.shape[1::-1] for crop in crops]
        # While the network computes: it doesn't fill the cores throughout, and with CUDA hardly any.
        with ThreadPoolExecutor(1) as beside:
            described = beside.submit(
                lambda: np.stack([describe(crop, points) for crop, points in zip(crops, places, strict=True)])
            )
            logits = self._network_logits_of(crops, network_of)
            found = described.result()
            return Examined(self.texture.joined(logits, found), strangeness(found))

    def network_logits(self, crops: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """What the network alone says of crops, as ``score`` takes and gives them."""
        logits = [
            part
            for start in range(0, len(crops), SCORE_BATCH)
            for part in self._side_by_side.each(self._batch_logits, self._parts(crops[start : start + SCORE_BATCH]))
        ]
        return np.concatenate(logits) if logits else np.zeros(0, np.float32)

    def _network_logits_of(
        self, crops: Sequence[NDArray[np.uint8]], network_of: Sequence[int] | None
    ) -> NDArray[np.float32]:
        if network_of is None:
            return self.network_logits(crops)
        judged, places = np.unique(np.array(network_of, np.int64), return_inverse=True)
        return self.network_logits([crops[place] for place in judged])[places]

    def _parts(self, crops: Sequence[NDArray[np.uint8]]) -> list[Sequence[NDArray[np.uint8]]]:
        """The crops, parted for the CPU's threads."""
        count = 1
        if self.device.type == "cpu":
            count = max(1, min(torch.get_num_threads(), len(crops) // CROPS_A_PART))
        size = -(-len(crops) // count)
        return [crops[start : start + size] for start in range(0, len(crops), size)]

    @torch.inference_mode()
    def _batch_logits(self, crops: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        header = self.header
        batch = to_input(crops, header.input_size, header.mean, header.scale, header.crop_size)
        batch = batch.to(self.device, self.dtype, memory_format=torch.channels_last)
        threads = max(1, len(crops) // CROPS_A_THREAD) if self.precision == "int8" else torch.get_num_threads()
        with threads_at_most(threads):
            return np.asarray(self.network(batch).float().flatten().cpu().numpy(), np.float32)

    def probability(self, logit: float) -> float:
        """Calibrated probability that a face with this logit is synthetic."""
        return probability(logit, self.header.slope, self.header.intercept)


def load_detector(model: str | PathLike[str] | None = None, device: str | torch.device = "auto") -> Detector:
    """Load a detector.

    Args:
        model: path of a checkpoint, or name of one in the models folder; None for the one that ships.
        device: see ``choose_device``.

    Raises:
        ModelNotFoundError: there is no such checkpoint.
        CheckpointError: it can't be used.
        UsageError: there is no such device.
    """
    chosen = device if isinstance(device, torch.device) else choose_device(device)
    path = find_checkpoint(model) if model is not None else shipped_checkpoint()
    state, header = load_checkpoint(path)
    weights, texture = split_texture(state, str(path))
    network = blank_network(header.architecture)
    load_weights(network, weights, str(path))
    return Detector(network, header, chosen, texture=texture)
