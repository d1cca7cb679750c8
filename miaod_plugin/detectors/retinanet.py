"""torchvision's RetinaNet in three sizes, as MI-AOD needs it."""

import math
from typing import Annotated, Literal

import torch
from torch import Tensor, nn
from torchvision.models.detection import RetinaNet, RetinaNet_ResNet50_FPN_Weights
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.retinanet import RetinaNetHead

from ..errors import ConfigError
from ..parameters import Whole, checked
from .backbones import TinyBackbone
from .base import Detector, Features
from .box_coding import decode, encode
from .losses import focal_loss, per_positive
from .matching import Positives, match_anchors
from .options import Channels, Classes, HeadConvs, Pixels, PositivesOf, Weights
from .photographs import Photographs, takes_photographs
from .postprocessing import Candidates, best_of_levels, clipped, finished, unsuppressed
from .precision import HalfSequential
from .starting_weights import starts_from_detectors
from .torchvision_parts import Anchors, AsIs, grid_features, padded_size

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

    torchvision_names = (
        *((f"head.classification_head.conv.{k}.0.", f"classifiers.0.conv.{2 * k}.") for k in range(4)),
        ("head.classification_head.cls_logits.", "classifiers.0.class_logits."),
        ("head.classification_head.", "classifiers.0."),  # its first version's convolutions are called as ours
        ("", "detector.retinanet."),
    )

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
        head.regression_head.conv = HalfSequential(*head.regression_head.conv[:head_convs])
        head.classification_head = nn.Identity()  # the network's classifiers take its place
        self.retinanet = RetinaNet(backbone, num_classes, head=head, **retinanet)
        self.anchors_per_cell = anchors.num_anchors_per_location()[0]
        self._anchors = Anchors(anchors)

    def features(self, images: list[Tensor], targets: list[dict[str, Tensor]] | None = None) -> Features:
        per_cell = self.retinanet.anchor_generator.num_anchors_per_location()
        return grid_features(self.retinanet, images, targets, per_cell, self._anchors)

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
        positives = Positives.of(matches, features.targets)
        classification = [
            focal_loss(torch.cat(levels, dim=1), matches, positives, self.positives_of) for levels in heads
        ]
        box_losses = self._box_losses(
            boxes[positives.image, positives.anchor], features.anchors[positives.anchor], positives.boxes
        )
        return {
            "classification": torch.stack(classification).mean(),
            "box_regression": per_positive(box_losses, matches, positives, self.positives_of),
        }

    def _box_losses(self, regression: Tensor, anchors: Tensor, wanted: Tensor) -> Tensor:
        """Return the loss of each positive, ``(P,)``, from its box output, anchor and box, each ``(P, 4)``."""
        return (regression - encode(wanted, anchors, self.retinanet.box_coder)).abs().sum(dim=1)

    def detections(self, logits: list[Tensor], boxes: Tensor, features: Features) -> list[dict[str, Tensor]]:
        found, decoded = self._candidates(logits, boxes, features)
        return finished(found, decoded, features, self.retinanet.nms_thresh, self.retinanet.detections_per_img)

    def candidates(self, logits: list[Tensor], boxes: Tensor, features: Features) -> list[dict[str, Tensor]]:
        return unsuppressed(*self._candidates(logits, boxes, features), features)

    def _candidates(self, logits: list[Tensor], boxes: Tensor, features: Features) -> tuple[Candidates, Tensor]:
        """Return the instances above the score threshold, and their boxes in pixels of the resized images."""
        net, sizes = self.retinanet, [level.shape[1] for level in logits]
        found = best_of_levels(torch.cat(logits, dim=1).sigmoid_(), sizes, net.score_thresh, net.topk_candidates)
        regression, anchors = boxes[found.images, found.instances], features.anchors[found.instances]
        decoded = clipped(decode(regression, anchors, net.box_coder), found.images, features.image_sizes)
        return found, decoded


