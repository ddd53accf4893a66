from .config import ServeConfig
from .server import run_service

__all__ = ["ServeConfig", "run_service"]
