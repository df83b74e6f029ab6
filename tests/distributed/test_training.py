"""Several ranks train as one with all their images does, in float64, step by step.

Batch statistics without synchronization are each process's own. So they are synchronized in one
test, frozen in another, and in the last each process's are computed a second time by plain formulas.
"""

import copy
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from yacs.config import CfgNode

from coupled_embedding.builders import (
    assemble_train_run,
    build_criterion,
    build_model,
    build_records,
    build_schedule,
    build_schema,
    build_train_dataset,
)
from coupled_embedding.config import load_config
from coupled_embedding.data.dataset import SampleKey, TrainBatch, TrainDataset, collate
from coupled_embedding.data.images import normalize
from coupled_embedding.engine.train import train
from coupled_embedding.networks.pose_network import PoseNetwork
from coupled_embedding.utils.distributed import process_group
from synthetic_crowd import CrowdSettings, write_dataset

pytestmark = pytest.mark.distributed

IMAGES, EPOCHS = 15, 3
TERMS = ("total", "heatmap", "pull", "push", "coupling")
# the paper's losses weigh tags so little that a wrong share of theirs would hide in the total
OPTIONS = ["DATASET.VAL", "''", "TRAIN.EPOCHS", str(EPOCHS), "TRAIN.LOG_EVERY", "1", "TRAIN.VISUALIZE_EVERY", "0"]
OPTIONS += ["LOSS.PULL_WEIGHT", "0.3", "LOSS.PUSH_WEIGHT", "0.3", "LOSS.COUPLING_WEIGHT", "0.3"]


@dataclass
class Course:
    """What a training went through: by step, and by name of the weight."""

    losses: list[list[float]] = field(default_factory=list)  # of the main process only
    gradients: list[dict[str, Tensor]] = field(default_factory=list)
    images: int = 0  # seen by this process
    weights: dict[str, Tensor] = field(default_factory=dict)  # at the end, batch statistics included
    average: dict[str, Tensor] = field(default_factory=dict)


class FrozenNorm(nn.BatchNorm2d):
    """Batch norm that keeps to its running statistics while training."""

    def train(self, mode: bool = True) -> "FrozenNorm":
        return super().train(False)


def prepared(file: str, frozen: bool) -> tuple[CfgNode, PoseNetwork, TrainDataset]:
    """Return a config, its fresh network in float64 and its data set."""
    cfg = load_config(file)
    schema = build_schema(cfg)
    torch.manual_seed(cfg.SEED)
    network = build_model(cfg, schema.num_joints).double()
    random = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.2, 0.2, generator=random)
            module.running_var.uniform_(0.5, 1.5, generator=random)
            module.__class__ = FrozenNorm if frozen else nn.BatchNorm2d
            module.train()
    for layer in network.head.output_layers():  # tags and heatmaps that differ from 0 from the first step
        layer.weight.data.normal_(0, 0.3, generator=random)
    network.register_forward_pre_hook(lambda _, images: (images[0].double(),))
    dataset = build_train_dataset(cfg, build_records(cfg, schema, "train"), schema, network.strides)
    return cfg, network, dataset


def trained(file: str, frozen: bool, device: str = "cpu") -> Course:
    """Train to the end in this process of all and return the course."""
    with process_group(device) as env:
        cfg, network, dataset = prepared(file, frozen)
        course = Course()
        run = assemble_train_run(cfg, env, build_schema(cfg), network, dataset)
        run.folder.mkdir(parents=True, exist_ok=True)
        run.state.optimizer.register_step_pre_hook(lambda *_: course.gradients.append(gradients_of(run.state.model)))
        network.register_forward_pre_hook(lambda _, images: setattr(course, "images", course.images + len(images[0])))
        train(run)
        course.weights = state_of(run.state.model)
        course.average = state_of(run.state.ema.model) if run.state.ema else {}
        if env.is_rank0:
            lines = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
            course.losses = [[line[f"loss/{term}"] for term in TERMS] for line in lines]
        return course


def gradients_of(network: nn.Module) -> dict[str, Tensor]:
    return {name: weight.grad.cpu().clone() for name, weight in network.named_parameters() if weight.grad is not None}


def state_of(network: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().clone() for name, tensor in network.state_dict().items()}


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("crowd_of_15")
    write_dataset(root, "train", CrowdSettings(96, 96, 1, 10), 7, IMAGES)
    return root


@pytest.fixture
def configured(tiny, as_file, crowd: Path, tmp_path: Path) -> Callable[..., str]:
    """configured(processes, images, passes, ...): the file of a config, and a folder for its run."""

    def write(processes: int, images: int, passes: int, *options: str) -> str:
        name = f"{processes}_{images}_{passes}"
        sizes = ["TRAIN.IMAGES_PER_GPU", str(images), "TRAIN.ACCUMULATE", str(passes)]
        return as_file(tiny(name, *OPTIONS, "DATASET.ROOT", str(crowd), *sizes, *options))

    return write


def assert_close(found: dict[str, Tensor], expected: dict[str, Tensor], what: str, tolerance: float = 1e-9) -> None:
    """Compare tensors by name; each may be wrong by a share of its own largest value."""
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert (found[name] - value).abs().max() <= tolerance * value.abs().max(), f"{name}, {what}"


def assert_trains_alike(many: list[Course], one: Course) -> None:
    """Compare every process of several with a process on its own."""
    assert np.array(many[0].losses) == pytest.approx(np.array(one.losses), rel=1e-9)
    assert sum(part.images for part in many) == one.images
    for part in many:
        for step, (mine, theirs) in enumerate(zip(part.gradients, one.gradients, strict=True)):
            assert_close(mine, theirs, f"gradient of step {step}")
        assert_close(part.weights, one.weights, "weights")
        assert_close(part.average, one.average, "average")


