"""Training: from a folder of crops to a calibrated detector in one checkpoint."""

from __future__ import annotations

import hashlib
import math
import os
import secrets
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from torchfakes_cli.detector.checkpoint import save_checkpoint
from torchfakes_cli.detector.detector import choose_device
from torchfakes_cli.detector.network import build_network, portable_state
from torchfakes_cli.errors import DataError, ModelError, OutputError
from torchfakes_cli.training.config import TrainConfig
from torchfakes_cli.training.crops.manifest import read_manifest, usable
from torchfakes_cli.training.evaluate.calibrate import calibrated
from torchfakes_cli.training.evaluate.scores import (
    Scores,
    measure,
    moving_pictures,
    score_crops,
    thinned,
)
from torchfakes_cli.training.fit.data_checks import check_duplicates, check_splits, check_validation, collapse_warning
from torchfakes_cli.training.fit.datasets import Drawn
from torchfakes_cli.training.fit.distill import Teacher
from torchfakes_cli.training.fit.epoch_log import CURVES, LOG, EpochRecord, validation_loss, write_curves, write_log
from torchfakes_cli.training.fit.loading import TrainingCrops
from torchfakes_cli.training.fit.processes import Processes, is_lost_process, joined_processes, local_device
from torchfakes_cli.training.fit.start import load_teacher, starting_point
from torchfakes_cli.training.fit.state import STATE, RunState, Tally, check_same, load_state, save_state, uninterrupted
from torchfakes_cli.training.fit.summary import BEST, LAST, TrainProgress, TrainSummary, conclude
from torchfakes_cli.training.fit.tracking import TRACK_EVERY, StepRecord, Tracker, check_trackers, open_trackers
from torchfakes_cli.training.fit.update import DivergedError, Update, Updater, peak_memory_mb

#: Training fails when more than this share of the crops drawn can't be read …
MAX_UNREADABLE = 0.05
#: … and at least this number of them.
MIN_UNREADABLE = 20


def train_detector(
    crops: str | os.PathLike[str],
    config: TrainConfig | None = None,
    progress: Callable[[TrainProgress], None] | None = None,
) -> TrainSummary:
    """Train on a folder written by ``prepare``.

    Each epoch is validated on people the network doesn't train on; the best and the last checkpoint are kept, both
    calibrated on those people. At the end the best one is measured on the test groups. What an interrupted training
    needs to go on is kept beside them until then.

    Args:
        crops: folder with a manifest.
        config: how.
        progress: called after each step.

    Returns:
        What it gave, in every one of several processes; only the first writes and calls back.

    Raises:
        DataError: the crops can't be trained on.
        ModelError: the start can't be loaded, the loss is no number any more, or memory doesn't suffice.
        OutputError: the output folder holds another training, or none to resume; or a file can't be written.
        UsageError: the machine can't do what is asked for, or a resumed training was begun with other settings.
        TorchfakesError: of several processes another one ended before its time, or doesn't answer.
    """
    config = config or TrainConfig()
    folder = Path(crops)
    device = local_device(choose_device(config.device))
    with joined_processes(device) as processes:
        training = _Training(folder, read_manifest(folder), config, device, processes, progress or (lambda _: None))
        return training.run()


