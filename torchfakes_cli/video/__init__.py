"""Video files to upright RGB frames: safe opening, true times, chosen samples. The only place that knows PyAV.

::

    with VideoReader("clip.mp4") as video:
        for frame in video.frames(SamplingConfig()):
            ...
        print(video.info.duration_s, video.report.warnings)
"""

from torchfakes_cli.video.decode import VideoReader
from torchfakes_cli.video.opening import VIDEO_SUFFIXES
from torchfakes_cli.video.probe import probe

__all__ = ["VIDEO_SUFFIXES", "VideoReader", "probe"]
