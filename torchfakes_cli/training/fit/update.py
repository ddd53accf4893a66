"""One update of the weights: losses, learning rate, micro-batches, precision, and the guards of NaN and memory."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

from torchfakes_cli.detector.checkpoint import Header
from torchfakes_cli.detector.detector import fast_dtype
from torchfakes_cli.errors import ModelError, UsageError
from torchfakes_cli.training.config import TrainConfig
from torchfakes_cli.training.fit.datasets import size_at
from torchfakes_cli.training.fit.distill import Student, Teacher, distillation_loss, network_input
from torchfakes_cli.training.fit.processes import Processes

#: Gradients are scaled down to this norm.
MAX_GRADIENT = 5.0
#: If float16 gradients overflow even at a smaller scale than this, the training has diverged.
MIN_SCALE = 1.0
#: Batch norm of the embedding needs more than one crop at once.
MIN_MICRO_BATCH = 2
#: Targets of the cross-entropy for real and fake faces (label smoothing, Szegedy et al. 2016), since some labels are
#: wrong. The recipe of the origin has 0 and 1.
TARGETS = (0.05, 0.95)
PLAIN_TARGETS = (0.0, 1.0)
#: A falling learning rate ends at this share of its peak.
LAST_RATE = 0.01
#: Momentum of SGD.
MOMENTUM = 0.9
#: Default peak learning rates by optimizer, for random weights and for trained ones.
USUAL_RATES = {"adamw": (1e-3, 1e-4), "adam": (1e-3, 1e-4), "sgd": (1e-1, 1e-2)}
#: Messages of failed allocations on the CPU, also of oneDNN (of a memory object, or a primitive).
_OUT_OF_MEMORY = ("not enough memory", "can't allocate memory", "out of memory", "bad_alloc", "could not create a")
#: Each stage of a network is a block; the first convolutions are one together, and so is the embedding.
_BLOCK = re.compile(r"(?:model\.)?((?:blocks|stages|layers)\.\d+|\w+)")
_TOGETHER = {"conv2d_": "stem", "last_": "embedding"}


@dataclass(frozen=True, slots=True)
class Update:
    """Figures of one update."""

    loss: float  # mean over this process's crops, before the update
    right: int  # number of its crops on the right side of zero
    norms: list[float]  # norm of the whole gradient, before it was scaled down, and of each block's


class DivergedError(Exception):
    """The loss or the gradient is not finite; the weights are unchanged."""


def pair_loss(logits: Tensor, labels: Tensor, ranking: float, targets: tuple[float, float] = TARGETS) -> Tensor:
    """Binary cross-entropy, and a penalty for each fake that doesn't score above the real face of its pair.

    What a pair shares (person, pose, light) cancels out of the second term, which leaves the manipulation.

    Args:
        logits: N×1; real and fake in turn unless ``ranking`` is 0.
        labels: N×1, 0 and 1.
        ranking: weight of the second term.
        targets: targets of the cross-entropy, for real and fake.
    """
    loss = functional.binary_cross_entropy_with_logits(logits, targets[0] + labels * (targets[1] - targets[0]))
    return loss + ranking * functional.softplus(logits[0::2] - logits[1::2]).mean() if ranking else loss


def rate_factor(step: int, steps: int, schedule: str = "cosine", warm_up: float = 0.05) -> float:
    """Learning rate at a step (from 0) as a share of its peak: a linear rise over ``warm_up``, then the schedule."""
    rise = int(warm_up * steps)
    if step < rise:
        return (step + 1) / rise
    if schedule == "constant":
        return 1.0
    through = (step - rise) / max(1, steps - rise)
    left = 1 - through if schedule == "linear" else 0.5 * (1 + math.cos(math.pi * through))
    return LAST_RATE + (1 - LAST_RATE) * left


def build_optimizer(network: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """Make the optimizer of all weights; scales and shifts, which hold no capacity, don't decay."""
    groups = [
        {"params": [p for p in network.parameters() if (p.ndim > 1) == decays], "weight_decay": decay}
        for decays, decay in ((True, config.weight_decay), (False, 0.0))
    ]
    # Unfused, the optimizer took a tenth of a whole update on two cores, and fused less than half of that.
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, momentum=MOMENTUM, nesterov=True, fused=True)
    return (torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam)(groups, fused=True)


