"""Batch norm with the statistics of all ranks' images, which never waits for the host and compiles to one graph.

`torch.nn.SyncBatchNorm` selects ranks with a boolean mask, for which the host waits three times per layer, and at which
``torch.compile`` breaks the graph. The mask is for ranks without an image, which the loader does not make.
"""

from typing import Any

import torch
from torch import Tensor, nn

# the collectives that torch.compile keeps in a graph; in eager mode they are all_gather and all_reduce
_collective = torch.ops._c10d_functional


class SyncBatchNorm2d(nn.BatchNorm2d):
    """`nn.BatchNorm2d` whose training statistics are those of all images of a process group.

    Ranks may have different numbers of images, at least one each.

    In evaluation it is plain batch norm, with the same state dict.
    """

    group_name: str  # of the process group
    group_size: int
    native: bool  # whether to use CUDA's kernels for this

    def forward(self, input: Tensor) -> Tensor:
        """Normalize (B, C, H, W) by the mean and variance of each channel over all ranks."""
        if not self.training:
            return super().forward(input)
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.momentum is not None
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
        common = (input, self.weight, self.bias, self.eps, self.group_name, self.group_size)
        if self.native and not torch.compiler.is_compiling():
            output: Tensor = _NormalizeNatively.apply(*common, self.running_mean, self.running_var, self.momentum)
            return output
        output, mean, var, count = _Normalize.apply(*common)
        with torch.no_grad():
            self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
            unbiased = var * (count / (count - 1).clamp_min(1))
            self.running_var.lerp_(unbiased.to(self.running_var.dtype), self.momentum)
        return output


