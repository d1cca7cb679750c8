"""Backbones: torchvision's in one table, with weights and frozen stages, and a small one for small images."""

import os
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from urllib.error import URLError

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import (
    MobileNet_V2_Weights,
    MobileNet_V3_Large_Weights,
    ResNet50_Weights,
    VGG16_Weights,
    WeightsEnum,
    mobilenet_v2,
    mobilenet_v3_large,
    resnet50,
    vgg16,
)
from torchvision.ops import FrozenBatchNorm2d

from ..errors import ConfigError, shown
from .frozen_norm import fold_frozen_norms
from .precision import HalfPrecision


@dataclass(frozen=True)
class Backbone:
    """A classification network of torchvision as detectors use it.

    Attributes
    ----------
    build : callable
        torchvision's function.
    published : type
        The weights that torchvision has for it, by name.
    stages : tuple of tuples of str
        The parts of its body between two halvings of the resolution, from the image; freezing counts them.
    layers, channels : tuples
        The parts of its body that a feature pyramid stands on, and how many channels each has.
    """

    build: Callable[..., nn.Module]
    published: type[WeightsEnum]
    stages: tuple[tuple[str, ...], ...]
    layers: tuple[str, ...] = ()
    channels: tuple[int, ...] = ()


def _numbered(*ends: int) -> tuple[tuple[str, ...], ...]:
    """Return the names of the layers of a `Sequential` in stages that end before these."""
    return tuple(tuple(str(i) for i in range(*span)) for span in pairwise((0, *ends)))


# Stages end at strides 4, 8, 16 and 32, and so do layers, but for MobileNetV3's, which both have stride 32, as
# torchvision has it; VGG's stages end before its max pooling, at strides 1, 2, 4, 8 and 16.
BACKBONES = {
    "resnet50": Backbone(
        resnet50,
        ResNet50_Weights,
        (("conv1", "bn1", "layer1"), ("layer2",), ("layer3",), ("layer4",)),
        ("layer1", "layer2", "layer3", "layer4"),
        (256, 512, 1024, 2048),
    ),
    "mobilenet_v2": Backbone(
        mobilenet_v2, MobileNet_V2_Weights, _numbered(4, 7, 14, 18), ("3", "6", "13", "17"), (24, 32, 96, 320)
    ),
    "mobilenet_v3_large": Backbone(
        mobilenet_v3_large, MobileNet_V3_Large_Weights, _numbered(4, 7, 13, 17), ("13", "16"), (160, 960)
    ),
    "vgg16": Backbone(vgg16, VGG16_Weights, _numbered(4, 9, 16, 23, 30)),
}

# What the names of a detector's weights begin with, and those of a classification network never.
DETECTOR_PARTS = ("backbone.", "head.", "rpn.", "roi_heads.", "detector.", "bbox_head.", "neck.")
MOST_TIMES_LARGER = 8  # a file of weights than the network: float64, optimiser state and a detector's heads included


class FixedStatisticsBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm that keeps its statistics also in training, while its scale and shift train."""

    def train(self, mode: bool = True) -> "FixedStatisticsBatchNorm2d":
        return super().train(False)


BATCH_NORMS = {"frozen": FrozenBatchNorm2d, "fixed_statistics": FixedStatisticsBatchNorm2d, "trained": nn.BatchNorm2d}


def build_body(name: str, weights: str | Path | None, frozen_stages: int, **options) -> nn.Module:
    """Return a backbone of `BACKBONES` without its classifier, its first stages frozen.

    `options` go to torchvision's function; `weights` as in `load_weights`.
    """
    backbone = BACKBONES[name]
    network = load_weights(partial(backbone.build, **options), weights, backbone.published)
    body = getattr(network, "features", network)  # a ResNet has its layers in itself
    freeze_stages(body, backbone.stages, frozen_stages)
    fold_frozen_norms(body)
    return body


def load_weights(build, weights: str | Path | None, published: type[WeightsEnum]) -> nn.Module:
    """Build a classification network with weights that torchvision publishes, a local file's, or none.

    Published ones go by their name, ``"DEFAULT"`` for the newest, and are downloaded once. A file holds a state dict of
    the torchvision model, read without unpickling code (`weights_only`).

    Raises
    ------
    ConfigError
        If the file is missing, is not a state dict or does not fit the network, or the download fails.
    """
    if weights is None:
        return build()
    if weights in published.__members__:
        with downloading(published[weights]):
            return build(weights=published[weights])
    if not os.path.isfile(weights):
        names = ", ".join(repr(name) for name in published.__members__)
        raise ConfigError(
            f"weights: {weights} is not a file; give {names}, a state dict's path, or nothing for random ones"
        )
    network = build()
    state = _state_dict(weights, network)
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        what = str(error).splitlines()[1]  # the first that is missing, unexpected or of another shape
        raise ConfigError(f"weights: {weights} does not fit {type(network).__name__}: {what.strip()}") from None
    return network


@contextmanager
def downloading(weights: WeightsEnum) -> Iterator[None]:
    """Say in one line that weights of torchvision's cannot be downloaded."""
    try:
        yield
    except (URLError, ConnectionError, TimeoutError) as error:
        reason = f"cannot be downloaded ({getattr(error, 'reason', error)})"
        mend = "try again, or give a state dict's path, or nothing for random ones"
        raise ConfigError(f"weights: {weights} {reason}; {mend}") from None


