"""The resumable state of a training, in one file; a resumed training gives the same result as an uninterrupted one.

The file is safetensors, tensors beside JSON: nothing in it is run when it is read. It is replaced as a whole, so that a
crash leaves either the previous one or the new one. No generator's state is in it: what a step sees and which features
it drops follow from the seed and the step's number.
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
from types import FrameType
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_safetensors
from torch import Tensor, nn

from torchfakes_cli.detector.checkpoint import Header
from torchfakes_cli.errors import CheckpointError, OutputError, TorchfakesError, UsageError
from torchfakes_cli.files import write_atomically
from torchfakes_cli.training.config import TrainConfig
from torchfakes_cli.training.fit.epoch_log import EpochRecord
from torchfakes_cli.training.fit.update import Updater

STATE = "state.safetensors"
#: Key of our JSON in the metadata, and the version of its layout.
_KEY = "torchfakes_training"
_FORMAT = 2
#: Settings that may differ when a training is resumed, since they don't decide its result.
LOCAL = ("out", "workers", "device", "track", "save_minutes", "resume", "force")


@dataclass(slots=True)
class Tally:
    """Sums over an epoch until now.

    Attributes:
        loss: over crops.
        right: crops on the right side of zero.
        seen: crops.
        passed_over: crops that couldn't be read.
        updates: made.
        norms: of the gradient, over updates: of the whole, then of each block.
        seconds: spent training.
    """

    loss: float = 0.0
    right: int = 0
    seen: int = 0
    passed_over: int = 0
    updates: int = 0
    norms: tuple[float, ...] = ()
    seconds: float = 0.0


@dataclass(slots=True)
class RunState:
    """The state of a training, besides its tensors.

    Attributes:
        epoch: in progress, from 1; one more than there are when all is done.
        step: updates made.
        tally: of the epoch in progress.
        micro_batch: crops at once; None until one is settled.
        best: video and frame AUC of the best epoch until now.
        collapsed: epochs in a row that ended with one answer for all.
        warnings: all that came up.
        records: of the epochs that are done.
        scaler: state of the float16 gradients' scaler, as it gives it.
        run: a name for trackers that is the same after resuming.
    """

    epoch: int = 1
    step: int = 0
    tally: Tally = field(default_factory=Tally)
    micro_batch: int | None = None
    best: tuple[float, float] | None = None
    collapsed: int = 0
    warnings: list[str] = field(default_factory=list)
    records: list[EpochRecord] = field(default_factory=list)
    scaler: dict[str, float] = field(default_factory=dict)
    run: str = ""


@dataclass(frozen=True, slots=True)
class SavedTraining:
    """What a state file holds.

    Attributes:
        path: of the file.
        config: of the training.
        data: what identifies the crops it learns from.
        header: of its checkpoints.
        run_state: everything but its tensors.
        tensors: by name, see ``save_state``.
    """

    path: Path
    config: TrainConfig
    data: str
    header: Header
    run_state: RunState
    tensors: dict[str, Tensor]

    def restore(self, updater: Updater, average: nn.Module | None) -> None:
        """Put the tensors back where they came from.

        Args:
            updater: with network, optimizer and, where there is one, the teacher's statistics.
            average: the running average of the network; None where there is none.

        Raises:
            CheckpointError: tensors are missing or have other shapes.
        """
        try:
            updater.network.load_state_dict(self._named("network."))
            if updater.student is not None and updater.teacher is not None:
                updater.student.map.load_state_dict(self._named("map."))
                updater.teacher.load_state(self._named("teacher."))
            if average is not None:
                average.load_state_dict(self._named("average."))
            _restore_optimizer(updater.optimizer, self._named("optimizer."))
            if self.run_state.scaler:
                updater.scaler.load_state_dict(self.run_state.scaler)
        except (RuntimeError, KeyError, ValueError) as error:
            cause = f"doesn't fit this training ({' '.join(str(error).split())[:200]})"
            raise CheckpointError(cause, path=self.path, advice="Start over with --force.") from error
        updater.micro_batch = self.run_state.micro_batch or updater.micro_batch
        updater.go_on_from(self.run_state.step)

    def _named(self, prefix: str) -> dict[str, Tensor]:
        return {name.removeprefix(prefix): tensor for name, tensor in self.tensors.items() if name.startswith(prefix)}


def save_state(
    folder: Path, config: TrainConfig, data: str, header: Header, run_state: RunState,
    updater: Updater, average: nn.Module | None,
) -> None:  # fmt: skip
    """Write the state of a training.

    Args:
        folder: of the training.
        config: of the training.
        data: what identifies its crops.
        header: of its checkpoints.
        run_state: everything but its tensors.
        updater: its tensors are named ``network.…``, ``optimizer.<parameter>.<what>``, and with a teacher ``map.…`` and
            ``teacher.…``.
        average: its tensors are named ``average.…``; None where there is none.

    Raises:
        OutputError: the file can't be written.
    """
    run_state.scaler = updater.scaler.state_dict()
    parts: dict[str, Mapping[str, Tensor]] = {"network": updater.network.state_dict()}
    if updater.student is not None and updater.teacher is not None:
        parts |= {"map": updater.student.map.state_dict(), "teacher": updater.teacher.state()}
    if average is not None:
        parts["average"] = average.state_dict()
    parts["optimizer"] = {
        f"{place}.{what}": tensor
        for place, kept in updater.optimizer.state_dict()["state"].items()
        for what, tensor in kept.items()
        if tensor is not None
    }
    described = {"config": asdict(config), "data": data, "header": asdict(header), "run_state": asdict(run_state)}
    text = json.dumps({"format": _FORMAT, **described})
    plain = {
        f"{part}.{name}": tensor.detach().to("cpu").contiguous()
        for part, tensors in parts.items()
        for name, tensor in tensors.items()
    }
    write_atomically(folder / STATE, to_safetensors(plain, metadata={_KEY: text}))


def load_state(folder: Path, *, tensors: bool = True) -> SavedTraining:
    """Read the state of a training.

    Args:
        folder: of the training.
        tensors: read them too; without, it is a matter of milliseconds.

    Raises:
        OutputError: there is nothing to go on from.
        CheckpointError: the file is damaged.
    """
    path = folder / STATE
    if not path.is_file():
        found = "its training is finished" if any(folder.glob("*.safetensors")) else "no training was interrupted there"
        raise OutputError(f"there is nothing to resume: {found}", path=folder, advice="Leave --resume out.")
    try:
        with safe_open(path, framework="pt", device="cpu") as handle:
            raw = json.loads((handle.metadata() or {})[_KEY])
            # Copies: the file will be replaced while they live, which Windows forbids for one that is mapped.
            names = list(handle.keys()) if tensors else []
            state = {name: handle.get_tensor(name).clone() for name in names}
        if raw["format"] != _FORMAT:
            raise ValueError(f"its format is {raw['format']!r}")
        return SavedTraining(
            path=path,
            config=TrainConfig(
                **{**raw["config"], **{name: tuple(raw["config"][name]) for name in ("track", "sizes")}}
            ),
            data=str(raw["data"]),
            header=Header(**raw["header"]),
            run_state=_run_state(raw["run_state"]),
            tensors=state,
        )
    except (SafetensorError, OSError, ValueError, TypeError, KeyError, TorchfakesError) as error:
        cause = f"damaged, or of another version ({' '.join(str(error).split())[:200]})"
        raise CheckpointError(cause, path=path, advice="Start over with --force.") from error


def saved_config(folder: str | PathLike[str]) -> TrainConfig:
    """The settings of the training that was interrupted in a folder, to be resumed.

    Raises:
        OutputError: there is nothing to go on from.
        CheckpointError: the file is damaged.
    """
    return dataclasses.replace(
        load_state(Path(folder), tensors=False).config, out=str(folder), resume=True, force=False
    )


def check_same(saved: SavedTraining, config: TrainConfig, data: str) -> None:
    """Check that a training is resumed with the settings and crops it started with.

    Raises:
        UsageError: a setting that decides the result differs.
        OutputError: the crops have changed.
    """
    for known in dataclasses.fields(TrainConfig):
        was, wanted = getattr(saved.config, known.name), getattr(config, known.name)
        if known.name not in LOCAL and was != wanted:
            option = f"--{'weights' if known.name == 'start' else known.name.replace('_', '-')}"
            cause = f"the training in {saved.path.parent} began with {option} {was} and can't go on with {wanted}"
            raise UsageError(cause, advice="Leave the option out, or start another training with --out.")
    if saved.data != data:
        advice = "Bring the same crops back, or start another training with --out."
        raise OutputError("its crops are not those that the training began with", path=saved.path, advice=advice)


def _config(raw: Mapping[str, Any]) -> TrainConfig:
    return TrainConfig(**{**raw, "track": tuple(raw["track"]), "sizes": tuple(raw["sizes"])})


def _run_state(raw: Mapping[str, Any]) -> RunState:
    values = dict(raw)
    values["tally"] = Tally(**{**values["tally"], "norms": tuple(values["tally"]["norms"])})
    values["best"] = None if values["best"] is None else tuple(values["best"])
    values["records"] = [EpochRecord(**record) for record in values["records"]]
    return RunState(**values)


def _restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        place, _, what = name.partition(".")
        parameter = parameters[int(place)]
        # Laid out in memory as the weights are, which is fastest.
        same = tensor.shape == parameter.shape
        state.setdefault(int(place), {})[what] = torch.empty_like(parameter).copy_(tensor) if same else tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold back SIGINT and SIGTERM for the time of the block; what came is handled at its end.

    Signals reach the main thread alone: elsewhere there is nothing to hold back.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[tuple[int, FrameType | None]] = []
    handlers = {kind: handler for kind in _SIGNALS if (handler := signal.getsignal(kind)) is not None}
    for kind in handlers:
        signal.signal(kind, lambda number, frame: came.append((number, frame)))
    try:
        yield
    finally:
        for kind, handler in handlers.items():
            signal.signal(kind, handler)
    for number, frame in came[:1]:
        handler = handlers[signal.Signals(number)]
        if callable(handler):
            handler(number, frame)
        elif handler == signal.SIG_DFL:
            signal.raise_signal(number)
