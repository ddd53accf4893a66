"""Damaged files, files that aren't videos, and things in a folder that aren't files."""

from __future__ import annotations

import io
import os
import random
import stat
import zipfile
from functools import cache
from typing import TYPE_CHECKING

from PIL import Image

from tests.clips import cut_file, packet_spans
from tests.torture.case import CannotMake, Outcome, add_case, case
from tests.torture.encoding import Encoding, encoded_bytes
from tests.torture.pictures import COUNT, SMALL, STEADY, head_clip
from tests.torture.sources import faststart, plain, small_clip

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.torture.case import Writer

    Damage = Callable[[random.Random, bytes], bytes]

SAVED_SHARE = 0.6

# --- cut short


def cut_writer(clip: Callable[[], bytes], share: float = SAVED_SHARE) -> Writer:
    """A writer of the first part of a clip."""

    def write(place: Path) -> None:
        place.write_bytes(clip())
        cut_file(place, share)

    return write


def plain_mp4() -> bytes:
    return plain(".mp4")


def plain_mkv() -> bytes:
    return plain(".mkv")


def plain_ts() -> bytes:
    return plain(".ts")


def mpeg4_avi() -> bytes:
    return encoded_bytes(".avi", head_clip(), Encoding("mpeg4"))


def fragmented() -> bytes:
    options = {"movflags": "+frag_keyframe+empty_moov"}
    encoding = Encoding("libx264", {"crf": "20", "g": "25", "bf": "2"}, container_options=options)
    return encoded_bytes(".mp4", head_clip(), encoding)


add_case(
    "f_truncated_no_moov.mp4",
    Outcome.ERROR,
    cut_writer(plain_mp4),
    "the header is at the end, and cut off",
)
add_case(
    "f_truncated_faststart.mp4",
    Outcome.OK_WARN,
    cut_writer(faststart),
    "the header promises 125 frames, the data end at 60 %",
    faces=True,
)
add_case("f_truncated.mkv", Outcome.OK_WARN, cut_writer(plain_mkv), faces=True)
add_case(
    "f_truncated.ts",
    Outcome.OK,
    cut_writer(plain_ts),
    "can't be noticed: the header states no length",
    faces=True,
)
add_case("f_truncated.avi", Outcome.OK_WARN, cut_writer(mpeg4_avi), "the index is missing", faces=True)
add_case(
    "f_truncated_fragmented.mp4",
    Outcome.OK,
    cut_writer(fragmented),
    "the last fragment is cut; no length is stated",
    faces=True,
)
add_case("f_download.mp4.part", Outcome.SKIP, cut_writer(small_clip, 0.4))

# --- damaged packets in a sound container


