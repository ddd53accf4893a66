"""Runtime environment: the settings of PyTorch's libraries, read from the environment once when PyTorch is imported."""

from __future__ import annotations

import os

#: How threads wait for one another, in the words of GNU's and other OpenMP libraries.
_WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")


def runtime_settings(command: str | None) -> dict[str, str]:
    """Variables that suit a command.

    Args:
        command: the first word after ``torchfakes``; None without one.
    """
    if command == "train":
        # An update on the CPU is some thousand pieces of work, shared among threads that meet after each: on two cores
        # it took a quarter longer where they slept in between, and a tenth longer with the small cache below. Left to
        # themselves they spin for milliseconds, and where another program needed the same cores, an update took ten
        # times as long. This is about a tenth of a millisecond: as fast as any, and it gives way.
        return {"GOMP_SPINCOUNT": "10000"}
    return {
        # Torch's threads otherwise spin while they wait; where decoding or another program needs the same cores, a
        # scan then takes many times as long.
        "OMP_WAIT_POLICY": "PASSIVE",
        # oneDNN prepares each layer for each size of its input and remembers up to 1024 of them, which adds up to
        # hundreds of MiB over videos of many sizes. Those of the last few videos are enough. A training has but one
        # size, and more kinds of work than this in each update.
        "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "128",
        "LRU_CACHE_CAPACITY": "128",
    }


def set_up_runtime(command: str | None) -> None:
    """Set a command's variables where the user has set nothing."""
    waiting_set = any(variable in os.environ for variable in _WAITING)
    for variable, value in runtime_settings(command).items():
        if not (waiting_set and variable in _WAITING):
            os.environ.setdefault(variable, value)
