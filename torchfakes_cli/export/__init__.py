"""Detector and face detector as ONNX files for programs without PyTorch, such as apps on a phone.

``folder`` does the whole. ``detector`` and ``cascade`` are the networks as they are converted, and ``convert`` makes
files of a precision of them; ``samples`` are the faces that they are calibrated with and compared on, and ``parity`` is
that comparison; ``facts`` is what an app has to know besides, and ``example`` all that it has to do, in NumPy.
"""
