"""What a scan makes of every file of the torture set, against what a careful user expects.

``pytest -m slow tests/torture -s`` prints the table as well: each file, what was wanted, and what came of it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.clips import read_barcode
from tests.torture import Canaries, Case, Outcome, all_cases, restore_rights, write_set
from tests.torture.watch import CAN_WATCH, OpenedFiles, canary
from torchfakes_cli.detector.checkpoint import load_checkpoint
from torchfakes_cli.detector.import_weights import import_weights
from torchfakes_cli.errors import ModelError, TorchfakesError
from torchfakes_cli.video.options import SamplingConfig
from torchfakes_cli.video.reader import VideoReader

pytestmark = pytest.mark.slow

COMMAND = [sys.executable, "-c", "from torchfakes_cli.cli import main; main()", "scan"]
CASES = {case.name: case for case in all_cases()}
SCANNED = [case for case in CASES.values() if case.category not in ("checkpoints", "many")]
TIMED = [case for case in SCANNED if case.frame_time is not None]
IS_ROOT = hasattr(os, "geteuid") and os.geteuid() == 0

#: Files that a user would like to be read and that this FFmpeg can't: they are refused in one line.
UNSUPPORTED = {"a_webp_anim.webp"}


@dataclass(frozen=True, slots=True)
class Made:
    """The set as it lies on the disk.

    Attributes:
        folder: where.
        names: of the cases that this system can hold.
        left_out: why the others are not there.
        canaries: where it would show that a file was obeyed.
        requests: that have come to the canary's server.
    """

    folder: Path
    names: frozenset[str]
    left_out: dict[str, str]
    canaries: Canaries
    requests: list[str]


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    top = tmp_path_factory.mktemp("torture")
    folder = top / "set"
    left_out: dict[str, str] = {}
    with canary() as (port, requests):
        canaries = Canaries(port, top / "payload")
        cases = write_set(folder, canaries=canaries, left_out=lambda case, reason: left_out.update({case.name: reason}))
        yield Made(folder, frozenset(case.name for case in cases), left_out, canaries, requests)
    restore_rights(folder)


@pytest.fixture(scope="session")
def documents(made: Made) -> dict[str, dict[str, Any]]:
    """What the command says of each file by name: of those found in the folder, and of the others when named."""
    found = scan(made, [str(made.folder), "--exclude", "m_many", "--exclude", "l_checkpoints"])
    rest = [case.name for case in SCANNED if case.name not in found and _is_file(made.folder / case.name)]
    named = scan(made, ["-"], "\0".join(str(made.folder / name) for name in rest) + "\0")
    sys.stdout.write(_table(made, found | {name: document | {"named": True} for name, document in named.items()}))
    return {name: document | {"named": name in named} for name, document in (found | named).items()}


def scan(made: Made, arguments: list[str], listing: str = "") -> dict[str, dict[str, Any]]:
    """Runs the command and gives its documents by the name of the file."""
    ended = subprocess.run(
        [*COMMAND, *arguments, "--json"], input=os.fsencode(listing), capture_output=True, timeout=3000, check=False
    )
    errors = ended.stderr.decode(errors="replace")
    assert ended.returncode in (0, 3), errors[-2000:]
    assert "Traceback" not in errors
    documents = [json.loads(line) for line in ended.stdout.decode().splitlines()]
    names = [os.path.relpath(document["path"], made.folder).replace(os.sep, "/") for document in documents]
    assert len(set(names)) == len(names)
    return dict(zip(names, documents, strict=True))


def got(document: dict[str, Any] | None) -> Outcome:
    """What came of a file, in the words of what is expected."""
    if document is None:
        return Outcome.SKIP
    if document["status"] == "error":
        return Outcome.ERROR
    if document["reason"] == "no_face":
        return Outcome.NO_FACES
    return Outcome.OK_WARN if document["warnings"] else Outcome.OK


def is_fine(case: Case, document: dict[str, Any] | None) -> bool:
    """Whether that is what was expected."""
    outcome = got(document)
    if case.name in UNSUPPORTED:
        return outcome is Outcome.ERROR
    warned = document is not None and bool(document["warnings"])
    if case.category == "bombs" and case.outcome is Outcome.ERROR:
        return outcome in (Outcome.ERROR, Outcome.NO_FACES)  # neither has taken more than it may
    if case.outcome is Outcome.SKIP:
        return outcome is Outcome.SKIP or bool(document and document["named"])
    if case.outcome is Outcome.OK:
        unseen = outcome is Outcome.NO_FACES and case.faces and not warned
        return outcome not in (Outcome.ERROR, Outcome.SKIP) and not unseen
    if case.outcome is Outcome.OK_WARN:
        return outcome not in (Outcome.ERROR, Outcome.SKIP) and warned
    return outcome is case.outcome


def _is_file(path: Path) -> bool:
    return os.path.lexists(path) and not path.is_dir()


def _table(made: Made, documents: dict[str, dict[str, Any]]) -> str:
    lines = ["", "| file | wanted | got | what it says |", "|---|---|---|---|"]
    for case in SCANNED:
        document = documents.get(case.name)
        said = made.left_out.get(case.name, "")
        if document:
            said = document["error"] or "; ".join([str(document["verdict"]), *document["warnings"]])
        said = said.replace("|", "\\|")
        lines.append(f"| {ascii(case.name)[1:-1]} | {case.outcome} | {got(document)} | {said} |")
    return "\n".join(lines) + "\n"


def present(case: Case, made: Made) -> None:
    """Skips a test of a file that this system can't hold, or that means nothing to an administrator."""
    if case.name not in made.names:
        pytest.skip(made.left_out[case.name])
    if case.needs_non_root and IS_ROOT:
        pytest.skip("an administrator may read everything")


