"""What a detector must offer to be trained and queried: the adapter contract, and the network MI-AOD builds from it."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from ..errors import ConfigError
from ..registry import DETECTORS, registered


@dataclass
class Features:
    """What a detector computes once for a batch of images, before any classifier.

    Attributes
    ----------
    maps : list of Tensor, each (B, D_l, H_l, W_l)
        One feature map per level, what the classifiers read.
    anchors : Tensor, (A, 4), or (B, A, 4) where each image has its own
        The instances' reference boxes ``x1, y1, x2, y2`` in pixels of the resized images, all levels in order.
    image_sizes : list of (int, int)
        Height and width of each resized image, without padding.
    original_sizes : list of (int, int)
        Height and width of each image as it was given; detections are in these pixels.
    padded_size : (int, int)
        Height and width of the tensor that the resized images were padded to; the maps cover all of it.
    targets : list of dict or None
        ``boxes`` and ``labels`` per image in pixels of the resized images.
    valid : list of Tensor of bool, each (B, A_l), or None
        Instances on the image rather than on padding; ``None`` when nothing was padded.
    anchors_per_cell : list of int, or None
        Anchors in each cell of each map; ``None`` when it is the same number in all.
    """

    maps: list[Tensor]
    anchors: Tensor
    image_sizes: list[tuple[int, int]]
    original_sizes: list[tuple[int, int]]
    padded_size: tuple[int, int]
    targets: list[dict[str, Tensor]] | None = None
    valid: list[Tensor] | None = None
    anchors_per_cell: list[int] | None = None

    @property
    def padded(self) -> bool:
        """Whether any image of the batch is smaller than the tensor it lies in."""
        return any(tuple(size) != self.padded_size for size in self.image_sizes)


class Detector(nn.Module, ABC):
    """A detector seen as MI-AOD sees it: instances, with classifiers that can be built more than once.

    A subclass wraps a detection network and implements the methods below. Labels are ``0..num_classes-1`` without a
    background class; images are float tensors ``(3, H, W)`` in 0..1, of any sizes.

    Attributes
    ----------
    num_classes : int
        The number of classes, C.
    background : bool
        Class probabilities are a softmax in which background takes part: the last of the C + 1 logits of each instance.
        By default there are C logits and each class has a sigmoid of its own.
    supervised_only : bool
        The detector keeps its instances to itself, so that MI-AOD cannot train it.
    made_for : int or None
        Side in pixels of the images it is made for, where it takes images at the size they have: instances, time and
        memory grow with an image, and its anchors do not. ``None`` where it resizes them.
    """

    num_classes: int
    background: bool = False
    supervised_only: bool = False
    made_for: int | None = None

    @abstractmethod
    def features(self, images: list[Tensor], targets: list[dict[str, Tensor]] | None = None) -> Features:
        """Resize and normalise the images (and their targets), and compute everything the classifiers need."""

    @abstractmethod
    def build_classifier(self, num_classes: int) -> nn.Module:
        """Return a freshly initialised classification head: feature maps -> logits per level, each ``(B, A_l, C)``.

        `num_classes` is the detector's own, or one more: background, of a softmax detector or a MIL head.
        """

    @abstractmethod
    def box_outputs(self, features: Features) -> Tensor:
        """Return the box regression of every instance, ``(B, A, 4)``, or as many numbers as the detector needs."""

    @abstractmethod
    def loss(self, heads: list[list[Tensor]], boxes: Tensor, features: Features) -> dict[str, Tensor]:
        """Return the named parts of the detection loss, the classification part averaged over the classifiers.

        Parameters
        ----------
        heads : list over classifiers of lists over levels of Tensor, each (B, A_l, C)
        boxes : Tensor, (B, A, 4)
        features : Features
            With ``targets``; an image may have no box.
        """

    @abstractmethod
    def detections(self, logits: list[Tensor], boxes: Tensor, features: Features) -> list[dict[str, Tensor]]:
        """Return ``boxes``, ``labels``, ``scores`` of each image in pixels of the image as given, best first."""

    def padded_size(self, height: int, width: int) -> tuple[int, int]:
        """Return the size of the tensor in which `features` computes an image of this size when it is alone.

        What is beyond the image changes the features at its edge, through convolutions, and more where they average
        over the map. Images that are padded alike may share a batch without a trace of each other; others are kept
        apart where that matters: in scoring, and in the losses on unlabelled images.
        """
        return height, width

    def embeddings(self, features: Features) -> Tensor:
        """Return the average of each feature map over its image, levels side by side, ``(B, sum_l D_l)``."""
        return torch.cat([average_inside(level, features) for level in features.maps], dim=1)


@dataclass
class InstanceOutputs:
    """Everything a network says about the instances of a batch: what a reducer of `map_pool` gets.

    Attributes
    ----------
    heads : list over classifiers of lists over levels of Tensor, each (B, A_l, C)
        Class logits; one classifier for a supervised detector, f1 and f2 for MI-AOD. C counts the background of a
        softmax detector.
    mil_logits : list of Tensor, each (B, A_l, C) or (B, A_l, C + 1), or None
        Logits of the MIL head, background last if it knows one.
    boxes : Tensor, (B, A, 4)
        Box regression.
    features : Features
    """

    heads: list[list[Tensor]]
    mil_logits: list[Tensor] | None
    boxes: Tensor
    features: Features
    network: "DetectionNetwork"

    @property
    def valid(self) -> list[Tensor] | None:
        """Instances on the image rather than on padding, each ``(B, A_l)``; ``None`` when all are."""
        return self.features.valid

    @property
    def image_sizes(self) -> list[tuple[int, int]]:
        """Height and width of each image as it was given, in pixels."""
        return self.features.original_sizes

    @cached_property
    def logits(self) -> list[Tensor]:
        """The class logits that detections are made from, each ``(B, A_l, C)``."""
        if self.network.detect_with == "first":
            return self.heads[0]
        return [torch.stack(level).mean(dim=0) for level in zip(*self.heads, strict=True)]

    @cached_property
    def detections(self) -> list[dict[str, Tensor]]:
        """``boxes``, ``labels``, ``scores`` of each image, best first."""
        return self.network.detector.detections(self.logits, self.boxes, self.features)

    @cached_property
    def embeddings(self) -> Tensor:
        """A vector for each image, ``(B, d)``; by default the average of each feature map."""
        return self.network.detector.embeddings(self.features)

    @property
    def loss(self) -> dict[str, Tensor]:
        """The named parts of the detection loss, the classification part averaged over the classifiers."""
        return self.network.detector.loss(self.heads, self.boxes, self.features)


def average_inside(level: Tensor, features: Features) -> Tensor:
    """Return the average of a feature map ``(B, D, H, W)`` over each image without its padding, ``(B, D)``."""
    if not features.padded:
        return level.mean(dim=(2, 3))
    inside = cells_inside(level.shape[-2:], features)[:, None].to(level)
    return (level * inside).sum(dim=(2, 3)) / inside.sum(dim=(2, 3)).clamp(min=1)


def group_by_padded_size(detector: Detector, images: list[Tensor]) -> list[list[Tensor]]:
    """Return the images ``(3, H, W)`` in groups of which each is padded alike; see `Detector.padded_size`."""
    groups: dict[tuple[int, int], list[Tensor]] = {}
    for image in images:
        groups.setdefault(detector.padded_size(*image.shape[-2:]), []).append(image)
    return list(groups.values())


def cells_inside(shape: tuple[int, int], features: Features) -> Tensor:
    """Return which cells of a feature map of `shape` (H, W) have their centre on the image, bool ``(B, H, W)``."""
    device = features.maps[0].device
    rows, columns = (
        (torch.arange(cells, device=device) + 0.5) * pixels / cells
        for cells, pixels in zip(shape, features.padded_size, strict=True)
    )
    sizes = torch.tensor(features.image_sizes, device=device)
    return (rows < sizes[:, :1])[:, :, None] & (columns < sizes[:, 1:])[:, None, :]


class DetectionNetwork(nn.Module):
    """A detector with one classifier, or with MI-AOD's two adversarial classifiers f1, f2 and its MIL head.

    Parameters
    ----------
    detector : Detector
    adversarial : bool
        Build f1, f2 and the MIL head (Figure 2 of the paper) rather than a single classifier.
    background : bool
        Give the MIL head one more class, the background; that of a softmax detector always has it.
    detect_with : {"mean", "first"}
        Make detections from the mean of the classifiers' logits, or from the first alone.
    """

    def __init__(
        self, detector: Detector, adversarial: bool = False, background: bool = False, detect_with: str = "mean"
    ):
        super().__init__()
        if adversarial and detector.supervised_only:
            raise ConfigError(
                f"detector: {type(detector).__name__} can be trained supervised only; use ObjectDetector, or for MI-AOD"
                f" one of {', '.join(registered(DETECTORS))}, or a Detector of your own"
            )
        classes = detector.num_classes + detector.background
        self.detector = detector
        self.classifiers = nn.ModuleList(detector.build_classifier(classes) for _ in range(2 if adversarial else 1))
        mil_classes = detector.num_classes + (background or detector.background)
        self.mil_head = detector.build_classifier(mil_classes) if adversarial else None
        self.detect_with = detect_with

    def forward(self, images: list[Tensor], targets: list[dict[str, Tensor]] | None = None) -> InstanceOutputs:
        """Compute the outputs of every instance; gradients reach the detector only if any of it trains."""
        detector_trains = any(parameter.requires_grad for parameter in self.detector.parameters())
        with torch.set_grad_enabled(torch.is_grad_enabled() and detector_trains):
            features = self.detector.features(images, targets)
            boxes = self.detector.box_outputs(features)
        return InstanceOutputs(
            heads=[classifier(features.maps) for classifier in self.classifiers],
            mil_logits=None if self.mil_head is None else self.mil_head(features.maps),
            boxes=boxes,
            features=features,
            network=self,
        )
