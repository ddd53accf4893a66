"""One update of the weights: gradients of micro-batches that add up, in the right precision, in the memory there is."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from torchfakes_cli.config import TrainConfig
from torchfakes_cli.detector.checkpoint import Header
from torchfakes_cli.detector.detector import fast_dtype
from torchfakes_cli.detector.preprocess import standardise
from torchfakes_cli.errors import ModelError, UsageError
from torchfakes_cli.training.fitting.blocks import block_parameters, gradient_norms, set_training
from torchfakes_cli.training.fitting.compiling import compiled
from torchfakes_cli.training.fitting.fast_convolution import quicken_convolutions
from torchfakes_cli.training.fitting.localise import mask_loss
from torchfakes_cli.training.fitting.losses import couple_loss
from torchfakes_cli.training.fitting.memory import is_out_of_memory, release_memory
from torchfakes_cli.training.fitting.merged_heads import merge_heads
from torchfakes_cli.training.fitting.optimise import build_optimizer, rate_factor, set_rate
from torchfakes_cli.training.fitting.processes import Processes
from torchfakes_cli.training.fitting.sam import at_the_worst_nearby

#: Gradients are scaled down to this norm.
MAX_GRADIENT = 5.0
#: Below this a float16 gradient is lost however it is scaled: the training has diverged.
MIN_SCALE = 1.0
#: Batch norm of the embedding needs more than one crop at once.
MIN_MICRO_BATCH = 2


@dataclass(frozen=True, slots=True)
class Update:
    """What one update did.

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
        warn: told once of what a user should know.
        optimizer: over all weights.
        scaler: of float16 gradients.
        micro_batch: crops at once, now.
    """

    network: nn.Module
    config: TrainConfig
    header: Header
    device: torch.device
    steps: int
    processes: Processes
    warn: Callable[[str], None]
    optimizer: torch.optim.Optimizer = field(init=False)
    scaler: torch.amp.GradScaler = field(init=False)
    micro_batch: int = field(init=False)

    def __post_init__(self) -> None:
        config = self.config
        self._dtype = _dtype(config.precision, self.device)
        self.micro_batch = min(config.micro_batch or config.batch, config.batch // self.processes.count)
        self.optimizer = build_optimizer(self.network, config)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self._dtype == torch.float16)
        self._blocks = block_parameters(self.network)
        self._parameters = [p for block in self._blocks.values() for p in block]
        self._frozen = -1
        self._shared = self.network
        if self.device.type == "cuda" and self.processes.count > 1:
            self.network = nn.SyncBatchNorm.convert_sync_batchnorm(  # type: ignore[no-untyped-call]
                self.network, self.processes.answering
            )
        if self.device.type == "cpu" and self._dtype == torch.bfloat16:
            quicken_convolutions(self.network)
            merge_heads(self.network)

    @property
    def learning_rate(self) -> float:
        """Of the last block, at the last update."""
        return float(self.optimizer.param_groups[-1]["lr"])

    def go_on_from(self, step: int) -> None:
        """Set what the updates before a step (from 0) have left behind, besides weights and the optimizer's state."""
        if step > 0:
            self._set_rate(step - 1)

    def _set_rate(self, step: int) -> None:
        set_rate(self.optimizer, rate_factor(step, self.steps, self.config.schedule, self.config.warm_up))

    def begin_epoch(self, epoch: int) -> None:
        """Freeze what is to be frozen in an epoch (from 1), and go into training mode."""
        thawed = self.config.freeze_epochs is not None and epoch > self.config.freeze_epochs
        frozen = 0 if thawed else self.config.freeze
        set_training(self.network, frozen)
        if frozen != self._frozen:
            self._frozen = frozen
            network = compiled(self.network, self.device, self.warn) if self.config.compile else self.network
            self._shared = self.processes.share(network, self.device)

    def update(self, step: int, pictures: Tensor, labels: Tensor, masks: Tensor | None = None) -> Update:
        """Make one update.

        Args:
            step: from 0; decides the dropout together with the seed, so that a resumed training drops the same.
            pictures: N×S×S×3 uint8; N is even.
            labels: N×1, 0 and 1.
            masks: N×M×M, see ``Batch``; None where the configuration gives them no weight.

        Raises:
            DivergedError: the loss or the gradient is no number any more.
            ModelError: even the smallest micro-batch doesn't fit into memory.
        """
        pictures = pictures.to(self.device, non_blocking=True)
        labels = labels.to(self.device, non_blocking=True)
        if masks is not None:
            masks = masks.to(self.device, non_blocking=True)
        self._set_rate(step)
        while True:
            try:
                loss, right = self._gradients(step, pictures, labels, masks)
                break
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                self._lower_micro_batch()
            # Here, not in the handler, where the error still holds what is to be freed.
            self.network.zero_grad(set_to_none=True)
            release_memory(self.device)
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

    def _gradients(self, step: int, pictures: Tensor, labels: Tensor, masks: Tensor | None = None) -> tuple[float, int]:
        loss, right = self._backward(step, pictures, labels, masks)
        if self.config.sam_rho:
            with at_the_worst_nearby(self.network, self.config.sam_rho):
                self._backward(step, pictures, labels, masks)
        return loss, right

    def _backward(self, step: int, pictures: Tensor, labels: Tensor, masks: Tensor | None = None) -> tuple[float, int]:
        """Gradients of the batch's mean loss, summed over micro-batches; returns the loss and how many are right."""
        seeds = np.random.SeedSequence([self.config.seed, step, self.processes.rank])
        torch.manual_seed(int(seeds.generate_state(1, np.uint64)[0]))
        self.network.zero_grad(set_to_none=True)
        size = self.micro_batch
        loss, right = torch.zeros((), device=self.device), torch.zeros((), device=self.device)
        for start in range(0, len(labels), size):
            part = slice(start, start + size)
            asked = labels[part]
            last = start + size >= len(labels)
            with self._gathering(last):
                inputs = standardise(pictures[part], self.header.mean, self.header.scale, self.header.input_size)
                with torch.autocast(self.device.type, self._dtype, enabled=self._dtype != torch.float32):
                    found = self._shared(inputs).float()
                logits = found[:, :1]
                share = couple_loss(logits, asked, self.config.ranking, self.config.label_smoothing)
                if masks is not None and self.config.mask_loss:
                    share = share + self.config.mask_loss * mask_loss(found[:, 1:], masks[part])
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
    """What to compute in.

    Raises:
        UsageError: the device can't.
    """
    if precision == "fp16" and device.type != "cuda":
        raise UsageError("half precision needs CUDA", advice="Choose --precision auto, bf16 or fp32 on the CPU.")
    return {"auto": fast_dtype(device), "bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[precision]