class RetinaNetClassifier(nn.Module):
    """RetinaNet's classification head that keeps the levels apart: feature maps -> logits, each ``(B, A_l, C)``."""

    def __init__(self, in_channels: int, anchors_per_cell: int, num_classes: int, convs: int = 4, prior: float = 0.01):
        super().__init__()
        layers = []
        for _ in range(convs):
            layers += [nn.Conv2d(in_channels, in_channels, 3, padding=1), nn.ReLU(inplace=True)]
        self.conv = HalfSequential(*layers)
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


@starts_from_detectors(RetinaNet_ResNet50_FPN_Weights, zero_eps=True)
@takes_photographs()
def retinanet_resnet50_fpn(
    num_classes: Classes,
    photographs: Photographs,
    *,
    head_convs: HeadConvs = 4,
    p6_from: Literal["pyramid", "backbone"] = "pyramid",
    anchor_size: Pixels = 32,
    positives_of: PositivesOf = "image",
) -> RetinaNetDetector:
    """Return RetinaNet with ResNet-50, the paper's main detector (section 4.1).

    Parameters
    ----------
    head_convs : int
        3 x 3 convolutions in each head.
    p6_from : {"pyramid", "backbone"}
        Make the level P6 from P5, as torchvision does, or from the backbone's C5.
    anchor_size : int
        Side in pixels of the smallest anchors, after resizing; smaller ones suit small images or objects.
    positives_of : {"image", "batch"}
        Divide the losses by the positives of each image, as torchvision, or by those of the batch.
    """
    backbone = photographs.retina_pyramid("resnet50", p6_from)
    return RetinaNetDetector(
        backbone,
        num_classes,
        head_convs,
        positives_of,
        **pyramid_anchors(anchor_size),
        **photographs.transform,
        **POSTPROCESSING,
    )


@starts_from_detectors()
@takes_photographs(min_size=320, max_size=640, fpn_channels=128)
def retinanet_mobilenet_v2_fpn(
    num_classes: Classes,
    photographs: Photographs,
    *,
    head_convs: HeadConvs = 2,
    anchor_size: Pixels = 32,
    positives_of: PositivesOf = "image",
) -> RetinaNetDetector:
    """Return RetinaNet with MobileNetV2, about a tenth of the cost; parameters as in `retinanet_resnet50_fpn`."""
    backbone = photographs.retina_pyramid("mobilenet_v2")
    return RetinaNetDetector(
        backbone,
        num_classes,
        head_convs,
        positives_of,
        **pyramid_anchors(anchor_size),
        **photographs.transform,
        **POSTPROCESSING,
    )


def pyramid_anchors(smallest: int) -> dict[str, AnchorGenerator]:
    """Return the anchors of P3 to P7, three scales, doubled from level to level, and three shapes in each cell.

    `smallest` is the side of the smallest in pixels.
    """
    sizes = tuple(tuple(int(smallest * 2 ** (level + step / 3)) for step in range(3)) for level in range(5))
    return {"anchor_generator": AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * len(sizes))}


@starts_from_detectors()
@checked
def retinanet_tiny(
    num_classes: Classes,
    *,
    weights: Weights = None,
    width: Annotated[int, Whole(1, 512)] = 16,
    fpn_channels: Channels = 48,
    head_convs: HeadConvs = 1,
) -> RetinaNetDetector:
    """Return a RetinaNet for images of 64 to 128 pixels that trains from scratch in seconds on two CPU cores.

    It is not for photographs: images are used at the size they have, so that time and memory grow with their pixels,
    and objects are sought at 14 to 80. Pyramid levels have strides 8, 16, 32 and anchors of about 2 to 3 strides.

    Parameters
    ----------
    weights : path or None
        A file that `save` wrote of such a detector, or random weights.
    width : int
        Channels after the first convolution; later ones have 2 to 4 times as many.
    fpn_channels, head_convs : int
        As in `retinanet_resnet50_fpn`.
    """
    if weights is not None:
        raise ConfigError(f"weights: {weights} is no file that save() wrote; give one, or nothing for random weights")
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
