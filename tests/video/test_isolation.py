from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from tests.clips import barcode_frames, cut_file, write_clip
from torchfakes_cli.errors import (
    DecodeError,
    DecoderCrashError,
    DecodeTimeoutError,
    TooLargeError,
    TorchfakesError,
    UnreadableFileError,
    UnsupportedMediaError,
    UsageError,
)
from torchfakes_cli.video.isolation.client import Deadline, IsolatedDecoder
from torchfakes_cli.video.options import SamplingConfig
from torchfakes_cli.video.reader import VideoReader

EVERY_FRAME = SamplingConfig(fps=Fraction(1000))
ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells of processes in /proc")


@pytest.fixture(scope="module")
def decoder() -> Iterator[IsolatedDecoder]:
    """One process for many tests, which must not affect each other."""
    with IsolatedDecoder() as decoder:
        yield decoder


@pytest.fixture(scope="module")
def large_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A 4K clip without motion: quickly written, and much to decode."""
    still = np.full((2160, 3840, 3), 90, np.uint8)
    still[::16] = 200
    path = tmp_path_factory.mktemp("large") / "large.mp4"
    return write_clip(path, [still] * 8, 24, options={"preset": "ultrafast", "bf": "0"})


def read(decoder: IsolatedDecoder, path: Path) -> int:
    """Counts the frames."""
    with decoder.open(path) as video:
        return sum(1 for _ in video.frames(EVERY_FRAME))


def worker_of(parent: int) -> int:
    """Returns the only child of a process."""
    (child,) = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return int(child)


def started_worker() -> tuple[IsolatedDecoder, int]:
    before = set(children())
    decoder = IsolatedDecoder()
    decoder.start()
    (worker,) = set(children()) - before
    return decoder, worker


def children() -> list[int]:
    """Returns the running child processes."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = status.read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if int(parent) == os.getpid() and state != "Z":
            found.append(int(status.parent.name))
    return found


def gone(process: int, within_s: float = 10.0) -> bool:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.02)
    return False


@pytest.mark.parametrize("sampling", [EVERY_FRAME, SamplingConfig(frames=7, frames_fixed=True, start_s=0.5)])
def test_frames_match_an_in_process_reader(
    decoder: IsolatedDecoder, barcode_clip: Path, sampling: SamplingConfig
) -> None:
    with VideoReader(barcode_clip) as here, decoder.open(barcode_clip) as there:
        assert there.info == here.info
        for ours, theirs in zip(here.frames(sampling), there.frames(sampling), strict=True):
            assert (theirs.time_s, theirs.index) == (ours.time_s, ours.index)
            np.testing.assert_array_equal(theirs.pixels, ours.pixels)
        assert there.report == here.report


def test_frames_at_match_an_in_process_reader(decoder: IsolatedDecoder, barcode_clip: Path) -> None:
    times = [0.1, 0.9, 0.91, 0.91, 9.0]
    with VideoReader(barcode_clip) as here, decoder.open(barcode_clip) as there:
        assert len(list(there.frames(EVERY_FRAME))) == 60
        for ours, theirs in zip(here.frames_at(times), there.frames_at(times), strict=True):
            assert (theirs.time_s, theirs.index) == (ours.time_s, ours.index)
            np.testing.assert_array_equal(theirs.pixels, ours.pixels)
        assert there.report == here.report


def test_sizes_change_from_file_to_file(decoder: IsolatedDecoder, tmp_path: Path) -> None:
    for size in ((64, 48), (640, 360), (96, 64)):
        path = write_clip(tmp_path / f"{size[0]}.mp4", barcode_frames(5, size), 5)
        with decoder.open(path) as video:
            assert [frame.size for frame in video.frames(EVERY_FRAME)] == [size] * 5


def test_damage_is_reported(decoder: IsolatedDecoder, tmp_path: Path) -> None:
    short = cut_file(write_clip(tmp_path / "short.ts", barcode_frames(60), 30), 0.5)
    with VideoReader(short) as here, decoder.open(short) as there:
        assert len(list(here.frames(EVERY_FRAME))) == len(list(there.frames(EVERY_FRAME)))
        assert there.report == here.report


