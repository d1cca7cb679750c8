"""torchvision's second RetinaNet: heads with GroupNorm, boxes learnt by generalised IoU, P6 made from the backbone."""

from functools import partial

import torch
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.retinanet import RetinaNetClassificationHead, RetinaNetRegressionHead

from ..parameters import checked
from .backbones import resnet50_fpn
from .base import Features
from .matching import focal_loss, match_anchors
from .options import BatchNorm, Classes, GroupedChannels, HeadConvs, ImageMean, ImageStd, Pixels, ResNetStages, Weights
from .retinanet import IMAGENET_MEAN, IMAGENET_STD, POSTPROCESSING, RetinaNetDetector, anchor_sizes
from .torchvision_parts import LevelClassifier, anchors_of_images

GROUP_NORM = partial(nn.GroupNorm, 32)


class RetinaNetV2Detector(RetinaNetDetector):
    """`RetinaNetDetector` with the heads and the box loss of torchvision's `retinanet_resnet50_fpn_v2`."""

    def __init__(self, backbone: nn.Module, num_classes: int, head_convs: int = 4, **retinanet):
        super().__init__(backbone, num_classes, head_convs, **retinanet)
        head = RetinaNetRegressionHead(backbone.out_channels, self.anchors_per_cell, norm_layer=GROUP_NORM)
        head.conv = head.conv[:head_convs]
        head._loss_type = "giou"  # torchvision's own way to choose it
        self.retinanet.head.regression_head = head

    def build_classifier(self, num_classes: int) -> nn.Module:
        channels = self.retinanet.backbone.out_channels
        head = RetinaNetClassificationHead(channels, self.anchors_per_cell, num_classes, norm_layer=GROUP_NORM)
        head.conv = head.conv[: self.head_convs]
        return LevelClassifier(head, self.retinanet.anchor_generator.num_anchors_per_location())

    def loss(self, heads: list[list[Tensor]], boxes: Tensor, features: Features) -> dict[str, Tensor]:
        matcher = self.retinanet.proposal_matcher
        matches = match_anchors(features.anchors, features.targets, matcher.high_threshold, matcher.low_threshold)
        classification = [focal_loss(torch.cat(levels, dim=1), matches, features.targets) for levels in heads]
        box_loss = self.retinanet.head.regression_head.compute_loss(
            features.targets, {"bbox_regression": boxes}, anchors_of_images(features), list(matches)
        )
        return {"classification": torch.stack(classification).mean(), "box_regression": box_loss}


@checked
def retinanet_resnet50_fpn_v2(
    num_classes: Classes,
    *,
    weights: Weights = "DEFAULT",
    min_size: Pixels = 600,
    max_size: Pixels = 1000,
    image_mean: ImageMean = IMAGENET_MEAN,
    image_std: ImageStd = IMAGENET_STD,
    batch_norm: BatchNorm = "frozen",
    frozen_stages: ResNetStages = 1,
    fpn_channels: GroupedChannels = 256,
    head_convs: HeadConvs = 4,
) -> RetinaNetV2Detector:
    """Return torchvision's improved RetinaNet with ResNet-50.

    Parameters as in `retinanet_resnet50_fpn`; `fpn_channels` in multiples of 32 from 64.
    """
    sizes = anchor_sizes(32)
    return RetinaNetV2Detector(
        resnet50_fpn(weights, batch_norm, frozen_stages, fpn_channels, p6_from="backbone"),
        num_classes,
        head_convs,
        anchor_generator=AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * len(sizes)),
        min_size=min_size,
        max_size=max_size,
        image_mean=image_mean,
        image_std=image_std,
        **POSTPROCESSING,
    )
