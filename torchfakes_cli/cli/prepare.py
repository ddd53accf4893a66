"""``torchfakes prepare``: extract face crops from a corpus."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from torchfakes_cli.cli.exit_codes import guarded
from torchfakes_cli.cli.options import configured, one_of, option, refuse_urls
from torchfakes_cli.faces.options import FaceConfig
from torchfakes_cli.training.config import ImageFormat, PrepareConfig

#: Panels of the help.
_CORPUS, _CROPS, _SPLITS, _RUN = "Which files", "Crops", "Splits", "Run"

_DEFAULT = PrepareConfig()
#: Number of notes on the screen; more would scroll the table away.
_MOST_NOTES = 8


def prepare_command(
    context: typer.Context,
    corpus: Annotated[
        str,
        typer.Argument(
            metavar="CORPUS",
            help="Read FaceForensics++, Celeb-DF, DFDC or its preview, DeeperForensics, or a folder with real/ and "
            "fake/<method>/. A CSV in that may list path, label, method, group, split, source.",
        ),
    ],
    reals: Annotated[
        list[str] | None,
        option(
            _CORPUS,
            "FOLDER",
            "Add genuine stills or videos; repeatable. A CSV in it may name path and group (person). From "
            "FaceForensics++ the originals are used, which DeeperForensics needs.",
        ),
    ] = None,
    methods: Annotated[
        list[str] | None,
        option(_CORPUS, "NAME", "Use only fakes made by this method; repeatable.", "--method", default="all"),
    ] = None,
    compression: Annotated[
        str | None,
        option(
            _CORPUS,
            "NAME",
            "Use only this compression of FaceForensics++: raw, c23 or c40.",
            default="all found",
            autocompletion=one_of("raw", "c23", "c40"),
        ),
    ] = _DEFAULT.compression,
    limit: Annotated[
        int | None, option(_CORPUS, "N", "Use at most N files per method, for a trial.", default="all")
    ] = _DEFAULT.limit,
    frames_per_video: Annotated[
        int, option(_CROPS, "N", "Sample N frames per video, spread evenly.")
    ] = _DEFAULT.frames_per_video,
    blur_threshold: Annotated[
        float,
        option(
            _CROPS,
            "X",
            "Mark crops less sharp than this (variance of the Laplacian) as blurry. All are written: this can be "
            "changed later without extracting them again.",
        ),
    ] = _DEFAULT.faces.blur_threshold,
    duplicate_threshold: Annotated[
        float,
        option(
            _CROPS,
            "X",
            "Mark crops of a person that differ by less than this from others (in gray levels) as duplicates; can "
            "be changed later.",
        ),
    ] = _DEFAULT.duplicate_threshold,
    min_face: Annotated[
        int, option(_CROPS, "PIXELS", "Ignore faces smaller than this; can be raised later.")
    ] = _DEFAULT.faces.min_face,
    confidence: Annotated[
        float, option(_CROPS, "P", "Ignore faces below this detector confidence; can be raised later.")
    ] = _DEFAULT.faces.confidence,
    margin: Annotated[
        float, option(_CROPS, "FACTOR", "Set the size of a crop relative to the face.")
    ] = _DEFAULT.faces.margin,
    size: Annotated[int, option(_CROPS, "PIXELS", "Reduce larger crops to this side.")] = _DEFAULT.size,
    image_format: Annotated[
        ImageFormat, option(_CROPS, None, "Set the image format: png is lossless, jpg is smaller.", "--format")
    ] = _DEFAULT.image_format,
    balance: Annotated[
        bool,
        option(
            _CROPS,
            None,
            "Select frames (never people) so that reals and fakes are about equal in number; nothing is deleted.",
        ),
    ] = _DEFAULT.balance,
    split: Annotated[
        str,
        option(
            _SPLITS,
            "HOW",
            "Split by people and footage (groups), by the lists published with the corpus (official, or "
            "official:DIR), or by a CSV with the columns video (or path), split and optionally group.",
            autocompletion=one_of(_DEFAULT.split, "official"),
        ),
    ] = _DEFAULT.split,
    groups: Annotated[
        str | None,
        option(_SPLITS, "CSV", "Read a CSV of videos of the same person or footage: video (or path), group."),
    ] = _DEFAULT.groups,
    val: Annotated[float, option(_SPLITS, "SHARE", "Set the share of people for validation.")] = _DEFAULT.val,
    test: Annotated[float, option(_SPLITS, "SHARE", "Set the share of people for testing.")] = _DEFAULT.test,
    seed: Annotated[int, option(_SPLITS, "N", "Set the seed of the split.")] = _DEFAULT.seed,
    out: Annotated[
        str, option(_RUN, "FOLDER", "Write the crops and manifest.csv here.", "--output", "-o")
    ] = _DEFAULT.out,
    jobs: Annotated[
        int | None, option(_RUN, "N", "Set the number of processes.", "--jobs", "-j", default="one per core")
    ] = _DEFAULT.jobs,
    force: Annotated[
        bool, option(_RUN, None, "Delete the crops of an earlier run and start over.", "--force")
    ] = _DEFAULT.force,
    debug: Annotated[bool, option(_RUN, None, "Show the log, and tracebacks of errors.", "--debug")] = False,
) -> None:
    """Extract the face crops of a corpus for training.

    All videos of a person, and a video with its fakes, stay in one split. A fake is cropped at the same times and with
    the same boxes as its original. Run the command again to continue after an interruption.

    Examples:
        torchfakes prepare ff++/ --blur-threshold 30
        torchfakes prepare ff++/ --compression c23 --split official:lists/ --groups footage.csv
        torchfakes prepare deeperforensics/ --reals ff++/ --split official -o crops-deeper
    """
    with guarded(debug=debug) as screen:
        from torchfakes_cli.cli.console.training_view import crops_table
        from torchfakes_cli.training.corpora.base import summarized
        from torchfakes_cli.training.crops.prepare import prepare_corpus

        refuse_urls([corpus])
        config = configured(PrepareConfig, context, faces=configured(FaceConfig, context))
        with screen.progress(f"cutting {Path(corpus).resolve().name}", "files") as advance:
            summary = prepare_corpus(corpus, config, advance)
        screen.result(crops_table(summary))
        for note in summary.notes[:_MOST_NOTES]:
            screen.warning(note)
        if len(summary.notes) > _MOST_NOTES:
            screen.warning(f"{len(summary.notes) - _MOST_NOTES} more such notes are in the report")
        reasons = summarized(summary.skipped)
        for line in reasons[:_MOST_NOTES]:
            screen.warning(line)
        if len(reasons) > _MOST_NOTES:
            screen.warning(f"{len(reasons) - _MOST_NOTES} more reasons are in the report")
        if summary.unchanged:
            screen.note(f"{summary.unchanged} faces in fakes equal their original's and were left out")
        if not summary.videos_prepared:
            screen.note(f"nothing to do: all {summary.videos_ready} files were ready")
        elif summary.videos_ready:
            screen.note(f"{summary.videos_prepared} files prepared, {summary.videos_ready} were ready")
        screen.note(f"manifest: {summary.manifest}; what was left out and why: {summary.report}")
        screen.note(f"look at some crops before you train: {summary.contact_sheet}")
