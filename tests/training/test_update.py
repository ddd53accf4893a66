"""One update: what micro-batches, precision, frozen blocks, SAM and too little memory do to it, and what they don't."""

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

from torchfakes_cli.config import NETWORK_BLOCKS, TrainConfig, train_recipe
from torchfakes_cli.detector import Header
from torchfakes_cli.detector.inception_resnet import InceptionResnetV1
from torchfakes_cli.detector.network import build_network
from torchfakes_cli.errors import UsageError
from torchfakes_cli.training.fitting import fast_convolution
from torchfakes_cli.training.fitting.average import RunningAverage
from torchfakes_cli.training.fitting.blocks import BLOCKS, block_parameters, gradient_norms, set_training
from torchfakes_cli.training.fitting.fast_convolution import FastConvolution, quicken_convolutions
from torchfakes_cli.training.fitting.losses import couple_loss
from torchfakes_cli.training.fitting.merged_heads import MergedBranches, MergedResidualBlock, merge_heads
from torchfakes_cli.training.fitting.optimise import build_optimizer, rate_factor, set_rate
from torchfakes_cli.training.fitting.processes import Processes
from torchfakes_cli.training.fitting.sam import at_the_worst_nearby
from torchfakes_cli.training.fitting.update import Updater

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
    made.begin_epoch(1)
    return made


