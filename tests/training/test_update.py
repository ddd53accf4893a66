"""One update: what micro-batches, precision and too little memory do to it, and what they don't."""

from __future__ import annotations

import copy
import math
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from torchfakes_cli.detector.checkpoint import Header
from torchfakes_cli.detector.network import build_network
from torchfakes_cli.errors import UsageError
from torchfakes_cli.training.config import TrainConfig, train_recipe
from torchfakes_cli.training.fit.processes import Processes
from torchfakes_cli.training.fit.update import (
    Updater,
    block_parameters,
    build_optimizer,
    gradient_norms,
    pair_loss,
    rate_factor,
)

PLAIN = TrainConfig(start="scratch", batch=4, dropout=0.0, input_size=75, precision="fp32", optimizer="sgd", ema=0.0)


@pytest.fixture(scope="module")
def initial() -> nn.Module:
    torch.manual_seed(0)
    return build_network(dropout=0.0)


@pytest.fixture(scope="module")
def batch() -> tuple[Tensor, Tensor]:
    pictures = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (4, 75, 75, 3), np.uint8))
    return pictures, torch.tensor([[0.0], [1.0], [0.0], [1.0]])


def updater(network: nn.Module, config: TrainConfig, warn: list[str] | None = None) -> Updater:
    told = [] if warn is None else warn
    made = Updater(
        copy.deepcopy(network),
        config,
        Header(name="x", input_size=75),
        torch.device("cpu"),
        10,
        Processes(),
        told.append,
    )
    return made


def still_batch_norm(network: nn.Module) -> None:
    """Batch norm depends on what is in a micro-batch; without it, gradients must add up exactly."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
            module.eval()


def test_every_parameter_is_in_one_block(initial: nn.Module) -> None:
    found = [id(p) for block in block_parameters(initial).values() for p in block]
    assert sorted(found) == sorted(id(p) for p in initial.parameters())


@pytest.mark.slow
def test_micro_batches_add_up_to_the_batch(initial: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
    gradients = []
    for size in (4, 2):
        made = updater(initial, replace(PLAIN, micro_batch=size))
        still_batch_norm(made.network)
        loss, _ = made._gradients(0, *batch)
        gradients.append((loss, torch.cat([p.grad.flatten() for p in made.network.parameters() if p.grad is not None])))
    assert gradients[0][0] == pytest.approx(gradients[1][0], rel=1e-5)
    assert torch.allclose(gradients[0][1], gradients[1][1], rtol=1e-3, atol=1e-5)


def test_weights_decay_and_scales_do_not(initial: nn.Module) -> None:
    optimizer = build_optimizer(initial, PLAIN)
    decays = {p.ndim > 1: group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert decays == {True: PLAIN.weight_decay, False: 0.0}


@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant"])
def test_schedules_rise_then_do_as_they_say(schedule: str) -> None:
    rates = [rate_factor(step, 200, schedule, 0.1) for step in range(200)]
    assert rates[:20] == pytest.approx([(step + 1) / 20 for step in range(20)])
    assert all(later <= earlier for earlier, later in pairwise(rates[20:]))
    assert rates[-1] == pytest.approx(1.0 if schedule == "constant" else 0.01, abs=0.01)
    assert rate_factor(0, 200, schedule, 0.0) == 1.0


def test_the_loss_asks_for_less_than_certainty() -> None:
    labels, logits = torch.tensor([[0.0], [1.0]]), torch.tensor([[-20.0], [20.0]])
    assert float(pair_loss(logits, labels, 0.0, (0.0, 1.0))) < 1e-6
    asked = torch.tensor([[math.log(0.05 / 0.95)], [math.log(0.95 / 0.05)]], requires_grad=True)
    pair_loss(asked, labels, 0.0).backward()
    assert asked.grad is not None
    assert asked.grad.abs().max() < 1e-6


def test_half_precision_is_refused_on_the_cpu(initial: nn.Module) -> None:
    with pytest.raises(UsageError, match="needs CUDA"):
        updater(initial, replace(PLAIN, precision="fp16"))


def test_compiling_is_left_out_on_the_cpu_with_a_word(initial: nn.Module) -> None:
    told: list[str] = []
    made = updater(initial, replace(PLAIN, compile=True), told)
    assert made._shared is made.network
    assert "compiling" in told[0]


def test_gradient_norms_are_those_of_the_blocks(initial: nn.Module) -> None:
    network = copy.deepcopy(initial)
    for parameter in network.parameters():
        parameter.grad = torch.ones_like(parameter)
    norms = gradient_norms(block_parameters(network))
    assert float(norms.norm()) == pytest.approx(math.sqrt(sum(p.numel() for p in network.parameters())), rel=1e-4)


LITTLE_MEMORY = """
import resource, sys
import torch
torch.set_num_threads(1)
from tests.training.test_update import PLAIN, Header, Processes, Updater, build_network, replace
torch.manual_seed(0)
config = replace(PLAIN, batch=32, input_size=75)
told = []
header, cpu = Header(name="x", input_size=75), torch.device("cpu")
made = Updater(build_network(dropout=0.0), config, header, cpu, 10, Processes(), told.append)
# Native code may crash where a small allocation fails: pictures this large fail at once, with room left for the rest.
pictures = torch.randint(0, 256, (32, 1536, 1536, 3), dtype=torch.uint8)
labels = torch.tensor([0.0, 1.0]).repeat(16)[:, None]
# A warm-up brings what the libraries allocate once.
made.micro_batch = 2
made.update(0, pictures[:2], labels[:2])
made.micro_batch = 32
with open("/proc/self/statm") as statm:
    now = int(statm.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (now + (700 << 20), resource.RLIM_INFINITY))