# (processes, images per process, passes) of equal steps: 8 images, then 7 that 4 processes share as 2, 2, 2 and 1,
# or 2 processes as 2 and 2, then 2 and 1; or all 15 at once
@pytest.mark.parametrize(
    ("dealt", "epochs", "options"),
    [
        ([(1, 8, 1), (2, 4, 1), (2, 2, 2), (4, 2, 1)], 3, ["TRAIN.EMA", "0.9", "TRAIN.CLIP_GRAD", "0.1"]),
        ([(1, 8, 2), (4, 2, 2)], 5, ["TRAIN.OPTIMIZER", "muon"]),
    ],
)
def test_many_processes_train_as_one_does(together, configured, dealt, epochs, options) -> None:
    options = ["TRAIN.EPOCHS", str(epochs), *options]
    (one,), *several = [together(sizes[0], trained, configured(*sizes, *options), True) for sizes in dealt]
    assert len(one.gradients) >= 5
    assert one.images == IMAGES * epochs
    assert all(gradient.abs().max() > 0 for gradient in one.gradients[0].values())
    for many in several:
        assert_trains_alike(many, one)


@pytest.mark.parametrize("sizes", [(4, 2, 1), (2, 2, 2)])
def test_training_statistics_follow_the_formulas(together, configured, sizes) -> None:
    file = configured(*sizes, "TRAIN.SYNC_BN", "False")
    many = together(sizes[0], trained, file, False)
    plain = plain_training(file, *sizes)
    assert len(plain.losses) == 6
    assert np.array(many[0].losses) == pytest.approx(np.array(plain.losses), rel=1e-9)
    for process, course in enumerate(many):
        for step, (mine, theirs) in enumerate(zip(course.gradients, plain.gradients, strict=True)):
            assert_close(mine, theirs, f"gradient of step {step}")
        assert_close(course.weights, plain.states[process], f"process {process}")
    # the processes saw other images last, so their running statistics differ
    name = "backbone.bn1.running_mean"
    assert (many[0].weights[name] - many[1].weights[name]).abs().max() > 1e-4


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu(ranks=4))])
@pytest.mark.parametrize("dealt", [[(1, 8, 1), (2, 4, 1), (4, 2, 1)], [(1, 4, 2), (2, 2, 2)]])
def test_synchronized_statistics_are_those_of_one_process(together, configured, dealt, device) -> None:
    files = [configured(*sizes, "TRAIN.EMA", "0.9", "TRAIN.RECOMPUTE", str(sizes[0] == 2)) for sizes in dealt]
    (one,), *several = [
        together(sizes[0], trained, file, False, device) for sizes, file in zip(dealt, files, strict=True)
    ]
    for many in several:
        assert_trains_alike(many, one)


@dataclass
class PlainResult:
    """What `plain_training` went through by step, and each process's weights and statistics at the end."""

    losses: list[list[float]] = field(default_factory=list)
    gradients: list[dict[str, Tensor]] = field(default_factory=list)
    states: list[dict[str, Tensor]] = field(default_factory=list)


def plain_training(file: str, processes: int, images: int, passes: int) -> PlainResult:
    """Train without process groups: each process's taken go through a network of its own, one after the other."""
    cfg, network, dataset = prepared(file, frozen=False)
    criterion, size, result = build_criterion(cfg), processes * images * passes, PlainResult()
    networks = [copy.deepcopy(network).train() for _ in range(processes)]
    starts = [(epoch, start) for epoch in range(EPOCHS) for start in range(0, IMAGES, size)]
    rates, adam = build_schedule(cfg, len(starts) // EPOCHS), PlainAdam()
    for step, (epoch, start) in enumerate(starts):
        taken = np.random.default_rng((cfg.SEED, epoch)).permutation(IMAGES)[start : start + size]
        sums, gradient = torch.zeros(len(TERMS), dtype=torch.float64), {}
        for together in np.array_split(taken, passes):
            for network, part in zip(networks, np.array_split(together, processes), strict=True):
                samples = collate([dataset.sample(SampleKey(epoch, int(image), 0)) for image in part])
                assert isinstance(samples, TrainBatch)
                losses = criterion(network(normalize(samples.images)), samples.targets(), step)
                names, weights = zip(*network.named_parameters(), strict=True)
                slopes = torch.autograd.grad(losses["total"] * len(part) / len(taken), weights)
                for name, slope in zip(names, slopes, strict=True):
                    gradient[name] = gradient.get(name, 0) + slope
                sums += torch.stack([losses[term].detach() for term in TERMS]) * len(part) / len(taken)
        for name, update in adam.updates(gradient).items():
            for network in networks:
                network.get_parameter(name).data -= rates(step) * update
        result.losses.append(sums.tolist())
        result.gradients.append(gradient)
    result.states = [state_of(network) for network in networks]
    return result


class PlainAdam:
    """Adam's formulas (Kingma and Ba 2015, algorithm 1)."""

    def __init__(self) -> None:
        self.step, self.first, self.second = 0, {}, {}

    def updates(self, gradient: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return what to subtract, in units of the learning rate."""
        self.step += 1
        updates = {}
        for name, slope in gradient.items():
            self.first[name] = 0.9 * self.first.get(name, 0) + 0.1 * slope
            self.second[name] = 0.999 * self.second.get(name, 0) + 0.001 * slope**2
            mean, square = self.first[name] / (1 - 0.9**self.step), self.second[name] / (1 - 0.999**self.step)
            updates[name] = mean / (square.sqrt() + 1e-8)
        return updates
