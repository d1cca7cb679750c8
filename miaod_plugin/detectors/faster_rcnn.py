"""torchvision's Faster R-CNN as MI-AOD needs it: the instances are its proposals."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection import (
    FasterRCNN,
    FasterRCNN_MobileNet_V3_Large_320_FPN_Weights,
    FasterRCNN_ResNet50_FPN_Weights,
)
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import remove_small_boxes

from ..distributed.group import normaliser
from .base import Detector, Features, average_inside
from .box_coding import decode
from .options import Classes, HeadFeatures, Proposals
from .photographs import Photographs, takes_photographs
from .postprocessing import Candidates, all_above, clipped, finished, unsuppressed
from .precision import HalfPrecision, HalfSequential
from .proposals import pool, propose, regression_loss, sample_proposals
from .starting_weights import starts_from_detectors
from .torchvision_parts import Anchors, background_first, padded_size, transformed

IGNORED = -100  # by torch's cross-entropy

# At test time of the paper (section 4.1): score threshold 0.05, NMS at 0.5, 100 boxes.
POSTPROCESSING = {"box_score_thresh": 0.05, "box_nms_thresh": 0.5, "box_detections_per_img": 100}


@dataclass
class ProposalFeatures(Features):
    """`Features` whose one level holds the box head's output for each of P proposals, ``(B, P, D)``; see `valid`.

    Attributes
    ----------
    pyramid : list of Tensor, each (B, D, H_l, W_l)
        The backbone's feature maps.
    proposal_loss : dict of Tensor
        The loss parts of the region proposal network; empty without targets.
    labels, boxes : Tensor, (B, P) and (B, P, 4), or None
        The class of each sampled proposal, -1 for background, and the box it should become.
    """

    pyramid: list[Tensor] | None = None
    proposal_loss: dict[str, Tensor] | None = None
    labels: Tensor | None = None
    boxes: Tensor | None = None


class FasterRCNNDetector(Detector):
    """torchvision's `FasterRCNN` behind the adapter contract.

    A labelled batch samples proposals around its boxes as torchvision's training does; an unlabelled one takes the
    proposals of test time. The classifiers are linear layers on the box head's features.

    Parameters
    ----------
    backbone : Module
        Images -> feature maps, with `out_channels`.
    num_classes : int
    head_features : int
        Width of the box head's two layers.
    **faster_rcnn
        Keyword arguments of `torchvision.models.detection.FasterRCNN`.
    """

    background = True
    of_classes = ("detector.box_predictor.",)
    torchvision_names = (
        ("roi_heads.box_predictor.cls_score.", "classifiers.0.class_logits."),
        ("roi_heads.box_predictor.bbox_pred.", "detector.box_predictor."),
        ("", "detector.rcnn."),
    )

    def __init__(self, backbone: nn.Module, num_classes: int, head_features: int = 1024, **faster_rcnn):
        super().__init__()
        self.num_classes = num_classes
        self.head_features = head_features
        predictor = FastRCNNPredictor(head_features, num_classes + 1)
        self.rcnn = FasterRCNN(
            backbone,
            box_head=HalfBoxHead(backbone.out_channels * 7**2, head_features),
            box_predictor=nn.Identity(),  # the network's classifiers and the next line take its place
            **faster_rcnn,
        )
        self.rcnn.rpn.head.conv = HalfSequential(*self.rcnn.rpn.head.conv)
        self.box_predictor = predictor.bbox_pred
        self._anchors = Anchors(self.rcnn.rpn.anchor_generator)

    def features(self, images: list[Tensor], targets: list[dict[str, Tensor]] | None = None) -> ProposalFeatures:
        batch, targets = transformed(self.rcnn, images, targets)
        pyramid = self.rcnn.backbone(batch.tensors)
        maps = list(pyramid.values())
        # with targets, losses and the many proposals of training; without, the proposals of test time in every round
        rpn = self.rcnn.rpn.train(targets is not None)
        proposals, valid, proposal_loss = propose(rpn, batch, maps, self._anchors(batch, maps), targets)
        labels = boxes = None
        if targets is not None:
            proposals, valid, labels, boxes = sample_proposals(self.rcnn.roi_heads, proposals, valid, targets)
        features = self._pooled(images, batch, pyramid, proposals, valid)
        return replace(features, targets=targets, proposal_loss=proposal_loss, labels=labels, boxes=boxes)

    def features_of_views(self, images: list[Tensor], seen: ProposalFeatures) -> ProposalFeatures:
        batch, _ = transformed(self.rcnn, images, None)
        return self._pooled(images, batch, self.rcnn.backbone(batch.tensors), seen.anchors, seen.valid[0])

    def _pooled(
        self, images: list[Tensor], batch: ImageList, pyramid: dict[str, Tensor], proposals: Tensor, valid: Tensor
    ) -> ProposalFeatures:
        """Return the features of proposals ``(B, P, 4)`` of which ``(B, P)`` are some."""
        padded, heads = tuple(batch.tensors.shape[-2:]), self.rcnn.roi_heads
        pooled, rows = pool(heads.box_roi_pool, pyramid, proposals, valid, padded)
        boxed = heads.box_head(pooled)
        boxed = boxed.new_zeros(valid.numel(), self.head_features).index_copy(0, rows, boxed).view(*valid.shape, -1)
        sizes = [tuple(image.shape[-2:]) for image in images]
        maps = list(pyramid.values())
        return ProposalFeatures([boxed], proposals, batch.image_sizes, sizes, padded, valid=[valid], pyramid=maps)

    def padded_size(self, height: int, width: int) -> tuple[int, int]:
        return padded_size(self.rcnn.transform, height, width)

    def build_classifier(self, num_classes: int) -> nn.Module:
        return ProposalClassifier(self.head_features, num_classes)

    def box_outputs(self, features: ProposalFeatures) -> Tensor:
        return self.box_predictor(features.maps[0])  # four numbers for background, then for each class

    def loss(self, heads: list[list[Tensor]], boxes: Tensor, features: ProposalFeatures) -> dict[str, Tensor]:
        valid, positive = features.valid[0], features.labels >= 0
        count = normaliser(valid.sum())
        wanted = torch.where(positive, features.labels, self.num_classes)  # background is last
        classification = [
            F.cross_entropy(logits.transpose(1, 2), torch.where(valid, wanted, IGNORED), reduction="sum") / count
            for (logits,) in heads
        ]
        # four numbers for background, then for each class
        of_class = (features.labels + 1)[..., None, None].expand(-1, -1, 1, 4)
        regression = boxes.unflatten(2, (-1, 4)).gather(2, of_class).squeeze(2)
        coder = self.rcnn.roi_heads.box_coder
        return {
            "classification": torch.stack(classification).mean(),
            "box_regression": regression_loss(regression, features.anchors, features.boxes, positive, coder) / count,
            **features.proposal_loss,
        }

    def detections(self, logits: list[Tensor], boxes: Tensor, features: ProposalFeatures) -> list[dict[str, Tensor]]:
        found, decoded = self._candidates(logits, boxes, features)
        return finished(
            found, decoded, features, self.rcnn.roi_heads.nms_thresh, self.rcnn.roi_heads.detections_per_img
        )

    def candidates(self, logits: list[Tensor], boxes: Tensor, features: ProposalFeatures) -> list[dict[str, Tensor]]:
        return unsuppressed(*self._candidates(logits, boxes, features), features)

    def _candidates(self, logits: list[Tensor], boxes: Tensor, features: ProposalFeatures) -> tuple[Candidates, Tensor]:
        """Return the instances above the score threshold, and their boxes in pixels of the resized images."""
        heads, scores = self.rcnn.roi_heads, background_first(logits[0]).softmax(dim=-1)[..., 1:]
        # padding scores nothing
        found = all_above(scores.masked_fill(~features.valid[0][..., None], -1), heads.score_thresh)
        # four numbers for each class, background first
        regression = boxes.unflatten(2, (-1, 4))[found.images, found.instances, found.labels + 1]
        proposals = features.anchors[found.images, found.instances]
        decoded = clipped(decode(regression, proposals, heads.box_coder), found.images, features.image_sizes)
        large = remove_small_boxes(decoded, min_size=1e-2)
        return found.at(large), decoded[large]

    def instance_features(self, features: ProposalFeatures, images: Tensor, instances: Tensor) -> Tensor:
        return features.maps[0][images, instances]

    def embeddings(self, features: ProposalFeatures) -> Tensor:
        return torch.cat([average_inside(level, features) for level in features.pyramid], dim=1)


class HalfBoxHead(HalfPrecision, TwoMLPHead):
    """torchvision's box head, which may compute in half precision."""


