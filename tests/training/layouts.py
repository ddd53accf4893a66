"""Writes a small corpus in each layout that ``prepare`` reads: rendered people, and manipulations of our own.

All people are one public-domain portrait in other colors and proportions; a fake shows the inner face of its source in
the frames of its target. Clips are two seconds of 160×160 pixels and rendered once a process: a corpus takes one to
three seconds, and much less the second time::

    @pytest.mark.parametrize("layout", LAYOUTS)
    def test_every_layout(layout: str, tmp_path: Path) -> None:
        written = LAYOUTS[layout](tmp_path)
        prepare_corpus(written.corpus, PrepareConfig(reals=written.reals, out=...))

Each of ``LAYOUTS`` has enough people for reals and fakes in every split. The functions behind it write smaller ones.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np

from tests.clips import barcode_frames, cut_file, write_clip
from tests.portraits import Pixels, portrait

SIDE = 160
FRAMES = 12
FPS = 6
#: Constant rate factors of the three compressions.
COMPRESSIONS = {"raw": "8", "c23": "23", "c40": "40"}
#: Where the portrait's face lies in an upright picture, as (center, half axes) of an ellipse.
FACE = ((78, 98), (30, 40))


@dataclass(frozen=True)
class Written:
    """A corpus on the disk.

    Attributes:
        corpus: its folder.
        reals: folders of genuine files that belong to it but lie elsewhere.
    """

    corpus: Path
    reals: tuple[str, ...] = ()


def write_faceforensics(
    root: Path,
    people: int = 6,
    methods: Sequence[str] = ("Deepfakes", "FaceSwap"),
    compressions: Sequence[str] = ("c23",),
    actors: int = 0,
) -> Path:
    """FaceForensics++: originals ``000`` …, each second one paired with the one before, masks, and DFD's actors.

    Args:
        root: is made.
        people: originals, an even number.
        methods: each makes two fakes of a pair.
        compressions: of ``raw``, ``c23`` and ``c40``.
        actors: of DeepFakeDetection, two scenes each; the fakes join each with the next.
    """
    for quality in compressions:
        for person in range(people):
            put(root / f"original_sequences/youtube/{quality}/videos/{person:03d}.mp4", person, quality=quality)
            for method in methods:
                path = root / f"manipulated_sequences/{method}/{quality}/videos/{person:03d}_{person ^ 1:03d}.mp4"
                put(path, person, person ^ 1, method, quality=quality)
        for actor in range(actors):
            target, source = actor + 1, (actor + 1) % actors + 1
            for take, scene in enumerate(("kitchen_still", "walking")):
                folder = root / f"original_sequences/actors/{quality}/videos"
                put(folder / f"{target:02d}__{scene}.mp4", 100 + target, take=take, quality=quality)
                folder = root / f"manipulated_sequences/DeepFakeDetection/{quality}/videos"
                name = f"{target:02d}_{source:02d}__{scene}__{'ABCDEFGH'[take] * 8}.mp4"
                put(folder / name, 100 + target, 100 + source, "DeepFakeDetection", take=take, quality=quality)
    for method in methods:
        put(root / f"manipulated_sequences/{method}/masks/videos/000_001.mp4", 0)
    return root


def write_official_pairs(folder: Path, people: int = 6) -> Path:
    """The three JSON lists of FaceForensics++: the last pair is for testing, the one before for validation."""
    folder.mkdir(parents=True, exist_ok=True)
    pairs = [[f"{person:03d}", f"{person + 1:03d}"] for person in range(0, people, 2)]
    for split, part in (("train", pairs[:-2]), ("val", pairs[-2:-1]), ("test", pairs[-1:])):
        (folder / f"{split}.json").write_text(json.dumps(part))
    return folder


def write_celebdf(root: Path, people: int = 6, strangers: int = 2, *, plus: bool = False) -> Path:
    """Celeb-DF v2, or ++ with its folders by method: identities with two videos each, and people seen once.

    The identities are swapped in pairs; the official test list has all of the last pair and the last stranger.
    """
    listed = []
    for person in range(people):
        partner = person ^ 1
        for take in range(2):
            names = [f"Celeb-real/id{person}_{take:04d}.mp4"]
            put(root / names[0], person, take=take)
            for method in ("FaceSwap/Celeb-DF", "FaceSwap/BlendFace") if plus else ("",):
                name = f"id{person}_id{partner}_{take:04d}.mp4"
                names.append("/".join(part for part in ("Celeb-synthesis", method, name) if part))
                put(root / names[-1], person, partner, method or "Celeb-synthesis", take=take)
            if person >= people - 2:
                listed += [f"{int(name.startswith('Celeb-real'))} {name}" for name in names]
    for number in range(strangers):
        put(root / f"YouTube-real/{number:05d}.mp4", 50 + number)
    if strangers:
        listed.insert(0, f"1 YouTube-real/{strangers - 1:05d}.mp4")
    (root / "List_of_testing_videos.txt").write_text("\n".join(listed) + "\n")
    return root


def write_dfdc(root: Path, parts: int = 4, families: int = 2, tests: int = 2) -> Path:
    """DFDC: training parts with a ``metadata.json`` each, and a test folder with ``labels.csv``.

    Args:
        root: is made.
        parts: of the training set.
        families: originals with a fake each in a part.
        tests: genuine test videos, and as many fakes.
    """
    for part in range(parts):
        folder, metadata = root / f"dfdc_train_part_{part}", {}
        for family in range(families):
            person = part * families + family
            original, fake = f"{_word(2 * person)}.mp4", f"{_word(2 * person + 1)}.mp4"
            put(folder / original, person)
            put(folder / fake, person, person + 1, "DFDC")
            metadata[original] = {"label": "REAL", "split": "train"}
            metadata[fake] = {"label": "FAKE", "split": "train", "original": original}
        (folder / "metadata.json").write_text(json.dumps(metadata))
    lines = ["filename,label"]
    for number in range(2 * tests):
        label = number % 2
        put(root / f"test/{_word(1000 + number)}.mp4", 60 + number, 61 + number if label else None, "DFDC")
        lines.append(f"{_word(1000 + number)}.mp4,{label}")
    if tests:
        (root / "test/labels.csv").write_text("\n".join(lines) + "\n")
    return root


def write_dfdc_preview(root: Path, people: int = 6) -> Path:
    """The preview of DFDC: people in pairs, two methods, ``dataset.json``; the last pair is for testing."""
    listed: dict[str, dict[str, object]] = {}
    for person in range(people):
        place = {"set": "test" if person >= people - 2 else "train", "augmentations": []}
        name = f"original_videos/{1000 + person}/{1000 + person}_0_A001.mp4"
        put(root / name, person)
        listed[name] = {"label": "real", "target_id": 1000 + person, "swapped_id": None, **place}
        for method in "AB":
            pair = f"{1000 + person}_{1000 + (person ^ 1)}"
            name = f"method_{method}/{pair}/{pair}_0_A001.mp4"
            put(root / name, person, person ^ 1, f"method_{method}")
            listed[name] = {"label": "fake", "target_id": 1000 + person, "swapped_id": 1000 + (person ^ 1), **place}
    (root / "dataset.json").write_text(json.dumps(listed))
    return root


def write_deeperforensics(
    root: Path, targets: int = 6, variants: Sequence[str] = ("end_to_end", "end_to_end_level_3")
) -> Path:
    """DeeperForensics without its reals, which ``write_faceforensics`` writes: two targets get one actor's face.

    Its lists have the last actor for testing and the one before for validation.
    """
    names = [f"{target:03d}_{_actor(target // 2)}.mp4" for target in range(targets)]
    for variant in variants:
        for target, name in enumerate(names):
            put(root / "manipulated_videos" / variant / name, target, 200 + target // 2, variant)
    put(root / "source_videos/M001/BlendShape/camera_front/M001_BlendShape_camera_front.mp4", 200)
    folder = root / "lists/splits"
    folder.mkdir(parents=True)
    for split, part in (("train", names[:-4]), ("val", names[-4:-2]), ("test", names[-2:])):
        (folder / f"{split}.txt").write_text("\n".join(part) + "\n")
    return root


def write_folders(root: Path, people: int = 6, methods: Sequence[str] = ("swap", "puppet")) -> Path:
    """Plain folders: everyone in ``real/film``, and a fake of the same name from each method."""
    for person in range(people):
        put(root / f"real/film/clip{person}.mp4", person)
        for method in methods:
            put(root / f"fake/{method}/clip{person}.mp4", person, person + 1, method)
    return root


def write_damaged_faceforensics(root: Path) -> Path:
    """FaceForensics++ as it lies on a disk that has seen trouble.

    Six originals in a ring, two methods. One fake is missing, one truncated, one empty; an original was copied, another
    shows nobody, and a stray file lies beside them.
    """
    original = "original_sequences/youtube/c23/videos/{}"
    fake = "manipulated_sequences/{}/c23/videos/{:03d}_{:03d}.mp4"
    for person in range(6):
        put(root / original.format(f"{person:03d}.mp4"), person)
        for method in ("Deepfakes", "Face2Face"):
            put(root / fake.format(method, person, (person + 1) % 6), person, (person + 1) % 6, method)
    write_clip(root / original.format("004.mp4"), barcode_frames(FRAMES), fps=FPS)
    (root / fake.format("Face2Face", 2, 3)).unlink()
    cut_file(root / fake.format("Deepfakes", 1, 2), 0.3)
    (root / fake.format("Face2Face", 3, 4)).write_bytes(b"")
    shutil.copyfile(root / original.format("000.mp4"), root / original.format("000 (1).mp4"))
    (root / original.format("Thumbs.db")).write_bytes(bytes(99))
    return root


def _with_reals(root: Path) -> Written:
    reals = write_faceforensics(root / "faceforensics", 12, methods=())
    return Written(write_deeperforensics(root / "deeperforensics", 12), (str(reals),))


#: By layout, what writes one into an empty folder that is large enough for all three splits.
LAYOUTS: dict[str, Callable[[Path], Written]] = {
    "faceforensics": lambda root: Written(write_faceforensics(root / "faceforensics", 12)),
    "celebdf": lambda root: Written(write_celebdf(root / "celebdf", 12)),
    "celebdf++": lambda root: Written(write_celebdf(root / "celebdf++", 12, plus=True)),
    "dfdc": lambda root: Written(write_dfdc(root / "dfdc", parts=6)),
    "dfdc_preview": lambda root: Written(write_dfdc_preview(root / "dfdc_preview", 12)),
    "deeperforensics": _with_reals,
    "folders": lambda root: Written(write_folders(root / "folders", 12)),
}


def put(
    path: Path, person: int, source: int | None = None, method: str = "", *, take: int = 0, quality: str = "c23"
) -> Path:
    """Write a clip of a person, with the face of another put in by a method if ``source`` is given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_clip(person, source, method if source is not None else "", take, COMPRESSIONS[quality]))
    return path


