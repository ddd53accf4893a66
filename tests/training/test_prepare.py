from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from skimage.data import astronaut

from tests.clips import barcode_frames, damage_packets, write_clip
from torchfakes_cli.detector.checkpoint import load_header
from torchfakes_cli.detector.registry import shipped_checkpoint
from torchfakes_cli.errors import DataError, OutputError, TorchfakesError
from torchfakes_cli.faces.options import FaceConfig
from torchfakes_cli.training.config import PrepareConfig
from torchfakes_cli.training.corpora.base import SourceVideo
from torchfakes_cli.training.crops.extract import novelties
from torchfakes_cli.training.crops.manifest import COLUMNS, FLAWS, balance, read_manifest, usable
from torchfakes_cli.training.crops.parts import Task, run_tasks
from torchfakes_cli.training.crops.prepare import locked_folder, prepare_corpus
from torchfakes_cli.training.crops.report import PrepareSummary, contact_sheet
from torchfakes_cli.training.fit.datasets import Pool

Pixels = NDArray[np.uint8]

FRAMES = 4
FACES = PrepareConfig().faces
#: Where the face lies in ``_portrait``, and how large that is.
FACE = (slice(50, 130), slice(55, 115))
SIDE = 160


def _portrait() -> Pixels:
    return np.ascontiguousarray(astronaut()[20 : 20 + SIDE, 145 : 145 + SIDE])


def _swapped(portrait: Pixels) -> Pixels:
    """What a face swap leaves of a portrait: the surroundings."""
    changed = portrait.copy()
    changed[FACE] = cv2.GaussianBlur(changed[FACE], (0, 0), 1.5)[..., ::-1]
    return changed


def _moving(picture: Pixels, count: int = 12) -> Iterator[Pixels]:
    for number in range(count):
        yield np.roll(picture, number // 2, axis=1)


def _save(path: Path, picture: Pixels) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    _, data = cv2.imencode(path.suffix, picture[..., ::-1])
    path.write_bytes(data.tobytes())


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Sums over other numbers of threads differ in their last digits; and networks this small gain nothing by more."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six originals with a fake each (in one, only one of two people was swapped), a still, and files of no use."""
    root = tmp_path_factory.mktemp("corpus")
    for folder in ("real/film", "fake/swap"):
        (root / folder).mkdir(parents=True)
    for number in range(4):
        portrait = np.clip(_portrait().astype(np.int16) + 4 * number, 0, 255).astype(np.uint8)
        write_clip(root / f"real/film/clip{number}.mp4", _moving(portrait))
        write_clip(root / f"fake/swap/clip{number}.mp4", _moving(_swapped(portrait)))
    two = np.hstack([_portrait(), _portrait()[:, ::-1]])
    write_clip(root / "real/film/two.mp4", _moving(two))
    # The whole picture is brighter, as after another encoder, but only the left face was swapped.
    brighter = np.hstack([_swapped(_portrait()), _portrait()[:, ::-1]]).astype(np.int16) + 9
    write_clip(root / "fake/swap/two.mp4", _moving(np.clip(brighter, 0, 255).astype(np.uint8)))
    write_clip(root / "real/film/longer.mp4", _moving(_portrait()[:, ::-1], 12))
    write_clip(root / "fake/swap/longer.mp4", _moving(_swapped(_portrait())[:, ::-1], 40))
    _save(root / "real/stills/someone.png", _portrait())
    write_clip(root / "real/film/nobody.mp4", barcode_frames(6))
    (root / "real/film/empty.mp4").touch()
    (root / "fake/swap/text.mp4").write_text("no video", encoding="utf-8")
    (root / "real/stills/torn.jpg").write_bytes(b"\xff\xd8\xff\xe0torn")
    return root


def _config(out: Path, **more: object) -> PrepareConfig:
    plain = PrepareConfig(out=str(out), frames_per_video=FRAMES, jobs=1, val=0.2, test=0.2, size=96)
    return replace(plain, **more)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Prepared:
    summary: PrepareSummary
    out: Path
    table: pd.DataFrame

    def rows(self, video: str) -> pd.DataFrame:
        return self.table[self.table["video"] == video].reset_index(drop=True)


@pytest.fixture(scope="module")
def prepared(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    out = tmp_path_factory.mktemp("prepared") / "crops"
    summary = prepare_corpus(corpus, _config(out))
    return Prepared(summary, out, read_manifest(out))


@pytest.fixture
def copied(prepared: Prepared, tmp_path: Path) -> Path:
    """A finished folder of crops that a test may change."""
    return Path(shutil.copytree(prepared.out, tmp_path / "crops"))


def _pictures(out: Path) -> dict[str, bytes]:
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*.png")}


def test_damaged_stills_give_one_line_each(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    corpus = tmp_path / "corpus"
    for name in ("whole.png", "torn.png", "bits.jpg"):
        _save(corpus / "real" / name, _portrait())
    # An early end of a JPEG leaves what is above it.
    for name, share, damage in (("torn.png", 0.5, b"\xff\x00\x11" * 30), ("bits.jpg", 0.95, b"\xff\xd9\x00\x00")):
        data = (corpus / "real" / name).read_bytes()
        start = int(share * len(data))
        (corpus / "real" / name).write_bytes(data[:start] + damage + data[start + len(damage) :])
    capfd.readouterr()
    summary = prepare_corpus(corpus, _config(tmp_path / "crops"))
    assert capfd.readouterr().err == ""
    ((name, reason),) = ((each.name, each.reason) for each in summary.skipped)
    assert name == "real/torn"
    assert "can't be decoded: damaged" in reason
    assert sum(note.startswith("real/bits: damaged pictures") for note in summary.notes) == 1


def test_manifest_and_crops_agree(prepared: Prepared) -> None:
    assert tuple(prepared.table.columns) == COLUMNS
    assert sorted(prepared.table["crop"]) == sorted(_pictures(prepared.out))
    assert prepared.summary.crops == len(prepared.table) > 0


def test_crops_are_square_and_hold_the_landmarks(prepared: Prepared) -> None:
    for row in prepared.table.itertuples():
        picture = cv2.imread(str(prepared.out / str(row.crop)))
        assert picture is not None
        side = picture.shape[0]
        assert picture.shape == (side, side, 3)
        assert side == min(96, round(max(row.x2 - row.x1, row.y2 - row.y1) * FACES.margin))
        # Eyes above the nose, nose above the mouth, all within the face.
        assert 0.1 * side < row.ly0 < row.ly2 < row.ly3 < 0.95 * side
        assert 0.1 * side < row.lx0 < row.lx1 < 0.95 * side


def test_groups_are_not_split(prepared: Prepared) -> None:
    assert (prepared.table.groupby("group")["split"].nunique() == 1).all()


def test_samples_are_spread(prepared: Prepared) -> None:
    times = prepared.rows("real/film/clip0")["time_s"]
    assert len(times) == FRAMES
    assert times.min() < 0.1
    assert times.max() > 0.27


def test_fake_has_its_originals_boxes(prepared: Prepared) -> None:
    keys = ["time_s", "frame", "face", "x1", "y1", "x2", "y2", "lx0", "ly0"]
    original, fake = prepared.rows("real/film/clip1"), prepared.rows("fake/swap/clip1")
    pd.testing.assert_frame_equal(original[keys], fake[keys])
    assert set(fake["boxes_from"]) == {"original"}
    assert set(fake["source"]) == {"real/film/clip1"}
    assert set(fake["split"]) == set(original["split"])
    assert fake["changed"].min() > 5
    assert original["changed"].isna().all()


def test_unchanged_face_is_left_out(prepared: Prepared) -> None:
    original, fake = prepared.rows("real/film/two"), prepared.rows("fake/swap/two")
    assert len(original) == 2 * FRAMES
    assert len(fake) == FRAMES
    assert fake["x2"].max() < SIDE + 10
    assert prepared.summary.unchanged == FRAMES


def test_fake_of_another_length_has_own_boxes(prepared: Prepared) -> None:
    fake = prepared.rows("fake/swap/longer")
    assert set(fake["boxes_from"]) == {"own"}
    assert fake["changed"].isna().all()


def test_still_gives_one_face(prepared: Prepared) -> None:
    assert len(prepared.rows("real/stills/someone")) == 1


def test_unusable_files_are_listed(prepared: Prepared) -> None:
    reasons = {skipped.name: skipped.reason for skipped in prepared.summary.skipped}
    assert set(reasons) == {"real/film/nobody", "real/film/empty", "fake/swap/text", "real/stills/torn"}
    assert reasons["real/film/nobody"] == "no face that lasts"
    assert "empty" in reasons["real/film/empty"]
    report = prepared.summary.report.read_text(encoding="utf-8")
    assert all(name in report for name in reasons)


def test_contact_sheet(prepared: Prepared) -> None:
    sheet = cv2.imread(str(prepared.summary.contact_sheet))
    assert sheet is not None
    kinds = len(prepared.table[prepared.table["balanced"]].groupby(["split", "label", "method"]))
    assert sheet.shape[0] == pytest.approx(kinds * 98, abs=1)


def test_a_contact_sheet_of_many_collections_stays_a_picture(prepared: Prepared, tmp_path: Path) -> None:
    rows = prepared.table[prepared.table["balanced"]].head(1)
    table = pd.concat([rows.assign(method=f"person {number}") for number in range(700)], ignore_index=True)
    sheet = cv2.imdecode(np.frombuffer(contact_sheet(table, prepared.out), np.uint8), cv2.IMREAD_COLOR)
    assert sheet is not None
    assert sheet.shape[0] < 20_000


def test_counts(prepared: Prepared) -> None:
    for count in prepared.summary.counts:
        rows = prepared.table.query("split == @count.split and label == @count.label and method == @count.method")
        assert (count.videos, count.crops) == (rows["video"].nunique(), len(rows))
    stored = json.loads((prepared.out / "prepare.json").read_text(encoding="utf-8"))
    assert sum(count["crops"] for count in stored["counts"]) == len(prepared.table)


def test_finished_corpus_is_not_extracted_again(corpus: Path, prepared: Prepared, copied: Path) -> None:
    calls: list[tuple[int, int | None]] = []
    before = {path: path.stat().st_mtime_ns for path in copied.rglob("*.png")}
    summary = prepare_corpus(corpus, _config(copied), lambda done, wanted: calls.append((done, wanted)))
    assert (summary.videos_prepared, summary.videos_ready) == (0, 17)
    assert calls == [(0, 0)]
    assert {path: path.stat().st_mtime_ns for path in copied.rglob("*.png")} == before
    assert (copied / "manifest.csv").read_bytes() == (prepared.out / "manifest.csv").read_bytes()


def test_blur_threshold_changes_columns_only(corpus: Path, prepared: Prepared, copied: Path) -> None:
    threshold = float(prepared.table["sharpness"].median())
    summary = prepare_corpus(corpus, _config(copied, faces=replace(FACES, blur_threshold=threshold)))
    table = read_manifest(copied)
    assert summary.videos_prepared == 0
    pd.testing.assert_series_equal(table["blurry"], table["sharpness"] < threshold, check_names=False)
    assert not (table["blurry"] & table["balanced"]).any()
    pd.testing.assert_series_equal(table["crop"], prepared.table["crop"])


def test_higher_min_face_or_confidence_changes_columns_only(corpus: Path, prepared: Prepared, copied: Path) -> None:
    size, confidence = prepared.table["face_size"].median(), min(float(prepared.table["confidence"].median()), 0.9999)
    stricter = replace(FACES, min_face=int(size / 0.8) + 1, confidence=confidence)
    assert prepare_corpus(corpus, _config(copied, faces=stricter)).videos_prepared == 0
    table = read_manifest(copied)
    assert table["small"].any()
    pd.testing.assert_series_equal(table["small"], table["face_size"] < 0.8 * stricter.min_face, check_names=False)
    pd.testing.assert_series_equal(table["doubtful"], table["confidence"] < confidence, check_names=False)
    assert usable(table[table["balanced"]]).all()
    # The crops are still those of the first run, to which one can go back.
    assert prepare_corpus(corpus, _config(copied)).videos_prepared == 0
    assert (copied / "manifest.csv").read_bytes() == (prepared.out / "manifest.csv").read_bytes()
    with pytest.raises(DataError, match="min_face 40 → 30"):
        prepare_corpus(corpus, _config(copied, faces=replace(FACES, min_face=30)))


def test_no_balance_chooses_all_usable_crops(corpus: Path, copied: Path) -> None:
    prepare_corpus(corpus, _config(copied, balance=False))
    table = read_manifest(copied)
    assert (table["balanced"] == usable(table)).all()


def test_pairs_have_the_same_duplicates(tmp_path: Path) -> None:
    for folder, picture in (("real", _portrait()), ("fake/swap", _swapped(_portrait()))):
        (tmp_path / "corpus" / folder).mkdir(parents=True)
        still = [picture] * 8 + [np.roll(picture, 5, axis=1)] * 4
        write_clip(tmp_path / "corpus" / folder / "clip.mp4", still)
    prepare_corpus(tmp_path / "corpus", _config(tmp_path / "crops", frames_per_video=6))
    table = read_manifest(tmp_path / "crops")
    real, fake = (table[table["label"] == label].reset_index(drop=True) for label in ("real", "fake"))
    assert len(real) == len(fake) == 6
    assert real["duplicate"].tolist() == fake["duplicate"].tolist()
    assert 1 <= (~real["duplicate"]).sum() < 6
    prepare_corpus(tmp_path / "corpus", _config(tmp_path / "crops", frames_per_video=6, duplicate_threshold=0))
    assert not read_manifest(tmp_path / "crops")["duplicate"].any()


def test_other_settings_are_an_error(corpus: Path, copied: Path) -> None:
    before = _pictures(copied)
    with pytest.raises(
        DataError, match=r"frames_per_video 4 → 5\. Choose another --output, or start over with --force"
    ):
        prepare_corpus(corpus, _config(copied, frames_per_video=5))
    assert _pictures(copied) == before


def test_force_starts_over(corpus: Path, copied: Path) -> None:
    prepare_corpus(corpus, _config(copied, frames_per_video=2, limit=1, force=True))
    table = read_manifest(copied)
    assert sorted(table["crop"]) == sorted(_pictures(copied))
    assert table.groupby(["video", "face"]).size().max() == 2


def test_folder_of_other_files_is_an_error(corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"precious")
    with pytest.raises(DataError, match="is not empty and was not made by prepare"):
        prepare_corpus(corpus, _config(tmp_path, force=True))
    assert [path.name for path in tmp_path.iterdir()] == ["holiday.jpg"]


def test_interrupted_run_continues(corpus: Path, prepared: Prepared, tmp_path: Path) -> None:
    out = tmp_path / "crops"

    def interrupt(done: int, wanted: int | None) -> None:
        if done >= 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare_corpus(corpus, _config(out), interrupt)
    finished = {path.name for path in (out / "parts").glob("*.json")}
    assert 0 < len(finished) < 17
    # What a killed process can leave: half a part, and crops without a part.
    (out / "parts" / "clip3-0000000000.json.tmp").write_text("{")
    stray = out / "train" / "real" / "film" / "clip9-0000000000"
    stray.mkdir(parents=True)
    (stray / "000000_1.png").write_bytes(b"half")
    summary = prepare_corpus(corpus, _config(out))
    assert summary.videos_ready == len(finished)
    assert (out / "manifest.csv").read_bytes() == (prepared.out / "manifest.csv").read_bytes()
    assert _pictures(out) == _pictures(prepared.out)
    assert not list(out.rglob("*.tmp"))


def test_run_killed_at_its_start(corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "crops/parts").mkdir(parents=True)
    (tmp_path / "crops/parts/prepare.json.tmp").write_text("{")
    prepare_corpus(corpus, _config(tmp_path / "crops", limit=1))
    assert not list((tmp_path / "crops").rglob("*.tmp"))


@pytest.mark.parametrize("damage", ["missing", "foreign"])
def test_changed_crops_are_extracted_again(corpus: Path, prepared: Prepared, copied: Path, damage: str) -> None:
    crop = copied / prepared.table["crop"][0]
    if damage == "missing":
        crop.unlink()
    else:
        crop.with_name("stray.png").write_bytes(b"stray")
    assert prepare_corpus(corpus, _config(copied)).videos_prepared == 1
    assert _pictures(copied) == _pictures(prepared.out)


def test_two_runs_in_one_folder_are_an_error(corpus: Path, copied: Path) -> None:
    with locked_folder(copied), pytest.raises(OutputError, match="another run is writing there"):
        prepare_corpus(corpus, _config(copied))


def test_new_fake_joins_groups_of_two_splits(corpus: Path, tmp_path: Path) -> None:
    """What earlier runs cut must not stay where it would cross a split now."""
    growing, out = tmp_path / "corpus", tmp_path / "crops"
    for number in range(4):
        path = growing / f"original_sequences/youtube/c23/videos/{number:03d}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(corpus / f"real/film/clip{number}.mp4", path)
    prepare_corpus(growing, _config(out))
    split = read_manifest(out).set_index("video")["split"]
    assert split.nunique() > 1
    first = next(n for n in range(1, 4) if set(split.filter(like="000")) != set(split.filter(like=f"00{n}")))
    fake = growing / f"manipulated_sequences/Deepfakes/c23/videos/000_00{first}.mp4"
    fake.parent.mkdir(parents=True)
    shutil.copy(corpus / "fake/swap/clip0.mp4", fake)
    prepare_corpus(growing, _config(out))
    table = read_manifest(out)
    assert (table.groupby("group")["split"].nunique() == 1).all()
    assert set(table.loc[table["video"].str.contains(f"/00[0{first}]"), "group"]) == {"youtube:000"}
    assert sorted(table["crop"]) == sorted(_pictures(out))


def test_changed_original_is_extracted_again_with_its_fakes(corpus: Path, tmp_path: Path) -> None:
    changing, out = tmp_path / "corpus", tmp_path / "crops"
    for name in ("real/film/clip0.mp4", "fake/swap/clip0.mp4", "real/film/clip1.mp4"):
        (changing / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(corpus / name, changing / name)
    prepare_corpus(changing, _config(out))
    os.utime(changing / "real/film/clip0.mp4", (1, 1))
    summary = prepare_corpus(changing, _config(out))
    assert (summary.videos_prepared, summary.videos_ready) == (2, 1)


def test_new_files_keep_earlier_splits(corpus: Path, tmp_path: Path) -> None:
    growing, out = tmp_path / "corpus", tmp_path / "crops"
    (growing / "real/stills").mkdir(parents=True)
    for number in range(3):
        _save(growing / f"real/stills/{number}.png", _portrait() + np.uint8(number))
    prepare_corpus(growing, _config(out))
    before = read_manifest(out).set_index("video")["split"]
    for number in range(3, 12):
        _save(growing / f"real/stills/{number}.png", _portrait() + np.uint8(number))
    assert prepare_corpus(growing, _config(out)).videos_ready == 3
    after = read_manifest(out).set_index("video")["split"]
    assert len(after) == 12
    assert after[before.index].equals(before)
    assert set(after) == {"train", "val", "test"}


def test_boxes_are_scaled_to_the_fakes_size(corpus: Path, tmp_path: Path) -> None:
    mixed = tmp_path / "corpus"
    (mixed / "real").mkdir(parents=True)
    (mixed / "fake/swap").mkdir(parents=True)
    shutil.copy(corpus / "real/film/clip0.mp4", mixed / "real/clip0.mp4")
    large = cv2.resize(_swapped(_portrait()), (SIDE * 2, SIDE * 2)).astype(np.uint8)
    shifted = (np.roll(picture, number // 2 * 2, axis=1) for number, picture in enumerate([large] * 12))
    write_clip(mixed / "fake/swap/clip0.mp4", shifted)
    prepare_corpus(mixed, _config(tmp_path / "crops"))
    table = read_manifest(tmp_path / "crops")
    small, twice = (table[table["label"] == label].reset_index(drop=True) for label in ("real", "fake"))
    assert set(twice["boxes_from"]) == {"original"}
    np.testing.assert_allclose(twice[["x1", "y1", "x2", "y2"]], 2 * small[["x1", "y1", "x2", "y2"]], atol=0.1)


def test_truncated_video_is_used_and_noted(corpus: Path, tmp_path: Path) -> None:
    torn = tmp_path / "corpus/real/torn.mp4"
    torn.parent.mkdir(parents=True)
    write_clip(tmp_path / "whole.mp4", _moving(_portrait(), 40), container_options={"movflags": "faststart"})
    data = (tmp_path / "whole.mp4").read_bytes()
    torn.write_bytes(data[: len(data) * 3 // 5])
    summary = prepare_corpus(tmp_path / "corpus", _config(tmp_path / "crops"))
    assert summary.crops > 0
    assert any(note.startswith("real/torn: partial") for note in summary.notes)


def test_corpus_without_faces_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "corpus/real").mkdir(parents=True)
    write_clip(tmp_path / "corpus/real/nobody.mp4", barcode_frames(4))
    with pytest.raises(DataError, match=r"no file gave a face\. Each file's reason is in .*report\.md; for small"):
        prepare_corpus(tmp_path / "corpus", _config(tmp_path / "crops"))
    assert "no face that lasts" in (tmp_path / "crops/report.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_several_processes_give_the_same_crops(corpus: Path, prepared: Prepared, tmp_path: Path) -> None:
    few, out = tmp_path / "corpus", tmp_path / "crops"
    for name in ("real/film/clip0.mp4", "real/film/clip1.mp4", "fake/swap/clip1.mp4", "fake/swap/text.mp4"):
        (few / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(corpus / name, few / name)
    summary = prepare_corpus(few, _config(out, jobs=2))
    table = read_manifest(out)
    assert [skipped.name for skipped in summary.skipped] == ["fake/swap/text"]
    unsplit = [column for column in COLUMNS if column not in ("crop", "split", "balanced")]
    for video in ("real/film/clip0", "real/film/clip1", "fake/swap/clip1"):
        rows = table[table["video"] == video].reset_index(drop=True)
        pd.testing.assert_frame_equal(rows[unsplit], prepared.rows(video)[unsplit])


class _Deadly:
    """Ends the process that receives it, as a decoder's crash would."""

    def __reduce__(self) -> tuple[object, tuple[int]]:
        return os._exit, (1,)


@pytest.mark.slow
def test_file_that_kills_its_process(corpus: Path, tmp_path: Path) -> None:
    paths = [corpus / f"real/film/clip{number}.mp4" for number in range(4)]
    videos = [SourceVideo(path, path.stem, "real", "film", path.stem) for path in paths]
    deadly = SourceVideo(_Deadly(), "deadly", "real", "film", "deadly")  # type: ignore[arg-type]
    tasks = [Task(video, (video,), ("train",)) for video in (videos[0], deadly, *videos[1:])]
    (tmp_path / "parts").mkdir()
    calls: list[tuple[int, int]] = []
    config = PrepareConfig(frames_per_video=2, size=96, faces=FaceConfig(), jobs=2)
    lost = run_tasks(tasks, tmp_path, config, lambda *call: calls.append(call))
    assert [video.video for video in lost] == ["deadly"]
    assert calls[-1] == (5, 5)
    assert len(list((tmp_path / "parts").glob("*.json"))) == 4


def _table(people: list[tuple[str, int, bool]]) -> pd.DataFrame:
    """Rows for people of (label, number of crops, blurry)."""
    clean = dict.fromkeys(FLAWS, False)
    return pd.DataFrame(
        [
            {**clean, "split": "train", "label": label, "video": str(number), "face": 1, "blurry": blurry}
            for number, (label, crops, blurry) in enumerate(people)
            for _ in range(crops)
        ],
        columns=["split", "label", "video", "face", *FLAWS],
    )


@given(
    st.lists(st.tuples(st.sampled_from(["real", "fake"]), st.integers(1, 40), st.booleans()), max_size=20),
)
@pytest.mark.slow
def test_balance_keeps_everyone_and_evens_the_labels(people: list[tuple[str, int, bool]]) -> None:
    table = _table(people)
    chosen = table[balance(table)]
    sharp = table[~table["blurry"].astype(bool)]
    assert set(chosen["video"]) == set(sharp["video"])
    assert not chosen["blurry"].any()
    counts = {label: int((chosen["label"] == label).sum()) for label in ("real", "fake")}
    available = {label: int((sharp["label"] == label).sum()) for label in counts}
    if all(available.values()):
        target = min(available.values())
        persons = {label: sharp.loc[sharp["label"] == label, "video"].nunique() for label in counts}
        assert counts == {label: max(target, persons[label]) for label in counts}
    else:
        assert counts == available


def test_balance_takes_from_the_longest() -> None:
    table = _table([("real", 40, False), ("real", 4, False), ("fake", 14, False)])
    chosen = table[balance(table)]
    assert chosen.groupby("video").size().to_dict() == {"0": 10, "1": 4, "2": 14}
    assert np.diff(chosen[chosen["video"] == "0"].index).tolist() == [4] * 9


def test_wrong_manifest_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no manifest"):
        read_manifest(tmp_path)
    (tmp_path / "manifest.csv").write_text("path,label\na,real\n", encoding="utf-8")
    with pytest.raises(DataError, match="lacks the columns crop, split"):
        read_manifest(tmp_path)
    (tmp_path / "manifest.csv").write_bytes(b"")
    with pytest.raises(TorchfakesError, match="is no manifest"):
        read_manifest(tmp_path)


def test_damaged_frames_are_left_out(tmp_path: Path) -> None:
    """Of two groups of ten pictures, the first's last eight lack what they build upon."""
    params = "log-level=none:keyint=10:min-keyint=10:scenecut=0:bframes=0"
    (tmp_path / "corpus/real").mkdir(parents=True)
    hurt = write_clip(
        tmp_path / "corpus/real/hurt.mp4", _moving(_portrait(), 20), codec="libx265",
        options={"x265-params": params, "preset": "ultrafast"},
    )  # fmt: skip
    damage_packets(hurt, [1])
    summary = prepare_corpus(tmp_path / "corpus", _config(tmp_path / "crops", frames_per_video=20))
    assert summary.damaged == 8
    assert set(read_manifest(summary.out)["frame"]) <= {0, *range(10, 20)}
    assert "8 frames since they are damaged" in " ".join(summary.report.read_text(encoding="utf-8").split())


def test_tight_stills_are_cropped_inside(tmp_path: Path) -> None:
    root = tmp_path / "corpus"
    tight = np.maximum(_portrait()[30:140, 30:140], 1)
    for label, picture in (("real/small", tight), ("fake/swap", np.maximum(_swapped(_portrait())[30:140, 30:140], 1))):
        _save(root / label / "tight.png", picture)
    # The face lies at the right border of a wide picture.
    _save(root / "real/wide/other.png", np.maximum(_portrait()[:, :125], 1))
    summary = prepare_corpus(root, _config(tmp_path / "crops", faces=replace(FACES, margin=2.0), size=256))
    table = read_manifest(summary.out)
    assert sorted(table["video"]) == ["fake/swap/tight", "real/small/tight", "real/wide/other"]
    assert table["changed"].notna().sum() == 1
    for row in table.itertuples():
        crop = cv2.imread(str(summary.out / str(row.crop)))
        assert crop is not None
        assert crop.shape[0] == crop.shape[1] == (110 if "tight" in str(row.video) else 125)
        assert crop.max(2)[[0, -1]].min() > 0
        assert crop.max(2)[:, [0, -1]].min() > 0
        # The landmarks lie where the face is: eyes above the mouth, all inside.
        assert 0 < float(row.ly0) < float(row.ly3) < crop.shape[0]  # type: ignore[arg-type]


def test_pool_draws_by_source_and_mix(tmp_path: Path) -> None:
    rows = [("real", "a", f"r{n}", "") for n in range(4)] + [("real", "b", "r9", "")]
    rows += [("fake", "a", f"f{n}", "r0") for n in range(97)] + [("fake", "a", f"g{n}", f"r{n}") for n in (1, 2, 3)]
    rows += [("fake", "b", "h", "r9")]
    table = pd.DataFrame(rows, columns=["label", "method", "video", "source"]).assign(group="everyone")
    fakes = table[table["label"] == "fake"]
    rng = np.random.default_rng(0)
    pool = Pool.of(fakes, mix={"b": 0.7})
    drawn = [fakes.loc[pool.draw(rng)[0]] for _ in range(1000)]
    assert np.mean([row["method"] == "b" for row in drawn]) == pytest.approx(0.7, abs=0.05)
    of_first = np.mean([row["source"] == "r0" for row in drawn if row["method"] == "a"])
    assert of_first == pytest.approx(0.25, abs=0.08)


@given(st.lists(st.integers(0, 255), max_size=30), st.floats(0.5, 60))
def test_novelties_hold_for_any_threshold(levels: list[int], threshold: float) -> None:
    found = novelties([np.full((48, 48, 3), level, np.uint8) for level in levels])
    kept = [level for level, novelty in zip(levels, found, strict=True) if novelty >= threshold]
    assert kept[:1] == levels[:1]
    assert all(abs(a - b) >= threshold for i, a in enumerate(kept) for b in kept[:i])
    assert all(min(abs(level - other) for other in kept) < threshold for level in levels if level not in kept)


def test_new_crops_fit_the_detector_that_ships() -> None:
    assert load_header(shipped_checkpoint()).margin == FACES.margin
