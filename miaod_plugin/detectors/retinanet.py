"""torchvision's RetinaNet in three sizes, as MI-AOD needs it."""

import math
from typing import Annotated, Literal

import torch
from torch import Tensor, nn
from torchvision.models.detection import RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.retinanet import RetinaNetHead

from ..errors import ConfigError
from ..parameters import Whole, checked
from .backbones import TinyBackbone, mobilenet_v2_fpn, resnet50_fpn
from .base import Detector, Features, cells_inside
from .matching import box_loss, focal_loss, match_anchors
from .options import (
    BatchNorm,
    Channels,
    Classes,
    HeadConvs,
    ImageMean,
    ImageStd,
    MobileNetStages,
    Pixels,
    PositivesOf,
    ResNetStages,
    Weights,
)
from .torchvision_parts import AsIs, padded_size

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
# At test time of the paper (section 4.1): score threshold 0.05, NMS at 0.5, 100 boxes.
POSTPROCESSING = {"score_thresh": 0.05, "nms_thresh": 0.5, "detections_per_img": 100}


class RetinaNetDetector(Detector):
    """torchvision's `RetinaNet` behind the adapter contract.

    Its transform, backbone, regression head, anchors, thresholds and post-processing are used as they are; matching and
    losses give the same numbers for the batch at once.

    Parameters
    ----------
    backbone : Module
        Images -> feature maps, with `out_channels`.
    num_classes : int
    head_convs : int
        3 x 3 convolutions in each head before its last layer.
    positives_of : {"image", "batch"}
        Divide the losses by the positives of each image, as torchvision, or by those of the batch; see `focal_loss`.
    **retinanet
        Keyword arguments of `torchvision.models.detection.RetinaNet`.
    """

    def __init__(
        self, backbone: nn.Module, num_classes: int, head_convs: int = 4, positives_of: str = "image", **retinanet
    ):
        super().__init__()
        if positives_of not in ("image", "batch"):
            raise ConfigError(f"positives_of: {positives_of!r} is not allowed; give 'image' or 'batch'")
        self.positives_of = positives_of
        self.num_classes = num_classes
        self.head_convs = head_convs
        anchors = retinanet["anchor_generator"]
        head = RetinaNetHead(backbone.out_channels, anchors.num_anchors_per_location()[0], num_classes)
        head.regression_head.conv = head.regression_head.conv[:head_convs]
        head.classification_head = nn.Identity()  # the network's classifiers take its place
        self.retinanet = RetinaNet(backbone, num_classes, head=head, **retinanet)
        self.anchors_per_cell = anchors.num_anchors_per_location()[0]

    def features(self, images: list[Tensor], targets: list[dict[str, Tensor]] | None = None) -> Features:
        original_sizes = [tuple(image.shape[-2:]) for image in images]
        batch, targets = self.retinanet.transform(images, targets)
        batch.tensors = batch.tensors.contiguous(memory_format=torch.channels_last)
        maps = list(self.retinanet.backbone(batch.tensors).values())
        anchors = self.retinanet.anchor_generator(batch, maps)[0]  # the same for every image of a batch
        features = Features(maps, anchors, batch.image_sizes, original_sizes, tuple(batch.tensors.shape[-2:]), targets)
        if features.padded:
            inside = [cells_inside(level.shape[-2:], features) for level in maps]
            features.valid = [cells.flatten(1).repeat_interleave(self.anchors_per_cell, dim=1) for cells in inside]
        return features

    def padded_size(self, height: int, width: int) -> tuple[int, int]:
        return padded_size(self.retinanet.transform, height, width)

    def build_classifier(self, num_classes: int) -> nn.Module:
        return RetinaNetClassifier(
            self.retinanet.backbone.out_channels, self.anchors_per_cell, num_classes, self.head_convs
        )

    def box_outputs(self, features: Features) -> Tensor:
        return self.retinanet.head.regression_head(features.maps)

    def loss(self, heads: list[list[Tensor]], boxes: Tensor, features: Features) -> dict[str, Tensor]:
        matcher = self.retinanet.proposal_matcher
        matches = match_anchors(features.anchors, features.targets, matcher.high_threshold, matcher.low_threshold)
        matched = (matches, features.targets)
        classification = [focal_loss(torch.cat(levels, dim=1), *matched, self.positives_of) for levels in heads]
        coder = self.retinanet.box_coder
        return {
            "classification": torch.stack(classification).mean(),
            "box_regression": box_loss(boxes, features.anchors, *matched, coder, self.positives_of),
        }

    def detections(self, logits: list[Tensor], boxes: Tensor, features: Features) -> list[dict[str, Tensor]]:
        sizes = [level.shape[1] for level in logits]
        outputs = {"cls_logits": logits, "bbox_regression": list(boxes.split(sizes, dim=1))}
        anchors = [list(features.anchors.split(sizes))] * len(features.image_sizes)
        found = self.retinanet.postprocess_detections(outputs, anchors, features.image_sizes)
        return self.retinanet.transform.postprocess(found, features.image_sizes, features.original_sizes)


