"""The service as its clients see it: one server from its start to its end, and what is said where none can start."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.service import TOKEN, serving
from torchfakes_cli.cli import app

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs signals")


def test_a_server_from_start_to_end(clips: Path, model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "tmp"
    with serving(folder, "--model", str(model), "--max-size", "0.2", TORCHFAKES_TOKEN=TOKEN) as server:
        assert server.ask("GET", "/healthz", authorization="none").json == {"status": "ok"}
        for wrong in ("", "Bearer wrong", f"Basic {TOKEN}", f"Bearer {TOKEN}x"):
            refused = server.send(clips / "face.mp4", authorization=wrong)
            assert refused.problem[0] == 401
            assert refused.headers["WWW-Authenticate"].startswith("Bearer")

        answered = server.send(clips / "face.mp4")
        assert answered.status == 200
        assert (answered.json["path"], answered.json["verdict"]) == ("face.mp4", "fake")
        assert len(answered.json["timeline"]) == 6
        assert answered.headers["Cache-Control"] == "no-store"

        too_large = server.ask("POST", "/v1/scans", (bytes(1000) for _ in range(300)), content_type="video/mp4")
        assert too_large.problem == (413, "the clip is larger than 0.2 MiB. Cut it to the part that matters.")
        no_video = server.send(clips / "broken.mp4")
        assert no_video.problem[0] == 415
        assert no_video.problem[1].startswith("broken.mp4: text, not a video.")

        accepted = server.send(clips / "empty.mp4", prefer="respond-async")
        assert accepted.status == 202
        job = server.ended(accepted.headers["Location"])
        assert (job["status"], job["result"]["reason"], job["error"]) == ("done", "no_face", None)
        assert server.ask("DELETE", accepted.headers["Location"]).status == 204
        assert server.ask("GET", accepted.headers["Location"]).problem[0] == 404

        metrics = server.ask("GET", "/metrics").body.decode()
        assert 'torchfakes_scans_total{outcome="done",verdict="fake"} 1.0' in metrics
        assert 'torchfakes_scans_total{outcome="failed",verdict=""} 1.0' in metrics
        assert 'torchfakes_http_requests_total{method="POST",route="/v1/scans",status="401"} 4.0' in metrics
        assert "torchfakes_queue_length 0.0" in metrics
        assert server.clips == []
        assert server.stop() == 130
    assert list(folder.iterdir()) == []
    assert server.log[-1] == "stopped"
    scans = server.log[1:-1]
    assert len(scans) == 4  # two results, a refusal and a failure
    assert all(re.search(r"scan \S+: \d+ bytes, \d+\.\d s, [a-z ()0-9]+$", line) for line in scans)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--host", "0.0.0.0"], "Give a token by --token-file or TORCHFAKES_TOKEN, or serve everybody by --no-auth."),
        (["--token-file", "missing"], "missing: the token can't be read: no such file"),
        (["--token-file", "short"], "short: a token under 16 characters can be guessed"),
        (["--token-file", "short", "--no-auth"], "contradict each other"),
        (["--queue", "0"], "at least one clip must be able to wait"),
        (["--max-size", "nan"], "the greatest size of a clip"),
        (["--port", "70000"], "a port is"),
    ],
)
def test_what_makes_no_sense_is_refused(
    arguments: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TORCHFAKES_TOKEN", raising=False)
    Path("short").write_text("secret\n")
    result = CliRunner().invoke(app, ["serve", *arguments])
    assert result.exit_code == 2
    assert words in result.output


def test_a_missing_library_is_told_with_the_way_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("torchfakes_cli.serve")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    result = CliRunner().invoke(app, ["serve"])
    assert result.exit_code == 2
    assert result.output == "error: the HTTP service needs uvicorn. Install it: pip install 'torchfakes[serve]'.\n"
