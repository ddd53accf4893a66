"""A server's limits of time, and its end, whatever it is doing then."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from datetime import datetime
from pathlib import Path
from threading import Thread

import pytest

from tests.service import TOKEN, Answer, serving

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name != "posix", reason="needs signals")]


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_scans_and_answers_who_waits(
    model: Path, long_clip: Path, clips: Path, tmp_path: Path, kind: signal.Signals
) -> None:
    answers: list[Answer] = []
    with serving(tmp_path / "tmp", "--model", str(model)) as server:
        accepted = server.send(long_clip, prefer="respond-async")
        waiting = Thread(target=lambda: answers.append(server.send(clips / "face.mp4")))
        waiting.start()
        while server.ask("GET", "/metrics").body.find(b"torchfakes_queue_length 1.0") < 0:
            time.sleep(0.05)
        half_sent = socket.create_connection(("127.0.0.1", server.port))
        half_sent.sendall(b"POST /v1/scans HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nabc")
        while len(server.clips) < 3:
            time.sleep(0.05)
        assert server.ask("GET", accepted.headers["Location"]).json["status"] == "running"
        assert server.stop(kind) == 130
        waiting.join()
        half_sent.close()
    assert answers[0].problem[0] == 503
    assert answers[0].headers["Retry-After"]
    assert list((tmp_path / "tmp").iterdir()) == []
    assert server.log[-1] == "stopped"
    assert not any("Traceback" in line for line in server.log)


def test_a_killed_server_is_cleaned_up_after_by_the_next(model: Path, long_clip: Path, tmp_path: Path) -> None:
    folder = tmp_path / "tmp"
    with serving(folder, "--model", str(model)) as server:
        server.send(long_clip, prefer="respond-async")
        server.process.kill()
    assert len(server.clips) == 1
    with serving(folder, "--model", str(model), ready=False) as server:
        assert server.clips == []
        assert server.stop() == 130
    assert list(folder.iterdir()) == []


def test_limits_of_time_and_length(model: Path, long_clip: Path, clips: Path, tmp_path: Path) -> None:
    with serving(tmp_path / "tmp", "--model", str(model), "--timeout", "5") as server:
        assert server.send(long_clip).problem == (
            504, "long.mp4: the scan took more than 5 s. Cut it to the part that matters.",
        )  # fmt: skip
        assert server.clips == []
        assert server.send(clips / "empty.mp4").status == 200
    with serving(tmp_path / "tmp", "--model", str(model), "--max-length", "300") as server:
        refused = server.send(long_clip)
        assert refused.problem[0] == 413
        assert refused.problem[1].startswith("long.mp4: the video is 600.0 s long, and 300 s are allowed.")


def test_a_detector_that_cannot_be_loaded_ends_the_server(tmp_path: Path) -> None:
    with serving(tmp_path / "tmp", "--model", str(tmp_path / "none.safetensors"), ready=False) as server:
        assert server.process.wait(timeout=60) == 1
    assert "none.safetensors" in server.log[-1]
    assert server.log[-1].startswith("error: ")
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_port_that_is_taken_is_told(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        arguments = ["--port", str(taken.getsockname()[1])]
        with pytest.raises(AssertionError, match="listen on"), serving(tmp_path, *arguments):
            pass


def test_the_token_comes_from_a_file_too(model: Path, clips: Path, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(TOKEN + "\n")
    options = ["--token-file", str(tmp_path / "token"), "--host", "0.0.0.0", "--model", str(model)]
    with serving(tmp_path / "tmp", *options) as server:
        assert server.send(clips / "empty.mp4").problem[0] == 401
        assert server.ask("GET", "/metrics").problem[0] == 401
        server.token = TOKEN
        assert server.send(clips / "empty.mp4", origin="https://example.org", host="scan.example.org").status == 200
        assert TOKEN not in "".join(server.log)


def test_everybody_is_served_where_that_is_asked_for(model: Path, tmp_path: Path) -> None:
    with serving(tmp_path / "tmp", "--no-auth", "--model", str(model), ready=False) as server:
        assert server.ask("GET", "/healthz", host="example.org", origin="https://example.org").status == 200


def test_the_log_is_json_where_asked(model: Path, clips: Path, tmp_path: Path) -> None:
    with serving(tmp_path / "tmp", "--model", str(model), "--log-format", "json") as server:
        assert server.send(clips / "face.mp4").status == 200
        line = json.loads(server.logged('"scan_id"'))
    assert line["outcome"].startswith("done")
    assert line["bytes"] == (clips / "face.mp4").stat().st_size
    assert datetime.fromisoformat(line["time"]).tzinfo is not None
