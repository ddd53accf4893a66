"""Which devices several processes compute on."""

from __future__ import annotations

from torchfakes_cli.errors import UsageError

#: Stands for every CUDA device of this machine.
ALL = "all"


def are_several(device: str) -> bool:
    """Whether it may name more than one device."""
    return device == ALL or "," in device


def named_devices(device: str) -> tuple[str, ...]:
    """The devices that ``cuda:0,cuda:1``, ``cpu,cpu`` or ``all`` stands for, each for a process.

    Raises:
        UsageError: one of them isn't there, they are of different kinds, or a card is named twice.
    """
    from torchfakes_cli.detector.detector import choose_device

    if device == ALL:
        import torch

        names = tuple(f"cuda:{number}" for number in range(torch.cuda.device_count()))
        if not names:
            raise UsageError("no CUDA device found", advice="Name devices: --device cpu,cpu starts two processes.")
        return names
    names = tuple(name.strip() for name in device.split(","))
    kinds = {choose_device(name).type for name in names}
    if len(kinds) > 1:
        raise UsageError(
            "processors and cards compute with different precision, and so would the rows of one table",
            advice="Name devices of one kind.",
        )
    if kinds == {"cuda"} and len({choose_device(name).index for name in names}) < len(names):
        raise UsageError("each card takes one process", advice="Name every CUDA device once, as cuda:N.")
    return names
