"""The scan as an HTTP service: clips are received, queued for one scanner, and deleted after their scan."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
