"""Video files to upright RGB frames: safe opening, true times, chosen samples. The only place that knows PyAV.

::

    with VideoReader("clip.mp4") as video:
        for frame in video.frames(SamplingConfig()):
            ...
        print(video.info.duration_s, video.report.warnings)

``IsolatedDecoder`` reads in the same way in a process of its own, which a file may hang or crash; its client doesn't
load PyAV.
"""