@cache
def _clip(person: int, source: int | None, method: str, take: int, crf: str) -> bytes:
    frames = list(_frames(person, take))
    if source is not None:
        others = _frames(source, take, pose_of=person)
        frames = [manipulated(frame, other, method) for frame, other in zip(frames, others, strict=True)]
    with tempfile.TemporaryDirectory() as folder:
        path = write_clip(Path(folder, "clip.mp4"), frames, fps=FPS, options={"preset": "veryfast", "crf": crf})
        return path.read_bytes()


def _frames(person: int, take: int, pose_of: int | None = None) -> Iterator[Pixels]:
    """A person who sways and nods, in the pose of another one if wanted."""
    poser = person if pose_of is None else pose_of
    rng = np.random.default_rng([poser, take])
    face = _person(person)
    phase, grain = rng.uniform(0, 6, 2), rng.normal(0, 2, (SIDE, SIDE, 1))
    for number in range(FRAMES):
        angle = 4 * np.sin(phase[0] + number / 2)
        size = _proportion(poser) * (1 + 0.04 * np.sin(phase[1] + number / 3))
        matrix = cv2.getRotationMatrix2D(FACE[0], angle, size)
        matrix[:, 2] += 5 * np.sin(phase + number / 4)
        turned = cv2.warpAffine(face, matrix, (SIDE, SIDE), borderMode=cv2.BORDER_REPLICATE)
        yield np.clip(turned + np.roll(grain, 7 * number, axis=0), 0, 255).astype(np.uint8)


