"""Decodes video files to upright RGB frames: safe opening, true times, sampled frames. Only this package uses PyAV.

::

    with VideoReader("clip.mp4") as video:
        for frame in video.frames(SamplingConfig()):
            ...
        print(video.info.duration_s, video.report.warnings)

``IsolatedDecoder`` has the same interface but decodes in a child process, which a damaged file may hang or crash. Its
client doesn't load PyAV.
"""