def block_parameters(network: nn.Module) -> dict[str, list[nn.Parameter]]:
    """The parameters of each block of a network, from the picture to the logit."""
    blocks: dict[str, list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        found = _BLOCK.match(name)
        assert found is not None
        block = next((joined for start, joined in _TOGETHER.items() if found[1].startswith(start)), found[1])
        blocks.setdefault(block.replace(".", "_"), []).append(parameter)
    return blocks


def gradient_norms(blocks: Mapping[str, Sequence[nn.Parameter]]) -> Tensor:
    """Euclidean norm of each block's gradient, shape (blocks,): a block whose gradient vanishes learns nothing."""
    norms = []
    for parameters in blocks.values():
        gradients = [p.grad for p in parameters if p.grad is not None]
        norms.append(torch.stack(torch._foreach_norm(gradients)).norm() if gradients else parameters[0].new_zeros(()))
    return torch.stack(norms)


class Updater:
    """Trains a network update by update.

    Attributes:
        student: the network with its map to the teacher's features; None without a teacher.
        blocks: parameters of each block whose gradient is measured.
        scaler: scaler of float16 gradients.
        micro_batch: number of crops at once, now.
    """

    def __init__(
        self,
        network: nn.Module,
        config: TrainConfig,
        header: Header,
        device: torch.device,
        steps: int,
        processes: Processes,
        warn: Callable[[str], None],
        teacher: Teacher | None = None,
    ) -> None:
        if config.precision == "fp16" and device.type != "cuda":
            raise UsageError("half precision needs CUDA", advice="Choose --precision auto, bf16 or fp32 on the CPU.")
        dtypes = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
        self._dtype = dtypes[config.precision] if config.precision != "auto" else fast_dtype(device)
        if device.type == "cuda" and processes.count > 1:
            network = nn.SyncBatchNorm.convert_sync_batchnorm(  # type: ignore[no-untyped-call]
                network, processes.group
            )
        self.network, self.config, self.header, self.device = network, config, header, device
        self.steps, self.processes, self.teacher = steps, processes, teacher
        self._warn = warn
        self._targets = PLAIN_TARGETS if config.sampling == "plain" else TARGETS
        self._sizes = list(config.sizes) or [header.input_size]
        fresh, tuned = USUAL_RATES[config.optimizer]
        self._peak_rate = config.learning_rate or (fresh if config.weights == "scratch" else tuned)
        self.micro_batch = min(config.micro_batch or config.batch, config.batch // processes.count)
        self.blocks = block_parameters(network)
        self.student = None if teacher is None else Student(network, teacher.channels, header.input_size)
        if self.student is not None:
            self.blocks["map"] = list(self.student.map.parameters())
        trained = self.student or network
        self.optimizer = build_optimizer(trained, config)
        self.scaler = torch.amp.GradScaler(device.type, enabled=self._dtype == torch.float16)
        trained.train()
        if config.compile and device.type == "cuda":
            torch._dynamo.config.suppress_errors = True  # a network that can't be compiled is used as it is
            trained.compile()
        elif config.compile:
            warn("compiling takes many minutes on the CPU: the network is used as it is")
        self._shared = processes.share(trained, device)

    @property
    def learning_rate(self) -> float:
        """Learning rate of the last update."""
        return float(self.optimizer.param_groups[-1]["lr"])

    def set_rate(self, step: int) -> None:
        """Set the learning rate of an update, from 0."""
        rate = self._peak_rate * rate_factor(step, self.steps, self.config.schedule, self.config.warm_up)
        for group in self.optimizer.param_groups:
            group["lr"] = rate

    def update(self, step: int, pictures: Tensor, labels: Tensor) -> Update:
        """Make one update with pictures, N×S×S×3 uint8, and labels, N×1; N is even.

        The step (from 0) decides the dropout together with the seed, so that a resumed training drops the same.

        Raises:
            DivergedError: the loss or the gradient is not finite.
            ModelError: even the smallest micro-batch doesn't fit into memory.
        """
        pictures = pictures.to(self.device, non_blocking=True)
        labels = labels.to(self.device, non_blocking=True)
        self.set_rate(step)
        targets: tuple[Tensor, Tensor] | None = None
        while True:
            try:
                if self.teacher is not None and targets is None:
                    targets = self.teacher.targets(pictures, self._dtype, self.micro_batch)
                loss, right = self._gradients(step, pictures, labels, targets)
                break
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                self._lower_micro_batch()
            # Not in the handler, where the error still holds what is to be freed.
            self.optimizer.zero_grad(set_to_none=True)
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
        self.scaler.unscale_(self.optimizer)
        block_norms = gradient_norms(self.blocks)
        norm = float(block_norms.norm())
        # A finite loss can have an infinite gradient, which would destroy the weights. In float16 that is how the
        # scaler notices that it scaled too much: it skips the step and scales less.
        overflow = self.scaler.is_enabled() and self.scaler.get_scale() > MIN_SCALE
        if not math.isfinite(loss) or not (math.isfinite(norm) or overflow):
            raise DivergedError(f"training diverged at step {step}: the loss is {loss:g}, the gradient's norm {norm:g}")
        if norm > MAX_GRADIENT:
            gradients = [p.grad for block in self.blocks.values() for p in block if p.grad is not None]
            torch._foreach_mul_(gradients, MAX_GRADIENT / norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return Update(loss, right, [norm, *block_norms.tolist()])

    def _gradients(
        self, step: int, pictures: Tensor, labels: Tensor, targets: tuple[Tensor, Tensor] | None = None
    ) -> tuple[float, int]:
        """Gradients of the batch's mean loss, summed over micro-batches; returns the loss and how many are right."""
        seeds = np.random.SeedSequence([self.config.seed, step, self.processes.rank])
        torch.manual_seed(int(seeds.generate_state(1, np.uint64)[0]))
        self.optimizer.zero_grad(set_to_none=True)
        side = size_at(self._sizes, step, self.steps)
        loss, right = torch.zeros((), device=self.device), torch.zeros((), device=self.device)
        for start in range(0, len(labels), self.micro_batch):
            part = slice(start, start + self.micro_batch)
            asked = labels[part]
            # Processes exchange their gradients once per batch, with the last micro-batch's.
            more, shared = start + self.micro_batch < len(labels), self._shared
            with shared.no_sync() if more and isinstance(shared, DistributedDataParallel) else nullcontext():
                inputs = network_input(pictures[part], self.header, side)
                with torch.autocast(self.device.type, self._dtype, enabled=self._dtype != torch.float32):
                    found = shared(inputs)
                logits = (found if targets is None else found[0]).float()
                share = pair_loss(logits, asked, self.config.ranking, self._targets)
                if self.teacher is not None and targets is not None:
                    taught = targets[0][part], targets[1][part]
                    share = distillation_loss(share, logits, found[1].float(), taught, self.teacher.weights(step))
                share = share * (len(asked) / len(labels))
                self.scaler.scale(share).backward()  # type: ignore[no-untyped-call]
            loss += share.detach()
            right += ((logits.detach() > 0) == (asked > 0.5)).sum()
        return float(loss), int(right)

    def _lower_micro_batch(self) -> None:
        before, several = self.micro_batch, self.processes.count > 1
        self.micro_batch = max(MIN_MICRO_BATCH, before // 4 * 2)
        if before <= MIN_MICRO_BATCH or several:
            advice = "Choose a smaller --input-size, or free memory."
            if several:  # the others would wait forever for the gradients of this one
                advice = f"Start again with --resume, or with --micro-batch {self.micro_batch}."
            raise ModelError(f"{before} crops at once need more memory than there is", advice=advice)
        self._warn(
            f"{before} crops at once need more memory than there is: from now on {self.micro_batch} at once, "
            f"whose gradients add up to the same batch of {self.config.batch}"
        )


def is_out_of_memory(error: BaseException) -> bool:
    """True for out-of-memory errors."""
    if isinstance(error, (torch.cuda.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _OUT_OF_MEMORY)


def peak_memory_mb(device: torch.device) -> float | None:
    """Peak memory of this training in MiB: of the GPU on CUDA, else of the process; None on Windows."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    try:
        import resource
    except ImportError:  # Windows
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