class RetinaNetClassifier(nn.Module):
    """RetinaNet's classification head that keeps the levels apart: feature maps -> logits, each ``(B, A_l, C)``."""

    def __init__(self, in_channels: int, anchors_per_cell: int, num_classes: int, convs: int = 4, prior: float = 0.01):
        super().__init__()
        layers = []
        for _ in range(convs):
            layers += [nn.Conv2d(in_channels, in_channels, 3, padding=1), nn.ReLU(inplace=True)]
        self.conv = nn.Sequential(*layers)
        self.class_logits = nn.Conv2d(in_channels, anchors_per_cell * num_classes, 3, padding=1)
        self.num_classes = num_classes
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.normal_(layer.weight, std=0.01)
                nn.init.zeros_(layer.bias)
        nn.init.constant_(self.class_logits.bias, -math.log((1 - prior) / prior))

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        # (B, K * C, H, W) -> (B, H * W * K, C)
        levels = [self.class_logits(self.conv(level)) for level in maps]
        return [level.permute(0, 2, 3, 1).reshape(len(level), -1, self.num_classes) for level in levels]


@checked
def retinanet_resnet50_fpn(
    num_classes: Classes,
    *,
    weights: Weights = "DEFAULT",
    min_size: Pixels = 600,
    max_size: Pixels = 1000,
    image_mean: ImageMean = IMAGENET_MEAN,
    image_std: ImageStd = IMAGENET_STD,
    batch_norm: BatchNorm = "frozen",
    frozen_stages: ResNetStages = 1,
    fpn_channels: Channels = 256,
    head_convs: HeadConvs = 4,
    p6_from: Literal["pyramid", "backbone"] = "pyramid",
    anchor_size: Pixels = 32,
    positives_of: PositivesOf = "image",
) -> RetinaNetDetector:
    """Return RetinaNet with ResNet-50, the paper's main detector (section 4.1).

    Parameters
    ----------
    weights : str, path or None
        Backbone weights: the name of torchvision's ImageNet weights (downloaded once; ``"DEFAULT"`` is the newest), a
        local state dict, or random ones.
    min_size, max_size : int
        Images are resized so that the shorter side is `min_size` pixels, or the longer `max_size` if that is smaller.
    image_mean, image_std : tuple of float
        Normalisation of images in 0..1, as the backbone weights expect it.
    batch_norm : {"frozen", "fixed_statistics", "trained"}
        Keep BatchNorm as the backbone weights have it, train its scale and shift alone, or train all of it.
    frozen_stages : int
        Backbone stages that do not train, counted from the image (0 to 4).
    fpn_channels : int
        Channels of the feature pyramid and its heads.
    head_convs : int
        3 x 3 convolutions in each head.
    p6_from : {"pyramid", "backbone"}
        Make the level P6 from P5, as torchvision does, or from the backbone's C5.
    anchor_size : int
        Side in pixels of the smallest anchors, after resizing; smaller ones suit small images or objects.
    positives_of : {"image", "batch"}
        Divide the losses by the positives of each image, as torchvision, or by those of the batch.
    """
    backbone = resnet50_fpn(weights, batch_norm, frozen_stages, fpn_channels, p6_from)
    return _with_pyramid(
        backbone, num_classes, head_convs, anchor_size, min_size, max_size, image_mean, image_std, positives_of
    )


