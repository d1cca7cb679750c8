"""Parts of a detector that may compute in half precision, while what decides stays in float32; and TF32."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.utils._pytree import tree_map_only
from torchvision.models.detection.backbone_utils import BackboneWithFPN

from ..errors import ConfigError

DTYPES = {"float32": None, "tf32": None, "bf16": torch.bfloat16}


class HalfPrecision(nn.Module):
    """A part whose convolutions and products may be computed in bfloat16; what it returns is float32 in any case.

    Backbones and the convolutions of heads are such parts. The last layer of a head is none, since bfloat16 has three
    significant digits and MI-AOD compares the logits of two classifiers; neither are anchors and losses. Parameters are
    float32.
    """

    half: torch.dtype | None = None

    def __call__(self, x, *more):
        if self.half is None:
            return super().__call__(x, *more)
        with torch.autocast(x.device.type, self.half):
            outputs = super().__call__(x, *more)
        return tree_map_only(torch.Tensor, torch.Tensor.float, outputs)


class HalfSequential(HalfPrecision, nn.Sequential):
    """`nn.Sequential` as such a part."""


class HalfPyramid(HalfPrecision, BackboneWithFPN):
    """torchvision's backbone with a feature pyramid as such a part."""


def set_precision(network: nn.Module, precision: str) -> None:
    """Let the parts of a network that may compute in a precision of `DTYPES`, in place.

    Raises
    ------
    ConfigError
        If it has no such part.
    """
    parts = [module for module in network.modules() if isinstance(module, HalfPrecision)]
    if DTYPES[precision] is not None and not parts:
        raise ConfigError(
            f"precision: no part of this detector computes in {precision}; leave it out, or build the detector of"
            " detectors.precision.HalfPrecision parts"
        )
    for part in parts:
        part.half = DTYPES[precision]


@contextmanager
def computing_in(precision: str) -> Iterator[None]:
    """Let GPUs use TF32 while it lasts if that is the precision; then all is set as before.

    It is torch's setting for the whole process, and GPUs' alone.
    """
    kinds = (torch.backends.cuda.matmul, torch.backends.cudnn.conv) if precision == "tf32" else ()
    before = [kind.fp32_precision for kind in kinds]
    try:
        for kind in kinds:
            kind.fp32_precision = "tf32"
        yield
    finally:
        for kind, value in zip(kinds, before, strict=True):
            kind.fp32_precision = value
