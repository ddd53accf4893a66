from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path

import pytest

from tests.clips import barcode_frames, write_clip
from torchfakes_cli.errors import (
    DecodeError,
    MediaError,
    NoVideoStreamError,
    TorchfakesError,
    UnreadableFileError,
    UnsupportedMediaError,
)
from torchfakes_cli.video.probing import examine

PLAYLISTS = {
    "HLS": "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{target}\n#EXT-X-ENDLIST\n",
    "ffconcat": "ffconcat version 1.0\nfile '{target}'\n",
    "DASH": '<?xml version="1.0"?>\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" mediaPresentationDuration="PT2S" '
    'type="static" profiles="urn:mpeg:dash:profile:isoff-on-demand:2011"><Period><AdaptationSet mimeType="video/mp4">'
    '<Representation id="1" bandwidth="1000"><BaseURL>{target}</BaseURL></Representation></AdaptationSet></Period>'
    "</MPD>\n",
    "SDP": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 50000 RTP/AVP 96\n",
}


def refusal(path: Path) -> MediaError:
    """Returns the error of opening a file, which must be one line with the file's name."""
    with pytest.raises(MediaError) as caught:
        examine(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return caught.value


@pytest.mark.parametrize("kind", PLAYLISTS)
@pytest.mark.parametrize("suffix", [".mp4", ".m3u8", ".txt"])
def test_a_playlist_never_opens_another_file(tmp_path: Path, barcode_clip: Path, kind: str, suffix: str) -> None:
    shutil.copyfile(barcode_clip, tmp_path / "target.mp4")
    playlist = tmp_path / f"list{suffix}"
    playlist.write_text(PLAYLISTS[kind].format(target="target.mp4"))
    error = refusal(playlist)
    assert isinstance(error, UnsupportedMediaError)
    assert "playlist refused" in error.cause


@pytest.mark.parametrize("kind", ["HLS", "ffconcat", "DASH"])
def test_a_playlist_never_connects(tmp_path: Path, kind: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.05)
        playlist = tmp_path / "list.mp4"
        playlist.write_text(PLAYLISTS[kind].format(target=f"http://127.0.0.1:{server.getsockname()[1]}/clip.mp4"))
        refusal(playlist)
        with pytest.raises(TimeoutError):
            server.accept()


@pytest.mark.parametrize("address", ["http://127.0.0.1:9/clip.mp4", "concat:a.mp4|b.mp4", "pipe:0", "file:clip.mp4"])
def test_an_address_is_taken_for_a_file_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UnreadableFileError):
        examine(address)


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (b"", "empty file"),
        (b"This is not a video.\n" * 200, "text, not a video"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "Git LFS"),
        (b"<!DOCTYPE html><html><body>404</body></html>", "web page"),
        (b"\xff\xd8\xff\xe0" + bytes(200), "picture"),
        (b"PK\x03\x04" + bytes(200), "archive"),
        (b"RIFF\xff\x00\x00\x00WEBPVP8X" + bytes(14) + b"ANIM" + bytes(200), "animated WebP"),
        (bytes(5000), "not a video"),
        (b"\x00", "not a video"),
        (bytes(range(1, 256)) * 40, "not a video"),
    ],
)
def test_what_is_no_video_is_named(tmp_path: Path, content: bytes, cause: str) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(content)
    assert cause in refusal(path).cause


def test_missing_file_and_folder_are_unreadable(tmp_path: Path) -> None:
    assert isinstance(refusal(tmp_path / "nothing.mp4"), UnreadableFileError)
    assert "a folder" in refusal(tmp_path).cause


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes need POSIX")
def test_a_pipe_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    assert "not a regular file" in refusal(tmp_path / "pipe.mp4").cause


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_unreadable(tmp_path: Path, barcode_clip: Path) -> None:
    path = tmp_path / "clip.mp4"
    shutil.copyfile(barcode_clip, path)
    path.chmod(0)
    assert "may not be read" in refusal(path).cause


def test_gigantic_picture_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bomb.gif"
    size = (16000).to_bytes(2, "little")
    image = b"\x2c" + bytes(4) + size + size + b"\x00" + b"\x02\x02\x4c\x01\x00"
    path.write_bytes(b"GIF89a" + size + size + b"\x80\x00\x00" + bytes(6) + image * 3 + b"\x3b")
    error = refusal(path)
    assert isinstance(error, UnsupportedMediaError)
    assert "megapixels" in error.cause


def test_file_without_moov_is_truncated(tmp_path: Path, barcode_clip: Path) -> None:
    path = tmp_path / "cut.mp4"
    data = barcode_clip.read_bytes()
    path.write_bytes(data[: data.index(b"moov") - 200])
    error = refusal(path)
    assert isinstance(error, DecodeError)
    assert "moov" in error.cause


def test_an_encrypted_file_is_refused(tmp_path: Path) -> None:
    key = {"encryption_scheme": "cenc-aes-ctr", "encryption_key": "7" * 32, "encryption_kid": "a" * 32}
    path = write_clip(tmp_path / "locked.mp4", barcode_frames(5), container_options=key)
    assert "encrypted" in refusal(path).cause


def test_a_song_is_no_video(tmp_path: Path) -> None:
    import av
    import numpy as np

    path = tmp_path / "song.mp4"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("aac", rate=44100)
        stream.layout = "mono"
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 44100), dtype=np.float32), format="fltp", layout="mono")
        frame.sample_rate = 44100
        output.mux(stream.encode(frame))
        output.mux(stream.encode())
    assert isinstance(refusal(path), NoVideoStreamError)


@pytest.mark.parametrize(
    "name",
    ["-x.mp4", "a b.mp4", "ünïcödé 漢字.mp4", "100%d.mp4", "[glob]*.mp4", "http:__x.mp4", "no_suffix", "mp4.txt"],
)
def test_odd_names_open(tmp_path: Path, barcode_clip: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        shutil.copyfile(barcode_clip, tmp_path / name)
    except OSError:
        pytest.skip("this file system has no such names")
    assert examine(name).info.frame_count == 60


@pytest.mark.skipif(os.name == "nt", reason="names are text on Windows")
def test_a_name_that_is_not_utf8_opens(tmp_path: Path, barcode_clip: Path) -> None:
    name = os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe.mp4")
    try:
        shutil.copyfile(barcode_clip, name)
    except OSError:
        pytest.skip("this file system takes UTF-8 only")
    assert examine(name).info.frame_count == 60


def test_a_link_to_a_video_opens(tmp_path: Path, barcode_clip: Path) -> None:
    link = tmp_path / "link.mp4"
    try:
        link.symlink_to(barcode_clip)
    except OSError:
        pytest.skip("no permission to link")
    assert examine(link).info.frame_count == 60


def test_every_refusal_is_one_of_ours(tmp_path: Path, barcode_clip: Path) -> None:
    """With any wrong byte in the header, the file opens or a package error is raised."""
    data = barcode_clip.read_bytes()
    moov = data.index(b"moov")
    path = tmp_path / "odd.mp4"
    for place in range(moov, len(data) - 1, 29):
        path.write_bytes(data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :])
        try:
            examine(path)
        except TorchfakesError:
            continue