@cache
def _person(number: int) -> Pixels:
    """The portrait with another tone of skin, light and width of face."""
    picture = np.ascontiguousarray(portrait()[20 : 20 + SIDE, 145 : 145 + SIDE])
    rng = np.random.default_rng([7, number])
    hsv = cv2.cvtColor(picture, cv2.COLOR_RGB2HSV).astype(np.float32)
    hsv[..., 0] = (hsv[..., 0] + rng.uniform(-14, 14)) % 180
    hsv[..., 1] = np.clip(hsv[..., 1] * rng.uniform(0.6, 1.3), 0, 255)
    hsv[..., 2] = 255 * (hsv[..., 2] / 255) ** rng.uniform(0.7, 1.4)
    picture = cv2.cvtColor(hsv.astype(np.uint8), cv2.COLOR_HSV2RGB)
    width = float(rng.uniform(0.9, 1.12))
    matrix = np.array([[width, 0, FACE[0][0] * (1 - width)], [0, 1, 0]])
    picture = cv2.warpAffine(picture, matrix, (SIDE, SIDE), borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(picture[:, ::-1] if number % 3 == 2 else picture, np.uint8)


def _proportion(person: int) -> float:
    return float(np.random.default_rng([11, person]).uniform(0.9, 1.05))


def manipulated(target: Pixels, source: Pixels, method: str) -> Pixels:
    """The source's inner face in the target's picture; each method leaves other marks.

    Args:
        target: 160×160×3 RGB.
        source: the same, in the target's pose.
        method: its name decides where the mask lies, how soft its edge is, and how the colors are off.
    """
    rng = np.random.default_rng([len(method), *method.encode()])
    face = cv2.GaussianBlur(source, (0, 0), float(rng.uniform(1, 2))).astype(np.float32)
    inner = face[FACE[0][1] - 30 : FACE[0][1] + 30, FACE[0][0] - 20 : FACE[0][0] + 20]
    around = target[FACE[0][1] - 30 : FACE[0][1] + 30, FACE[0][0] - 20 : FACE[0][0] + 20]
    tint = rng.choice([-1, 1], 3) * rng.uniform(14, 24, 3)
    face += around.mean((0, 1)) - inner.mean((0, 1)) + tint
    axes = tuple(int(axis * rng.uniform(0.85, 1.05)) for axis in FACE[1])
    mask = cv2.ellipse(np.zeros((SIDE, SIDE), np.float32), FACE[0], axes, 0, 0, 360, 1.0, -1)
    mask = cv2.GaussianBlur(mask, (0, 0), float(rng.uniform(1, 4)))[..., None]
    return np.clip(face * mask + target * (1 - mask), 0, 255).astype(np.uint8)


def _word(number: int) -> str:
    """Ten letters, as DFDC names its files."""
    return "".join(chr(ord("a") + int(letter)) for letter in np.random.default_rng([3, number]).integers(0, 26, 10))


def _actor(number: int) -> str:
    return f"{'MW'[number % 2]}{number + 1:03d}"
