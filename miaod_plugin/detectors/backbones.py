"""Backbones: torchvision's with a feature pyramid, and a small one for small images."""

import os
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from functools import partial
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import MobileNet_V2_Weights, ResNet, ResNet50_Weights, WeightsEnum, mobilenet_v2, resnet50
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.ops import FrozenBatchNorm2d
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from ..errors import ConfigError, shown

# Stages end at strides 4, 8, 16 and 32; freezing counts them from the image.
RESNET_STAGES = (("conv1", "bn1", "layer1"), ("layer2",), ("layer3",), ("layer4",))
MOBILENET_STAGES = tuple(tuple(str(i) for i in range(*span)) for span in ((0, 4), (4, 7), (7, 14), (14, 18)))
MOBILENET_V3_STAGES = tuple(tuple(str(i) for i in range(*span)) for span in ((0, 4), (4, 7), (7, 13), (13, 17)))
# VGG's end before its max pooling, at strides 1, 2, 4, 8 and 16.
VGG_STAGES = tuple(tuple(str(i) for i in range(*span)) for span in ((0, 4), (4, 9), (9, 16), (16, 23), (23, 30)))

# What the names of a detector's weights begin with, and those of a classification network never.
DETECTOR_PARTS = ("backbone.", "head.", "rpn.", "roi_heads.", "detector.", "bbox_head.", "neck.")
MOST_TIMES_LARGER = 8  # a file of weights than the network: float64, optimiser state and a detector's heads included


class FixedStatisticsBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm that keeps its statistics also in training, while its scale and shift train."""

    def train(self, mode: bool = True) -> "FixedStatisticsBatchNorm2d":
        return super().train(False)


BATCH_NORMS = {"frozen": FrozenBatchNorm2d, "fixed_statistics": FixedStatisticsBatchNorm2d, "trained": nn.BatchNorm2d}


def resnet50_body(weights: str | Path | None, batch_norm: str, frozen_stages: int) -> ResNet:
    """Return ResNet-50 with its first stages frozen."""
    build = partial(resnet50, norm_layer=BATCH_NORMS[batch_norm])
    body = load_weights(build, weights, ResNet50_Weights)
    freeze_stages(body, RESNET_STAGES, frozen_stages)
    return body


def resnet50_fpn(
    weights: str | Path | None,
    batch_norm: str,
    frozen_stages: int,
    fpn_channels: int,
    p6_from: str = "pyramid",
) -> BackboneWithFPN:
    """Return ResNet-50 with pyramid levels P3 to P7; see `pyramid` for the parameters."""
    body = resnet50_body(weights, batch_norm, frozen_stages)
    return pyramid(body, {"layer2": "0", "layer3": "1", "layer4": "2"}, [512, 1024, 2048], fpn_channels, p6_from)


def mobilenet_v2_fpn(
    weights: str | Path | None, batch_norm: str, frozen_stages: int, fpn_channels: int
) -> BackboneWithFPN:
    """Return MobileNetV2 (without its last 1 x 1 convolution) with pyramid levels P3 to P7; see `pyramid`."""
    build = partial(mobilenet_v2, norm_layer=BATCH_NORMS[batch_norm])
    body = load_weights(build, weights, MobileNet_V2_Weights).features
    freeze_stages(body, MOBILENET_STAGES, frozen_stages)
    return pyramid(body, {"6": "0", "13": "1", "17": "2"}, [32, 96, 320], fpn_channels)


def pyramid(
    body: nn.Module,
    return_layers: dict[str, str],
    channels: list[int],
    out_channels: int,
    p6_from: str = "pyramid",
) -> BackboneWithFPN:
    """Put a feature pyramid of `out_channels` on the stages of stride 8, 16, 32, with two extra levels (RetinaNet).

    The first extra level, P6, is made from the pyramid's coarsest level, or with ``p6_from="backbone"`` from the stage
    below it.
    """
    extra = LastLevelP6P7(out_channels if p6_from == "pyramid" else channels[-1], out_channels)
    extra.use_P5 = p6_from == "pyramid"
    return BackboneWithFPN(body, return_layers, channels, out_channels, extra_blocks=extra)


def load_weights(build, weights: str | Path | None, published: type[WeightsEnum]) -> nn.Module:
    """Build a classification network with weights that torchvision publishes, a local file's, or none.

    Published ones go by their name, ``"DEFAULT"`` for the newest, and are downloaded once. A file holds a state dict of
    the torchvision model, read without unpickling code (`weights_only`).

    Raises
    ------
    ConfigError
        If the file is missing, is not a state dict or does not fit the network.
    """
    if weights is None:
        return build()
    if weights in published.__members__:
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


class TinyBackbone(nn.Module):
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
