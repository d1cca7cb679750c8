"""Frozen BatchNorm as part of the convolution before it: two passes over each feature map, and one back, are saved."""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d


class FoldedBatchNorm2d(FrozenBatchNorm2d):
    """Frozen BatchNorm that the convolution before it applies; see `fold_frozen_norms`.

    Weights and statistics are where they were, and so are their names in a state dict.
    """

    def __init__(self, num_features: int, eps: float):
        super().__init__(num_features, eps)
        self._made: _Made | None = None

    def forward(self, x: Tensor) -> Tensor:
        return x

    def scale_and_shift(self) -> tuple[Tensor, Tensor]:
        """Return what the norm multiplies each channel by and adds, ``(C,)`` each, made once until a buffer changes."""
        buffers = (self.weight, self.bias, self.running_mean, self.running_var)
        if self._made is None or not self._made.still_of(buffers):
            with torch.inference_mode(False), torch.no_grad():  # training may come to need what scoring made
                scale = self.weight * (self.running_var + self.eps).rsqrt()
                shift = self.bias - self.running_mean * scale
            self._made = _Made(scale, shift, buffers, _versions(buffers))
        return self._made.scale, self._made.shift


@dataclass
class _Made:
    """The scale and shift of a norm, the buffers that they were made of, and how often those had been written to."""

    scale: Tensor
    shift: Tensor
    buffers: tuple[Tensor, ...]
    versions: list[int | object]

    def still_of(self, buffers: tuple[Tensor, ...]) -> bool:
        same = all(old is new for old, new in zip(self.buffers, buffers, strict=True))
        return same and self.versions == _versions(buffers)


def _versions(buffers: tuple[Tensor, ...]) -> list[int | object]:
    """Return how often buffers were written to; where torch does not count, in inference mode, something new."""
    return [object() if buffer.is_inference() else buffer._version for buffer in buffers]


class NormedConv2d(nn.Conv2d):
    """A convolution that applies the frozen BatchNorm behind it by its own weights, at every step anew.

    ``(w * x) s + t = (w s) * x + t``, in floating point but for the last bits.

    Parameters
    ----------
    conv : Conv2d
        Its parameters are taken over.
    norm : FoldedBatchNorm2d
        It remains a part of the network where it is.
    """

    def __init__(self, conv: nn.Conv2d, norm: FoldedBatchNorm2d):
        shape = conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, conv.padding, conv.dilation
        with torch.device("meta"):  # draws no random weights
            super().__init__(*shape, conv.groups, conv.bias is not None, conv.padding_mode)
        self.weight, self.bias = conv.weight, conv.bias
        self._norm = (norm,)  # in a tuple, or it would be a part of the network twice

    def forward(self, x: Tensor) -> Tensor:
        scale, shift = self._norm[0].scale_and_shift()
        weight = self.weight * scale[:, None, None, None]
        bias = shift if self.bias is None else self.bias * scale + shift
        return self._conv_forward(x, weight, bias)


def fold_frozen_norms(body: nn.Module) -> None:
    """Let every convolution of a network of torchvision's that a `FrozenBatchNorm2d` follows apply it.

    Parameters, buffers and their names stay as they are, so that weights are loaded and saved as before. In
    torchvision's networks a norm comes into play, and is registered, right after its convolution.
    """
    for (where, conv), (path, norm) in pairwise(list(body.named_modules())):
        if isinstance(conv, nn.Conv2d) and isinstance(norm, FrozenBatchNorm2d):
            folded = FoldedBatchNorm2d(len(norm.weight), norm.eps)
            folded._buffers.update(norm._buffers)
            body.set_submodule(path, folded)
            body.set_submodule(where, NormedConv2d(conv, folded))
