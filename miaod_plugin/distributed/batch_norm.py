"""BatchNorm that trains on the whole batch, of which each process sees a part.

torch's own `SyncBatchNorm` computes on GPUs alone.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from .group import Group


def trained_norms(network: nn.Module) -> list[_BatchNorm]:
    """Return the norms whose statistics are those of batches in a network that is in training mode."""
    return [module for module in network.modules() if isinstance(module, _BatchNorm) and module.training]


@contextmanager
def synchronised(network: nn.Module, group: Group) -> Iterator[None]:
    """Let all BatchNorm of a network normalise by the images of all processes where it would by its own."""
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm)] if group.size > 1 else []
    for norm in norms:
        norm.forward = partial(_forward, norm, group)  # in the object: its class is as before once it is gone
    try:
        yield
    finally:
        for norm in norms:
            del norm.forward


def _forward(norm: _BatchNorm, group: Group, x: Tensor) -> Tensor:
    if not norm.training:
        return type(norm).forward(norm, x)
    over, shape = [0, *range(2, x.ndim)], (1, -1, *[1] * (x.ndim - 2))
    images = x.float()
    count = group.sum(torch.tensor(x.numel() // x.shape[1], dtype=torch.float64, device=x.device))
    mean = _Summed.apply(images.sum(over), group) / count
    centred = images - mean.view(shape)
    variance = _Summed.apply(centred.square().sum(over), group) / count
    scale = (variance + norm.eps).rsqrt() * (1 if norm.weight is None else norm.weight)
    shift = 0 if norm.bias is None else norm.bias.view(shape)
    with torch.no_grad():
        norm.num_batches_tracked += 1
        rate = 1 / norm.num_batches_tracked if norm.momentum is None else norm.momentum
        norm.running_mean.lerp_(mean, rate)
        norm.running_var.lerp_(variance * (count / (count - 1).clamp(min=1)), rate)
    return (centred * scale.view(shape) + shift).to(x.dtype)


class _Summed(torch.autograd.Function):
    """The sum over all processes; its gradient is the sum of what each has of it."""

    @staticmethod
    def forward(ctx, numbers: Tensor, group: Group) -> Tensor:
        ctx.group = group
        return group.sum(numbers.clone())

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        return ctx.group.sum(gradient.clone()), None