class ProposalClassifier(nn.Module):
    """A linear layer on the box head's features: one level ``(B, P, D)`` -> logits ``(B, P, C)``."""

    def __init__(self, in_features: int, num_classes: int):
        super().__init__()
        self.class_logits = nn.Linear(in_features, num_classes)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        return [self.class_logits(maps[0])]


@starts_from_detectors(FasterRCNN_ResNet50_FPN_Weights, zero_eps=True)
@takes_photographs()
def fasterrcnn_resnet50_fpn(
    num_classes: Classes,
    photographs: Photographs,
    *,
    head_features: HeadFeatures = 1024,
    proposals: Proposals = 1000,
    sampled_proposals: Proposals = 512,
) -> FasterRCNNDetector:
    """Return Faster R-CNN with ResNet-50.

    Parameters
    ----------
    head_features : int
        Width of the box head's two layers.
    proposals : int
        Most proposals of an image at test time, and of an unlabelled image in training.
    sampled_proposals : int
        Proposals of a labelled image that the box head is trained on.
    """
    sizes = ((32,), (64,), (128,), (256,), (512,))
    return _with_proposals(photographs, "resnet50", sizes, num_classes, head_features, proposals, sampled_proposals)


@starts_from_detectors(FasterRCNN_MobileNet_V3_Large_320_FPN_Weights)
@takes_photographs(min_size=320, max_size=640)
def fasterrcnn_mobilenet_v3_large_320_fpn(
    num_classes: Classes,
    photographs: Photographs,
    *,
    head_features: HeadFeatures = 1024,
    proposals: Proposals = 150,
    sampled_proposals: Proposals = 512,
) -> FasterRCNNDetector:
    """Return Faster R-CNN with MobileNetV3 for small images; parameters as in `fasterrcnn_resnet50_fpn`."""
    return _with_proposals(
        photographs,
        "mobilenet_v3_large",
        ((32, 64, 128, 256, 512),) * 3,
        num_classes,
        head_features,
        proposals,
        sampled_proposals,
    )


def _with_proposals(
    photographs: Photographs,
    backbone: str,
    anchor_sizes: tuple[tuple[int, ...], ...],
    num_classes: int,
    head_features: int,
    proposals: int,
    sampled_proposals: int,
) -> FasterRCNNDetector:
    return FasterRCNNDetector(
        photographs.pyramid(backbone),
        num_classes,
        head_features,
        rpn_anchor_generator=AnchorGenerator(anchor_sizes, ((0.5, 1.0, 2.0),) * len(anchor_sizes)),
        rpn_pre_nms_top_n_test=proposals,
        rpn_post_nms_top_n_test=proposals,
        box_batch_size_per_image=sampled_proposals,
        **photographs.transform,
        **POSTPROCESSING,
    )
