"""Training: from a folder of crops to a calibrated detector in one checkpoint."""

from __future__ import annotations

import copy
import csv
import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader

from torchfakes_cli import __version__
from torchfakes_cli.config import TrainConfig
from torchfakes_cli.detector.checkpoint import Header, load_checkpoint, save_checkpoint
from torchfakes_cli.detector.network import build_network, load_weights, portable_state
from torchfakes_cli.detector.preprocess import standardise
from torchfakes_cli.detector.pretrained import load_vggface2
from torchfakes_cli.detector.scoring import choose_device, fast_dtype
from torchfakes_cli.errors import DataError, ModelError, OutputError
from torchfakes_cli.training.corpora import FAKE, REAL, SPLITS
from torchfakes_cli.training.data import (
    Batch,
    CoupleDataset,
    EpochSampler,
    collate_couples,
    init_worker,
    recorded_margin,
)
from torchfakes_cli.training.manifest import read_manifest
from torchfakes_cli.training.measure import (
    Scores,
    calibrated,
    measure,
    moving_pictures,
    score_crops,
    thinned,
    verdict_counts,
    video_scores,
)

#: Steps over which the learning rate rises, as a share of all steps.
WARM_UP = 0.05
#: The learning rate ends at this share of its highest.
LAST_RATE = 0.01
#: Gradients are scaled down to this norm.
MAX_GRADIENT = 5.0
#: One class taking this share of all answers while both are there is a collapse.
COLLAPSE = 0.98
#: Training gives up when more than this share of the crops drawn can't be read …
MAX_UNREADABLE = 0.05
#: … and at least so many of them.
MIN_UNREADABLE = 20
BEST, LAST, LOG = "best.safetensors", "last.safetensors", "log.csv"


@dataclass(frozen=True, slots=True)
class TrainProgress:
    """What a progress callback is told after each step.

    Attributes:
        epoch: from 1.
        samples: crops seen so far in the whole training.
        samples_wanted: crops in the whole training.
        loss: running mean of ``couple_loss``.
        accuracy: running share of training crops on the right side of zero.
        validation: right after an epoch's validation, else None.
        warning: something the user should know, else empty.
    """

    epoch: int
    samples: int
    samples_wanted: int
    loss: float
    accuracy: float
    validation: Scores | None = None
    warning: str = ""


@dataclass(frozen=True, slots=True)
class TrainSummary:
    """What a training gave.

    Attributes:
        best: path of the calibrated checkpoint with the best validation.
        last: path of the checkpoint after the last epoch.
        best_epoch: from 1.
        validation: of the best checkpoint, on all validation videos.
        test: of the best checkpoint on groups kept out of everything; None where there are none.
        test_verdicts: how many real and fake test videos get which verdict, see ``verdict_counts``.
        header: of the best checkpoint.
        warnings: all that came up.
    """

    best: str
    last: str
    best_epoch: int
    validation: Scores
    test: Scores | None
    test_verdicts: dict[str, dict[str, int]]
    header: Header
    warnings: tuple[str, ...]


def train_detector(
    crops: str | os.PathLike[str],
    config: TrainConfig | None = None,
    progress: Callable[[TrainProgress], None] | None = None,
) -> TrainSummary:
    """Train on a folder written by ``prepare``.

    Each epoch is validated on people the network doesn't train on; the best and the last checkpoint are kept, both
    calibrated on those people. At the end the best one is measured on the test groups.

    Args:
        crops: folder with a manifest.
        config: how.
        progress: called after each step.

    Raises:
        DataError: the crops can't be trained on.
        ModelError: the start can't be loaded, or the loss is no number any more.
        OutputError: the output folder holds another training, or a file can't be written.
    """
    config = config or TrainConfig()
    folder = Path(crops)
    return _Training(folder, read_manifest(folder), config, progress or (lambda _: None)).run()


