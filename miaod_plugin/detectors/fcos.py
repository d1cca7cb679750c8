"""torchvision's FCOS, an anchor-free detector, as MI-AOD needs it."""

import torch
from torch import Tensor, nn
from torchvision.models.detection import FCOS
from torchvision.models.detection.fcos import FCOSClassificationHead, FCOSHead

from .base import Detector, Features
from .options import Classes, HeadConvs
from .photographs import GroupedPhotographs, takes_photographs
from .postprocessing import best_of_levels, clipped, finished
from .precision import HalfSequential
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
        head.regression_head.conv = HalfSequential(*head.regression_head.conv)
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
        head.conv = HalfSequential(*head.conv)
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
        fcos, sizes = self.fcos, [level.shape[1] for level in logits]
        scores = (torch.cat(logits, dim=1).sigmoid() * boxes[..., 4:].sigmoid()).sqrt()
        found = best_of_levels(scores, sizes, fcos.score_thresh, fcos.topk_candidates)
        regression, cells = boxes[found.images, found.instances, :4], features.anchors[found.instances]
        decoded = clipped(fcos.box_coder.decode(regression, cells), found.images, features)
        return finished(found, decoded, features, fcos.nms_thresh, fcos.detections_per_img)


@takes_photographs(GroupedPhotographs)
def fcos_resnet50_fpn(
    num_classes: Classes, photographs: GroupedPhotographs, *, head_convs: HeadConvs = 4
) -> FCOSDetector:
    """Return FCOS with ResNet-50.

    Parameters as in `retinanet_resnet50_fpn`; `fpn_channels` in multiples of 32 from 64.
    """
    backbone = photographs.retina_pyramid("resnet50")
    return FCOSDetector(backbone, num_classes, head_convs, **photographs.transform, **POSTPROCESSING)
