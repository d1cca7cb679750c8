"""torchvision's second RetinaNet: heads with GroupNorm, boxes learnt by generalised IoU, P6 made from the backbone."""

from functools import partial

from torch import Tensor, nn
from torchvision.models.detection import RetinaNet_ResNet50_FPN_V2_Weights
from torchvision.models.detection.retinanet import RetinaNetClassificationHead, RetinaNetRegressionHead

from .box_coding import decode
from .losses import giou_losses
from .options import Classes, HeadConvs
from .photographs import GroupedPhotographs, takes_photographs
from .precision import HalfSequential
from .retinanet import POSTPROCESSING, RetinaNetDetector, pyramid_anchors
from .starting_weights import starts_from_detectors
from .torchvision_parts import LevelClassifier

GROUP_NORM = partial(nn.GroupNorm, 32)


class RetinaNetV2Detector(RetinaNetDetector):
    """`RetinaNetDetector` with the heads and the box loss of torchvision's `retinanet_resnet50_fpn_v2`."""

    torchvision_names = (("head.classification_head.", "classifiers.0.head."), ("", "detector.retinanet."))

    def __init__(self, backbone: nn.Module, num_classes: int, head_convs: int = 4, **retinanet):
        super().__init__(backbone, num_classes, head_convs, **retinanet)
        head = RetinaNetRegressionHead(backbone.out_channels, self.anchors_per_cell, norm_layer=GROUP_NORM)
        head.conv = HalfSequential(*head.conv[:head_convs])
        self.retinanet.head.regression_head = head

    def build_classifier(self, num_classes: int) -> nn.Module:
        channels = self.retinanet.backbone.out_channels
        head = RetinaNetClassificationHead(channels, self.anchors_per_cell, num_classes, norm_layer=GROUP_NORM)
        head.conv = HalfSequential(*head.conv[: self.head_convs])
        return LevelClassifier(head, self.retinanet.anchor_generator.num_anchors_per_location())

    def _box_losses(self, regression: Tensor, anchors: Tensor, wanted: Tensor) -> Tensor:
        return giou_losses(decode(regression, anchors, self.retinanet.box_coder), wanted)


@starts_from_detectors(RetinaNet_ResNet50_FPN_V2_Weights)
@takes_photographs(GroupedPhotographs)
def retinanet_resnet50_fpn_v2(
    num_classes: Classes, photographs: GroupedPhotographs, *, head_convs: HeadConvs = 4
) -> RetinaNetV2Detector:
    """Return torchvision's improved RetinaNet with ResNet-50.

    Parameters as in `retinanet_resnet50_fpn`; `fpn_channels` in multiples of 32 from 64.
    """
    backbone = photographs.retina_pyramid("resnet50", p6_from="backbone")
    return RetinaNetV2Detector(
        backbone, num_classes, head_convs, **pyramid_anchors(32), **photographs.transform, **POSTPROCESSING
    )
