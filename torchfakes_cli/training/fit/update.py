"""One update of the weights: losses, gradients of micro-batches that add up, precision, and too little memory."""

from __future__ import annotations

import logging
import math
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

from torchfakes_cli.detector.checkpoint import Header
from torchfakes_cli.detector.detector import fast_dtype
from torchfakes_cli.errors import ModelError, UsageError
from torchfakes_cli.training.config import TrainConfig
from torchfakes_cli.training.fit.distill import Student, Teacher, distillation_loss, network_input
from torchfakes_cli.training.fit.optimizer import (
    block_parameters,
    build_optimizer,
    gradient_norms,
    highest_rate,
    rate_factor,
)
from torchfakes_cli.training.fit.processes import Processes

logger = logging.getLogger(__name__)

#: Gradients are scaled down to this norm.
MAX_GRADIENT = 5.0
#: Below this a float16 gradient is lost however it is scaled: the training has diverged.
MIN_SCALE = 1.0
#: Batch norm of the embedding needs more than one crop at once.
MIN_MICRO_BATCH = 2
#: Targets of the cross-entropy for real and fake faces (label smoothing, Szegedy et al. 2016): certainty is not asked
#: for, since some labels are wrong. Plain sampling, the origin's recipe, has 0 and 1.
TARGETS = (0.05, 0.95)
PLAIN_TARGETS = (0.0, 1.0)
#: Words of the CPU's allocators when they fail, and of oneDNN (of a memory object, or a primitive).
_OUT_OF_MEMORY = ("not enough memory", "can't allocate memory", "out of memory", "bad_alloc", "could not create a")


@dataclass(frozen=True, slots=True)
class Update:
    """Figures of one update.

    Attributes:
        loss: mean over this process's crops, before the update.
        right: how many of its crops were on the right side of zero.
        norm: of the whole gradient, before it was scaled down.
        block_norms: of each block's, shape (blocks,).
    """

    loss: float
    right: int
    norm: float
    block_norms: Tensor


class DivergedError(Exception):
    """The loss or the gradient is no number any more; the weights are as they were.

    Args:
        step: from 0.
        loss: of the batch.
        norm: of the gradient.
    """

    def __init__(self, step: int, loss: float, norm: float) -> None:
        super().__init__(f"training diverged at step {step}: the loss is {loss:g}, the gradient's norm {norm:g}")


def pair_loss(logits: Tensor, labels: Tensor, ranking: float, targets: tuple[float, float] = TARGETS) -> Tensor:
    """Binary cross-entropy, and how far each fake is from scoring above the real face it came with.

    What a pair shares (person, pose, light) cancels out of the second term, which leaves the manipulation.

    Args:
        logits: N×1; real and fake in turn where ``ranking`` isn't 0.
        labels: N×1, 0 and 1.
        ranking: weight of the second term.
        targets: of the cross-entropy, for real and fake.

    Returns:
        A scalar.
    """
    wanted = targets[0] + labels * (targets[1] - targets[0])
    loss = functional.binary_cross_entropy_with_logits(logits, wanted)
    return loss + ranking * functional.softplus(logits[0::2] - logits[1::2]).mean() if ranking else loss


