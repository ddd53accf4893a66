"""Training: from a folder of crops to a calibrated detector in one checkpoint."""

from __future__ import annotations

import copy
import csv
import math
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader

from torchfakes_cli import __version__
from torchfakes_cli.config import TrainConfig, VerdictConfig
from torchfakes_cli.detector.calibration import fit_platt, probability, real_fake_thresholds
from torchfakes_cli.detector.checkpoint import Header, load_checkpoint, save_checkpoint
from torchfakes_cli.detector.network import build_network, load_weights, portable_state
from torchfakes_cli.detector.preprocess import standardise
from torchfakes_cli.detector.pretrained import load_vggface2
from torchfakes_cli.detector.scoring import SCORE_BATCH, Detector, choose_device, fast_dtype
from torchfakes_cli.errors import DataError, ModelError, OutputError
from torchfakes_cli.records import Verdict
from torchfakes_cli.scan.verdict import judge, settle_policy, trimmed_mean
from torchfakes_cli.training.corpora import FAKE, REAL
from torchfakes_cli.training.data import (
    CoupleDataset,
    EpochSampler,
    collate_couples,
    init_worker,
    read_crop,
    recorded_margin,
)
from torchfakes_cli.training.manifest import read_manifest
from torchfakes_cli.training.metrics import auc_interval, roc_auc

#: Steps over which the learning rate rises, as a share of all steps.
WARM_UP = 0.05
#: The learning rate ends at this share of its highest.
LAST_RATE = 0.01
#: Gradients are scaled down to this norm.
MAX_GRADIENT = 5.0
#: One class taking this share of all answers while both are there is a collapse.
COLLAPSE = 0.98
BEST, LAST, LOG = "best.safetensors", "last.safetensors", "log.csv"


