"""torchfakes: finds synthetic faces in video.

The public API is loaded when it is first used, so that importing the package costs nothing::

    from torchfakes_cli import scan_video

    result = scan_video("clip.mp4")
    print(result.verdict, result.p_fake)
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
