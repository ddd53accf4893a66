"""The OpenAPI document says what is so."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter
from starlette.exceptions import HTTPException

from tests.report.results import result
from tests.service import Server
from torchfakes_cli.report import result_to_json
from torchfakes_cli.scan.config import ScanConfig
from torchfakes_cli.serve.app import create_app
from torchfakes_cli.serve.config import ServeConfig
from torchfakes_cli.serve.documents import JobDocument, ScanDocument
from torchfakes_cli.serve.service import Service


def extra_fields(document: Any, schema: dict[str, Any], defined: dict[str, Any]) -> set[str]:
    """Names of fields that a document has and its schema doesn't tell of, at any depth."""
    if "$ref" in schema:
        return extra_fields(document, defined[schema["$ref"].rsplit("/", 1)[-1]], defined)
    if isinstance(document, list):
        return {name for each in document for name in extra_fields(each, schema.get("items", {}), defined)}
    if not isinstance(document, dict):
        return set()
    for option in schema.get("anyOf", []):
        if "$ref" in option:
            return extra_fields(document, option, defined)
    found = document.keys() - schema["properties"].keys()
    for name in document.keys() & schema["properties"].keys():
        found |= extra_fields(document[name], schema["properties"][name], defined)
    return found


@pytest.fixture
def document(tmp_path: Path) -> dict[str, Any]:
    """The document of a server with a token."""
    service = Service(ServeConfig(), ScanConfig(), tmp_path)
    return create_app(service, token="t" * 16, local_only=False).openapi()


def test_results_and_jobs_are_as_described(document: dict[str, Any], tmp_path: Path) -> None:
    defined = document["components"]["schemas"]
    text = result_to_json(result())
    TypeAdapter(ScanDocument).validate_json(text, strict=True)
    assert extra_fields(json.loads(text), defined["ScanDocument"], defined) == set()

    async def jobs() -> list[Any]:
        service = Service(ServeConfig(), ScanConfig(), tmp_path)
        service.ready = True
        waiting, done, failed = (service.admit() for _ in range(3))
        service.enqueue(waiting)
        service.finish(done, text)
        service.finish(failed, HTTPException(504, "too slow"))
        return [service.document(job) for job in (waiting, done, failed)]

    for sent, status in zip(asyncio.run(jobs()), ("queued", "done", "failed"), strict=True):
        assert sent["status"] == status
        TypeAdapter(JobDocument).validate_json(json.dumps(sent), strict=True)
        assert extra_fields(sent, defined["JobDocument"], defined) == set()


def test_operations_have_readable_names_and_tags_and_codes_are_enumerated(document: dict[str, Any]) -> None:
    operations = [each for path in document["paths"].values() for each in path.values()]
    assert {each["operationId"]: each["tags"] for each in operations} == {
        **{name: ["scans"] for name in ("create_scan", "get_scan", "delete_scan")},
        **{name: ["monitoring"] for name in ("get_metrics", "get_health", "get_readiness")},
    }
    defined = document["components"]["schemas"]
    assert defined["Verdict"]["enum"] == ["real", "fake", "inconclusive"]
    assert "frames_disagree" in defined["Reason"]["enum"]
    assert defined["TimelineRow"]["properties"]["note"]["anyOf"][0]["enum"] == [
        "no_face",
        "blurry",
        "damaged",
        "long_shot",
    ]


def test_the_page_of_documentation_loads_nothing_from_elsewhere(server: Server) -> None:
    page = server.ask("GET", "/docs")
    assert page.status == 200
    assert "script-src 'self'" in page.headers["Content-Security-Policy"]
    loaded = re.findall(r'(?:src|href)="([^"]+)"', page.body.decode())
    assert len(loaded) == 3
    for address in loaded:
        assert address.startswith("/docs/")
        assert server.ask("GET", address).status == 200


def test_errors_are_described_as_problems(document: dict[str, Any]) -> None:
    assert "HTTPValidationError" not in document["components"]["schemas"]
    for operations in document["paths"].values():
        for operation in operations.values():
            for status, answer in operation["responses"].items():
                described = "application/problem+json" in answer.get("content", {})
                assert described == (int(status) >= 400), (operation["operationId"], status)


def test_the_token_is_asked_for_where_it_is_needed(document: dict[str, Any]) -> None:
    guarded = {
        path
        for path, operations in document["paths"].items()
        for operation in operations.values()
        if "security" in operation and "401" in operation["responses"]
    }
    assert guarded == {"/v1/scans", "/v1/scans/{id}", "/metrics"}
    assert document["components"]["securitySchemes"]["token"]["scheme"] == "bearer"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
def test_made_up_requests_get_what_the_document_promises(server: Server) -> None:
    schemathesis = pytest.importorskip("schemathesis", reason="schemathesis isn't installed: pip install schemathesis")
    from hypothesis import HealthCheck, Phase, given, settings

    schema = schemathesis.openapi.from_url(f"http://127.0.0.1:{server.port}/openapi.json")
    for found in schema.get_all_operations():
        operation = found.ok()

        @given(case=operation.as_strategy())
        @settings(
            max_examples=40,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
            database=None,
        )
        def ask(case: Any) -> None:
            # No schema can say which bytes are a video.
            case.call_and_validate(excluded_checks=[schemathesis.checks.positive_data_acceptance])

        ask()