@dataclass
class Updater:
    """Moves a network's weights.

    Attributes:
        network: on ``device``; is changed.
        config: of the training.
        header: says how crops become input.
        device: where to compute.
        steps: of the whole training.
        processes: that share a batch.
        warn: called once with each thing a user should know.
        teacher: whose features and logits the network learns to match; None for none.
        student: the network with its map to the teacher's features; None without a teacher.
        optimizer: over all weights, the map's included.
        scaler: of float16 gradients.
        micro_batch: crops at once, now.
        blocks: names of the blocks whose gradients are measured.
    """

    network: nn.Module
    config: TrainConfig
    header: Header
    device: torch.device
    steps: int
    processes: Processes
    warn: Callable[[str], None]
    teacher: Teacher | None = None
    student: Student | None = field(init=False, default=None)
    optimizer: torch.optim.Optimizer = field(init=False)
    scaler: torch.amp.GradScaler = field(init=False)
    micro_batch: int = field(init=False)

    def __post_init__(self) -> None:
        config = self.config
        self._dtype = _dtype(config.precision, self.device)
        self._targets = PLAIN_TARGETS if config.sampling == "plain" else TARGETS
        self.micro_batch = min(config.micro_batch or config.batch, config.batch // self.processes.count)
        if self.device.type == "cuda" and self.processes.count > 1:
            self.network = nn.SyncBatchNorm.convert_sync_batchnorm(  # type: ignore[no-untyped-call]
                self.network, self.processes.answering
            )
        self._blocks = block_parameters(self.network)
        trained = self.network
        if self.teacher is not None:
            self.student = Student(self.network, self.teacher.channels, self.header.input_size)
            self._blocks["map"] = list(self.student.map.parameters())
            trained = self.student
        self._parameters = [p for block in self._blocks.values() for p in block]
        self.optimizer = build_optimizer(trained, config)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self._dtype == torch.float16)
        trained.train()
        fast = compiled(trained, self.device, self.warn) if config.compile else trained
        self._shared = self.processes.share(fast, self.device)

    @property
    def blocks(self) -> tuple[str, ...]:
        """Names of what ``Update.block_norms`` measures."""
        return tuple(self._blocks)

    @property
    def learning_rate(self) -> float:
        """Learning rate of the last update."""
        return float(self.optimizer.param_groups[-1]["lr"])

    def go_on_from(self, step: int) -> None:
        """Set what the updates before a step (from 0) have left behind, besides weights and the optimizer's state."""
        if step > 0:
            self._set_rate(step - 1)

    def _set_rate(self, step: int) -> None:
        rate = highest_rate(self.config) * rate_factor(step, self.steps, self.config.schedule, self.config.warm_up)
        for group in self.optimizer.param_groups:
            group["lr"] = rate

    def update(self, step: int, pictures: Tensor, labels: Tensor) -> Update:
        """Make one update.

        Args:
            step: from 0; decides the dropout together with the seed, so that a resumed training drops the same.
            pictures: N×S×S×3 uint8; N is even.
            labels: N×1, 0 and 1.

        Raises:
            DivergedError: the loss or the gradient is no number any more.
            ModelError: even the smallest micro-batch doesn't fit into memory.
        """
        pictures = pictures.to(self.device, non_blocking=True)
        labels = labels.to(self.device, non_blocking=True)
        self._set_rate(step)
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
            # Here, not in the handler, where the error still holds what is to be freed.
            self.optimizer.zero_grad(set_to_none=True)
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
        self.scaler.unscale_(self.optimizer)
        block_norms = gradient_norms(self._blocks)
        norm = float(block_norms.norm())
        self._check(step, loss, norm)
        if norm > MAX_GRADIENT:
            gradients = [p.grad for p in self._parameters if p.grad is not None]
            torch._foreach_mul_(gradients, MAX_GRADIENT / norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return Update(loss, right, norm, block_norms)

    def _gradients(
        self, step: int, pictures: Tensor, labels: Tensor, targets: tuple[Tensor, Tensor] | None = None
    ) -> tuple[float, int]:
        """Gradients of the batch's mean loss, summed over micro-batches; returns the loss and how many are right."""
        seeds = np.random.SeedSequence([self.config.seed, step, self.processes.rank])
        torch.manual_seed(int(seeds.generate_state(1, np.uint64)[0]))
        self.optimizer.zero_grad(set_to_none=True)
        side = input_size(self.config, self.header, step, self.steps)
        size = self.micro_batch
        loss, right = torch.zeros((), device=self.device), torch.zeros((), device=self.device)
        for start in range(0, len(labels), size):
            part = slice(start, start + size)
            asked = labels[part]
            last = start + size >= len(labels)
            with self._gathering(last):
                inputs = network_input(pictures[part], self.header, side)
                with torch.autocast(self.device.type, self._dtype, enabled=self._dtype != torch.float32):
                    found = self._shared(inputs)
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

    def _gathering(self, last: bool) -> nullcontext[None]:
        """Processes exchange their gradients once a batch, with the last micro-batch's."""
        if isinstance(self._shared, DistributedDataParallel) and not last:
            exchange_later: nullcontext[None] = self._shared.no_sync()  # type: ignore[assignment]
            return exchange_later
        return nullcontext()

    def _lower_micro_batch(self) -> None:
        advice = "Choose a smaller --input-size, or free memory."
        if self.processes.count > 1:
            # The others would wait for this process's gradients for ever.
            advice = f"Start again with --resume, or with --micro-batch {max(MIN_MICRO_BATCH, self.micro_batch // 2)}."
        if self.micro_batch <= MIN_MICRO_BATCH or self.processes.count > 1:
            raise ModelError(f"{self.micro_batch} crops at once need more memory than there is", advice=advice)
        before = self.micro_batch
        self.micro_batch = max(MIN_MICRO_BATCH, before // 4 * 2)
        self.warn(
            f"{before} crops at once need more memory than there is: from now on {self.micro_batch} at once, "
            f"whose gradients add up to the same batch of {self.config.batch}"
        )

    def _check(self, step: int, loss: float, norm: float) -> None:
        # A finite loss can have an infinite gradient, which would poison the weights all the same. In float16 that is
        # how the scaler finds out that it scaled too much: it skips the step and scales less.
        overflow = self.scaler.is_enabled() and self.scaler.get_scale() > MIN_SCALE
        if not math.isfinite(loss) or not (math.isfinite(norm) or overflow):
            raise DivergedError(step, loss, norm)


def _dtype(precision: str, device: torch.device) -> torch.dtype:
    """The type to compute in.

    Raises:
        UsageError: the device can't.
    """
    if precision == "fp16" and device.type != "cuda":
        raise UsageError("half precision needs CUDA", advice="Choose --precision auto, bf16 or fp32 on the CPU.")
    return {"auto": fast_dtype(device), "bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[precision]


def input_size(config: TrainConfig, header: Header, step: int, steps: int) -> int:
    """Side of the network's input in pixels at a step (from 0) of a training."""
    if not config.sizes:
        return header.input_size
    return config.sizes[min(step * len(config.sizes) // steps, len(config.sizes) - 1)]


def is_out_of_memory(error: BaseException) -> bool:
    """True for out-of-memory errors."""
    if isinstance(error, (torch.cuda.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _OUT_OF_MEMORY)


def peak_memory_mb(device: torch.device) -> float | None:
    """Peak memory of this training in MiB: of the card on CUDA, else of the process; None on Windows."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


class _Compiled(nn.Module):
    """A compiled network that falls back to the uncompiled one if compiling fails."""

    def __init__(self, network: nn.Module, warn: Callable[[str], None]) -> None:
        super().__init__()
        self.network = network
        self._fast: Any = torch.compile(network)
        self._warn = warn

    def forward(self, inputs: Tensor) -> Any:
        if self._fast is not None:
            try:
                return self._fast(inputs)
            except torch._dynamo.exc.TorchDynamoException as error:
                logger.debug("compiling failed", exc_info=True)
                reason = str(error).strip().partition("\n")[0]
                self._warn(f"the network can't be compiled and is used as it is ({reason})")
                self._fast = None
        return self.network(inputs)


def compiled(network: nn.Module, device: torch.device, warn: Callable[[str], None]) -> nn.Module:
    """The network, compiled by its first use on CUDA; on the CPU, where that alone takes many minutes, as it is.

    Args:
        network: shares its weights with what is returned.
        device: where it is.
        warn: called if it isn't compiled.
    """
    if device.type != "cuda":
        warn("compiling takes many minutes on the CPU: the network is used as it is")
        return network
    return _Compiled(network, warn)
