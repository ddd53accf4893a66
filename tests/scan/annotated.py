"""Made-up results of clips, and what an annotated clip holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from torchfakes_cli.records import Box, Face, FaceScore, Status, Track, Verdict, VideoResult
from torchfakes_cli.scan.verdict import Policy
from torchfakes_cli.video.probing import examine

POLICY = Policy(fake_above=0.7, real_below=0.3, min_faces=3, trim=0.1)


def face(box: Box) -> Face:
    x1, y1, x2, y2 = box
    middle = ((x1 + x2) / 2, (y1 + y2) / 2)
    return Face(box, 0.99, (middle, middle, middle, middle, middle))


def row(time_s: float, box: Box | None, p_fake: float | None = 0.9, note: str = "", track: int = 1) -> FaceScore:
    if box is None:
        return FaceScore(time_s, None, note="no_face")
    logit = None if p_fake is None else 8 * (p_fake - 0.5)
    return FaceScore(time_s, None, track, face(box), 100.0, logit, p_fake, note)


def track(number: int = 1, p_fake: float | None = 0.9, *, lasting: bool = True) -> Track:
    logit = None if p_fake is None else 8 * (p_fake - 0.5)
    scored = 0 if p_fake is None else 4
    return Track(number, 0.0, 9.0, 4, scored, logit, p_fake, None if logit is None else 0.0, lasting)


def result_of(path: Path, timeline: Sequence[FaceScore], tracks: Sequence[Track] = (track(),)) -> VideoResult:
    """A fake, as a scan of the clip might have found it."""
    info = examine(path).info
    return VideoResult(
        str(path),
        Status.OK,
        Verdict.FAKE,
        0.9,
        info=info,
        frames_sampled=len({each.time_s for each in timeline}),
        timeline=tuple(timeline),
        tracks=tuple(tracks),
        peak_time_s=0.0,
        model="made up",
        warnings=info.warnings,
        fake_above=POLICY.fake_above,
        real_below=POLICY.real_below,
    )


@dataclass(frozen=True, slots=True, eq=False)
class Content:
    """What a player shows of a clip.

    Attributes:
        times_s: of its frames, on the clock of the file.
        frames: H×W×3 RGB.
        end_s: when the last one leaves the screen; None where the file doesn't tell.
        sound: samples of its sound, heard from ``sound_s`` on; None where it has none.
        sound_packets: the bytes of each.
    """

    times_s: NDArray[np.float64]
    frames: list[NDArray[np.uint8]]
    end_s: float | None
    sound: NDArray[np.float32] | None
    sound_s: float
    sound_packets: list[bytes]


def content_of(path: Path) -> Content:
    """Plays a clip, as it is stored: not turned upright."""
    with av.open(str(path)) as container:
        times, frames = [], []
        for frame in container.decode(video=0):
            times.append(float(frame.pts * frame.time_base))
            frames.append(frame.to_ndarray(format="rgb24"))
        stream = container.streams.video[0]
        length = None if stream.duration is None else stream.duration * (stream.time_base or 0)
        end_s = None if length is None else times[0] + float(length)
    sound, sound_s, packets = None, 0.0, []
    with av.open(str(path)) as container:
        if container.streams.audio:
            packets = [bytes(packet) for packet in container.demux(audio=0) if packet.size]
    with av.open(str(path)) as container:
        if container.streams.audio:
            parts = list(container.decode(audio=0))
            sound_s = float(parts[0].pts * parts[0].time_base)
            sound = np.concatenate([part.to_ndarray().reshape(part.layout.nb_channels, -1)[0] for part in parts])
            sound = sound.astype(np.float32)
    return Content(np.array(times), frames, end_s, sound, sound_s, packets)
