"""What each kind's own covariance adds is the difference of two normal densities."""

from __future__ import annotations

import numpy as np
import pytest

from torchfakes_cli.training.fitting.spreads import OWN, fit_spreads

TEMPERATURE = 3.0


def log_density(points: np.ndarray, centre: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """Of a normal distribution, but for what all have in common."""
    apart = points - centre
    return -((apart * np.linalg.solve(covariance, apart.T).T).sum(1) + np.linalg.slogdet(covariance)[1]) / 2


def test_densities_are_those_with_covariances_of_their_own() -> None:
    """One kind is made up and has another's covariance, and one has a single video, which varies in nothing."""
    rng = np.random.default_rng(0)
    root = rng.normal(size=(6, 6))
    shared = root @ root.T / 6 + 0.1 * np.eye(6)
    videos = {"real": rng.normal(size=(9, 6)), "fake": 2 * rng.normal(size=(4, 6)), "single": rng.normal(size=(1, 6))}
    owners, centres, points = ("real", "fake", "single", "real"), rng.normal(size=(4, 6)), rng.normal(size=(5, 6))
    spreads, surplus = fit_spreads(videos, owners, centres, shared, TEMPERATURE)
    assert spreads.fits(4, 6)
    found = spreads.likelier(points.astype(np.float32)) - surplus
    for number, (owner, centre) in enumerate(zip(owners, centres, strict=True)):
        apart = videos[owner] - videos[owner].mean(0)
        own = shared + OWN * apart.T @ apart / max(1, len(apart) - 1)
        gained = log_density(points, centre, own) - log_density(points, centre, shared)
        assert found[:, number] == pytest.approx(gained / TEMPERATURE, abs=1e-5)


def test_kinds_of_one_video_each_have_nothing_of_their_own() -> None:
    spreads, surplus = fit_spreads({"real": np.ones((1, 4)), "fake": np.zeros((1, 4))}, ("real", "fake"),
                                   np.eye(4)[:2], np.eye(4), 1.0)  # fmt: skip
    assert not spreads.likelier(np.ones((3, 4), np.float32)).any()
    assert not surplus.any()
