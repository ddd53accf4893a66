"""The OpenAPI document says what is so."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from tests.service import Server
from torchfakes_cli.serve.documents import JobDocument, ScanDocument

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform == "win32", reason="needs signals")]


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


def test_results_and_jobs_are_as_described(server: Server, clips: Path) -> None:
    document = server.ask("GET", "/openapi.json").json
    defined = document["components"]["schemas"]
    answered = server.send(clips / "face.mp4")
    TypeAdapter(ScanDocument).validate_json(answered.body, strict=True)
    assert extra_fields(answered.json, defined["ScanDocument"], defined) == set()
    place = server.send(clips / "face.mp4", prefer="respond-async").headers["Location"]
    job = server.ended(place)
    TypeAdapter(JobDocument).validate_json(json.dumps(job), strict=True)
    assert extra_fields(job, defined["JobDocument"], defined) == set()
    server.ask("DELETE", place)


def test_errors_are_described_as_problems(server: Server) -> None:
    document = server.ask("GET", "/openapi.json").json
    assert "HTTPValidationError" not in document["components"]["schemas"]
    for operations in document["paths"].values():
        for operation in operations.values():
            for status, answer in operation["responses"].items():
                problem = "application/problem+json" in answer.get("content", {})
                assert problem == (int(status) >= 400), (operation["operationId"], status)


def test_made_up_requests_get_what_the_document_promises(server: Server) -> None:
    schemathesis = pytest.importorskip("schemathesis", reason="schemathesis isn't installed: pip install schemathesis")
    from hypothesis import HealthCheck, Phase, given, settings

    schema = schemathesis.openapi.from_url(f"http://127.0.0.1:{server.port}/openapi.json")
    for result in schema.get_all_operations():
        operation = result.ok()

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
