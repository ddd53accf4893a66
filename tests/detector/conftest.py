from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest

from tests.weights_server import WeightsServer, serving


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[WeightsServer]:
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with serving() as server:
        yield server
    huggingface_hub.close_session()  # it would keep the proxies of its first use


@pytest.fixture
def own_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A models folder and a cache of the test's own; returns the first."""
    monkeypatch.setenv("TORCHFAKES_MODELS", str(tmp_path / "models"))
    monkeypatch.setattr("torchfakes_cli.detector.download.cache_folder", lambda: tmp_path / "cache")
    return tmp_path / "models"
