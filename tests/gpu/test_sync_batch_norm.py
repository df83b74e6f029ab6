"""Synchronized batch norm on a GPU, by its own kernels and as it is compiled, against PyTorch's of one process."""

from collections.abc import Iterator

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from coupled_embedding.networks.sync_batch_norm import synchronize_batch_norm

pytestmark = pytest.mark.gpu


@pytest.fixture
def group() -> Iterator[str]:
    """The name of a group with this process alone."""
    dist.init_process_group("nccl", store=dist.HashStore(), rank=0, world_size=1)
    created = dist.new_group()
    assert isinstance(created, dist.ProcessGroup)
    yield created.group_name
    dist.destroy_process_group()


def passed(module: nn.Module, images: Tensor, slopes: Tensor) -> dict[str, Tensor]:
    """Output, gradients and batch statistics."""
    images = images.detach().requires_grad_()
    output = module(images)
    (output.float() * slopes).sum().backward()
    gradients = {name: parameter.grad for name, parameter in module.named_parameters()}
    return {"output": output.float(), "images": images.grad.float(), **gradients, **dict(module.named_buffers())}


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.bfloat16, 3e-2), (torch.float16, 4e-3)], ids=str
)
def test_outputs_gradients_and_statistics_are_those_of_batch_norm(group, native, layout, dtype, tolerance) -> None:
    random = torch.Generator().manual_seed(0)
    images = (3 * torch.randn(4, 32, 24, 16, generator=random) + 2).to("cuda", dtype).to(memory_format=layout)
    slopes = torch.randn(4, 32, 24, 16, generator=random).cuda()
    plain, module = (nn.Sequential(nn.BatchNorm2d(32)).cuda().train() for _ in range(2))
    synchronize_batch_norm(module, group, 1, native)
    expected, found = passed(plain, images, slopes), passed(module, images, slopes)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert (found[name] - value).abs().max() <= tolerance * value.abs().max(), name