class _Training:
    """One training: its data, network, optimizer and bookkeeping."""

    def __init__(
        self, folder: Path, table: pd.DataFrame, config: TrainConfig, device: torch.device, processes: Processes,
        progress: Callable[[TrainProgress], None],
    ) -> None:  # fmt: skip
        self.folder, self.config, self.device, self.processes = folder, config, device, processes
        self.progress = progress if processes.first else lambda _: None
        self.out = Path(config.out)
        self.unreadable: set[str] = set()
        self.untold: list[str] = []
        self.trackers: list[Tracker] = []
        check_trackers(config)
        check_splits(table, folder)
        flawless = table[usable(table)]
        train = flawless[flawless["split"] == "train"]
        self.held_out = moving_pictures(flawless[flawless["split"] == "val"])
        self.test = moving_pictures(flawless[flawless["split"] == "test"])
        doubt = check_validation(self.held_out, folder)
        if processes.first:
            check_duplicates(flawless, folder)
        self.data = _fingerprint(flawless)
        saved = load_state(self.out) if config.resume else None
        if saved is not None:
            check_same(saved, config, self.data)
        network, self.header = (
            starting_point(config, folder, train["group"])
            if saved is None
            else (build_network(config.backbone, config.dropout), saved.header)
        )
        self.run_state = RunState(run=secrets.token_hex(4)) if saved is None else saved.run_state
        taught_by = None if config.teacher is None else load_teacher(config.teacher)
        sizes = [*config.sizes] or [self.header.picture_size]
        if taught_by is not None:
            # Both get the same picture, the teacher at its full size.
            sizes = [max(size, taught_by[1].picture_size) for size in sizes]
        self.crops = TrainingCrops(train, folder, config, processes, device, sizes)
        self.steps_per_epoch = self.crops.steps_per_epoch
        self.steps = self.steps_per_epoch * config.epochs
        network = network.to(memory_format=torch.channels_last).to(device)
        teacher = None
        if taught_by is not None:
            teacher = Teacher(taught_by[0].to(device), taught_by[1], self.steps, config.feature_epochs, processes)
            if not math.isclose(taught_by[1].margin, self.header.margin):
                margins = f"{taught_by[1].margin:g}, and these have {self.header.margin:g}"
                self._warn(f"the teacher was trained on crops with the margin {margins}")
        self.updater = Updater(network, config, self.header, device, self.steps, processes, self._warn, teacher)
        self.network = self.updater.network
        self.average = AveragedModel(self.network, use_buffers=True).eval() if config.ema else None
        if saved is not None:
            saved.restore(self.updater, self.average)
        elif doubt:
            self._warn(doubt)

    def run(self) -> TrainSummary:
        """Train all epochs, then measure the best one."""
        if self.processes.first:
            self._claim_out()
            self.trackers = open_trackers(self.config, self.run_state.run, self.run_state.step)
        self.processes.wait()
        try:
            self._tell_warnings()
            self._epochs()
        except KeyboardInterrupt:
            # Held back while a step is made: an interruption anywhere else is repeated on resume.
            self._save_state()
            raise
        except DivergedError as error:
            raise self._diverged(error) from error
        finally:
            for tracker in self.trackers:
                tracker.close()
        summary = conclude(
            self.out, self.run_state.warnings, self._scored, self.held_out, self.test, self.unreadable,
            write=self.processes.first,
        )  # fmt: skip
        if self.processes.first:
            (self.out / STATE).unlink(missing_ok=True)
        return summary

    def _epochs(self) -> None:
        validation = thinned(self.held_out, self.config.frames_per_video)
        while self.run_state.epoch <= self.config.epochs:
            try:
                self._train_epoch()
            except RuntimeError as error:
                # The update that failed has moved no weights.
                if is_lost_process(error):
                    self._save_state()
                raise
            self.processes.average_figures(self.kept)
            tally = self.run_state.tally
            # The other figures are the same in every process.
            sums = torch.tensor([tally.loss, tally.right, tally.seen], dtype=torch.float64, device=self.device)
            loss, right, seen = self.processes.total(sums).tolist()
            if self.processes.first:
                started = time.monotonic()
                rows = self._scored(self.kept, validation)
                with uninterrupted():
                    progress = self._end_epoch(rows, loss / seen, right / seen, time.monotonic() - started)
                self.progress(progress)
                self._tell_warnings()
                self._check_collapse()
            else:
                self.run_state.epoch += 1
                self.run_state.tally = Tally()
            self.processes.wait()

    def _train_epoch(self) -> None:
        """The updates that are missing in the epoch in progress."""
        run_state = self.run_state
        saved = tracked = time.monotonic()
        tracked_step = run_state.step
        started, before = time.monotonic(), run_state.tally.seconds
        batch: Drawn
        for batch in self.crops.epoch(run_state.epoch, run_state.step):
            if batch.error is not None:
                raise batch.error
            with uninterrupted():
                update = self.updater.update(run_state.step, batch.pictures, batch.labels)
                self._average(run_state.step)
                self._count(batch, update)
                run_state.tally.seconds = before + time.monotonic() - started
            if self.trackers and run_state.step % TRACK_EVERY == 0:
                now = time.monotonic()
                pace = (run_state.step - tracked_step) * self.config.batch / max(1e-9, now - tracked)
                self._track(update, len(batch.labels), pace)
                tracked, tracked_step = now, run_state.step
            self.progress(self._progress())
            self._tell_warnings()
            self._check_unreadable()
            minutes = self.config.save_minutes
            if minutes and time.monotonic() - saved >= 60 * minutes:
                self._save_state()
                saved = time.monotonic()

    def _count(self, batch: Drawn, update: Update) -> None:
        run_state, tally = self.run_state, self.run_state.tally
        norms = (update.norm, *update.block_norms.tolist())
        tally.norms = tuple(a + b for a, b in zip(tally.norms or (0.0,) * len(norms), norms, strict=True))
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
            # A young average follows fast, so that it doesn't drag the first weights along.
            decay = min(self.config.ema, (1 + step) / (10 + step))
            self.average.multi_avg_fn = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
            self.average.update_parameters(self.network)

    def _check_unreadable(self) -> None:
        tally = self.run_state.tally
        if tally.passed_over >= MIN_UNREADABLE and tally.passed_over > MAX_UNREADABLE * tally.seen:
            cause = f"{tally.passed_over} of {tally.seen} crops drawn could not be read"
            raise DataError(cause, path=self.folder, advice="Run 'torchfakes prepare' again.")

    def _end_epoch(self, rows: pd.DataFrame, loss: float, accuracy: float, seconds: float) -> TrainProgress:
        """Log an epoch and keep its weights; returns its progress report."""
        run_state, tally, scores = self.run_state, self.run_state.tally, measure(rows)
        progress = self._progress(scores)
        if tally.passed_over:
            self._warn(f"epoch {run_state.epoch}: {tally.passed_over} crops could not be read and were passed over")
        self._save(LAST, rows)
        # The video AUC of few videos has few values: the frame AUC decides between equal ones.
        merit = (scores.video_auc or 0.0, scores.frame_auc or 0.0)
        if run_state.best is None or merit > run_state.best:
            run_state.best = merit
            self._save(BEST, rows)
        run_state.records.append(self._record(rows, scores, loss, accuracy, seconds))
        collapsed = collapse_warning(scores)
        run_state.collapsed = run_state.collapsed + 1 if collapsed else 0
        if collapsed:
            self._warn(f"epoch {run_state.epoch}: {collapsed}")
        run_state.epoch, run_state.tally = run_state.epoch + 1, Tally()
        self._save_state()
        write_log(self.out, run_state.records)
        write_curves(self.out, run_state.records)
        for tracker in self.trackers:
            tracker.epoch(run_state.records[-1])
        return progress

    def _check_collapse(self) -> None:
        limit = self.config.stop_on_collapse
        if limit and self.run_state.collapsed >= limit:
            advice = f"Check labels and blur threshold, lower the learning rate or augment less. {self._kept()}"
            raise ModelError(f"one answer for all in {self.run_state.collapsed} epochs in a row", advice=advice)

    def _record(self, rows: pd.DataFrame, scores: Scores, loss: float, accuracy: float, seconds: float) -> EpochRecord:
        tally = self.run_state.tally
        norms = [norm / max(1, tally.updates) for norm in tally.norms]
        val_loss, val_accuracy = validation_loss(rows)
        return EpochRecord(
            epoch=self.run_state.epoch,
            step=self.run_state.step,
            seconds=tally.seconds + seconds,
            loss=loss,
            accuracy=accuracy,
            val_loss=val_loss,
            val_accuracy=val_accuracy,
            val_frame_auc=scores.frame_auc,
            val_video_auc=scores.video_auc,
            val_called_fake=scores.called_fake,
            learning_rate=self.updater.learning_rate,
            crops_per_second=tally.updates * self.config.batch / max(1e-9, tally.seconds),
            memory_mb=peak_memory_mb(self.device),
            gradient_norm=norms[0],
            gradient_norms=dict(zip(self.updater.blocks, norms[1:], strict=True)),
        )

    def _track(self, update: Update, crops: int, pace: float) -> None:
        record = StepRecord(
            step=self.run_state.step,
            loss=update.loss,
            accuracy=update.right / crops,
            learning_rate=self.updater.learning_rate,
            crops_per_second=pace,
            memory_mb=peak_memory_mb(self.device),
            gradient_norm=update.norm,
            gradient_norms=dict(zip(self.updater.blocks, update.block_norms.tolist(), strict=True)),
        )
        for tracker in self.trackers:
            tracker.step(record)

    def _diverged(self, error: DivergedError) -> ModelError:
        return ModelError(str(error), advice=f"Try a lower --lr. {self._kept()}".strip())

    def _kept(self) -> str:
        return f"The last good checkpoint is {self.out / LAST}." if self.run_state.records else ""

    def _scored(self, network: nn.Module, table: pd.DataFrame) -> pd.DataFrame:
        return score_crops(network, table, self.folder, self.header, self.device, self.unreadable)

    def _save(self, name: str, rows: pd.DataFrame) -> None:
        """Write the averaged weights, calibrated on the validation rows: an interrupted run's are usable too."""
        training = {**self.header.training, "epoch": self.run_state.epoch}
        header = calibrated(replace(self.header, training=training), rows)
        save_checkpoint(self.out / name, portable_state(self.kept), header)

    def _save_state(self) -> None:
        """Write what an interrupted training needs to go on."""
        if not self.processes.first:
            return
        save_state(self.out, self.config, self.data, self.header, self.run_state, self.updater, self.average)

    def _warn(self, warning: str) -> None:
        """Keep a warning for the next progress report."""
        if warning not in self.run_state.warnings:
            self.run_state.warnings.append(warning)
            self.untold.append(warning)

    def _tell_warnings(self) -> None:
        untold, self.untold = self.untold, []
        for warning in untold:
            self.progress(replace(self._progress(), warning=warning))

    def _progress(self, scores: Scores | None = None) -> TrainProgress:
        run_state, tally = self.run_state, self.run_state.tally
        seen, batch = max(1, tally.seen), self.config.batch
        return TrainProgress(
            epoch=run_state.epoch,
            samples=run_state.step * batch,
            samples_wanted=self.steps * batch,
            loss=tally.loss / seen,
            accuracy=tally.right / seen,
            validation=scores,
        )

    def _claim_out(self) -> None:
        """Make the output folder, unless it holds another training's results."""
        if self.config.resume:
            write_log(self.out, self.run_state.records)
            return
        found = [name for name in (BEST, LAST, LOG, STATE) if (self.out / name).exists()]
        if found and not self.config.force:
            onward = "go on with --resume" if STATE in found else f"use --weights {self.out / LAST} to go on from it"
            advice = f"Choose another --out, {onward}, or replace it with --force."
            raise OutputError(f"holds a training already ({', '.join(found)})", path=self.out, advice=advice)
        try:
            self.out.mkdir(parents=True, exist_ok=True)
            for name in (*found, CURVES):
                (self.out / name).unlink(missing_ok=True)
        except OSError as error:
            cause = f"can't be written ({error.strerror or error})"
            raise OutputError(cause, path=self.out, advice="Check the folder's rights and free space.") from error


def _fingerprint(table: pd.DataFrame) -> str:
    """Identity of these crops: names, splits, labels and the choice of the balanced ones."""
    columns = table[["crop", "split", "label", "balanced"]].astype(str)
    return hashlib.sha256(pd.util.hash_pandas_object(columns, index=False).to_numpy().tobytes()).hexdigest()