update = made.update(1, pictures, labels)
print(made.micro_batch, update.loss, *told)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="needs RLIMIT_AS")
def test_too_little_memory_halves_the_micro_batch() -> None:
    ended = subprocess.run([sys.executable, "-c", LITTLE_MEMORY], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    size, loss, *words = ended.stdout.split()
    assert 2 <= int(size) < 32
    assert math.isfinite(float(loss))
    assert "32 crops at once need more memory than there is: from now on 16 at once" in " ".join(words)


def test_the_origins_recipe_is_plain_transfer_learning() -> None:
    origin = train_recipe("origin")
    assert (origin.start, origin.epochs, origin.batch, origin.augment) == ("vggface2", 80, 16, "none")
    assert not any((origin.ranking, origin.ema, origin.self_blend))
    assert origin.sampling == "plain"
    with pytest.raises(UsageError, match="no recipe"):
        train_recipe("best")


@pytest.mark.parametrize(
    "wrong",
    [
        {"sampling": "plain"}, {"resume": True, "force": True}, {"micro_batch": 3}, {"track": ("mlflow",)},
        {"optimizer": "lion"}, {"save_minutes": math.nan}, {"schedule": "step"}, {"sizes": (160, 96)}, {"sizes": (8,)},
        {"sizes": (96, 128), "input_size": 160}, {"feature_epochs": 1.5}, {"mix": {"a": 0.7, "b": 0.5}},
    ],
)  # fmt: skip
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        TrainConfig(**wrong)  # type: ignore[arg-type]


@pytest.mark.gpu
@pytest.mark.parametrize("compile", [False, True])
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_card_learns_in_every_precision(
    initial: nn.Module, batch: tuple[Tensor, Tensor], precision: str, compile: bool
) -> None:
    config = replace(PLAIN, precision=precision, compile=compile, learning_rate=1e-3)
    network = copy.deepcopy(initial).to("cuda", memory_format=torch.channels_last)
    made = Updater(network, config, Header(name="x", input_size=75), torch.device("cuda"), 100, Processes(), print)
    losses = [made.update(step, *batch).loss for step in range(20)]
    assert losses[-1] < losses[0]