def _state_dict(path: str | Path, network: nn.Module) -> dict[str, Tensor]:
    """Read a file of tensors by name, of a size that may be the network's."""
    needed = sum(tensor.nbytes for tensor in network.state_dict().values())
    size = os.path.getsize(path)
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            size = max(size, sum(entry.file_size for entry in archive.infolist()))
    if size > MOST_TIMES_LARGER * needed:
        raise ConfigError(
            f"weights: {path} has {size:,} bytes, but {type(network).__name__} only {needed:,}; give its state dict"
        )
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ConfigError(
            f"weights: {path} is no state dict, or damaged ({type(error).__name__}); give what"
            " torch.save(model.state_dict(), path) wrote"
        ) from None
    if not isinstance(state, Mapping) or not all(isinstance(tensor, Tensor) for tensor in state.values()):
        raise ConfigError(f"weights: {path} holds {shown(state)}; give a state dict, names and tensors alone")
    if parts := [name for name in state if str(name).startswith(DETECTOR_PARTS)]:
        raise ConfigError(
            f"weights: {path} is a whole detector's ({shown(parts[0])}); give those of its backbone alone, as a"
            f" state dict of torchvision's {type(network).__name__}"
        )
    return state


def freeze_stages(body: nn.Module, stages: tuple[tuple[str, ...], ...], count: int) -> None:
    """Stop the first `count` stages from training, the statistics of their BatchNorm included."""
    frozen = {name for stage in stages[:count] for name in stage}
    for path, module in list(body.named_modules()):
        if path.split(".")[0] in frozen:
            if isinstance(module, nn.BatchNorm2d):
                body.set_submodule(path, _with_fixed_statistics(module))
            body.get_submodule(path).requires_grad_(False)


def _with_fixed_statistics(norm: nn.BatchNorm2d) -> FixedStatisticsBatchNorm2d:
    fixed = FixedStatisticsBatchNorm2d(norm.num_features, norm.eps, norm.momentum)
    fixed.load_state_dict(norm.state_dict())
    return fixed.eval()


class TinyBackbone(HalfPrecision):
    """A small convolutional network with a pyramid of strides 8, 16 and 32, trained in seconds on a CPU."""

    def __init__(self, width: int = 16, out_channels: int = 64):
        super().__init__()
        widths = [width, 2 * width, 3 * width, 4 * width, 4 * width]
        self.stem = nn.Sequential(_conv(3, widths[0], 2), _conv(widths[0], widths[1], 2))
        self.stages = nn.ModuleList(
            nn.Sequential(_conv(before, after, 2), _conv(after, after, 1)) for before, after in pairwise(widths[1:])
        )
        self.lateral = nn.ModuleList(nn.Conv2d(channels, out_channels, 1) for channels in widths[2:])
        self.out_channels = out_channels

    def forward(self, images: Tensor) -> OrderedDict[str, Tensor]:
        x, stages = self.stem(images), []
        for stage in self.stages:
            x = stage(x)
            stages.append(x)
        level, levels = None, OrderedDict()
        for i in reversed(range(len(stages))):
            lateral = self.lateral[i](stages[i])
            level = lateral if level is None else lateral + F.interpolate(level, size=lateral.shape[-2:])
            levels[str(i)] = level
        return OrderedDict(sorted(levels.items()))


def _conv(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )
