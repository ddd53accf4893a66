from __future__ import annotations

import json
import os
import pickle
import stat
import struct
from collections import Counter
from pathlib import Path

import av
import pytest

from tests.torture import CATEGORIES, Canaries, CannotMake, Case, Outcome, all_cases, write_case, write_set
from tests.torture.boxes import Movie, box, element, jpeg, motion_jpeg_matroska, sparse_gif, vint
from tests.torture.case import add_case, steady
from tests.torture.make import MANIFEST_NAME, printable
from tests.torture.pictures import PATCHES, plain, talking_head

SMALL = (64, 48)


def find(name: str) -> Case:
    return next(case for case in all_cases() if case.name == name)


def times_s(path: Path) -> list[float | None]:
    with av.open(str(path)) as container:
        return [frame.time for frame in container.decode(video=0)]


class TestRegistry:
    def test_names_differ_even_on_file_systems_that_ignore_case_or_escape_bytes(self) -> None:
        names = [printable(case.name).casefold() for case in all_cases()]
        assert len(set(names)) == len(names)

    def test_a_second_case_of_one_name_is_refused(self) -> None:
        with pytest.raises(ValueError, match="two torture cases"):
            add_case("f_empty.mp4", Outcome.ERROR, lambda place: None)

    def test_every_category_has_its_cases(self) -> None:
        counts = Counter(case.category for case in all_cases())
        assert set(counts) == set(CATEGORIES.values())
        assert all(counts[category] >= 8 for category in counts if category != "many")

    def test_facts_agree_with_each_other(self) -> None:
        for case in all_cases():
            if case.outcome is Outcome.NO_FACES:
                assert not case.faces, case
            if case.frames and case.duration_s and case.fps:
                assert case.duration_s == pytest.approx(case.frames / case.fps), case
            if case.frame_time and case.frames and case.duration_s:
                assert case.frame_time(0) == 0
                assert case.frame_time(case.frames - 1) < case.duration_s, case

    def test_every_outcome_is_met(self) -> None:
        assert {case.outcome for case in all_cases()} == set(Outcome)

    def test_steady_times_are_exact(self) -> None:
        assert steady(25)(50) == 2.0