class _Training:
    """One training: its data, network, optimiser and bookkeeping."""

    def __init__(
        self, folder: Path, table: pd.DataFrame, config: TrainConfig, progress: Callable[[TrainProgress], None]
    ) -> None:
        self.folder, self.config, self.progress = folder, config, progress
        self.out = Path(config.out)
        self.device = choose_device(config.device)
        self.warnings: list[str] = []
        self.unreadable: set[str] = set()
        _check_splits(table, folder)
        sharp = table[~table["blurry"].astype(bool)]
        train = sharp[sharp["split"] == "train"]
        self.held_out = moving_pictures(sharp[sharp["split"] == "val"])
        self.test = moving_pictures(sharp[sharp["split"] == "test"])
        _check_validation(self.held_out, folder)
        self.network, parent = _starting_network(config)
        self.header = _first_header(config, recorded_margin(folder), parent)
        balanced = int(train["balanced"].astype(bool).sum())
        per_epoch = config.samples_per_epoch or max(config.batch, balanced)
        self.steps_per_epoch = max(1, per_epoch // config.batch)
        self.steps = self.steps_per_epoch * config.epochs
        self.sampler = EpochSampler(self.steps_per_epoch * config.batch // 2)
        couples = self.steps * config.batch // 2
        dataset = CoupleDataset(train, folder, replace(config, input_size=self.header.input_size), couples)
        self.loader = self._loader(dataset)
        self.network = self.network.to(memory_format=torch.channels_last).to(self.device)
        self.average = copy.deepcopy(self.network).eval().requires_grad_(False)
        self.rate = config.learning_rate or (1e-3 if config.start == "scratch" else 1e-4)
        self.optimizer = torch.optim.AdamW(_decayed_apart(self.network, config.weight_decay), lr=self.rate)
        self.dtype = fast_dtype(self.device)

    def _loader(self, dataset: CoupleDataset) -> DataLoader[Any]:
        config = self.config
        workers = config.workers if config.workers is not None else min(8, max(1, (os.cpu_count() or 1) - 1))
        return DataLoader(
            dataset,
            batch_size=config.batch // 2,
            sampler=self.sampler,
            collate_fn=collate_couples,
            num_workers=workers,
            persistent_workers=workers > 0,
            worker_init_fn=init_worker,
            pin_memory=self.device.type == "cuda",
        )

    def run(self) -> TrainSummary:
        """Train all epochs, then measure the best one."""
        self._claim_out()
        validation = thinned(self.held_out, self.config.frames_per_video)
        best: tuple[float, float] | None = None
        step, best_epoch, started = 0, 0, time.monotonic()
        for epoch in range(1, self.config.epochs + 1):
            self.sampler.epoch = epoch - 1
            step, loss, accuracy = self._epoch(epoch, step)
            rows = self._scored(self.average, validation)
            scores = measure(rows)
            self._save(LAST, epoch, rows)
            # The video AUC of few videos has few values: the frame AUC decides between equal ones.
            merit = (scores.video_auc or 0.0, scores.frame_auc or 0.0)
            if best is None or merit > best:
                best, best_epoch = merit, epoch
                self._save(BEST, epoch, rows)
            self._log(epoch, step, loss, accuracy, scores, time.monotonic() - started)
            warning = _collapse_warning(scores)
            if warning:
                self.warnings.append(f"epoch {epoch}: {warning}")
            self._tell(epoch, step, loss, accuracy, scores, warning)
        return self._finish(best_epoch)

    def _epoch(self, epoch: int, step: int) -> tuple[int, float, float]:
        """One epoch; returns the step it ended at and the running loss and accuracy."""
        self.network.train()
        loss_sum = correct = seen = passed_over = 0.0
        batch: Batch
        for batch in self.loader:
            passed_over += batch.passed_over
            if batch.error is not None:
                raise batch.error
            loss, right = self._step(step, batch.pictures, batch.labels)
            step += 1
            seen += len(batch.labels)
            loss_sum += loss * len(batch.labels)
            correct += right
            self._tell(epoch, step, loss_sum / seen, correct / seen)
            if passed_over >= MIN_UNREADABLE and passed_over > MAX_UNREADABLE * seen:
                cause = f"{passed_over:.0f} of {seen:.0f} crops drawn could not be read"
                raise DataError(cause, path=self.folder, advice="Run 'torchfakes prepare' again.")
        if passed_over:
            self.warnings.append(f"epoch {epoch}: {passed_over:.0f} crops could not be read and were passed over")
        return step, loss_sum / seen, correct / seen

    def _step(self, step: int, pictures: Tensor, labels: Tensor) -> tuple[float, int]:
        """One update; returns the loss and how many crops were on the right side."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate * rate_factor(step, self.steps)
        inputs = standardise(pictures.to(self.device, non_blocking=True), self.header.mean, self.header.scale)
        labels = labels.to(self.device, non_blocking=True)
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            logits = self.network(inputs)
        loss = couple_loss(logits.float(), labels, self.config.ranking)
        value = float(loss.detach())
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = float(nn.utils.clip_grad_norm_(self.network.parameters(), MAX_GRADIENT))
        # A finite loss can have an infinite gradient, which would poison the weights all the same.
        if not math.isfinite(value) or not math.isfinite(norm):
            raise self._diverged(step, value, norm)
        self.optimizer.step()
        # A young average follows fast, so that it doesn't drag the first weights along.
        decay = min(self.config.ema, (1 + step) / (10 + step)) if self.config.ema else 0.0
        _follow(self.average, self.network, decay)
        return value, int(((logits > 0) == (labels > 0.5)).sum())

    def _diverged(self, step: int, loss: float, norm: float) -> ModelError:
        kept = f" The last good checkpoint is {self.out / LAST}." if step >= self.steps_per_epoch else ""
        cause = f"training diverged at step {step}: the loss is {loss:g}, the gradient's norm {norm:g}"
        return ModelError(cause, advice=f"Try a lower --learning-rate.{kept}")

    def _scored(self, network: nn.Module, table: pd.DataFrame) -> pd.DataFrame:
        def unreadable(error: DataError) -> None:
            self.unreadable.add(str(error))

        return score_crops(network, table, self.folder, self.header, self.device, unreadable)

    def _finish(self, best_epoch: int) -> TrainSummary:
        """Calibrate the best checkpoint on all validation videos and measure it on the test groups."""
        state, saved = load_checkpoint(self.out / BEST)
        # Half precision is exact enough for weights and halves the file; what is measured is what is kept.
        state = {name: tensor.half() for name, tensor in state.items()}
        network = build_network(self.config.dropout)
        load_weights(network, state)
        network.eval()
        held_out = self._scored(network, self.held_out)
        header = calibrated(saved, held_out)
        validation = measure(held_out, interval=True)
        metrics: dict[str, Any] = {"validation": asdict(validation)}
        test, verdicts = None, {}
        if len(self.test):
            rows = self._scored(network, self.test)
            test, verdicts = measure(rows, interval=True), verdict_counts(video_scores(rows), header)
            metrics |= {"test": asdict(test), "test_verdicts": verdicts}
        header = replace(header, metrics=metrics)
        save_checkpoint(self.out / BEST, state, header, torch.float16)
        if not header.slope:
            self.warnings.append(
                "scores don't tell real from fake on the validation videos: every verdict will be open"
            )
        if self.unreadable:
            first = min(self.unreadable)
            self.warnings.append(f"{len(self.unreadable)} validation or test crops could not be read, such as {first}")
        return TrainSummary(
            best=str(self.out / BEST),
            last=str(self.out / LAST),
            best_epoch=best_epoch,
            validation=validation,
            test=test,
            test_verdicts=verdicts,
            header=header,
            warnings=tuple(self.warnings),
        )

    def _save(self, name: str, epoch: int, rows: pd.DataFrame) -> None:
        """Write the averaged weights, calibrated on the validation rows: an interrupted run's are usable too."""
        training = {**self.header.training, "epoch": epoch}
        header = calibrated(replace(self.header, training=training), rows)
        save_checkpoint(self.out / name, portable_state(self.average), header)

    def _tell(
        self, epoch: int, step: int, loss: float, accuracy: float, scores: Scores | None = None, warning: str = ""
    ) -> None:
        wanted = self.steps * self.config.batch
        self.progress(TrainProgress(epoch, step * self.config.batch, wanted, loss, accuracy, scores, warning))

    def _claim_out(self) -> None:
        """Make the output folder, unless it holds another training's results, and begin the log."""
        found = [name for name in (BEST, LAST, LOG) if (self.out / name).exists()]
        if found and not self.config.force:
            advice = (
                f"Choose another --out (and --from {self.out / LAST} to go on from it), or replace it with --force."
            )
            raise OutputError(f"holds a training already ({', '.join(found)})", path=self.out, advice=advice)
        columns = "epoch,step,seconds,loss,accuracy,val_frame_auc,val_video_auc,val_called_fake"
        try:
            self.out.mkdir(parents=True, exist_ok=True)
            for name in found:
                (self.out / name).unlink()
        except OSError as error:
            raise _unwritable(self.out, error) from error
        self._append(columns.split(","))

    def _log(self, epoch: int, step: int, loss: float, accuracy: float, scores: Scores, seconds: float) -> None:
        figures = (loss, accuracy, scores.frame_auc, scores.video_auc, scores.called_fake)
        cells = ["" if value is None else f"{value:.4f}" for value in figures]
        self._append([str(epoch), str(step), f"{seconds:.1f}", *cells])

    def _append(self, cells: list[str]) -> None:
        path = self.out / LOG
        try:
            with path.open("a", newline="", encoding="utf-8") as handle:
                csv.writer(handle).writerow(cells)
        except OSError as error:
            raise _unwritable(path, error) from error


def couple_loss(logits: Tensor, labels: Tensor, ranking: float) -> Tensor:
    """Binary cross-entropy, and how far each fake is from scoring above the real face it came with.

    What a couple shares (person, pose, light) cancels out of the second term, which leaves the manipulation.

    Args:
        logits: N×1, real and fake in turn.
        labels: N×1, 0 and 1 in turn.
        ranking: weight of the second term.

    Returns:
        A scalar.
    """
    loss = functional.binary_cross_entropy_with_logits(logits, labels)
    return loss + ranking * functional.softplus(logits[0::2] - logits[1::2]).mean()


def rate_factor(step: int, steps: int) -> float:
    """The learning rate at a step (from 0) as a share of its highest: a linear rise, then half a cosine down."""
    rise = max(1, int(WARM_UP * steps))
    if step < rise:
        return (step + 1) / rise
    through = (step - rise) / max(1, steps - rise)
    return LAST_RATE + (1 - LAST_RATE) * 0.5 * (1 + math.cos(math.pi * through))


def _starting_network(config: TrainConfig) -> tuple[nn.Module, Header | None]:
    """The network to train, and the header of the checkpoint it comes from."""
    torch.manual_seed(config.seed)
    network = build_network(config.dropout)
    parent = None
    if config.start == "vggface2":
        load_vggface2(network)
    elif config.start != "scratch":
        state, parent = load_checkpoint(Path(config.start))
        load_weights(network, state, config.start)
    return network.train().requires_grad_(True), parent


def _first_header(config: TrainConfig, margin: float, parent: Header | None) -> Header:
    """The header of this training's checkpoints; what the start was made for stays so.

    Raises:
        DataError: the crops were cut with another margin than the start was trained on.
    """
    if parent is not None and not math.isclose(parent.margin, margin):
        cause = f"was trained on crops with the margin {parent.margin:g}, and these have {margin:g}"
        raise DataError(cause, path=config.start, advice=f"Run 'torchfakes prepare' with --margin {parent.margin:g}.")
    # What decides the result is told, not where this machine keeps its files.
    local = ("out", "start", "device", "workers", "force")
    training: dict[str, Any] = {"config": {k: v for k, v in asdict(config).items() if k not in local}}
    if parent is None:
        training["start"] = config.start
    else:
        training["start"] = {"name": parent.name, "training": parent.training}
    header = Header(
        name=config.name,
        margin=margin,
        training=training,
        version=__version__,
        created=datetime.now(UTC).date().isoformat(),
    )
    if parent is not None:
        header = replace(header, input_size=parent.input_size, mean=parent.mean, scale=parent.scale)
    return header if config.input_size is None else replace(header, input_size=config.input_size)


def _decayed_apart(network: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Weights of convolutions and layers decay; scales and shifts, which hold no capacity, don't."""
    weights = [p for p in network.parameters() if p.ndim > 1]
    rest = [p for p in network.parameters() if p.ndim <= 1]
    return [{"params": weights, "weight_decay": weight_decay}, {"params": rest, "weight_decay": 0.0}]


@torch.no_grad()
def _follow(average: nn.Module, network: nn.Module, decay: float) -> None:
    """Move the average towards the network, batch norm's running figures included."""
    kept = [*average.parameters(), *(b for b in average.buffers() if b.is_floating_point())]
    new = [*network.parameters(), *(b for b in network.buffers() if b.is_floating_point())]
    torch._foreach_lerp_(kept, [p.detach() for p in new], 1 - decay)


def _check_splits(table: pd.DataFrame, folder: Path) -> None:
    """Make sure that nobody is on two sides, however the manifest came about."""
    advice = "Run 'torchfakes prepare' again, or mend manifest.csv."
    for column, known in (("split", SPLITS), ("label", (REAL, FAKE))):
        if unknown := sorted(set(table[column]) - set(known)):
            raise DataError(f"its manifest has the unknown {column} {unknown[0]!r}", path=folder, advice=advice)
    sides = table.groupby("group")["split"].nunique()
    if len(crossing := sides[sides > 1]):
        cause = f"{len(crossing)} groups lie in more than one split, such as {crossing.index[0]!r}"
        raise DataError(cause, path=folder, advice=advice)
    split_of: Mapping[str, str] = dict(zip(table["video"], table["split"], strict=True))
    fakes = table[table["source"] != ""]
    for source, split in zip(fakes["source"], fakes["split"], strict=True):
        if split_of.get(source, split) != split:
            raise DataError(f"the original {source!r} and a fake of it lie in two splits", path=folder, advice=advice)


def _check_validation(table: pd.DataFrame, folder: Path) -> None:
    found = table.groupby("label")["video"].nunique()
    reals, fakes = int(found.get(REAL, 0)), int(found.get(FAKE, 0))
    if not reals or not fakes:
        cause = f"its validation split holds {reals} real and {fakes} fake videos with sharp faces"
        raise DataError(cause, path=folder, advice="Both are needed to choose the best epoch: prepare more footage.")


def _collapse_warning(scores: Scores) -> str:
    """A sentence when nearly all validation faces get the same answer."""
    share = max(scores.called_fake, 1 - scores.called_fake)
    if share < COLLAPSE:
        return ""
    answer = "fake" if scores.called_fake > 0.5 else "real"
    return (
        f"the network calls {share:.0%} of the validation faces {answer}: it may have collapsed to one class. "
        "If that stays, check labels and blur threshold, lower the learning rate or augment less."
    )


def _unwritable(path: Path, error: OSError) -> OutputError:
    cause = f"can't be written ({error.strerror or error})"
    return OutputError(cause, path=path, advice="Check the folder's rights and free space.")
