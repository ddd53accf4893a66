"""``torchfakes prepare``: extract face crops from a corpus."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from torchfakes_cli.cli.completion import compressions, splits
from torchfakes_cli.cli.exit_codes import guarded
from torchfakes_cli.cli.options import refuse_urls
from torchfakes_cli.faces.options import FaceConfig
from torchfakes_cli.training.config import ImageFormat, PrepareConfig

if TYPE_CHECKING:
    from torchfakes_cli.cli.console import Screen
    from torchfakes_cli.training.crops.report import PrepareSummary

_corpus = partial(typer.Option, rich_help_panel="Which files")
_crops = partial(typer.Option, rich_help_panel="Crops")
_splits = partial(typer.Option, rich_help_panel="Splits")
_run = partial(typer.Option, rich_help_panel="Run")

_DEFAULT = PrepareConfig()
#: Number of notes on the screen; more would scroll the table away.
_MOST_NOTES = 8


def prepare_command(
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
        _corpus(
            metavar="FOLDER",
            help="Add genuine stills or videos; repeatable. A CSV in it may name path and group (person). "
            "From FaceForensics++ the originals are used, which DeeperForensics needs.",
            show_default=False,
        ),
    ] = None,
    method: Annotated[
        list[str] | None,
        _corpus(metavar="NAME", help="Use only fakes made by this method; repeatable.", show_default="all"),
    ] = None,
    compression: Annotated[
        str | None,
        _corpus(
            metavar="NAME",
            help="Use only this compression of FaceForensics++: raw, c23 or c40.",
            show_default="all found",
            autocompletion=compressions,
        ),
    ] = _DEFAULT.compression,
    limit: Annotated[
        int | None, _corpus(metavar="N", help="Use at most N files per method, for a trial.", show_default="all")
    ] = _DEFAULT.limit,
    frames_per_video: Annotated[
        int, _crops(metavar="N", help="Sample N frames per video, spread evenly.")
    ] = _DEFAULT.frames_per_video,
    blur_threshold: Annotated[
        float,
        _crops(
            metavar="X",
            help="Mark crops less sharp than this (variance of the Laplacian) as blurry. All are written: this can be "
            "changed later without extracting them again.",
        ),
    ] = _DEFAULT.faces.blur_threshold,
    duplicate_threshold: Annotated[
        float,
        _crops(
            metavar="X",
            help="Mark crops of a person that differ by less than this from others (in gray levels) as duplicates; "
            "can be changed later.",
        ),
    ] = _DEFAULT.duplicate_threshold,
    min_face: Annotated[
        int, _crops(metavar="PIXELS", help="Ignore faces smaller than this; can be raised later.")
    ] = _DEFAULT.faces.min_face,
    confidence: Annotated[
        float, _crops(metavar="P", help="Ignore faces below this detector confidence; can be raised later.")
    ] = _DEFAULT.faces.confidence,
    margin: Annotated[
        float, _crops(metavar="FACTOR", help="Set the size of a crop relative to the face.")
    ] = _DEFAULT.faces.margin,
    size: Annotated[int, _crops(metavar="PIXELS", help="Reduce larger crops to this side.")] = _DEFAULT.size,
    image_format: Annotated[
        ImageFormat, _crops("--format", help="Set the image format: png is lossless, jpg is smaller.")
    ] = _DEFAULT.image_format,
    balance: Annotated[
        bool,
        _crops(
            help="Select frames (never people) so that reals and fakes are about equal in number; nothing is deleted."
        ),
    ] = _DEFAULT.balance,
    split: Annotated[
        str,
        _splits(
            metavar="HOW",
            help="Split by people and footage (groups), by the lists published with the corpus (official, or "
            "official:DIR), or by a CSV with the columns video (or path), split and optionally group.",
            autocompletion=splits,
        ),
    ] = _DEFAULT.split,
    groups: Annotated[
        str | None,
        _splits(
            metavar="CSV",
            help="Read a CSV of videos of the same person or footage: video (or path), group.",
            show_default=False,
        ),
    ] = _DEFAULT.groups,
    val: Annotated[float, _splits(metavar="SHARE", help="Set the share of people for validation.")] = _DEFAULT.val,
    test: Annotated[float, _splits(metavar="SHARE", help="Set the share of people for testing.")] = _DEFAULT.test,
    seed: Annotated[int, _splits(metavar="N", help="Set the seed of the split.")] = _DEFAULT.seed,
    out: Annotated[
        str, _run("--output", "-o", metavar="FOLDER", help="Write the crops and manifest.csv here.")
    ] = _DEFAULT.out,
    jobs: Annotated[
        int | None, _run("--jobs", "-j", metavar="N", help="Set the number of processes.", show_default="one per core")
    ] = _DEFAULT.jobs,
    force: Annotated[bool, _run("--force", help="Delete the crops of an earlier run and start over.")] = _DEFAULT.force,
    debug: Annotated[bool, _run("--debug", help="Show the log, and tracebacks of errors.")] = False,
) -> None:
    """Extract the face crops of a corpus for training.

    All videos of a person, and a video with its fakes, stay in one split. A fake is cropped at the same times and with
    the same boxes as its original. Run the command again to continue after an interruption.

    Examples:
        torchfakes prepare ff++/ --blur-threshold 30
        torchfakes prepare ff++/ --compression c23 --split official:lists/ --groups footage.csv
        torchfakes prepare deeperforensics/ --reals ff++/ --split official -o crops-deeper
    """
    with guarded(debug=debug):
        refuse_urls([corpus])
        config = PrepareConfig(
            out=out,
            frames_per_video=frames_per_video,
            faces=FaceConfig(min_face=min_face, confidence=confidence, margin=margin, blur_threshold=blur_threshold),
            duplicate_threshold=duplicate_threshold,
            balance=balance,
            reals=tuple(reals or ()),
            split=split,
            groups=groups,
            val=val,
            test=test,
            seed=seed,
            methods=tuple(method or ()),
            compression=compression,
            limit=limit,
            jobs=jobs,
            image_format=image_format,
            size=size,
            force=force,
        )
        _prepare(corpus, config)


def _prepare(corpus: str, config: PrepareConfig) -> None:
    from torchfakes_cli.cli.console import Screen
    from torchfakes_cli.cli.console.prepare_view import crops_table
    from torchfakes_cli.training.crops.prepare import prepare_corpus

    screen = Screen()
    with screen.progress(Path(corpus).name or corpus) as advance:
        summary = prepare_corpus(corpus, config, advance)
    screen.result(crops_table(summary))
    _show_notes(summary, screen)


def _show_notes(summary: PrepareSummary, screen: Screen) -> None:
    from torchfakes_cli.training.corpora.base import summarized

    for note in summary.notes[:_MOST_NOTES]:
        screen.warning(note)
    if len(summary.notes) > _MOST_NOTES:
        screen.warning(f"{len(summary.notes) - _MOST_NOTES} more such notes are in the report")
    for line in summarized(summary.skipped):
        screen.warning(line)
    if summary.unchanged:
        screen.note(f"{summary.unchanged} faces in fakes equal their original's and were left out")
    if not summary.videos_prepared:
        screen.note(f"nothing to do: all {summary.videos_ready} files were ready")
    elif summary.videos_ready:
        screen.note(f"{summary.videos_prepared} files prepared, {summary.videos_ready} were ready")
    screen.note(f"manifest: {summary.manifest}; what was left out and why: {summary.report}")
    screen.note(f"look at some crops before you train: {summary.contact_sheet}")
