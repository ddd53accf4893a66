"""The version of torchfakes. Imports nothing, so that the build and every module can read it."""

__version__ = "0.1.0"
