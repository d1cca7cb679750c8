"""torchvision's FCOS, an anchor-free detector, as MI-AOD needs it."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection import FCOS, FCOS_ResNet50_FPN_Weights
from torchvision.models.detection.fcos import FCOSClassificationHead, FCOSHead

from .base import Detector, Features
from .losses import focal_loss, giou_losses, per_positive
from .matching import Positives, match_cells
from .options import Classes, HeadConvs
from .photographs import GroupedPhotographs, takes_photographs
from .postprocessing import Candidates, best_of_levels, clipped, finished, unsuppressed
from .precision import HalfSequential
from .retinanet import POSTPROCESSING
from .starting_weights import starts_from_detectors
from .torchvision_parts import (
    Anchors,
    LevelClassifier,
    grid_features,
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

    torchvision_names = (("head.classification_head.", "classifiers.0.head."), ("", "detector.fcos."))

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
        level_cells, coder = [level.shape[1] for level in heads[0]], self.fcos.box_coder
        matches = match_cells(features.anchors, features.targets, level_cells, self.fcos.center_sampling_radius)
        positives = Positives.of(matches, features.targets)
        classification = [focal_loss(torch.cat(levels, dim=1), matches, positives, "batch") for levels in heads]
        outputs, cells = boxes[positives.image, positives.anchor], features.anchors[positives.anchor]  # (P, 5), (P, 4)
        box_losses = giou_losses(coder.decode(outputs[:, :4], cells), positives.boxes)
        wanted = centerness(coder.encode(cells, positives.boxes))
        centre_losses = F.binary_cross_entropy_with_logits(outputs[:, 4], wanted, reduction="none")
        return {
            "classification": torch.stack(classification).mean(),
            "box_regression": per_positive(box_losses, matches, positives, "batch"),
            "centerness": per_positive(centre_losses, matches, positives, "batch"),
        }

    def detections(self, logits: list[Tensor], boxes: Tensor, features: Features) -> list[dict[str, Tensor]]:
        found, decoded = self._candidates(logits, boxes, features)
        return finished(found, decoded, features, self.fcos.nms_thresh, self.fcos.detections_per_img)

    def candidates(self, logits: list[Tensor], boxes: Tensor, features: Features) -> list[dict[str, Tensor]]:
        return unsuppressed(*self._candidates(logits, boxes, features), features)

    def _candidates(self, logits: list[Tensor], boxes: Tensor, features: Features) -> tuple[Candidates, Tensor]:
        """Return the instances above the score threshold, and their boxes in pixels of the resized images."""
        fcos, sizes = self.fcos, [level.shape[1] for level in logits]
        scores = (torch.cat(logits, dim=1).sigmoid() * boxes[..., 4:].sigmoid()).sqrt()
        found = best_of_levels(scores, sizes, fcos.score_thresh, fcos.topk_candidates)
        regression, cells = boxes[found.images, found.instances, :4], features.anchors[found.instances]
        decoded = clipped(fcos.box_coder.decode(regression, cells), found.images, features.image_sizes)
        return found, decoded


def centerness(sides: Tensor) -> Tensor:
    """Return how central points lie in boxes, 0..1, from the distances to their sides, ``(P, 4)`` -> ``(P,)``."""
    left, top, right, bottom = sides.unbind(dim=1)
    across = torch.minimum(left, right) / torch.maximum(left, right)
    return (across * torch.minimum(top, bottom) / torch.maximum(top, bottom)).sqrt()


@starts_from_detectors(FCOS_ResNet50_FPN_Weights)
@takes_photographs(GroupedPhotographs)
def fcos_resnet50_fpn(
    num_classes: Classes, photographs: GroupedPhotographs, *, head_convs: HeadConvs = 4
) -> FCOSDetector:
    """Return FCOS with ResNet-50.

    Parameters as in `retinanet_resnet50_fpn`; `fpn_channels` in multiples of 32 from 64.
    """
    backbone = photographs.retina_pyramid("resnet50")
    return FCOSDetector(backbone, num_classes, head_convs, **photographs.transform, **POSTPROCESSING)