class _Normalize(torch.autograd.Function):
    """Normalization by statistics of all ranks; also returns mean (C,), biased variance (C,) and count (1,)."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float, group: str, ranks: int
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        own_mean, own_var = _moments(x)
        own_count = own_mean.new_full((1,), x.numel() // x.shape[1])
        everyone = _collective.all_gather_into_tensor(torch.cat((own_mean, own_var, own_count)), ranks, group)
        everyone = _collective.wait_tensor(everyone).view(ranks, -1)  # (R, 2C + 1)
        means, variances, counts = everyone.split((len(own_mean), len(own_mean), 1), 1)
        count = counts.sum(0)
        share = counts / count
        mean = (share * means).sum(0)
        # from the ranks' own variances, not from squared sums: nothing cancels
        var = (share * (variances + (means - mean) ** 2)).sum(0)
        output = torch.ops.aten.native_batch_norm(x, weight, bias, mean, var, False, 0.0, eps)[0]
        ctx.save_for_backward(x, weight, mean, var, count)
        ctx.eps, ctx.group = eps, group
        ctx.mark_non_differentiable(mean, var, count)
        ctx.set_materialize_grads(False)
        return output, mean, var, count

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None, None]:
        x, weight, mean, var, count = ctx.saved_tensors
        inverse = (var + ctx.eps).rsqrt()
        # as if mean and variance were constants; with this rank's Σ grad · normalized x and Σ grad
        direct, grad_weight, grad_bias = torch.ops.aten.native_batch_norm_backward(
            grad, x, weight, mean, var, mean, inverse, False, ctx.eps, [True, True, True]
        )
        sums = _collective.all_reduce(torch.cat((grad_weight, grad_bias)), "sum", ctx.group)
        through_var, through_mean = (_collective.wait_tensor(sums) / count).chunk(2)
        # what flows through mean and variance is linear in x
        slope = -weight * inverse * inverse * through_var
        offset = -weight * inverse * through_mean - slope * mean
        through = torch.addcmul(_by_channel(offset), x, _by_channel(slope))
        return direct + through.to(direct.dtype), grad_weight, grad_bias, None, None, None


class _NormalizeNatively(torch.autograd.Function):
    """The same by CUDA's kernels, a fifth of the operations; they update the running statistics, too."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        eps: float,
        group: str,
        ranks: int,
        running_mean: Tensor,
        running_var: Tensor,
        momentum: float,
    ) -> Tensor:
        x = _dense(x)
        mean, inverse = torch.batch_norm_stats(x, eps)  # 1/√(variance + eps)
        count = mean.new_full((1,), x.numel() // x.shape[1])
        everyone = _collective.all_gather_into_tensor(torch.cat((mean, inverse, count)), ranks, group)
        everyone = _collective.wait_tensor(everyone).view(ranks, -1)  # (R, 2C + 1)
        means, inverses, counts = everyone.split((len(mean), len(mean), 1), 1)
        mean, inverse = torch.batch_norm_gather_stats_with_counts(
            x, means, inverses, running_mean, running_var, momentum, eps, counts.reshape(-1)
        )
        ctx.save_for_backward(x, weight, mean, inverse, counts.to(torch.int32))
        ctx.group = group
        return torch.batch_norm_elemt(x, weight, bias, mean, inverse, eps)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, inverse, counts = ctx.saved_tensors
        grad = _dense(grad)
        # Σ grad, Σ grad · (x − mean), and the gradients of weight and bias, of this rank
        sums = torch.batch_norm_backward_reduce(grad, x, mean, inverse, weight, True, True, True)
        both = _collective.wait_tensor(_collective.all_reduce(torch.cat(sums[:2]), "sum", ctx.group))
        sum_grad, sum_product = both.chunk(2)
        direct = torch.batch_norm_backward_elemt(grad, x, mean, inverse, weight, sum_grad, sum_product, counts)
        return direct, *sums[2:], *(None,) * 6


def _dense(x: Tensor) -> Tensor:
    return x if x.is_contiguous(memory_format=torch.channels_last) else x.contiguous()


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and biased variance of each channel of (B, C, H, W), in float32 or better."""
    over = (0, 2, 3)
    if x.dtype not in (torch.float16, torch.bfloat16):
        var, mean = torch.var_mean(x, over, correction=0)
        return mean, var
    # without a float32 copy of x; its own rounding is coarser than what cancels
    mean = x.mean(over, dtype=torch.float32)
    square = torch.linalg.vector_norm(x, dim=over, dtype=torch.float32) ** 2 / (x.numel() // x.shape[1])
    return mean, (square - mean**2).clamp_min(0)


def _by_channel(values: Tensor) -> Tensor:
    return values.view(1, -1, 1, 1)


def synchronize_batch_norm(module: nn.Module, group_name: str, group_size: int, native: bool = False) -> None:
    """Make each batch norm of a module use the statistics of a process group's images; parameters stay the same.

    Args:
        module: changed in place.
        group_name: of a process group with this rank; a group of its own lets its messages overlap with those of
            gradients.
        group_size: its number of ranks.
        native: whether the module is on a GPU, whose own kernels are faster outside of ``torch.compile``.
    """
    for name, child in module.named_children():
        if type(child) is nn.BatchNorm2d:
            norm = _with_tensors_of(child, SyncBatchNorm2d)
            norm.group_name, norm.group_size, norm.native = group_name, group_size, native
            setattr(module, name, norm)
        else:
            synchronize_batch_norm(child, group_name, group_size, native)


def plain_batch_norm(module: nn.Module) -> None:
    """Undo `synchronize_batch_norm`."""
    for name, child in module.named_children():
        if isinstance(child, SyncBatchNorm2d):
            setattr(module, name, _with_tensors_of(child, nn.BatchNorm2d))
        else:
            plain_batch_norm(child)


def _with_tensors_of(norm: nn.BatchNorm2d, kind: type[Any]) -> Any:
    """Return a batch norm of a kind with the very parameters and buffers of another."""
    other = kind(norm.num_features, norm.eps, norm.momentum, device="meta")
    other._parameters, other._buffers, other.training = norm._parameters, norm._buffers, norm.training
    return other
