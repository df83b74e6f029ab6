"""Batch norm over all ranks equals one process's over all images, waits for no device and compiles to one graph."""

import copy
import functools
import json
from collections.abc import Callable
from typing import Any

import host_traffic
import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from coupled_embedding.builders import build_model, start_train_run
from coupled_embedding.config import load_config
from coupled_embedding.engine.train import train
from coupled_embedding.networks.folding import fold_batch_norm
from coupled_embedding.networks.sync_batch_norm import SyncBatchNorm2d, plain_batch_norm, synchronize_batch_norm
from coupled_embedding.utils.distributed import process_group

pytestmark = pytest.mark.distributed
Together = Callable[..., list[Any]]
CHANNELS, SIDES = 5, (6, 4)


def filled_norm(dtype: torch.dtype = torch.float64) -> nn.BatchNorm2d:
    """A batch norm whose parameters and running statistics are all different."""
    norm = nn.BatchNorm2d(CHANNELS).to(dtype)
    random = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
            tensor.uniform_(0.5, 1.5, generator=random)
    return norm


def images_and_slopes(count: int) -> tuple[Tensor, Tensor]:
    """Images far from mean 0, and the gradients that arrive at what they become."""
    random = torch.Generator().manual_seed(2)
    shape = (count, CHANNELS, *SIDES)
    images = 3 * torch.randn(shape, generator=random, dtype=torch.float64) + 10
    return images, torch.randn(shape, generator=random, dtype=torch.float64)


def passes(norm: nn.Module, images: Tensor, slopes: Tensor) -> dict[str, Tensor]:
    """Two forward passes, and the gradients of both."""
    images.requires_grad_()
    outputs = [norm(images), norm(2 * images)]
    (sum(outputs) * slopes).sum().backward()
    return {"output": outputs[0].detach(), "gradient": images.grad}


def normalized(counts: list[int], native: bool) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """What this rank has by image, and what all ranks share; `counts` are the ranks' images."""
    if native:
        like_cudas_kernels()
    with process_group("cpu") as env:
        module = nn.Sequential(filled_norm())
        synchronize_batch_norm(module, dist.new_group().group_name, env.world_size, native)
        first = sum(counts[: env.rank])
        images, slopes = (whole[first : first + counts[env.rank]].clone() for whole in images_and_slopes(sum(counts)))
        by_image = passes(module.train(), images, slopes)
        for parameter in module.parameters():
            dist.all_reduce(parameter.grad)
        gradients = {f"{name}.grad": parameter.grad for name, parameter in module.named_parameters()}
        return by_image, {**module.state_dict(), **gradients}


@pytest.mark.parametrize("native", [False, True])
@pytest.mark.parametrize("counts", [[3, 3], [1, 6], [4, 1, 2]], ids=str)
def test_ranks_with_any_numbers_of_images_equal_one_process(
    together: Together, counts: list[int], native: bool
) -> None:
    module = nn.Sequential(filled_norm())
    expected = passes(module.train(), *images_and_slopes(sum(counts)))
    ranks = together(len(counts), normalized, counts, native)
    for name, value in expected.items():
        found = torch.cat([by_image[name] for by_image, _ in ranks])
        assert (found - value).abs().max() <= 2e-14 * value.abs().max(), name
    for _, shared in ranks:
        assert shared.keys() == module.state_dict().keys() | {"0.weight.grad", "0.bias.grad"}
        for name, value in module.state_dict().items():
            assert (shared[name] - value).abs().max() <= 2e-14 * value.abs().max(), name
        for name, parameter in module.named_parameters():
            assert (shared[f"{name}.grad"] - parameter.grad).abs().max() <= 1e-13 * parameter.grad.abs().max(), name


def like_cudas_kernels() -> None:
    """Replace CUDA's kernels for synchronized batch norm by their formulas."""

    def over_pixels(x: Tensor) -> Tensor:
        return x.sum((0, 2, 3))

    def by_channel(x: Tensor) -> Tensor:
        return x.view(1, -1, 1, 1)

    def stats(x, eps):
        var, mean = torch.var_mean(x, (0, 2, 3), correction=0)
        return mean, (var + eps).rsqrt()

    def gather_stats_with_counts(x, means, inverses, running_mean, running_var, momentum, eps, counts):
        share = (counts / counts.sum())[:, None]
        mean = (share * means).sum(0)
        var = (share * (inverses**-2 - eps + means**2)).sum(0) - mean**2
        running_mean.copy_((1 - momentum) * running_mean + momentum * mean)
        running_var.copy_((1 - momentum) * running_var + momentum * var * counts.sum() / (counts.sum() - 1))
        return mean, (var + eps).rsqrt()

    def elemt(x, weight, bias, mean, inverse, eps):
        return (x - by_channel(mean)) * by_channel(inverse * weight) + by_channel(bias)

    def backward_reduce(grad, x, mean, inverse, weight, *wanted):
        products = over_pixels(grad * (x - by_channel(mean)))
        return over_pixels(grad), products, products * inverse, over_pixels(grad)

    def backward_elemt(grad, x, mean, inverse, weight, sum_grad, sum_product, counts):
        assert counts.dtype == torch.int32
        centered = (x - by_channel(mean)) * by_channel(inverse**2 * sum_product / counts.sum())
        return (grad - by_channel(sum_grad / counts.sum()) - centered) * by_channel(inverse * weight)

    torch.batch_norm_stats, torch.batch_norm_elemt = stats, elemt
    torch.batch_norm_gather_stats_with_counts = gather_stats_with_counts
    torch.batch_norm_backward_reduce, torch.batch_norm_backward_elemt = backward_reduce, backward_elemt


