"""Parts of the videos are compared with the right reals."""

from __future__ import annotations

from tests.training.scored_rows import crops, videos
from torchfakes_cli.training.evaluate.figures import slice_videos
from torchfakes_cli.training.evaluate.findings import Slice


def slices(*rows: list[dict[str, object]]) -> dict[tuple[str, str], Slice]:
    found = slice_videos(videos(*rows), rounds=100, seed=0)
    return {(part.by, part.name): part for part in found}


def test_a_method_meets_the_originals_of_its_fakes() -> None:
    found = slices(
        crops("r1", [0.0] * 3, label="real", method="film"),
        crops("r2", [9.0] * 3, label="real", method="film"),
        crops("f1", [1.0] * 3, method="A", source="r1"),
        crops("f2", [1.0] * 3, method="B", source="r1"),
        crops("f3", [1.0] * 3, method="B", source="gone"),
        crops("f4", [1.0] * 3, method="C"),
    )
    a, b, c = (found["method", name] for name in "ABC")
    assert (a.real, a.fake, a.against, a.auc.value) == (1, 1, "their originals", 1.0)
    assert (b.real, b.fake, b.against, b.auc.value) == (1, 2, "the originals of 1 of them", 1.0)
    assert (c.real, c.fake, c.against, c.auc.value) == (2, 1, "all reals", 0.5)
    assert c.auc.low is None
    assert c.verdicts["fake"] == {"real": 0, "fake": 1, "inconclusive": 0}


def test_compressions_are_told_apart_where_there_are_several() -> None:
    def set_of(compression: str, fake: float) -> list[list[dict[str, object]]]:
        return [
            crops(f"o/{compression}/v/1", [0.0] * 3, label="real", compression=compression),
            crops(f"m/{compression}/v/1", [fake] * 3, compression=compression),
        ]

    found = slices(*set_of("c23", 1.0), *set_of("c40", -1.0))
    assert found["compression", "c23"].auc.value == 1.0
    assert found["compression", "c40"].auc.value == 0.0
    assert not any(by == "compression" for by, _ in slices(*set_of("c23", 1.0)))


def test_every_video_has_one_face_size_and_one_sharpness() -> None:
    rows = [crops(f"v{size}", [1.0] * 3, size=size, sharpness=3 * size) for size in (40, 64, 95.9, 300)]
    found = slices(*rows)
    sizes = {name: part.fake for (by, name), part in found.items() if by == "face size"}
    assert sizes == {"below 64": 1, "64 to 96": 2, "256 and more": 1}
    assert sum(part.fake for (by, _), part in found.items() if by == "sharpness") == 4
    assert "nothing real" in found["face size", "below 64"].missing