class TestWriting:
    def test_writes_what_was_asked_for_and_a_manifest(self, tmp_path: Path) -> None:
        cases = write_set(tmp_path, categories=["broken"], only=r"empty|one_byte|text")
        assert {case.name for case in cases} == {"f_empty.mp4", "f_one_byte.mp4", "f_text.mp4"}
        manifest = json.loads((tmp_path / MANIFEST_NAME).read_text())
        assert set(manifest) == {case.name for case in cases}
        assert manifest["f_empty.mp4"] == {"outcome": "error", "note": "0 bytes"}
        assert (tmp_path / "f_one_byte.mp4").read_bytes() == b"\0"

    def test_an_unknown_category_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="nonsense"):
            write_set(tmp_path, categories=["nonsense"])

    def test_what_cannot_be_made_is_told(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def forbid(*_: object) -> None:
            raise PermissionError("not here")

        monkeypatch.setattr(Path, "symlink_to", forbid)
        told: dict[str, str] = {}
        cases = write_set(
            tmp_path, only="f_dangling|f_empty", left_out=lambda case, reason: told.update({case.name: reason})
        )
        assert [case.name for case in cases] == ["f_empty.mp4"]
        assert list(told) == ["f_dangling_symlink.mp4"]
        assert "not here" in told["f_dangling_symlink.mp4"]

    def test_a_second_run_replaces_the_first(self, tmp_path: Path) -> None:
        for _ in range(2):
            cases = write_set(tmp_path, only="f_(fifo|symlink_loop|empty)")
        assert "f_empty.mp4" in {case.name for case in cases}

    @pytest.mark.skipif(os.name != "posix", reason="needs POSIX")
    def test_permissions_are_left_out_for_root_alone(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        with pytest.raises(CannotMake, match="root"):
            write_case(find("f_unreadable.mp4"), tmp_path, Canaries())

    @pytest.mark.skipif(os.name != "posix", reason="needs POSIX")
    def test_things_that_are_no_files(self, tmp_path: Path) -> None:
        write_set(tmp_path, only="f_(fifo|symlink_loop|dangling)", left_out=lambda case, reason: pytest.skip(reason))
        assert stat.S_ISFIFO((tmp_path / "f_fifo.mp4").lstat().st_mode)
        assert (tmp_path / "f_symlink_loop.mp4").is_symlink()

    def test_odd_names_hold_the_same_clip(self, tmp_path: Path) -> None:
        cases = write_set(
            tmp_path, only="g_names/(with|emoji|=cmd|-1|\udcff|x{251})", left_out=lambda case, reason: None
        )
        assert len(cases) >= 3
        assert len({(tmp_path / case.name).read_bytes() for case in cases}) == 1
        assert len(times_s(tmp_path / cases[0].name)) == 50

    def test_playlists_name_the_canary(self, tmp_path: Path) -> None:
        canaries = Canaries(port=4711, marker=tmp_path / "ran")
        write_set(tmp_path, only=r"http\.|rtp\.sdp|evil\.vpy|evil_pickle", canaries=canaries)
        for name in ("http.m3u8", "http.mpd", "http.ffconcat"):
            assert "http://127.0.0.1:4711/" in (tmp_path / "j_playlists" / name).read_text()
        assert "video 4710 " in (tmp_path / "j_playlists" / "rtp.sdp").read_text()
        assert str(tmp_path / "ran_vpy") in (tmp_path / "j_playlists" / "evil.vpy").read_text()

    def test_a_payload_would_only_leave_its_mark(self, tmp_path: Path) -> None:
        canaries = Canaries(marker=tmp_path / "ran")
        place = write_case(find("l_checkpoints/evil_pickle.pt"), tmp_path, canaries)
        assert not canaries.payload_mark("raw").exists()
        pickle.loads(place.read_bytes()).close()
        assert canaries.payload_mark("raw").read_bytes() == b""


class TestBoxes:
    def test_a_box_states_its_length(self) -> None:
        assert box(b"free", b"ab", b"c") == struct.pack(">I", 11) + b"freeabc"

    @pytest.mark.parametrize(
        ("number", "length", "expected"), [(1, None, "81"), (127, None, "407f"), (1, 8, "0100000000000001")]
    )
    def test_numbers_of_variable_length(self, number: int, length: int | None, expected: str) -> None:
        assert vint(number, length).hex() == expected

    def test_elements_take_numbers_and_text(self) -> None:
        assert element("D7", 1).hex() == "d78101"
        assert element("86", "V_X").hex() == "8683" + b"V_X".hex()

    def test_a_movie_of_several_pictures(self, tmp_path: Path) -> None:
        place = tmp_path / "movie.mov"
        samples = [jpeg(plain((shade, shade, shade), SMALL)) for shade in (0, 128, 255)]
        place.write_bytes(Movie(SMALL, b"jpeg", samples).to_bytes())
        assert times_s(place) == pytest.approx([0, 0.04, 0.08])

    def test_a_movie_of_one_picture_shown_again_and_again(self, tmp_path: Path) -> None:
        place = tmp_path / "movie.mov"
        place.write_bytes(Movie(SMALL, b"jpeg", [jpeg(plain((9, 9, 9), SMALL))], count=7).to_bytes())
        assert len(times_s(place)) == 7

    def test_a_movie_may_lie_about_its_length(self) -> None:
        minute = 25_000 * 60
        movie = Movie(SMALL, b"jpeg", [b""], declared_duration=minute).to_bytes()
        headers = (b"mvhd", b"tkhd", b"mdhd")
        assert all(struct.pack(">I", minute) in movie[movie.index(kind) :][:36] for kind in headers)

    def test_a_matroska_file_at_any_times(self, tmp_path: Path) -> None:
        place = tmp_path / "movie.mkv"
        picture = jpeg(plain((9, 9, 9), SMALL))
        place.write_bytes(motion_jpeg_matroska(SMALL, [(-1000, picture), (0, picture), (10**9, picture)], 5))
        before_zero, *others = times_s(place)
        assert before_zero is None  # FFmpeg knows no times before 0 here
        assert others == [0, 10**6]

    def test_a_gif_of_a_pixel_a_frame(self, tmp_path: Path) -> None:
        place = tmp_path / "small.gif"
        place.write_bytes(sparse_gif(SMALL, 5))
        assert times_s(place) == pytest.approx([0, 0.04, 0.08, 0.12, 0.16])


class TestPictures:
    def test_the_head_moves_and_can_be_absent(self) -> None:
        first, later = talking_head(0, (320, 180)), talking_head(20, (320, 180))
        empty = talking_head(0, (320, 180), with_face=False)
        assert (first[20:160] != later[20:160]).any()
        assert (first[20:160] != empty[20:160]).mean() > 0.3

    def test_patches_show_their_colors(self) -> None:
        picture = talking_head(5, (320, 180))
        assert [tuple(picture[8, 8 + 16 * number]) for number in range(len(PATCHES))] == list(PATCHES)
