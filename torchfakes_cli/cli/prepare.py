"""``torchfakes prepare``: from a corpus to face crops."""

from __future__ import annotations

from collections import Counter
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

_CORPUS = "Which files"
_CROPS = "Crops"
_SPLITS = "Splits"
_RUN = "Run"

_DEFAULT = PrepareConfig()
#: More would push the table off the screen.
_MOST_NOTES = 8


def prepare_command(
    corpus: Annotated[
        str,
        typer.Argument(
            metavar="CORPUS",
            help="FaceForensics++, Celeb-DF, DFDC or its preview, DeeperForensics, or a folder with real/ and "
            "fake/<method>/.",
        ),
    ],
    reals: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FOLDER",
            rich_help_panel=_CORPUS,
            help="Further genuine stills or videos; may be given again. A CSV in it may name path and group (person). "
            "Of FaceForensics++ its originals are taken, which DeeperForensics needs.",
            show_default=False,
        ),
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            rich_help_panel=_CORPUS,
            help="Only fakes made so; may be given again.",
            show_default="all",
        ),
    ] = None,
    compression: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            rich_help_panel=_CORPUS,
            help="Only this compression of FaceForensics++: raw, c23 or c40.",
            show_default="all found",
            autocompletion=compressions,
        ),
    ] = _DEFAULT.compression,
    limit: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            rich_help_panel=_CORPUS,
            help="At most so many files of each method, for a trial.",
            show_default="all",
        ),
    ] = _DEFAULT.limit,
    frames_per_video: Annotated[
        int, typer.Option(metavar="N", rich_help_panel=_CROPS, help="Frames of each video, spread evenly.")
    ] = _DEFAULT.frames_per_video,
    blur_threshold: Annotated[
        float,
        typer.Option(
            metavar="X",
            rich_help_panel=_CROPS,
            help="Mark crops less sharp than this (variance of the Laplacian) as blurry. All are written: this can be "
            "changed later without cutting them again.",
        ),
    ] = _DEFAULT.faces.blur_threshold,
    duplicate_threshold: Annotated[
        float,
        typer.Option(
            metavar="X",
            rich_help_panel=_CROPS,
            help="Mark crops of a person that differ by less than this from others (in grey levels) as duplicates; "
            "can be changed later.",
        ),
    ] = _DEFAULT.duplicate_threshold,
    min_face: Annotated[
        int,
        typer.Option(
            metavar="PIXELS", rich_help_panel=_CROPS, help="Ignore faces smaller than this; can be raised later."
        ),
    ] = _DEFAULT.faces.min_face,
    confidence: Annotated[
        float,
        typer.Option(
            metavar="P",
            rich_help_panel=_CROPS,
            help="Ignore faces that the detector is less sure of; can be raised later.",
        ),
    ] = _DEFAULT.faces.confidence,
    margin: Annotated[
        float, typer.Option(metavar="FACTOR", rich_help_panel=_CROPS, help="How much larger than the face a crop is.")
    ] = _DEFAULT.faces.margin,
    size: Annotated[
        int, typer.Option(metavar="PIXELS", rich_help_panel=_CROPS, help="Larger crops are reduced to this side.")
    ] = _DEFAULT.size,
    image_format: Annotated[
        ImageFormat, typer.Option("--format", rich_help_panel=_CROPS, help="png loses nothing; jpg is smaller.")
    ] = "png",
    balance: Annotated[
        bool,
        typer.Option(
            rich_help_panel=_CROPS,
            help="Choose frames (never people) so that reals and fakes are about as many; nothing is deleted.",
        ),
    ] = _DEFAULT.balance,
    split: Annotated[
        str,
        typer.Option(
            metavar="HOW",
            rich_help_panel=_SPLITS,
            help="groups: by people and footage. official, or official:DIR: by the lists that come with the corpus. "
            "Or a CSV: video (or path), split, and if known group.",
            autocompletion=splits,
        ),
    ] = _DEFAULT.split,
    groups: Annotated[
        str | None,
        typer.Option(
            metavar="CSV",
            rich_help_panel=_SPLITS,
            help="Videos of the same person or footage: video (or path), group.",
            show_default=False,
        ),
    ] = _DEFAULT.groups,
    val: Annotated[
        float, typer.Option(metavar="SHARE", rich_help_panel=_SPLITS, help="Share of the people for validation.")
    ] = _DEFAULT.val,
    test: Annotated[
        float, typer.Option(metavar="SHARE", rich_help_panel=_SPLITS, help="Share of the people for testing.")
    ] = _DEFAULT.test,
    seed: Annotated[int, typer.Option(metavar="N", rich_help_panel=_SPLITS, help="Decides who lands where.")] = (
        _DEFAULT.seed
    ),
    out: Annotated[
        str, typer.Option("--out", "-o", metavar="FOLDER", rich_help_panel=_RUN, help="For the crops and manifest.csv.")
    ] = _DEFAULT.out,
    jobs: Annotated[
        int | None,
        typer.Option("--jobs", "-j", metavar="N", rich_help_panel=_RUN, help="Processes.", show_default="one a core"),
    ] = _DEFAULT.jobs,
    force: Annotated[
        bool, typer.Option("--force", rich_help_panel=_RUN, help="Drop the crops of an earlier run and start over.")
    ] = _DEFAULT.force,
    debug: Annotated[
        bool, typer.Option("--debug", rich_help_panel=_RUN, help="Show the log, and tracebacks of errors.")
    ] = False,
) -> None:
    """Cut the faces out of a corpus, for training.

    Nobody lands on two sides: a person's videos, and a video with its fakes, stay in one split. A fake is cut at the
    same times and with the same boxes as its original. Run it again to go on after an interruption.
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
    _tell(summary, screen)


def _tell(summary: PrepareSummary, screen: Screen) -> None:
    """What a careful user should know besides the counts."""
    for note in summary.notes[:_MOST_NOTES]:
        screen.warning(note)
    if len(summary.notes) > _MOST_NOTES:
        screen.warning(f"{len(summary.notes) - _MOST_NOTES} more such notes stand in the report")
    reasons = Counter(skipped.reason for skipped in summary.skipped)
    for reason, count in reasons.most_common():
        first = next(skipped.name for skipped in summary.skipped if skipped.reason == reason)
        screen.warning(f"{first}{f' and {count - 1} more' if count > 1 else ''}: {reason}")
    if summary.unchanged:
        screen.note(f"{summary.unchanged} faces in fakes are their original's and were left out")
    if not summary.videos_prepared:
        screen.note(f"nothing to do: all {summary.videos_ready} files were ready")
    elif summary.videos_ready:
        screen.note(f"{summary.videos_prepared} files prepared, {summary.videos_ready} were ready")
    screen.note(f"manifest: {summary.manifest}; what was left out and why: {summary.report}")
    screen.note(f"look at some crops before you train: {summary.contact_sheet}")