@dataclass(frozen=True, slots=True)
class Scores:
    """How well a network does on some crops.

    Attributes:
        crops: how many.
        videos: how many.
        frame_auc: over crops; None where a class is missing.
        video_auc: over videos, scored by the verdict's rule; None where a class is missing.
        video_auc_interval: 95 % bootstrap over groups; None where not computed.
        called_fake: share of the crops with a positive logit.
        by_method: video AUC of each manipulation against the originals of its fakes where these are there, else
            against all reals.
    """

    crops: int
    videos: int
    frame_auc: float | None
    video_auc: float | None
    video_auc_interval: tuple[float, float] | None = None
    called_fake: float = 0.0
    by_method: dict[str, float] = field(default_factory=dict)


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
        validation: of the best epoch.
        test: of the best checkpoint on groups kept out of everything; None where there are none.
        test_verdicts: how many real and fake test videos get which verdict, as ``{"real": {"fake": 1, …}, …}``.
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

    Each epoch is validated on people the network doesn't train on; the best and the last checkpoint are kept. At the
    end the best one is calibrated on the validation videos and measured on the test groups.

    Args:
        crops: folder with a manifest.
        config: how.
        progress: called after each step.

    Raises:
        DataError: the crops can't be trained on.
        ModelError: the start can't be loaded, or the loss is no number any more.
        OutputError: a checkpoint can't be written.
    """
    config = config or TrainConfig()
    folder = Path(crops)
    table = read_manifest(folder)
    return _Training(folder, table, config, progress or (lambda _: None)).run()


class _Training:
    """One training: its data, network, optimiser and bookkeeping."""

    def __init__(
        self, folder: Path, table: pd.DataFrame, config: TrainConfig, progress: Callable[[TrainProgress], None]
    ) -> None:
        self.folder, self.config, self.progress = folder, config, progress
        self.out = Path(config.out)
        self.device = choose_device(config.device)
        self.warnings: list[str] = []
        sharp = table[~table["blurry"].astype(bool)]
        train = sharp[sharp["split"] == "train"]
        self.held_out = moving_pictures(sharp[sharp["split"] == "val"])
        self.validation = _thinned(self.held_out, config.frames_per_video)
        self.test = moving_pictures(sharp[sharp["split"] == "test"])
        _check_validation(self.validation, folder)
        balanced = int(train["balanced"].astype(bool).sum())
        per_epoch = config.samples_per_epoch or max(config.batch, balanced)
        self.steps_per_epoch = max(1, per_epoch // config.batch)
        self.steps = self.steps_per_epoch * config.epochs
        couples = self.steps * config.batch // 2
        self.sampler = EpochSampler(couples // config.epochs)
        dataset = CoupleDataset(train, folder, config, couples)
        workers = config.workers if config.workers is not None else min(8, max(1, (os.cpu_count() or 1) - 1))
        self.loader = DataLoader(
            dataset,
            batch_size=config.batch // 2,
            sampler=self.sampler,
            collate_fn=collate_couples,
            num_workers=workers,
            persistent_workers=workers > 0,
            worker_init_fn=init_worker,
            pin_memory=self.device.type == "cuda",
        )
        torch.manual_seed(config.seed)
        self.network = _starting_network(config).to(memory_format=torch.channels_last).to(self.device)
        self.average = copy.deepcopy(self.network).eval().requires_grad_(False)
        self.rate = config.learning_rate or (1e-3 if config.start == "scratch" else 1e-4)
        self.optimizer = torch.optim.AdamW(_decayed_apart(self.network, config.weight_decay), lr=self.rate)
        self.dtype = fast_dtype(self.device)
        self.header = Header(
            name=config.name,
            input_size=config.input_size,
            margin=recorded_margin(folder),
            version=__version__,
            created=datetime.now(UTC).date().isoformat(),
        )

    def run(self) -> TrainSummary:
        """Train all epochs, then calibrate and measure."""
        step, best, best_epoch = 0, -1.0, 0
        best_scores = Scores(0, 0, None, None)
        started = time.monotonic()
        self._start_log()
        for epoch in range(1, self.config.epochs + 1):
            self.sampler.epoch = epoch - 1
            step, loss, accuracy = self._epoch(epoch, step)
            scores = self.measure(self.average, self.validation)
            warning = _collapse_warning(scores)
            if warning:
                self.warnings.append(f"epoch {epoch}: {warning}")
            self._log(epoch, step, loss, accuracy, scores, time.monotonic() - started)
            self._save(self.out / LAST, self.average, epoch)
            # Frame AUC breaks the ties that a handful of videos leave.
            merit = (scores.video_auc or 0.0) + 0.1 * (scores.frame_auc or 0.0)
            if merit > best:
                best, best_epoch, best_scores = merit, epoch, scores
                self._save(self.out / BEST, self.average, epoch)
            self._tell(epoch, step, loss, accuracy, scores, warning)
        return self._finish(best_epoch, best_scores)

    def _epoch(self, epoch: int, step: int) -> tuple[int, float, float]:
        """One epoch; returns the step it ended at and the running loss and accuracy."""
        self.network.train()
        loss_sum = correct = seen = 0.0
        for pictures, labels in self.loader:
            loss, right = self._step(step, pictures, labels)
            step += 1
            seen += len(labels)
            loss_sum += loss * len(labels)
            correct += right
            self._tell(epoch, step, loss_sum / seen, correct / seen)
        return step, loss_sum / seen, correct / seen

    def _step(self, step: int, pictures: Tensor, labels: Tensor) -> tuple[float, int]:
        """One update; returns the loss and how many crops were on the right side."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate * rate_factor(step, self.steps)
        inputs = standardise(pictures.to(self.device, non_blocking=True))
        labels = labels.to(self.device, non_blocking=True)
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            logits = self.network(inputs)
        loss = couple_loss(logits.float(), labels, self.config.ranking)
        value = float(loss.detach())
        if not math.isfinite(value):
            kept = f"The last good checkpoint is {self.out / LAST}." if (self.out / LAST).exists() else ""
            advice = f"Try a lower --learning-rate. {kept}".strip()
            raise ModelError(f"the loss became {value} at step {step}", advice=advice)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.network.parameters(), MAX_GRADIENT)
        self.optimizer.step()
        # A young average follows fast, so that it doesn't drag the first weights along.
        decay = min(self.config.ema, (1 + step) / (10 + step)) if self.config.ema else 0.0
        _follow(self.average, self.network, decay)
        return value, int(((logits > 0) == (labels > 0.5)).sum())

    def measure(self, network: nn.Module, table: pd.DataFrame, interval: bool = False) -> Scores:
        """Score crops with the detector's own code and compare with their labels."""
        if table.empty:
            return Scores(0, 0, None, None)
        rows = self.scored(network, table)
        videos = video_scores(rows)
        labels = _is_fake(videos)
        logits = videos["logit"].to_numpy(float)
        return Scores(
            crops=len(rows),
            videos=len(videos),
            frame_auc=roc_auc(_is_fake(rows), rows["logit"]),
            video_auc=roc_auc(labels, logits),
            video_auc_interval=auc_interval(labels, logits, videos["group"]) if interval else None,
            called_fake=float((rows["logit"] > 0).mean()),
            by_method=_auc_by_method(videos),
        )

    def scored(self, network: nn.Module, table: pd.DataFrame) -> pd.DataFrame:
        """The rows that could be read, with a column ``logit``."""
        detector = Detector(copy.deepcopy(network), self.header, self.device)
        logits = np.full(len(table), np.nan)
        paths = [self.folder / crop for crop in table["crop"]]
        for start in range(0, len(paths), SCORE_BATCH):
            places, pictures = [], []
            for place in range(start, min(start + SCORE_BATCH, len(paths))):
                try:
                    pictures.append(read_crop(paths[place]))
                except DataError as error:
                    self.warnings.append(str(error))
                else:
                    places.append(place)
            if places:
                logits[places] = detector.score(pictures)
        return table.assign(logit=logits).dropna(subset=["logit"])

    def _finish(self, best_epoch: int, validation: Scores) -> TrainSummary:
        """Calibrate the best checkpoint on the validation videos and measure it on the test groups."""
        state, _ = load_checkpoint(self.out / BEST)
        network = build_network(self.config.dropout)
        load_weights(network, state)
        network.eval()
        videos = video_scores(self.scored(network, self.held_out))
        labels = _is_fake(videos)
        slope, intercept = fit_platt(videos["logit"].to_numpy(float), labels)
        chances = [probability(logit, slope, intercept) for logit in videos["logit"]]
        real_below, fake_above = real_fake_thresholds(chances, labels)
        self.header = replace(
            self.header,
            slope=slope,
            intercept=intercept,
            calibrated_on=f"{len(videos)} validation videos of {videos['group'].nunique()} groups",
            real_below=real_below,
            fake_above=fake_above,
        )
        test = self.measure(network, self.test, interval=True) if len(self.test) else None
        verdicts = verdict_counts(video_scores(self.scored(network, self.test)), self.header)
        metrics = {
            "validation": asdict(self.measure(network, self.held_out, interval=True)),
            **({"test": asdict(test), "test_verdicts": verdicts} if test else {}),
        }
        training = {"epoch": best_epoch, "config": asdict(self.config)}
        self.header = replace(self.header, training=training, metrics=metrics)
        # Half precision is exact enough for weights and halves the file.
        save_checkpoint(self.out / BEST, portable_state(network), self.header, torch.float16)
        return TrainSummary(
            best=str(self.out / BEST),
            last=str(self.out / LAST),
            best_epoch=best_epoch,
            validation=validation,
            test=test,
            test_verdicts=verdicts,
            header=self.header,
            warnings=tuple(self.warnings),
        )

    def _save(self, path: Path, network: nn.Module, epoch: int) -> None:
        header = replace(self.header, training={"epoch": epoch, "config": asdict(self.config)})
        save_checkpoint(path, portable_state(network), header)

    def _tell(
        self, epoch: int, step: int, loss: float, accuracy: float, scores: Scores | None = None, warning: str = ""
    ) -> None:
        wanted = self.steps * self.config.batch
        self.progress(TrainProgress(epoch, step * self.config.batch, wanted, loss, accuracy, scores, warning))

    def _start_log(self) -> None:
        try:
            self.out.mkdir(parents=True, exist_ok=True)
            with (self.out / LOG).open("w", newline="", encoding="utf-8") as handle:
                header = "epoch,step,seconds,loss,accuracy,val_frame_auc,val_video_auc,val_called_fake"
                csv.writer(handle).writerow(header.split(","))
        except OSError as error:
            raise OutputError(f"can't be written ({error.strerror or error})", path=self.out) from error

    def _log(self, epoch: int, step: int, loss: float, accuracy: float, scores: Scores, seconds: float) -> None:
        figures = (loss, accuracy, scores.frame_auc, scores.video_auc, scores.called_fake)
        cells = ["" if value is None else f"{value:.4f}" for value in figures]
        with (self.out / LOG).open("a", newline="", encoding="utf-8") as handle:
            csv.writer(handle).writerow([epoch, step, f"{seconds:.1f}", *cells])