@pytest.mark.parametrize("case", SCANNED, ids=lambda case: ascii(case.name)[1:-1])
def test_outcome(case: Case, made: Made, documents: dict[str, dict[str, Any]]) -> None:
    present(case, made)
    document = documents.get(case.name)
    if case.name.endswith("/deep"):
        document = next(document for name, document in documents.items() if name.startswith(case.name))
    assert is_fine(case, document), f"wanted {case.outcome}, got {got(document)}: {document and document['error']}"
    if document and document["status"] == "error":
        assert document["verdict"] is None
        assert document["p_fake"] is None
        assert document["error"]
        assert "\n" not in document["error"]


@pytest.mark.parametrize("case", TIMED, ids=lambda case: case.name)
def test_times_are_within_one_frame(case: Case, made: Made) -> None:
    """The index burnt into each picture says when it is shown."""
    present(case, made)
    assert case.frame_time is not None
    # At most 400 pictures: of the longest clips a part says as much.
    sampling = SamplingConfig(frames=min(case.frames or 400, 400), frames_fixed=True)
    with VideoReader(made.folder / case.name) as video:
        frames = [(frame.time_s, read_barcode(_without_borders(frame.pixels))) for frame in video.frames(sampling)]
    assert len(frames) >= 0.9 * min(case.frames or 0, 400)
    for time_s, number in frames:
        frame_s = case.frame_time(number + 1) - case.frame_time(number)
        assert abs(time_s - case.frame_time(number)) <= frame_s


def _without_borders(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Cuts off the black columns beside a picture that is smaller than the others, and as many rows as go with them."""
    left = int(pixels.any(axis=(0, 2)).argmax())
    top = int(pixels.any(axis=(1, 2)).argmax())
    return pixels[top : len(pixels) - top, left : pixels.shape[1] - left] if left else pixels


@pytest.mark.skipif(not CAN_WATCH, reason="only Linux tells which files are opened")
def test_no_playlist_opens_another_file_or_a_connection(made: Made) -> None:
    folder = made.folder / "j_playlists"
    cases = [case for case in SCANNED if case.category == "playlists" and case.name in made.names]
    assert (folder / "secret.mp4").exists()
    with OpenedFiles(folder) as opened:
        for case in cases:
            name = case.name.split("/")[1]
            try:
                with VideoReader(folder / name) as reader:
                    frames = list(reader.frames(SamplingConfig()))
            except TorchfakesError:
                assert case.outcome in (Outcome.ERROR, Outcome.SKIP)
            else:
                # A picture whose name would stand for a row of pictures is read as the one file it is.
                assert case.name == "j_playlists/seq_%03d.png"
                assert len(frames) == 1
            assert opened.names() <= {name}
    assert made.requests == []


@pytest.mark.parametrize("read", [load_checkpoint, import_weights])
def test_no_payload_of_a_checkpoint_runs_and_each_is_refused_in_one_line(
    made: Made, read: Callable[[Path], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHFAKES_MODELS", str(tmp_path))
    cases = [case for case in CASES.values() if case.category == "checkpoints" and case.name in made.names]
    assert len(cases) >= 10
    for case in cases:
        with pytest.raises(ModelError) as caught:
            read(made.folder / case.name)
        assert "\n" not in str(caught.value)
        assert "weights_only" not in str(caught.value)
    left = [path.name for path in made.canaries.marker.parent.glob(f"{made.canaries.marker.name}*")]
    assert left == []