def still_batch_norm(network: nn.Module) -> None:
    """Batch norm depends on what is in a micro-batch; without it, gradients must add up exactly."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
            module.eval()


def test_every_parameter_is_in_one_block(initial: nn.Module) -> None:
    found = [id(p) for block in block_parameters(initial).values() for p in block]
    assert sorted(found) == sorted(id(p) for p in initial.parameters())
    assert len(BLOCKS) == NETWORK_BLOCKS


def test_micro_batches_add_up_to_the_batch(initial: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
    gradients = []
    for size in (4, 2):
        made = updater(initial, replace(PLAIN, micro_batch=size, label_smoothing=0.1))
        still_batch_norm(made.network)
        loss, _ = made._gradients(0, *batch)
        gradients.append((loss, torch.cat([p.grad.flatten() for p in made.network.parameters() if p.grad is not None])))
    assert gradients[0][0] == pytest.approx(gradients[1][0], rel=1e-5)
    assert torch.allclose(gradients[0][1], gradients[1][1], rtol=1e-3, atol=1e-5)


def test_frozen_blocks_keep_weights_and_figures_until_they_thaw(
    initial: nn.Module, batch: tuple[Tensor, Tensor]
) -> None:
    made = updater(initial, replace(PLAIN, freeze=4, freeze_epochs=1))
    before = {name: tensor.clone() for name, tensor in made.network.state_dict().items()}
    update = made.update(0, *batch)
    frozen = tuple(child for children in list(BLOCKS.values())[:4] for child in children)
    for name, tensor in made.network.state_dict().items():
        if name.startswith(frozen):
            assert torch.equal(tensor, before[name]), name
    assert not torch.equal(made.network.state_dict()["logits.weight"], before["logits.weight"])
    assert (update.block_norms[:4] == 0).all()
    assert (update.block_norms[4:] > 0).all()
    made.begin_epoch(2)
    assert (made.update(1, *batch).block_norms > 0).all()


def test_the_first_blocks_learn_more_slowly(initial: nn.Module) -> None:
    optimizer = build_optimizer(initial, replace(PLAIN, learning_rate=0.1, layer_decay=0.5))
    set_rate(optimizer, 0.5)
    rate_of = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    blocks = block_parameters(initial)
    rates = [rate_of[id(parameters[0])] for parameters in blocks.values()]
    assert rates[-1] == pytest.approx(0.05)
    assert rates[0] == pytest.approx(0.05 * 0.5 ** (len(blocks) - 1))
    assert rates == sorted(rates)
    decays = {p.ndim > 1: group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert decays == {True: PLAIN.weight_decay, False: 0.0}


@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant"])
def test_schedules_rise_then_do_as_they_say(schedule: str) -> None:
    rates = [rate_factor(step, 200, schedule, 0.1) for step in range(200)]
    assert rates[:20] == pytest.approx([(step + 1) / 20 for step in range(20)])
    assert all(later <= earlier for earlier, later in pairwise(rates[20:]))
    assert rates[-1] == pytest.approx(1.0 if schedule == "constant" else 0.01, abs=0.01)
    assert rate_factor(0, 200, schedule, 0.0) == 1.0


def test_label_smoothing_asks_for_less() -> None:
    labels, logits = torch.tensor([[0.0], [1.0]]), torch.tensor([[-20.0], [20.0]])
    assert float(couple_loss(logits, labels, 0.0)) < 1e-6
    asked = torch.tensor([[math.log(0.05 / 0.95)], [math.log(0.95 / 0.05)]], requires_grad=True)
    couple_loss(asked, labels, 0.0, smoothing=0.1).backward()
    assert asked.grad is not None
    assert asked.grad.abs().max() < 1e-6


def test_sam_looks_where_the_loss_is_worse_and_comes_back(initial: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
    made = updater(initial, PLAIN)
    here, _ = made._gradients(0, *batch)
    before = {name: tensor.clone() for name, tensor in made.network.state_dict().items()}
    with at_the_worst_nearby(made.network, 0.05):
        moved = [p.detach() - before[name] for name, p in made.network.named_parameters()]
        there, _ = made._backward(0, *batch)
    assert float(torch.stack([m.norm() for m in moved]).norm()) == pytest.approx(0.05, rel=1e-3)
    assert there > here
    for name, tensor in made.network.state_dict().items():
        assert name.endswith("num_batches_tracked") or torch.equal(tensor, before[name]), name


def test_an_average_follows_the_weights_more_slowly(initial: nn.Module) -> None:
    network = copy.deepcopy(initial)
    average = RunningAverage(network, 0.9)
    start = network.get_parameter("logits.bias").item()
    with torch.no_grad():
        network.get_parameter("logits.bias").fill_(start + 1)
    average.follow(1000)
    assert average.network.get_parameter("logits.bias").item() == pytest.approx(start + 0.1, abs=1e-5)
    assert RunningAverage(network, 0.0).network is network


@pytest.mark.parametrize("copied", [0, 1 << 22])
def test_quick_convolutions_give_the_gradients_of_plain_ones(copied: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast_convolution, "MOST_COPIED", copied)
    torch.manual_seed(0)
    for shape in (
        {"kernel_size": 3, "stride": 2},
        {"kernel_size": (1, 7), "padding": (0, 3)},
        {"kernel_size": 3, "padding": 1},
    ):
        plain = nn.Sequential(nn.Conv2d(5, 8, bias=False, **shape)).double()  # type: ignore[arg-type]
        quick = copy.deepcopy(plain)
        quicken_convolutions(quick)
        assert isinstance(quick[0], FastConvolution)
        pictures = torch.randn(2, 5, 13, 17).double()
        found = []
        for network in (plain.float(), quick.float()):
            inputs = pictures.float().requires_grad_(True)
            with torch.autocast("cpu", torch.bfloat16):
                outputs = network(inputs)
            (outputs.float() ** 2).sum().backward()
            assert inputs.grad is not None
            found.append((outputs.detach().float(), inputs.grad, network[0].weight.grad))
        for one, other in zip(*found, strict=True):
            assert torch.nn.functional.cosine_similarity(one.flatten(), other.flatten(), dim=0) > 0.9999


def test_branches_that_begin_together_learn_as_they_would_by_themselves() -> None:
    torch.manual_seed(0)
    network = InceptionResnetV1()
    apart = nn.Sequential(network.repeat_2[0], network.mixed_7a).train()
    together = copy.deepcopy(apart)
    merge_heads(together)
    assert [type(module) for module in together] == [MergedResidualBlock, MergedBranches]
    # That the input's gradient is right, the first block's weights tell, which learn through the second's.
    features, found = torch.randn(2, 896, 8, 8), []
    for blocks in (apart, together):
        with torch.autocast("cpu", torch.bfloat16):
            found.append(blocks(features).float())
        (found[-1] ** 2).sum().backward()
    assert torch.allclose(*found, atol=0.02)
    for (name, one), other in zip(apart.named_buffers(), together.buffers(), strict=True):
        assert torch.allclose(one, other, rtol=0.02, atol=0.02), name
    for (name, weights), same in zip(apart.named_parameters(), together.parameters(), strict=True):
        assert weights.grad is not None
        assert same.grad is not None, name
        assert torch.nn.functional.cosine_similarity(weights.grad.flatten(), same.grad.flatten(), dim=0) > 0.99, name


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
    set_training(network, 0)
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
config = replace(PLAIN, batch=32, input_size=96)
told = []
header, cpu = Header(name="x", input_size=96), torch.device("cpu")
made = Updater(build_network(dropout=0.0), config, header, cpu, 10, Processes(), told.append)
made.begin_epoch(1)
pictures = torch.randint(0, 256, (32, 96, 96, 3), dtype=torch.uint8)
labels = torch.tensor([0.0, 1.0]).repeat(16)[:, None]
# A warm-up brings what the libraries allocate once.
made.micro_batch = 2
made.update(0, pictures[:2], labels[:2])
made.micro_batch = 32
with open("/proc/self/statm") as statm:
    now = int(statm.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (now + (200 << 20), resource.RLIM_INFINITY))
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
    assert not any(
        (origin.ranking, origin.mask_loss, origin.ema, origin.self_blend, origin.sam_rho, origin.label_smoothing)
    )
    assert origin.sampling == "plain"
    with pytest.raises(UsageError, match="no recipe"):
        train_recipe("best")


@pytest.mark.parametrize(
    "wrong",
    [
        {"sampling": "plain"}, {"sampling": "plain", "ranking": 0.0, "self_blend": 0.0, "mask_loss": 1.0},
        {"precision": "fp16", "sam_rho": 0.1}, {"resume": True, "force": True},
        {"micro_batch": 3}, {"freeze": 9}, {"track": ("mlflow",)}, {"layer_decay": 0.0}, {"optimizer": "lion"},
        {"label_smoothing": 1.0}, {"save_minutes": math.nan}, {"freeze_epochs": 0}, {"schedule": "step"},
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
    made.begin_epoch(1)
    losses = [made.update(step, *batch).loss for step in range(20)]
    assert losses[-1] < losses[0]