def moving_pictures(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of videos; stills would tell apart kinds of pictures, not fakes. All rows if there is nothing else."""
    moving = rows[rows.groupby(["label", "video"])["frame"].transform("nunique") > 1]
    return moving if len(moving) else rows


def _auc_by_method(videos: pd.DataFrame) -> dict[str, float]:
    reals = videos[videos["label"] == REAL]
    found: dict[str, float] = {}
    for method, fakes in videos[videos["label"] == FAKE].groupby("method"):
        originals = reals[reals["video"].isin(fakes["source"])]
        both = pd.concat([originals if len(originals) else reals, fakes])
        auc = roc_auc(_is_fake(both), both["logit"])
        if auc is not None:
            found[str(method)] = round(auc, 4)
    return found


def video_scores(rows: pd.DataFrame) -> pd.DataFrame:
    """Score videos from their crops by the verdict's rule: the robust mean of a track, the worst lasting track decides.

    Args:
        rows: with the columns video, label, method, group, source, face and logit.

    Returns:
        One row a video, with the columns video, label, method, group, source and logit.
    """
    policy = VerdictConfig()
    keys = ["video", "label", "method", "group", "source"]
    videos = []
    for key, crops in rows.groupby(keys, sort=True):
        faces = [track["logit"].tolist() for _, track in crops.groupby("face")]
        lasting = [logits for logits in faces if len(logits) >= policy.min_faces] or faces
        worst = max(trimmed_mean(logits, policy.trim) for logits in lasting)
        videos.append((*key, worst))
    return pd.DataFrame(videos, columns=[*keys, "logit"])


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


def verdict_counts(videos: pd.DataFrame, header: Header) -> dict[str, dict[str, int]]:
    """How many real and fake videos get which verdict at a checkpoint's thresholds.

    Args:
        videos: as ``video_scores`` gives them.
        header: with the calibration and the thresholds.
    """
    policy = settle_policy(VerdictConfig(), fake_above=header.fake_above, real_below=header.real_below)
    counts = {label: {verdict.value: 0 for verdict in Verdict} for label in (REAL, FAKE)}
    for label, logit in zip(videos["label"], videos["logit"], strict=True):
        verdict, _ = judge(probability(logit, header.slope, header.intercept), policy)
        counts[label][verdict.value] += 1
    return counts


def rate_factor(step: int, steps: int) -> float:
    """The learning rate at a step (from 0) as a share of its highest: a linear rise, then half a cosine down."""
    rise = max(1, int(WARM_UP * steps))
    if step < rise:
        return (step + 1) / rise
    through = (step - rise) / max(1, steps - rise)
    return LAST_RATE + (1 - LAST_RATE) * 0.5 * (1 + math.cos(math.pi * through))


def _is_fake(rows: pd.DataFrame) -> NDArray[np.int64]:
    return np.asarray(rows["label"] == FAKE, np.int64)


def _starting_network(config: TrainConfig) -> nn.Module:
    network = build_network(config.dropout)
    if config.start == "vggface2":
        load_vggface2(network)
    elif config.start != "scratch":
        state, _ = load_checkpoint(Path(config.start))
        load_weights(network, state, config.start)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
                module.num_batches_tracked = torch.zeros((), dtype=torch.long)
    return network.train().requires_grad_(True)


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


def _thinned(table: pd.DataFrame, frames: int) -> pd.DataFrame:
    """At most so many crops of each person in each video, evenly over its length."""
    place = table.groupby(["label", "video", "face"]).cumcount()
    count = table.groupby(["label", "video", "face"])["crop"].transform("size")
    kept = np.minimum(count, frames)
    return table[(place * kept // count) != ((place - 1) * kept // count)]


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