def half_precision() -> dict[str, Tensor]:
    """A rank's half of the images in bfloat16, with the moments of all in float32."""
    with process_group("cpu") as env:
        module = nn.Sequential(filled_norm(torch.float32))
        synchronize_batch_norm(module, dist.new_group().group_name, env.world_size)
        images, slopes = (whole.bfloat16().chunk(2)[env.rank] for whole in images_and_slopes(6))
        return {**passes(module.train(), images, slopes), **module.state_dict()}


def test_statistics_of_half_precision_are_those_of_its_values_in_full(together: Together) -> None:
    images, slopes = (whole.bfloat16() for whole in images_and_slopes(6))
    module = nn.Sequential(filled_norm(torch.float32))
    expected = passes(module.train(), images.float(), slopes.float())
    first, second = together(2, half_precision)
    for name, value in expected.items():
        found = torch.cat([first[name], second[name]])
        assert found.dtype == torch.bfloat16
        # outputs and gradients are rounded to 8 bits, once or twice
        assert (found - value).abs().max() <= 2**-7 * value.abs().max(), name
    for name in ("0.running_mean", "0.running_var"):
        assert torch.equal(first[name], second[name])
        assert torch.allclose(first[name], module.state_dict()[name], rtol=2e-6), name


def waits_on_a_gpu(file: str) -> dict[str, int]:
    """What a network's forward pass in training waits for on a GPU."""
    with process_group("cpu") as env:
        cfg, group = load_config(file), dist.new_group().group_name
        with host_traffic.fake_cuda() as device, device:
            network = build_model(cfg, 14).train()
            synchronize_batch_norm(network, group, env.world_size)
            images = torch.zeros(2, 3, 64, 64)
            with host_traffic.HostTraffic() as traffic:
                network(images)
        return dict(traffic.seen)


def test_a_network_never_waits(together: Together, tiny_file) -> None:
    assert together(2, waits_on_a_gpu, str(tiny_file)) == [{}] * 2


def compiled_training(file: str, compiled: bool) -> tuple[list[float], int, int]:
    """The losses of a rank's training, the number of its graphs and of breaks in them."""
    cfg = load_config(file, ["TRAIN.COMPILE", str(compiled), "NAME", f"compiled_{compiled}"])
    # how a graph is made faster does not matter here
    torch.compile = functools.partial(torch.compile, backend="aot_eager")
    with process_group("cpu") as env:
        run = start_train_run(cfg, env)
        train(run)
        stats, breaks = torch._dynamo.utils.counters["stats"], torch._dynamo.utils.counters["graph_break"]
        lines = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
        return [line["loss/total"] for line in lines], stats["unique_graphs"], sum(breaks.values())


@pytest.mark.slow
def test_ranks_train_with_one_compiled_graph(together: Together, tiny, as_file) -> None:
    options = ("TRAIN.LOG_EVERY", "1", "TRAIN.IMAGES_PER_GPU", "2", "TRAIN.EPOCHS", "1", "DATASET.VAL", "''")
    # fewer layers than HRNet's
    small = ("MODEL.BACKBONE", "mobilenet_fpn", "MODEL.MOBILENET_FACTOR", "0.25", "MODEL.MOBILENET_NORM", "batch")
    file = as_file(tiny("ranks", *options, *small, "MODEL.HEAD", "plain", "TRAIN.VISUALIZE_EVERY", "0"))
    eager = together(2, compiled_training, file, False)
    for (losses, graphs, breaks), (expected, *_) in zip(together(2, compiled_training, file, True), eager, strict=True):
        assert (graphs, breaks) == (1, 0)
        assert len(losses) == 3
        assert losses == pytest.approx(expected, rel=1e-5)


def test_a_network_is_converted_there_and_back(tiny_file) -> None:
    network = build_model(load_config(tiny_file), 14)
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(3))
    tensors = {name: tensor.data_ptr() for name, tensor in network.state_dict().items()}
    parameters = list(network.parameters())
    expected = network.eval()(images)
    folded = fold_batch_norm(network)

    synchronize_batch_norm(network, "no such group", 2)
    assert {type(m) for m in network.modules() if isinstance(m, nn.BatchNorm2d)} == {SyncBatchNorm2d}
    average = copy.deepcopy(network)  # as that of `MovingAverage`; evaluation needs no group
    for same in (network(images), average(images)):
        assert torch.equal(same.tags, expected.tags)
    assert torch.equal(fold_batch_norm(network)(images).tags, folded(images).tags)

    plain_batch_norm(network)
    assert {type(m) for m in network.modules() if isinstance(m, nn.BatchNorm2d)} == {nn.BatchNorm2d}
    assert all(mine is theirs for mine, theirs in zip(network.parameters(), parameters, strict=True))
    assert {name: tensor.data_ptr() for name, tensor in network.state_dict().items()} == tensors
