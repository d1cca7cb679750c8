"""torchvision's FCOS, an anchor-free detector, as MI-AOD needs it."""

from functools import partial

import torch
from torch import Tensor, nn
from torchvision.models.detection import FCOS
from torchvision.models.detection.fcos import FCOSClassificationHead, FCOSHead

from .base import Detector, Features
from .options import Classes, HeadConvs
from .origins import instances_of
from .photographs import GroupedPhotographs, takes_photographs
from .retinanet import POSTPROCESSING
from .torchvision_parts import (
    Anchors,
    LevelClassifier,
    anchors_of_images,
    grid_features,
    mean_classification,
    padded_size,
)


class FCOSDetector(Detector):
    """torchvision's `FCOS` behind the adapter contract.

    Its instances are the cells of the feature maps. The centre-ness of a cell is the fifth of its box outputs and takes
    part in the scores of detections, not in the class logits that MI-AOD compares.

    Parameters
    ----------
    backbone : Module
        Images -> feature maps, with `out_channels`, a multiple of 32 from 64.
    num_classes : int
    head_convs : int
        3 x 3 convolutions in each head before its last layer.
    **fcos
        Keyword arguments of `torchvision.models.detection.FCOS`.
    """

    def __init__(self, backbone: nn.Module, num_classes: int, head_convs: int = 4, **fcos):
        super().__init__()
        self.num_classes = num_classes
        self.head_convs = head_convs
        head = FCOSHead(backbone.out_channels, 1, num_classes, head_convs)
        head.classification_head = nn.Identity()  # the network's classifiers take its place
        self.fcos = FCOS(backbone, num_classes, head=head, **fcos)
        self._anchors = Anchors(self.fcos.anchor_generator)

    def features(self, images: list[Tensor], targets: list[dict[str, Tensor]] | None = None) -> Features:
        per_cell = self.fcos.anchor_generator.num_anchors_per_location()
        return grid_features(self.fcos, images, targets, per_cell, self._anchors)

    def padded_size(self, height: int, width: int) -> tuple[int, int]:
        return padded_size(self.fcos.transform, height, width)

    def build_classifier(self, num_classes: int) -> nn.Module:
        head = FCOSClassificationHead(self.fcos.backbone.out_channels, 1, num_classes, self.head_convs)
        return LevelClassifier(head, [1] * len(self.fcos.anchor_generator.sizes))

    def box_outputs(self, features: Features) -> Tensor:
        return torch.cat(self.fcos.head.regression_head(features.maps), dim=2)  # left, top, right, bottom, centre-ness

    def loss(self, heads: list[list[Tensor]], boxes: Tensor, features: Features) -> dict[str, Tensor]:
        outputs = {"bbox_regression": boxes[..., :4], "bbox_ctrness": boxes[..., 4:]}
        anchors = anchors_of_images(features)
        cells = [level.shape[1] for level in heads[0]]
        losses = [
            self.fcos.compute_loss(features.targets, outputs | {"cls_logits": torch.cat(levels, dim=1)}, anchors, cells)
            for levels in heads
        ]
        parts = mean_classification(losses)
        return {
            "classification": parts["classification"],
            "box_regression": parts["bbox_regression"],
            "centerness": parts["bbox_ctrness"],
        }

    def detections(self, logits: list[Tensor], boxes: Tensor, features: Features) -> list[dict[str, Tensor]]:
        sizes = [level.shape[1] for level in logits]
        outputs = {
            "cls_logits": logits,
            "bbox_regression": list(boxes[..., :4].split(sizes, dim=1)),
            "bbox_ctrness": list(boxes[..., 4:].split(sizes, dim=1)),
        }
        anchors = [list(of_image.split(sizes)) for of_image in anchors_of_images(features)]
        found = self.fcos.postprocess_detections(outputs, anchors, features.image_sizes)
        for k, (one, size) in enumerate(zip(found, features.image_sizes, strict=True)):
            scores = (torch.cat(logits, dim=1)[k].sigmoid() * boxes[k, :, 4:].sigmoid()).sqrt()
            one["instances"] = instances_of(one, scores, partial(self._decode, boxes[k], features.anchors), size)
        return self.fcos.transform.postprocess(found, features.image_sizes, features.original_sizes)

    def _decode(self, regression: Tensor, anchors: Tensor, instances: Tensor, labels: Tensor) -> Tensor:
        return self.fcos.box_coder.decode(regression[instances, :4], anchors[instances])


@takes_photographs(GroupedPhotographs)
def fcos_resnet50_fpn(
    num_classes: Classes, photographs: GroupedPhotographs, *, head_convs: HeadConvs = 4
) -> FCOSDetector:
    """Return FCOS with ResNet-50.

    Parameters as in `retinanet_resnet50_fpn`; `fpn_channels` in multiples of 32 from 64.
    """
    backbone = photographs.retina_pyramid("resnet50")
    return FCOSDetector(backbone, num_classes, head_convs, **photographs.transform, **POSTPROCESSING)