def test_errors_come_back_as_they_are(decoder: IsolatedDecoder, barcode_clip: Path, tmp_path: Path) -> None:
    missing, text = tmp_path / "missing.mp4", tmp_path / "text.mp4"
    text.write_text("not a video at all")
    for path, kind in ((missing, UnreadableFileError), (text, UnsupportedMediaError)):
        with pytest.raises(kind) as here:
            VideoReader(path)
        with pytest.raises(kind) as there:
            decoder.open(path)
        assert str(there.value) == str(here.value)
        assert there.value.path == str(path)
    with decoder.open(barcode_clip) as video, pytest.raises(UsageError, match="no frame lies between"):
        video.frames(SamplingConfig(start_s=99))


def test_relative_path_uses_the_current_folder(
    decoder: IsolatedDecoder, barcode_clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder.start()
    monkeypatch.chdir(barcode_clip.parent)
    with decoder.open(barcode_clip.name) as video:
        assert video.info.path == barcode_clip.name


@ON_LINUX
def test_stopping_early_keeps_the_process(decoder: IsolatedDecoder, barcode_clip: Path) -> None:
    assert read(decoder, barcode_clip) == 60
    before = children()
    for _ in range(3):
        with decoder.open(barcode_clip) as video:
            next(iter(video.frames(EVERY_FRAME)))
    with decoder.open(barcode_clip) as video:
        next(iter(video.frames(EVERY_FRAME)))
        assert len(list(video.frames(EVERY_FRAME))) == 60
    assert children() == before


def test_abandoning_from_another_thread_ends_a_wait(large_clip: Path) -> None:
    with IsolatedDecoder() as decoder, decoder.open(large_clip) as video:
        frames = video.frames(EVERY_FRAME)
        next(frames)
        errors: list[Exception] = []

        def wait() -> None:
            try:
                list(frames)
            except TorchfakesError as error:
                errors.append(error)

        waiting = threading.Thread(target=wait)
        waiting.start()
        decoder.abandon()
        waiting.join(timeout=5)
        assert not waiting.is_alive()
        with pytest.raises(TorchfakesError, match="the scan was stopped"):
            decoder.open(large_clip)


def test_timeout_affects_one_file(barcode_clip: Path, large_clip: Path) -> None:
    # So little patience that already decoding the first 4K picture exceeds it.
    with IsolatedDecoder(timeout_s=0.001) as decoder:
        with pytest.raises(DecodeTimeoutError, match=r"timeout: its decoder made no progress for 0\.001 s"):
            read(decoder, large_clip)
        decoder._timeout_s = 20.0
        assert read(decoder, barcode_clip) == 60


def test_progress_extends_the_deadline_up_to_the_total() -> None:
    deadline = Deadline(60.0, 100.0)
    deadline.spend(59.0, progress=True)
    deadline.spend(40.0, progress=False)
    assert deadline.expired == ""
    deadline.spend(1.0, progress=True)
    assert deadline.expired == "decoding it took longer than 100 s"


@ON_LINUX
def test_a_process_that_hangs_is_killed(barcode_clip: Path) -> None:
    decoder, worker = started_worker()
    with decoder:
        assert read(decoder, barcode_clip) == 60
        decoder._timeout_s = 0.5
        os.kill(worker, signal.SIGSTOP)
        started = time.monotonic()
        with pytest.raises(DecodeTimeoutError) as error:
            decoder.open(barcode_clip)
        assert time.monotonic() - started < 5
        assert error.value.path == str(barcode_clip)
        assert gone(worker)
        decoder._timeout_s = 20.0
        assert read(decoder, barcode_clip) == 60


@ON_LINUX
@pytest.mark.parametrize(
    ("kind", "words"), [(signal.SIGKILL, "was killed .*memory runs out"), (signal.SIGSEGV, "crashed .SIGSEGV")]
)
def test_a_crash_costs_one_file(barcode_clip: Path, kind: signal.Signals, words: str) -> None:
    decoder, worker = started_worker()
    with decoder:
        with decoder.open(barcode_clip) as video:
            frames = iter(video.frames(EVERY_FRAME))
            next(frames)
            os.kill(worker, kind)
            with pytest.raises(DecoderCrashError, match=words) as error:
                list(frames)
        assert error.value.path == str(barcode_clip)
        assert read(decoder, barcode_clip) == 60


@ON_LINUX
def test_a_crash_between_files_costs_none(barcode_clip: Path) -> None:
    decoder, worker = started_worker()
    with decoder:
        assert read(decoder, barcode_clip) == 60
        os.kill(worker, signal.SIGKILL)
        assert gone(worker)
        assert read(decoder, barcode_clip) == 60


@ON_LINUX
def test_memory_is_limited(barcode_clip: Path, large_clip: Path) -> None:
    with IsolatedDecoder(memory_mb=100) as decoder:
        with pytest.raises(TooLargeError, match=r"too_large: .* more than 100 MiB") as error:
            read(decoder, large_clip)
        assert isinstance(error.value, DecodeError)
        assert read(decoder, barcode_clip) == 60


@ON_LINUX
@pytest.mark.parametrize("threads", [1, 3])
def test_no_more_threads_than_allowed(tmp_path: Path, threads: int) -> None:
    """Two threads receive and answer calls, the others decode."""
    path = write_clip(tmp_path / "clip.mp4", barcode_frames(60, (64, 48)), options={"g": "5"})
    before = set(children())
    with IsolatedDecoder() as decoder, decoder.open(path, threads=threads) as video:
        (worker,) = set(children()) - before
        frames = iter(video.frames(SamplingConfig(frames=12, frames_fixed=True)))
        next(frames)
        assert len(list(Path(f"/proc/{worker}/task").iterdir())) <= 2 + threads
        assert len(list(frames)) == 11


@ON_LINUX
def test_closing_ends_the_process() -> None:
    decoder, worker = started_worker()
    decoder.close()
    assert gone(worker, within_s=1)
    decoder, worker = started_worker()
    del decoder
    assert gone(worker, within_s=1)


@ON_LINUX
@pytest.mark.parametrize("kind", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_process_ends_with_its_parent(large_clip: Path, kind: signal.Signals) -> None:
    # No guard around the program: nothing of it may run twice.
    program = f"""
print("once", flush=True)
from torchfakes_cli.video.isolation.client import IsolatedDecoder
from torchfakes_cli.video.options import SamplingConfig
decoder = IsolatedDecoder()
with decoder.open({str(large_clip)!r}) as video:
    for frame in video.frames(SamplingConfig(fps=1000)):
        print("frame", flush=True)
        input()
"""
    command = [sys.executable, "-c", program]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, text=True, cwd=Path(__file__).parents[2], **pipes) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "once\n"
        assert process.stdout.readline() == "frame\n"
        worker = worker_of(process.pid)
        process.send_signal(kind)
        assert "once" not in process.communicate(timeout=10)[0]
    assert gone(worker)


HOSTILE = """
import json, sys, time
def send(message):
    sys.stdout.buffer.write(message if isinstance(message, bytes) else json.dumps(message).encode() + b"\\n")
    sys.stdout.flush()
info = {"path": "a", "container": "mp4", "codec": "h264", "width": 64, "height": 48, "fps": [25, 1], "duration_s": 1.0,
        "frame_count": 25, "rotation": 0, "warnings": [], "picture": False}
opened = [info, 0.0]
report = {"frames_wanted": 1, "frames_delivered": 0, "packets_bad": 0, "warnings": []}
picture = {"time_s": 0.0, "index": 0, "width": 64, "height": 48, "damaged": False}
def give(**changes):
    send({"call": 1, "result": opened})
    send({"call": 2, "result": report})
    send({"call": 3, "result": [{**picture, **changes}, report]})
send({"call": 0, "result": []})
"""


@pytest.mark.parametrize(
    "line",
    [
        r"send(b'\x80\x04cos\nsystem\n.')",  # a pickle
        r"send(b'\n')",
        "send([1, 2])",
        "send(bytes(1 << 23))",
        "send(b'[' * 100_000 + b'\\n')",
        "send({'call': 1, 'result': [{**info, 'width': '64'}, 0.0]})",
        "send({'call': 1, 'result': [{**info, 'fps': [1, 0]}, 0.0]})",
        "send({'call': 1, 'result': [{**info, 'fps': '1e999999999'}, 0.0]})",
        "send({'call': 1, 'result': 7})",
        "send({'call': 1, 'error': ['SystemExit', '', '']})",
        "give(width=1 << 20, height=1 << 20)",
        "give(width=-1)",
        "give(time_s=None)",
    ],
)
def test_invalid_message_is_an_error(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    program = f"{HOSTILE}\n{line}\ntime.sleep(60)"
    monkeypatch.setattr("torchfakes_cli.video.isolation.client._PROGRAM", program)
    with IsolatedDecoder(timeout_s=20) as decoder, pytest.raises(DecoderCrashError, match="sent an invalid message"):
        read(decoder, Path("clip.mp4"))


def test_incomplete_message_times_out(monkeypatch: pytest.MonkeyPatch) -> None:
    program = f"{HOSTILE}\nsend(b'{{\"call\": 1')\ntime.sleep(60)"
    monkeypatch.setattr("torchfakes_cli.video.isolation.client._PROGRAM", program)
    with IsolatedDecoder(timeout_s=0.5) as decoder, pytest.raises(DecodeTimeoutError):
        decoder.open("clip.mp4")


SANDBOXED = """
import errno, os, signal, socket, subprocess, sys, threading
from torchfakes_cli.video.isolation import sandbox
place = sys.argv[1]
inside = os.path.join(place, "kept")
print(",".join(sandbox.apply()))
def refused(act):
    try:
        act()
    except PermissionError:
        return True
    return False
acts = {
    "internet": lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM),
    "datagrams": lambda: socket.socket(socket.AF_INET6, socket.SOCK_DGRAM),
    "local": lambda: socket.socket(socket.AF_UNIX),
    "create": lambda: open(os.path.join(place, "new"), "w"),
    "append": lambda: open(inside, "a"),
    "truncate": lambda: os.truncate(inside, 0),
    "delete": lambda: os.unlink(inside),
    "rename": lambda: os.rename(inside, inside + "2"),
    "link": lambda: os.link(inside, inside + "2"),
    "symlink": lambda: os.symlink(inside, inside + "2"),
    "folder": lambda: os.mkdir(inside + "2"),
    "mode": lambda: os.chmod(inside, 0o777),
    "times": lambda: os.utime(inside),
    "fifo": lambda: os.mkfifo(inside + "2"),
    "program": lambda: subprocess.run(["true"]),
    "kill": lambda: os.kill(os.getppid(), 0),
}
in_a_thread = []
thread = threading.Thread(target=lambda: in_a_thread.append(refused(acts["create"])))
thread.start(); thread.join()
print(",".join(name for name, act in acts.items() if not refused(act)), in_a_thread[0], open(inside).read(), flush=True)
os.abort()
"""


def test_sandbox_refuses_what_it_reports(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("whole")
    command = [sys.executable, "-c", SANDBOXED, str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2], check=False)
    said, found = ended.stdout.splitlines()
    if not said:
        pytest.skip("this system takes no rights away")
    assert said == "network,file writes"
    assert found == " True whole"
    assert ended.returncode == -signal.SIGABRT
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


@ON_LINUX
def test_process_reports_its_restrictions(barcode_clip: Path) -> None:
    decoder, worker = started_worker()
    with decoder:
        enforced = decoder.enforced()
        assert "memory" in enforced
        if len(enforced) > 1:
            assert set(enforced) == {"network", "file writes", "memory"}
            assert "Seccomp:\t2" in Path(f"/proc/{worker}/status").read_text()
            assert read(decoder, barcode_clip) == 60
