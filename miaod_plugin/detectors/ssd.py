"""torchvision's SSD300 and SSDLite320 as MI-AOD needs them."""

from collections.abc import Sequence
from functools import partial
from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection import SSD300_VGG16_Weights, SSDLite320_MobileNet_V3_Large_Weights
from torchvision.models.detection._utils import retrieve_out_channels
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.ssd import SSD, SSDClassificationHead, SSDFeatureExtractorVGG, SSDHead
from torchvision.models.detection.ssdlite import (
    SSDLiteClassificationHead,
    SSDLiteFeatureExtractorMobileNet,
    SSDLiteHead,
)

from ..errors import ConfigError
from ..parameters import Positive, Several, checked
from .backbones import BACKBONES, build_body
from .base import Detector, Features
from .box_coding import decode, encode
from .losses import mined_cross_entropy, per_positive
from .matching import Positives, match_default_boxes
from .options import Classes, ImageMean, ImageStd, Pixels, PyramidStages, VGGStages, Weights
from .postprocessing import Candidates, best_of_classes, clipped, finished, unsuppressed
from .precision import HalfPrecision
from .starting_weights import starts_from_detectors
from .torchvision_parts import (
    Anchors,
    LevelClassifier,
    background_first,
    grid_features,
    padded_size,
)

# At test time of the original's SSD: score threshold 0.02, NMS at 0.45, 200 boxes.
POSTPROCESSING = {"score_thresh": 0.02, "nms_thresh": 0.45, "detections_per_img": 200}
# VGG's weights for detection expect pixels in 0..255, less their mean.
VGG_MEAN = (0.48235, 0.45882, 0.40784)
VGG_STD = (1 / 255, 1 / 255, 1 / 255)
# Sides of default boxes of the six maps, and of one beyond, as shares of the image; the original's for VOC are
# 0.1, 0.2, 0.37, 0.54, 0.71, 0.88, 1.05.
SSD300_SCALES = (0.07, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05)
SMALLEST_SSD300 = 268  # pixels for which the last two of SSD300's six feature maps still have a cell


class SSDDetector(Detector):
    """torchvision's `SSD` behind the adapter contract, for SSD300 and SSDLite.

    Images are resized to a square, so nothing is padded.

    Parameters
    ----------
    backbone : Module
        Images -> feature maps.
    num_classes : int
    build_head, build_classification_head : callable
        ``(channels of each map, anchors per cell of each map, classes) -> Module``: torchvision's heads.
    size : int
        Side of the resized images, in pixels.
    **ssd
        More keyword arguments of `torchvision.models.detection.ssd.SSD`.
    """

    background = True
    torchvision_names = (("head.classification_head.", "classifiers.0.head."), ("", "detector.ssd."))

    def __init__(self, backbone: nn.Module, num_classes: int, build_head, build_classification_head, size: int, **ssd):
        super().__init__()
        self.num_classes = num_classes
        self.build_classification_head = build_classification_head
        self.channels = retrieve_out_channels(backbone, (size, size))
        self.anchors_per_cell = ssd["anchor_generator"].num_anchors_per_location()
        head = build_head(self.channels, self.anchors_per_cell, num_classes + 1)
        head.classification_head = nn.Identity()  # the network's classifiers take its place
        self.ssd = SSD(backbone, size=(size, size), num_classes=num_classes + 1, head=head, **ssd)
        self._anchors = Anchors(self.ssd.anchor_generator)

    def features(self, images: list[Tensor], targets: list[dict[str, Tensor]] | None = None) -> Features:
        return grid_features(self.ssd, images, targets, self.anchors_per_cell, self._anchors)

    def padded_size(self, height: int, width: int) -> tuple[int, int]:
        return padded_size(self.ssd.transform, height, width)

    def build_classifier(self, num_classes: int) -> nn.Module:
        head = self.build_classification_head(self.channels, self.anchors_per_cell, num_classes)
        return LevelClassifier(head, self.anchors_per_cell)

    def box_outputs(self, features: Features) -> Tensor:
        return self.ssd.head.regression_head(features.maps)

    def loss(self, heads: list[list[Tensor]], boxes: Tensor, features: Features) -> dict[str, Tensor]:
        ssd = self.ssd
        matches = match_default_boxes(features.anchors, features.targets, ssd.proposal_matcher.high_threshold)
        positives = Positives.of(matches, features.targets)
        classification = [
            mined_cross_entropy(torch.cat(levels, dim=1), matches, positives, ssd.neg_to_pos_ratio) for levels in heads
        ]
        regression = boxes[positives.image, positives.anchor]  # (P, 4)
        wanted = encode(positives.boxes, features.anchors[positives.anchor], ssd.box_coder)
        box_losses = F.smooth_l1_loss(regression, wanted, reduction="none").sum(dim=1)
        return {
            "classification": torch.stack(classification).mean(),
            "box_regression": per_positive(box_losses, matches, positives, "batch"),
        }

    def detections(self, logits: list[Tensor], boxes: Tensor, features: Features) -> list[dict[str, Tensor]]:
        found, decoded = self._candidates(logits, boxes, features)
        return finished(found, decoded, features, self.ssd.nms_thresh, self.ssd.detections_per_img)

    def candidates(self, logits: list[Tensor], boxes: Tensor, features: Features) -> list[dict[str, Tensor]]:
        return unsuppressed(*self._candidates(logits, boxes, features), features)

    def _candidates(self, logits: list[Tensor], boxes: Tensor, features: Features) -> tuple[Candidates, Tensor]:
        """Return the instances above the score threshold, and their boxes in pixels of the resized images."""
        ssd, scores = self.ssd, background_first(torch.cat(logits, dim=1)).softmax(dim=-1)[..., 1:]
        found = best_of_classes(scores, ssd.score_thresh, ssd.topk_candidates)
        regression, default = boxes[found.images, found.instances], features.anchors[found.instances]
        decoded = clipped(decode(regression, default, ssd.box_coder), found.images, features.image_sizes)
        return found, decoded