def bit_flips(*, one_in: int, least: int) -> Damage:
    """Flips a bit in one of so many bytes, but ``least`` bits, behind the packet's first eight bytes."""

    def flip(source: random.Random, packet: bytes) -> bytes:
        damaged = bytearray(packet)
        for _ in range(max(least, len(packet) // one_in)):
            damaged[source.randrange(min(8, len(packet) - 1), len(packet))] ^= 1 << source.randrange(8)
        return bytes(damaged)

    return flip


def zero(_: random.Random, packet: bytes) -> bytes:
    return bytes(len(packet))


def randomise(source: random.Random, packet: bytes) -> bytes:
    return source.randbytes(len(packet))


def damage_writer(clip: Callable[[], bytes], every: int, damage: Damage) -> Writer:
    """A writer of a clip whose every so-and-so-many-th packet is damaged in place."""

    def write(place: Path) -> None:
        place.write_bytes(clip())
        data, source = bytearray(clip()), random.Random(1)
        for start, size in packet_spans(place)[every - 1 :: every]:
            data[start : start + size] = damage(source, bytes(data[start : start + size]))
        place.write_bytes(data)

    return write


def hevc() -> bytes:
    return encoded_bytes(".mp4", head_clip(), Encoding("libx265", {"crf": "28"}, codec_tag="hvc1"))


def vp9() -> bytes:
    return encoded_bytes(".webm", head_clip(), Encoding("libvpx-vp9", {"b": "0"}))


def motion_jpeg() -> bytes:
    return encoded_bytes(".avi", head_clip(), Encoding("mjpeg", pixel_format="yuvj420p"))


add_case(
    "f_flip_every_50th.mp4",
    Outcome.OK_WARN,
    damage_writer(plain_mp4, 50, bit_flips(one_in=20, least=40)),
    "bits flipped in packets 49 and 99: concealed, or refused by the decoder",
    frames=COUNT,
    faces=True,
)
add_case(
    "f_zero_every_50th.mp4",
    Outcome.OK_WARN,
    damage_writer(plain_mp4, 50, zero),
    "refused by the decoder in the middle; the rest must be read",
    faces=True,
)
add_case("f_zero_every_10th.mp4", Outcome.OK_WARN, damage_writer(plain_mp4, 10, zero), faces=True)
add_case("f_noise_every_5th.mp4", Outcome.OK_WARN, damage_writer(plain_mp4, 5, randomise), faces=True)
add_case(
    "f_flip_every_3rd.hevc.mp4",
    Outcome.OK_WARN,
    damage_writer(hevc, 3, bit_flips(one_in=100, least=3)),
    "most pictures are lost or damaged, many without an error from the decoder",
)
add_case("f_zero_every_10th.vp9.webm", Outcome.OK_WARN, damage_writer(vp9, 10, zero))
add_case("f_zero_every_10th.mjpeg.avi", Outcome.OK_WARN, damage_writer(motion_jpeg, 10, zero))
add_case(
    "f_all_packets_noise.mp4",
    Outcome.ERROR,
    damage_writer(plain_mp4, 1, randomise),
    "a perfect container, and not one frame that can be decoded",
)
add_case(
    "f_mdat_zeroed.mp4",
    Outcome.ERROR,
    damage_writer(faststart, 1, zero),
    "a sparse download: the header is fine, all media are zero",
)


@case("f_random_byte_flips.mp4", Outcome.OK_WARN, "one byte in 2000, the header's too: any clean outcome will do")
def random_flips(place: Path) -> None:
    data, source = bytearray(plain_mp4()), random.Random(10)
    for _ in range(len(data) // 2000):
        data[source.randrange(len(data))] ^= 1 << source.randrange(8)
    place.write_bytes(data)


@case("f_trailing_garbage.mp4", Outcome.OK, **STEADY)
def trailing_garbage(place: Path) -> None:
    place.write_bytes(plain_mp4() + random.Random(3).randbytes(100_000))


@case("f_leading_garbage.mp4", Outcome.ERROR)
def leading_garbage(place: Path) -> None:
    place.write_bytes(random.Random(4).randbytes(5000) + plain_mp4())


# --- not videos


def zip_archive() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(zipfile.ZipInfo("a.txt", (2020, 1, 1, 0, 0, 0)), "hello" * 1000)
    return buffer.getvalue()


def still_image(kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(head_clip()[0]).save(buffer, kind)
    return buffer.getvalue()


@cache
def program() -> bytes:
    """The start of an ELF executable for x86-64: its header, and one segment of zeros."""
    identification = b"\x7fELF\x02\x01\x01" + bytes(9)
    return identification + b"\x03\0\x3e\0\x01\0\0\0" + bytes(40) + bytes(20_000)


LFS_POINTER = (
    "version https://git-lfs.github.com/spec/v1\n"
    "oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\n"
    "size 12345\n"
)
TEXT = "This is not a video.\n" * 500


def bytes_writer(data: bytes) -> Writer:
    """A writer of given bytes."""

    def write(place: Path) -> None:
        place.write_bytes(data)

    return write


def random_writer(seed: int, size: int) -> Writer:
    """A writer of noise."""

    def write(place: Path) -> None:
        place.write_bytes(random.Random(seed).randbytes(size))

    return write


def image_writer(kind: str) -> Writer:
    """A writer of a still picture."""

    def write(place: Path) -> None:
        place.write_bytes(still_image(kind))

    return write


add_case("f_empty.mp4", Outcome.ERROR, bytes_writer(b""), "0 bytes")
add_case("f_one_byte.mp4", Outcome.ERROR, bytes_writer(b"\0"))
add_case(
    "f_urandom.mp4",
    Outcome.ERROR,
    random_writer(5, 300_000),
    "must not be taken for MP3, MPEG or H.261",
)
add_case("f_urandom2.avi", Outcome.ERROR, random_writer(6, 3_000_000))
add_case("f_zeros.mp4", Outcome.ERROR, bytes_writer(bytes(300_000)))
add_case("f_text.mp4", Outcome.ERROR, bytes_writer(TEXT.encode()))
add_case("f_notes.txt", Outcome.SKIP, bytes_writer(TEXT.encode()), "FFmpeg plays .txt and .nfo files as a terminal")
add_case("f_readme.nfo", Outcome.SKIP, bytes_writer(b"release notes \x1b[31m red \x1b[0m\n" * 200))
add_case(
    "f_html_404.mp4",
    Outcome.ERROR,
    bytes_writer(b"<!DOCTYPE html><html><body><h1>404 Not Found</h1></body></html>\n"),
)
add_case("f_git_lfs_pointer.mp4", Outcome.ERROR, bytes_writer(LFS_POINTER.encode()), "common in data sets")
add_case("f_zip_renamed.mp4", Outcome.ERROR, bytes_writer(zip_archive()))
add_case("f_jpeg_renamed.mp4", Outcome.ERROR, image_writer("JPEG"), "a still picture is not a video")
add_case("f_image.jpg", Outcome.OK, image_writer("JPEG"))
add_case("f_image.png", Outcome.OK, image_writer("PNG"))
add_case("f_elf_renamed.mp4", Outcome.ERROR, bytes_writer(program()))
add_case(
    "f_macos/._clip.mp4",
    Outcome.SKIP,
    bytes_writer(b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        " + bytes(4000)),
    "what macOS leaves next to clip.mp4",
)


@case("f_macos/clip.mp4", Outcome.OK, **SMALL)
def beside_junk(place: Path) -> None:
    place.write_bytes(small_clip())


@case("f_sparse_4GB.mp4", Outcome.ERROR, "4 GiB of zeros that use no disk", posix_only=True)
def sparse(place: Path) -> None:
    with place.open("wb") as file:
        file.truncate(4 << 30)


# --- directories, links, and things that aren't files


def link(place: Path, target: str) -> None:
    """Makes a symbolic link.

    Raises:
        CannotMake: the file system or the user may not.
    """
    try:
        place.symlink_to(target)
    except (OSError, NotImplementedError) as error:
        raise CannotMake(f"no symbolic links here: {error}") from error


def link_writer(target: str) -> Writer:
    """A writer of a symbolic link."""

    def write(place: Path) -> None:
        link(place, target)

    return write


@case("f_dir.mp4", Outcome.SKIP, "a directory with a video's name, and a clip inside")
def directory(place: Path) -> None:
    place.mkdir(exist_ok=True)
    (place / "inside.mp4").write_bytes(small_clip())


add_case("f_dangling_symlink.mp4", Outcome.ERROR, link_writer("/nonexistent/clip.mp4"), posix_only=True)
add_case("f_symlink_loop.mp4", Outcome.ERROR, link_writer("f_symlink_loop.mp4"), posix_only=True)
add_case(
    "f_symlink_devzero.mp4",
    Outcome.ERROR,
    link_writer("/dev/zero"),
    "endless: what isn't a regular file is refused",
    posix_only=True,
)


@case("f_symlink_ok.mp4", Outcome.OK, posix_only=True, **SMALL)
def good_link(place: Path) -> None:
    target = place.parent / "f_macos" / "clip.mp4"
    target.parent.mkdir(exist_ok=True)
    target.write_bytes(small_clip())
    link(place, "f_macos/clip.mp4")


@case("f_tree/loop", Outcome.SKIP, "a link to its own parent: going down must end", posix_only=True)
def looping_tree(place: Path) -> None:
    below = place.parent / "sub"
    below.mkdir(exist_ok=True)
    (below / "clip.mp4").write_bytes(small_clip())
    link(place, "..")


@case("f_fifo.mp4", Outcome.ERROR, "opening it blocks for ever", posix_only=True)
def fifo(place: Path) -> None:
    try:
        os.mkfifo(place)
    except OSError as error:
        raise CannotMake(f"no FIFOs here: {error}") from error


@case("f_socket.mp4", Outcome.ERROR, posix_only=True)
def unix_socket(place: Path) -> None:
    # Binding a socket takes a path of a hundred bytes at most; Linux makes one without, for any user.
    try:
        os.mknod(place, stat.S_IFSOCK | 0o600)
    except OSError as error:
        raise CannotMake(f"no sockets by mknod here: {error}") from error


@case("f_unreadable.mp4", Outcome.ERROR, "no one may read it", posix_only=True, needs_non_root=True)
def unreadable(place: Path) -> None:
    place.write_bytes(small_clip())
    place.chmod(0)


@case(
    "f_unreadable_dir",
    Outcome.ERROR,
    "no one may list it: a scan of the folder says so and goes on",
    posix_only=True,
    needs_non_root=True,
)
def unreadable_directory(place: Path) -> None:
    place.mkdir(exist_ok=True)
    place.chmod(0o700)
    (place / "clip.mp4").write_bytes(small_clip())
    place.chmod(0)
