"""What a running server makes of odd, oversized and hostile requests: an answer that says why, and no file left."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.service import Server, form

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform == "win32", reason="needs signals")]


def raw(server: Server, request: bytes, *, close: bool = False) -> bytes:
    """Sends bytes as they stand, and gives the beginning of what comes."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        connection.sendall(request)
        if close:
            return b""
        return connection.recv(4096)


def head(length: str, kind: str = "video/mp4") -> bytes:
    return f"POST /v1/scans HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\n{length}\r\n\r\n".encode()


def test_the_document_is_that_of_scan_json(server: Server, model: Path, clips: Path) -> None:
    command = [sys.executable, "-m", "torchfakes_cli", "scan", "face.mp4", "--json", "--model", str(model)]
    printed = json.loads(subprocess.run(command, capture_output=True, check=True, cwd=clips).stdout)
    answered = server.ask(
        "POST", "/v1/scans?name=face.mp4", (clips / "face.mp4").read_bytes(), content_type="video/mp4"
    )
    sent = answered.json
    for document in (printed, sent):
        del document["elapsed_s"], document["scanned_at"]
    assert sent == printed


def test_a_large_clip_is_refused_before_it_is_read(server: Server) -> None:
    assert raw(server, head("Content-Length: 2000000")).startswith(b"HTTP/1.1 413")


def test_a_length_that_says_too_little_takes_no_more_than_it_says(server: Server) -> None:
    answer = raw(server, head("Content-Length: 10") + bytes(5000))
    assert answer.startswith((b"HTTP/1.1 415", b"HTTP/1.1 422"))


def test_a_body_without_a_length_ends_at_the_limit(server: Server) -> None:
    answer = server.ask("POST", "/v1/scans", (bytes(1 << 16) for _ in range(40)), content_type="video/mp4")
    assert answer.problem == (413, "the clip is larger than 1 MiB. Cut it to the part that matters.")
    body, kind = form("large.mp4", bytes(3 << 20))
    parts = [body[start : start + 65536] for start in range(0, len(body), 65536)]
    assert server.ask("POST", "/v1/scans", iter(parts), content_type=kind).problem[0] == 413


def test_a_client_that_goes_away_leaves_nothing(server: Server) -> None:
    raw(server, head("Content-Length: 500000") + bytes(100_000), close=True)
    server.logged("not received")
    assert server.clips == []


@pytest.mark.parametrize(
    ("body", "kind", "status", "words"),
    [
        (b"", "video/mp4", 422, "empty file"),
        (form("a.mp4", b"")[0], form("", b"")[1], 422, "a.mp4: empty file"),
        (b"x", "text/plain", 415, "a clip comes as"),
        (b"x", "application/x-www-form-urlencoded", 415, "-F file=@clip.mp4"),
        (b"x", "multipart/form-data", 400, "Missing boundary"),
        (b"x", "multipart/form-data; boundary=" + "x" * 300, 400, "the form is malformed"),
        (b"no form", "multipart/form-data; boundary=b", 400, "malformed"),
        (form("a.mp4", b"x" * 100)[0][:150], form("", b"")[1], 400, "ends too early"),
        (b'--b\r\nContent-Disposition: form-data; name="x"\r\n\r\n1\r\n--b--\r\n',
         "multipart/form-data; boundary=b", 422, "the form holds no file"),
        (form("a", b"1")[0][:-11] + b"\r\n" + form("b", b"2")[0], form("", b"")[1], 422, "more than one file"),
        (b'--b\r\nContent-Disposition: form-data; name="x"\r\n\r\n' + bytes(200_000),
         "multipart/form-data; boundary=b", 413, "exceeded"),
        (b"--b\r\n" + b"X-A: 1\r\n" * 1000, "multipart/form-data; boundary=b", 400, "malformed"),
    ],
)  # fmt: skip
def test_what_is_no_clip_is_told(server: Server, body: bytes, kind: str, status: int, words: str) -> None:
    answer = server.ask("POST", "/v1/scans", body, content_type=kind)
    assert answer.problem[0] == status
    assert words in answer.problem[1]
    assert server.clips == []


@pytest.mark.parametrize("value", ["soon", "-1", "1.5x", ""])
def test_a_malformed_wait_is_told(server: Server, clips: Path, value: str) -> None:
    assert server.send(clips / "empty.mp4", prefer=f"wait={value}").problem[0] == 422
    query = server.ask("POST", f"/v1/scans?wait={value}", b"x", content_type="video/mp4")
    assert query.problem[0] == 422
    assert "query.wait" in query.problem[1]


def test_a_wait_is_at_most_so_long(server: Server, long_clip: Path) -> None:
    body, kind = form("long.mp4", long_clip.read_bytes())
    accepted = server.ask("POST", "/v1/scans?wait=0", body, content_type=kind)
    assert accepted.status == 202
    assert server.ask("DELETE", accepted.headers["Location"]).status == 204


def test_names_from_clients_are_no_paths(server: Server, clips: Path) -> None:
    body, kind = form("../../../../tmp/owned.mp4", (clips / "empty.mp4").read_bytes())
    assert server.ask("POST", "/v1/scans", body, content_type=kind).json["path"] == "owned.mp4"


def test_web_pages_are_refused_where_there_is_no_token(server: Server, clips: Path) -> None:
    assert server.send(clips / "empty.mp4", origin="https://example.org").problem[0] == 403
    for host in ("example.org", "[::", "127.0.0.1.example.org"):
        assert server.ask("GET", "/healthz", host=host).problem[0] == 403
    assert server.send(clips / "empty.mp4", origin=f"http://127.0.0.1:{server.port}").status == 200


def test_unknown_places_and_methods_are_problems(server: Server) -> None:
    assert server.ask("GET", "/nothing").problem[0] == 404
    assert server.ask("GET", "/v1/scans/unknown").problem[0] == 404
    assert server.ask("DELETE", "/v1/scans/unknown").problem[0] == 404
    assert server.ask("PUT", "/v1/scans").problem[0] == 405


def test_a_full_queue_is_told_and_cancelling_makes_room(server: Server, long_clip: Path, clips: Path) -> None:
    sent = [server.send(long_clip, prefer="respond-async")]
    sent += [server.send(clips / "empty.mp4", prefer="respond-async") for _ in range(2)]
    places = [answer.headers["Location"] for answer in sent]
    assert [answer.status for answer in sent] == [202] * 3
    assert [server.ask("GET", place).json["ahead"] for place in places] == [None, 1, 2]
    full = server.send(clips / "face.mp4")
    assert full.problem == (429, "the queue is full")
    assert int(full.headers["Retry-After"]) >= 1
    running = server.ask("GET", places[0])
    assert running.json["status"] == "running"
    assert running.headers["Retry-After"] == "1"

    started = time.monotonic()
    assert server.ask("DELETE", places[0]).status == 204
    assert server.ask("GET", places[0]).problem[0] == 404
    assert server.ask("DELETE", places[2]).status == 204
    assert server.ended(places[1])["result"]["reason"] == "no_face"
    assert time.monotonic() - started < 15
    assert server.clips == []


def test_who_hangs_up_wants_no_result(server: Server, long_clip: Path, clips: Path) -> None:
    body, kind = form("long.mp4", long_clip.read_bytes())
    raw(server, head(f"Content-Length: {len(body)}", kind) + body, close=True)
    assert server.send(clips / "empty.mp4").status == 200  # it waits for the one before
    assert any("cancelled" in line for line in server.log[-2:])
