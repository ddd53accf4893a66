"""The gradients of one update, computed by one process or, under torchrun, by several that share its batch.

::

    torchrun --nproc-per-node 2 -m tests.training.gradients FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from torchfakes_cli.detector.checkpoint import Header
from torchfakes_cli.detector.network import build_network
from torchfakes_cli.training.config import TrainConfig
from torchfakes_cli.training.fit.processes import Processes, joined_processes
from torchfakes_cli.training.fit.update import Updater

BATCH, SIDE = 8, 75
CPU = torch.device("cpu")


def gradients(processes: Processes, batch: slice = slice(None)) -> dict[str, Tensor]:
    """What this process's weights would move by, by name.

    Batch norm is still: it looks at all crops of a process at once, of which several processes have fewer.

    Args:
        processes: of which each takes its part of the batch and begins with weights of its own.
        batch: the crops that they share.
    """
    config = TrainConfig(batch=BATCH, input_size=SIDE, dropout=0.0, precision="fp32", optimizer="sgd", start="scratch")
    pixels = torch.Generator().manual_seed(0)
    pictures = torch.randint(0, 256, (BATCH, SIDE, SIDE, 3), generator=pixels, dtype=torch.uint8)[batch]
    labels = torch.tensor([[0.0], [1.0]] * (BATCH // 2))[batch]
    share = len(labels) // processes.count
    mine = slice(processes.rank * share, (processes.rank + 1) * share)
    torch.manual_seed(processes.rank)
    network = build_network(dropout=0.0)
    updater = Updater(network, config, Header(name="x", input_size=SIDE), CPU, 10, processes, print)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.eval()
    updater.update(0, pictures[mine], labels[mine])
    return {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}


if __name__ == "__main__":
    torch.set_num_threads(1)
    with joined_processes(CPU) as joined:
        save_file(gradients(joined), Path(sys.argv[1]) / f"{joined.rank}.safetensors")