@checked
def retinanet_mobilenet_v2_fpn(
    num_classes: Classes,
    *,
    weights: Weights = "DEFAULT",
    min_size: Pixels = 320,
    max_size: Pixels = 640,
    image_mean: ImageMean = IMAGENET_MEAN,
    image_std: ImageStd = IMAGENET_STD,
    batch_norm: BatchNorm = "frozen",
    frozen_stages: MobileNetStages = 1,
    fpn_channels: Channels = 128,
    head_convs: HeadConvs = 2,
    anchor_size: Pixels = 32,
    positives_of: PositivesOf = "image",
) -> RetinaNetDetector:
    """Return RetinaNet with MobileNetV2, about a tenth of the cost; parameters as in `retinanet_resnet50_fpn`."""
    backbone = mobilenet_v2_fpn(weights, batch_norm, frozen_stages, fpn_channels)
    return _with_pyramid(
        backbone, num_classes, head_convs, anchor_size, min_size, max_size, image_mean, image_std, positives_of
    )


def _with_pyramid(
    backbone: nn.Module,
    num_classes: int,
    head_convs: int,
    anchor_size: int,
    min_size: int,
    max_size: int,
    image_mean: tuple[float, float, float],
    image_std: tuple[float, float, float],
    positives_of: str,
) -> RetinaNetDetector:
    """Put RetinaNet's heads on a pyramid P3 to P7, with anchors of three scales and three shapes in each cell."""
    sizes = anchor_sizes(anchor_size)
    return RetinaNetDetector(
        backbone,
        num_classes,
        head_convs,
        positives_of,
        anchor_generator=AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * len(sizes)),
        min_size=min_size,
        max_size=max_size,
        image_mean=image_mean,
        image_std=image_std,
        **POSTPROCESSING,
    )


def anchor_sizes(smallest: int) -> tuple[tuple[int, ...], ...]:
    """Return the sides in pixels of the anchors of P3 to P7: three scales, doubled from level to level."""
    return tuple(tuple(int(smallest * 2 ** (level + step / 3)) for step in range(3)) for level in range(5))


@checked
def retinanet_tiny(
    num_classes: Classes,
    *,
    width: Annotated[int, Whole(1, 512)] = 16,
    fpn_channels: Channels = 48,
    head_convs: HeadConvs = 1,
) -> RetinaNetDetector:
    """Return a RetinaNet for images of 64 to 128 pixels that trains from scratch in seconds on two CPU cores.

    It is not for photographs: images are used at the size they have, so that time and memory grow with their pixels,
    and objects are sought at 14 to 80. Pyramid levels have strides 8, 16, 32 and anchors of about 2 to 3 strides.

    Parameters
    ----------
    width : int
        Channels after the first convolution; later ones have 2 to 4 times as many.
    fpn_channels, head_convs : int
        As in `retinanet_resnet50_fpn`.
    """
    sizes = ((14, 20), (28, 40), (56, 80))
    detector = RetinaNetDetector(
        TinyBackbone(width, fpn_channels),
        num_classes,
        head_convs,
        anchor_generator=AnchorGenerator(sizes, ((0.65, 1.0, 1.55),) * len(sizes)),
        **POSTPROCESSING,
    )
    detector.made_for = 128
    # BatchNorm needs more than one cell in the coarsest map of a single image, hence the multiple of 64
    detector.retinanet.transform = AsIs(
        min_size=1, max_size=1, image_mean=(0.5, 0.5, 0.5), image_std=(0.25, 0.25, 0.25), size_divisible=64
    )
    return detector
