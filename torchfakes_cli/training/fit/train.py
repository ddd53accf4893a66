"""Training: from a folder of crops to a calibrated detector in one checkpoint."""

from __future__ import annotations

import copy
import hashlib
import os
import secrets
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from torchfakes_cli.detector.checkpoint import Header, load_checkpoint, load_network, save_checkpoint
from torchfakes_cli.detector.detector import choose_device
from torchfakes_cli.detector.network import build_network, portable_state
from torchfakes_cli.detector.registry import find_checkpoint
from torchfakes_cli.errors import DataError, ModelError, OutputError
from torchfakes_cli.training.config import TrainConfig
from torchfakes_cli.training.corpora.base import FAKE, SPLITS
from torchfakes_cli.training.crops.manifest import (
    PICTURES,
    kept_marks,
    picture_marks,
    read_manifest,
    same_margin,
    usable,
)
from torchfakes_cli.training.evaluate.calibrate import NOT_CALIBRATED, calibrated
from torchfakes_cli.training.evaluate.metrics import verdict_counts
from torchfakes_cli.training.evaluate.scores import (
    Scores,
    judge_videos,
    measure,
    moving_pictures,
    score_crops,
    thinned,
    with_compression,
    with_stills,
)
from torchfakes_cli.training.fit import data_checks, log
from torchfakes_cli.training.fit.datasets import Drawn, TrainingCrops
from torchfakes_cli.training.fit.distill import Teacher
from torchfakes_cli.training.fit.processes import Processes, is_lost_process, joined_processes, local_device
from torchfakes_cli.training.fit.start import starting_point
from torchfakes_cli.training.fit.state import STATE, RunState, Tally, check_same, load_state, save_state, uninterrupted
from torchfakes_cli.training.fit.update import DivergedError, Update, Updater, peak_memory_mb

BEST, LAST = "best.safetensors", "last.safetensors"
#: Training fails when more than this share of the crops drawn can't be read …
MAX_UNREADABLE = 0.05
#: … and at least this number of them.
MIN_UNREADABLE = 20