class HalfVGG(HalfPrecision, SSDFeatureExtractorVGG):
    """torchvision's VGG for SSD, which may compute in half precision."""


class HalfMobileNet(HalfPrecision, SSDLiteFeatureExtractorMobileNet):
    """torchvision's MobileNet for SSDLite, which may compute in half precision."""


class CellBatchNorm(nn.BatchNorm2d):
    """BatchNorm that lets a single cell of a single image pass by the running statistics, which it cannot add to."""

    def forward(self, x: Tensor) -> Tensor:
        if x.numel() > x.shape[1]:
            return super().forward(x)
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)


@starts_from_detectors(SSD300_VGG16_Weights)
@checked
def ssd300_vgg16(
    num_classes: Classes,
    *,
    weights: Weights = "DEFAULT",
    size: Pixels = 300,
    image_mean: ImageMean = VGG_MEAN,
    image_std: ImageStd = VGG_STD,
    frozen_stages: VGGStages = 0,
    scales: Annotated[Sequence[float], Several(Positive, len(SSD300_SCALES))] = SSD300_SCALES,
) -> SSDDetector:
    """Return SSD300 with VGG-16, the paper's second detector (section 4.1).

    Parameters
    ----------
    weights : str, path or None
        Backbone weights: the name of torchvision's for `vgg16` (downloaded once), a local state dict, or random ones;
        or a whole detector's, as in `retinanet_resnet50_fpn`. ``"DEFAULT"`` is ``"IMAGENET1K_FEATURES"``, torchvision's
        for SSD, to which the default normalisation belongs.
    size : int
        Images are resized to squares of `size` pixels. Below 268 the last two of the six feature maps are left out.
    image_mean, image_std : tuple of float
        Normalisation of images in 0..1, as the backbone weights expect it.
    frozen_stages : int
        Backbone stages that do not train, counted from the image (0 to 5).
    scales : tuple of seven floats
        Sides of the default boxes of each map, and of one beyond, as shares of the image.
    """
    weights = "IMAGENET1K_FEATURES" if weights == "DEFAULT" else weights
    backbone = HalfVGG(build_body("vgg16", weights, frozen_stages), highres=False)
    ratios, steps = [[2], [2, 3], [2, 3], [2, 3], [2], [2]], [8, 16, 32, 64, 100, 300]
    if size < SMALLEST_SSD300:
        backbone.extra, ratios, steps = backbone.extra[:-2], ratios[:-2], steps[:-2]
    return SSDDetector(
        backbone,
        num_classes,
        SSDHead,
        SSDClassificationHead,
        size,
        # the steps, in pixels, hold for 300 only; without them centres follow from the feature maps' shapes
        anchor_generator=DefaultBoxGenerator(
            ratios, scales=list(scales[: len(ratios) + 1]), steps=steps if size == 300 else None
        ),
        image_mean=image_mean,
        image_std=image_std,
        **POSTPROCESSING,
    )


@starts_from_detectors(SSDLite320_MobileNet_V3_Large_Weights)
@checked
def ssdlite320_mobilenet_v3_large(
    num_classes: Classes,
    *,
    weights: Weights = "DEFAULT",
    size: Pixels = 320,
    image_mean: ImageMean = (0.5, 0.5, 0.5),
    image_std: ImageStd = (0.5, 0.5, 0.5),
    frozen_stages: PyramidStages = 0,
    reduced_tail: bool = False,
) -> SSDDetector:
    """Return SSDLite with MobileNetV3, a fiftieth of SSD300's cost.

    Parameters
    ----------
    weights : str, path or None
        Backbone weights: the name of torchvision's for `mobilenet_v3_large` (downloaded once), a local state dict, or
        random ones; or a whole detector's, as in `retinanet_resnet50_fpn`.
    size : int
        Images are resized to squares of `size` pixels.
    image_mean, image_std
        As in `ssd300_vgg16`.
    frozen_stages : int
        Backbone stages that do not train, counted from the image (0 to 4).
    reduced_tail : bool
        Halve the channels of the last blocks, as torchvision does when it trains from scratch, and in its
        ``"COCO_V1"``.
    """
    if reduced_tail and weights in BACKBONES["mobilenet_v3_large"].published.__members__:
        raise ConfigError("reduced_tail: there are no weights for it; set weights to nothing or a state dict's path")
    norm_layer = partial(CellBatchNorm, eps=0.001, momentum=0.03)
    options = {"norm_layer": norm_layer, "reduced_tail": reduced_tail}
    body = build_body("mobilenet_v3_large", weights, frozen_stages, **options)
    return SSDDetector(
        HalfMobileNet(body, 13, norm_layer),
        num_classes,
        partial(SSDLiteHead, norm_layer=norm_layer),
        partial(SSDLiteClassificationHead, norm_layer=norm_layer),
        size,
        anchor_generator=DefaultBoxGenerator([[2, 3] for _ in range(6)], min_ratio=0.2, max_ratio=0.95),
        image_mean=image_mean,
        image_std=image_std,
        **POSTPROCESSING,
    )