@dataclass(frozen=True, slots=True)
class TrainProgress:
    """Progress after an update.

    Attributes:
        epoch: number of the epoch, from 1.
        samples: crops seen so far in the whole training.
        samples_wanted: crops of the whole training.
        loss: running mean of the loss over the epoch.
        accuracy: running share of training crops on the right side of zero.
        validation: figures right after an epoch's validation, else None.
        warning: a warning, which is in the summary too; else empty.
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
    """Results of a training.

    Attributes:
        best: path of the calibrated checkpoint with the best validation.
        last: path of the checkpoint after the last epoch.
        best_epoch: number of the best epoch, from 1.
        validation: figures of the best checkpoint on the crops that chose it.
        test: its figures on groups kept out of everything; None if there are none.
        test_verdicts: how many real and fake test videos get which verdict, as from ``verdict_counts``.
        header: header of the best checkpoint.
        warnings: all warnings.
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
    calibrated on those people. At the end the best one is measured on the test groups. Until then, the state that an
    interrupted training needs to resume is kept beside them.

    Args:
        crops: folder with a manifest.
        config: configuration.
        progress: called after each update.

    Returns:
        The results, in every one of several processes; only the first writes files and reports progress.

    Raises:
        DataError: the crops can't be trained on.
        ModelError: the start can't be loaded, the loss is not finite any more, or memory doesn't suffice.
        OutputError: the output folder holds another training, or none to resume; or a file can't be written.
        UsageError: the machine can't do what is asked for, or a resumed training began with other settings.
        TorchfakesError: another one of several processes has ended or doesn't answer.
    """
    config = config or TrainConfig()
    device = local_device(choose_device(config.device))
    with joined_processes(device) as processes:
        return _Training(Path(crops), config, device, processes, progress or (lambda _: None)).run()


class _Training:
    """One training: its data, network, optimizer and bookkeeping."""

    def __init__(
        self,
        folder: Path,
        config: TrainConfig,
        device: torch.device,
        processes: Processes,
        progress: Callable[[TrainProgress], None],
    ) -> None:
        self.folder, self.config, self.device, self.processes = folder, config, device, processes
        self.progress = progress if processes.first else lambda _: None
        self.out = Path(config.out)
        self.unreadable: set[str] = set()
        self.trackers: list[log.Tracker] = []
        table = with_stills(read_manifest(folder))
        log.check_trackers(config)
        data_checks.check_splits(table, folder)
        flawless = table[usable(table)]
        train, held_out, test = (flawless[flawless["split"] == split] for split in SPLITS)
        self.held_out, self.test = moving_pictures(held_out), moving_pictures(test)
        self.validation = thinned(self.held_out, config.frames_per_video)
        left_out = pd.concat([held_out.drop(self.held_out.index), test.drop(self.test.index)])
        doubts = [data_checks.check_validation(self.held_out, folder), data_checks.check_stills(left_out)]
        # A resumed training has the same crops, and has checked them.
        marks = picture_marks(folder, flawless["crop"]) if processes.first and not config.resume else {}
        data_checks.check_duplicates(flawless, marks, folder)
        self.data = _fingerprint(flawless)
        saved = load_state(self.out) if config.resume else None
        if saved is not None:
            check_same(saved, config, self.data)
            self.run_state, self.header = saved.run_state, saved.header
            network: nn.Module = build_network(self.header.architecture, config.dropout)
        else:
            self.run_state = RunState(run=secrets.token_hex(4))
            network, self.header = starting_point(config, folder, train["group"])
        sizes = [*config.sizes] or [self.header.picture_size]
        taught_by = None if config.teacher is None else load_network(find_checkpoint(config.teacher))
        if taught_by is not None:
            # Both get the same picture, the teacher at its full size.
            sizes = [max(size, taught_by[1].picture_size) for size in sizes]
            if not same_margin(taught_by[1].margin, self.header.margin):
                margins = f"{taught_by[1].margin:g}, and these have {self.header.margin:g}"
                doubts.append(f"the teacher was trained on crops with the margin {margins}")
        if saved is None:
            doubts.append(self._record_origins(taught_by and taught_by[1], flawless, marks))
        self.crops = TrainingCrops(train, folder, config, processes, device, sizes)
        self.steps = self.crops.steps_per_epoch * config.epochs
        network = network.to(memory_format=torch.channels_last).to(device)
        teacher = None
        if taught_by is not None:
            frozen = taught_by[0].requires_grad_(False).to(device)
            teacher = Teacher(frozen, taught_by[1], self.steps, config.feature_epochs, processes)
        self.updater = Updater(network, config, self.header, device, self.steps, processes, self._warn, teacher)
        self.network = self.updater.network
        self.average = AveragedModel(self.network, use_buffers=True).eval() if config.ema else None
        if saved is not None:
            saved.restore(self.updater, self.average)
        for doubt in filter(None, doubts):
            self._warn(doubt)

    def _record_origins(self, teacher: Header | None, table: pd.DataFrame, marks: dict[str, str]) -> str:
        """Put the training pictures and the teacher into the header; returns a warning of an overlap."""
        known = dict(self.header.training)
        if teacher is not None:
            known["teacher"] = {"name": teacher.name, "training": teacher.training}
        overlap = data_checks.check_overlap(table, marks, known)
        crops = table[table["split"] == "train"]["crop"]
        known[PICTURES] = kept_marks(marks[crop] for crop in crops if crop in marks)
        self.header = replace(self.header, training=known)
        return overlap

    def run(self) -> TrainSummary:
        """Train all epochs, then measure the best one."""
        if self.processes.first:
            self._claim_out()
            self.trackers = log.open_trackers(self.config, self.run_state.run, self.run_state.step)
        self.processes.wait()
        try:
            while self.run_state.epoch <= self.config.epochs:
                self._epoch()
        except KeyboardInterrupt:
            # Held back during an update: an interruption anywhere else is repeated on resume.
            self._save_state()
            raise
        except DivergedError as error:
            raise ModelError(str(error), advice=f"Try a lower --lr. {self._last_good()}".strip()) from error
        finally:
            for tracker in self.trackers:
                tracker.close()
        summary = self._conclude()
        if self.processes.first:
            (self.out / STATE).unlink(missing_ok=True)
        return summary

    def _epoch(self) -> None:
        """Train the rest of the epoch in progress and validate it."""
        try:
            self._train_epoch()
        except RuntimeError as error:
            # The update that failed has changed no weights.
            if is_lost_process(error):
                self._save_state()
            raise
        run_state, tally = self.run_state, self.run_state.tally
        self.processes.average_buffers(self.kept)
        # All other figures are the same in every process.
        sums = torch.tensor([tally.loss, tally.right, tally.seen], dtype=torch.float64, device=self.device)
        loss, right, seen = self.processes.total(sums).tolist()
        if self.processes.first:
            started = time.monotonic()
            # Half precision is exact enough for weights and halves the file; what is measured is what is kept.
            rows = self._scored(copy.deepcopy(self.kept).half().float(), self.validation)
            with uninterrupted():
                progress = self._end_epoch(rows, loss / seen, right / seen, time.monotonic() - started)
            self.progress(progress)
            limit = self.config.stop_on_collapse
            if limit and run_state.collapsed >= limit:
                advice = f"Check labels and blur threshold, lower --lr or augment less. {self._last_good()}"
                raise ModelError(f"one answer for all in {run_state.collapsed} epochs in a row", advice=advice)
        else:
            run_state.epoch, run_state.tally = run_state.epoch + 1, Tally()
        self.processes.wait()

    def _train_epoch(self) -> None:
        """Make the missing updates of the epoch in progress."""
        run_state, tally = self.run_state, self.run_state.tally
        saved = tracked = time.monotonic()
        tracked_step = run_state.step
        started, before = time.monotonic(), tally.seconds
        batch: Drawn
        for batch in self.crops.epoch(run_state.epoch, run_state.step):
            if batch.error is not None:
                raise batch.error
            with uninterrupted():
                update = self.updater.update(run_state.step, batch.pictures, batch.labels)
                self._average(run_state.step)
                self._count(batch, update)
                tally.seconds = before + time.monotonic() - started
            now = time.monotonic()
            if self.trackers and run_state.step % log.TRACK_EVERY == 0:
                pace = (run_state.step - tracked_step) * self.config.batch / max(1e-9, now - tracked)
                figures = self._figures(update.loss, update.right / len(batch.labels), pace, update.norms)
                log.track(self.trackers, run_state.step, figures)
                tracked, tracked_step = now, run_state.step
            self.progress(self._progress())
            if tally.passed_over >= MIN_UNREADABLE and tally.passed_over > MAX_UNREADABLE * tally.seen:
                cause = f"{tally.passed_over} of {tally.seen} crops drawn could not be read"
                raise DataError(cause, path=self.folder, advice="Run 'torchfakes prepare' again.")
            if self.config.save_minutes and now - saved >= 60 * self.config.save_minutes:
                self._save_state()
                saved = now

    def _count(self, batch: Drawn, update: Update) -> None:
        run_state, tally = self.run_state, self.run_state.tally
        before = tally.norms or [0.0] * len(update.norms)
        tally.norms = [a + b for a, b in zip(before, update.norms, strict=True)]
        tally.loss += update.loss * len(batch.labels)
        tally.right += update.right
        tally.seen += len(batch.labels)
        tally.passed_over += batch.passed_over
        tally.updates += 1
        run_state.step += 1
        run_state.micro_batch = self.updater.micro_batch

    @property
    def kept(self) -> nn.Module:
        """The network that is validated and kept."""
        return self.network if self.average is None else self.average.module

    def _average(self, step: int) -> None:
        if self.average is not None:
            # A young average follows fast, so that the first weights don't weigh on it.
            decay = min(self.config.ema, (1 + step) / (10 + step))
            self.average.multi_avg_fn = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
            self.average.update_parameters(self.network)

    def _figures(self, loss: float, accuracy: float, pace: float, norms: list[float]) -> log.Record:
        """Figures of an update or an epoch, by column of the log."""
        return {
            "loss": loss,
            "accuracy": accuracy,
            "learning_rate": self.updater.learning_rate,
            "crops_per_second": pace,
            "memory_mb": peak_memory_mb(self.device),
            "gradient_norm": norms[0],
            **{f"gradient_{name}": norm for name, norm in zip(self.updater.blocks, norms[1:], strict=True)},
        }

    def _end_epoch(self, rows: pd.DataFrame, loss: float, accuracy: float, seconds: float) -> TrainProgress:
        """Log an epoch and keep its weights; returns its progress report."""
        videos = judge_videos(rows, Header(name=""))
        run_state, tally, scores = self.run_state, self.run_state.tally, measure(rows, videos)
        progress = replace(self._progress(), validation=scores)
        if tally.passed_over:
            self._warn(f"epoch {run_state.epoch}: {tally.passed_over} crops could not be read and were passed over")
        collapsed = data_checks.collapse_warning(scores)
        run_state.collapsed = run_state.collapsed + 1 if collapsed else 0
        if collapsed:
            self._warn(f"epoch {run_state.epoch}: {collapsed}")
        self._save(LAST, videos, torch.float32)
        # The video AUC of few videos has few values: the frame AUC decides between equal ones.
        merit = [scores.video_auc or 0.0, scores.frame_auc or 0.0]
        if run_state.best is None or merit > run_state.best:
            run_state.best = merit
            self._save(BEST, videos, torch.float16)
        logits, fake = rows["logit"].to_numpy(np.float64), np.asarray(rows["label"] == FAKE)
        pace = tally.updates * self.config.batch / max(1e-9, tally.seconds)
        norms = [norm / tally.updates for norm in tally.norms]
        record: log.Record = {
            "epoch": run_state.epoch,
            "step": run_state.step,
            "seconds": tally.seconds + seconds,
            "val_loss": float(np.logaddexp(0, np.where(fake, -logits, logits)).mean()),
            "val_accuracy": float(((logits > 0) == fake).mean()),
            "val_frame_auc": scores.frame_auc,
            "val_video_auc": scores.video_auc,
            "val_called_fake": scores.called_fake,
        }
        log.track(self.trackers, run_state.step, {n: value for n, value in record.items() if n.startswith("val_")})
        run_state.records.append(record | self._figures(loss, accuracy, pace, norms))
        run_state.epoch, run_state.tally = run_state.epoch + 1, Tally()
        # Before the state, so that a process that is killed in between repeats the epoch and writes them again.
        log.write_log(self.out, run_state.records)
        log.write_curves(self.out, run_state.records)
        self._save_state()
        return progress

    def _conclude(self) -> TrainSummary:
        """Calibrate the best checkpoint on all validation crops and measure it on the test groups."""
        network, header = load_network(self.out / BEST)
        rows = self._scored(network, self.held_out)
        plain = Header(name="")
        header = calibrated(header, judge_videos(rows, plain))
        # On the crops of the epochs' validation, so that there is one figure.
        rows = rows[rows["crop"].isin(self.validation["crop"])]
        validation = measure(rows, judge_videos(rows, plain), interval=True)
        metrics: dict[str, Any] = {"validation": asdict(validation)}
        test, verdicts = None, {}
        if len(self.test):
            rows = self._scored(network, self.test)
            test = measure(rows, judge_videos(rows, plain), interval=True)
            verdicts = verdict_counts(judge_videos(with_compression(rows), header))
            metrics |= {"test": asdict(test), "test_verdicts": verdicts}
        header = replace(header, metrics=metrics)
        if self.processes.first:
            save_checkpoint(self.out / BEST, load_checkpoint(self.out / BEST)[0], header, torch.float16)
        warnings = list(self.run_state.warnings)
        if not header.slope:
            warnings.append("scores don't separate real from fake on the validation videos: no verdict will be firm")
        if doubt := header.training.get(NOT_CALIBRATED):
            warnings.append(f"{header.name} does not count as calibrated: {doubt}")
        if lost := self.unreadable:
            warnings.append(f"{len(lost)} validation or test crops could not be read, such as {min(lost)}")
        return TrainSummary(
            best=str(self.out / BEST),
            last=str(self.out / LAST),
            best_epoch=header.training["epoch"],
            validation=validation,
            test=test,
            test_verdicts=verdicts,
            header=header,
            warnings=tuple(warnings),
        )

    def _last_good(self) -> str:
        return f"The last good checkpoint is {self.out / LAST}." if self.run_state.records else ""

    def _scored(self, network: nn.Module, table: pd.DataFrame) -> pd.DataFrame:
        return score_crops(network, table, self.folder, self.header, self.device, self.unreadable)

    def _save(self, name: str, videos: pd.DataFrame, dtype: torch.dtype) -> None:
        """Write a checkpoint, calibrated on the validation videos: those of an interrupted run are usable too."""
        header = replace(self.header, training={**self.header.training, "epoch": self.run_state.epoch})
        save_checkpoint(self.out / name, portable_state(self.kept), calibrated(header, videos), dtype)

    def _save_state(self) -> None:
        if self.processes.first:
            save_state(self.out, self.config, self.data, self.header, self.run_state, self.updater, self.average)

    def _warn(self, warning: str) -> None:
        """Keep and report a warning, once."""
        if warning not in self.run_state.warnings:
            self.run_state.warnings.append(warning)
            self.progress(replace(self._progress(), warning=warning))

    def _progress(self) -> TrainProgress:
        run_state, tally, batch = self.run_state, self.run_state.tally, self.config.batch
        seen = max(1, tally.seen)
        return TrainProgress(
            run_state.epoch, run_state.step * batch, self.steps * batch, tally.loss / seen, tally.right / seen
        )

    def _claim_out(self) -> None:
        """Make the output folder, unless it holds another training's results."""
        if self.config.resume:
            return
        found = [name for name in (BEST, LAST, log.LOG, STATE) if (self.out / name).exists()]
        if found and not self.config.force:
            onward = "go on with --resume" if STATE in found else f"use --weights {self.out / LAST} to go on from it"
            advice = f"Choose another --output, {onward}, or replace it with --force."
            raise OutputError(f"holds a training already ({', '.join(found)})", path=self.out, advice=advice)
        try:
            self.out.mkdir(parents=True, exist_ok=True)
            for name in (*found, log.CURVES):
                (self.out / name).unlink(missing_ok=True)
        except OSError as error:
            cause = f"can't be written ({error.strerror or error})"
            raise OutputError(cause, path=self.out, advice="Check the folder's rights and free space.") from error


def _fingerprint(table: pd.DataFrame) -> str:
    """Fingerprint of the crops: names, splits, labels and the choice of the balanced ones."""
    columns = table[["crop", "split", "label", "balanced"]].astype(str)
    return hashlib.sha256(pd.util.hash_pandas_object(columns, index=False).to_numpy().tobytes()).hexdigest()
