"""What a detector must offer to be trained and queried: the adapter contract."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from ..errors import ConfigError

if TYPE_CHECKING:
    from .starting_weights import StartingWeights


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
    def per_cell(self) -> list[int]:
        """Anchors in each cell of each map."""
        cells = sum(level.shape[-2] * level.shape[-1] for level in self.maps)
        return self.anchors_per_cell or [len(self.anchors) // cells] * len(self.maps)

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
    starting_weights : StartingWeights or None
        What the network that is built from the detector is to start from, beyond the weights that it has.
    of_classes : tuple of str
        What the names of its tensors that depend on the classes begin with, as a network calls them; a classifier's
        last layer is none of them.
    torchvision_names : tuple of pairs of str
        What names of torchvision's model of such a detector begin with, and what a network calls it: the first that
        fits.
    """

    num_classes: int
    background: bool = False
    supervised_only: bool = False
    made_for: int | None = None
    starting_weights: "StartingWeights | None" = None
    of_classes: ClassVar[tuple[str, ...]] = ()
    torchvision_names: ClassVar[tuple[tuple[str, str], ...]] = ()

    @abstractmethod
    def features(self, images: list[Tensor], targets: list[dict[str, Tensor]] | None = None) -> Features:
        """Resize and normalise the images (and their targets), and compute everything the classifiers need."""

    def features_of_views(self, images: list[Tensor], seen: Features) -> Features:
        """Compute the features of images that differ from those of `seen` in colour alone, for the same instances.

        A detector that finds its instances in the image takes those that it found in `seen`.
        """
        return self.features(images)

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
        """Return ``boxes``, ``labels``, ``scores`` of each image in pixels of the image as given, best first.

        Where it is known, ``instances`` int64 (m,) tells which instance each came from, all levels in order.
        """

    def candidates(self, logits: list[Tensor], boxes: Tensor, features: Features) -> list[dict[str, Tensor]]:
        """Return what `detections` chooses from by non-maximum suppression, in the same form and in no order.

        A detector of one's own can do without; then strategies that read it do not work with it.
        """
        raise ConfigError(f"detector: {type(self).__name__} has no `candidates`, boxes before non-maximum suppression")

    def padded_size(self, height: int, width: int) -> tuple[int, int]:
        """Return the size of the tensor in which `features` computes an image of this size when it is alone.

        What is beyond the image changes the features at its edge, through convolutions, and more where they average
        over the map. Images that are padded alike may share a batch without a trace of each other; others are kept
        apart where that matters: in scoring, and in the losses on unlabelled images.
        """
        return height, width

    def instance_features(self, features: Features, images: Tensor, instances: Tensor) -> Tensor:
        """Return what the classifiers read of some instances, ``(M,)`` of images ``(M,)`` -> ``(M, D)``."""
        return cell_features(features, images, instances)

    def embeddings(self, features: Features) -> Tensor:
        """Return the average of each feature map over its image, levels side by side, ``(B, sum_l D_l)``."""
        return torch.cat([average_inside(level, features) for level in features.maps], dim=1)


def cell_features(features: Features, images: Tensor, instances: Tensor) -> Tensor:
    """Return the maps' values in the cells of some instances, ``(M,)`` and ``(M,)`` -> ``(M, D)``.

    Where maps differ in width their channels mean different things: each has columns of its own, zero elsewhere.
    """
    widths = [level.shape[1] for level in features.maps]
    alike = len(set(widths)) == 1
    found = features.maps[0].new_zeros(len(instances), widths[0] if alike else sum(widths))
    first = column = 0
    for level, count in zip(features.maps, features.per_cell, strict=True):
        height, width = level.shape[-2:]
        after = first + count * height * width
        here = ((instances >= first) & (instances < after)).nonzero()[:, 0]
        cells = torch.div(instances[here] - first, count, rounding_mode="floor")
        found[here, column : column + level.shape[1]] = level[images[here], :, cells // width, cells % width]
        first, column = after, 0 if alike else column + level.shape[1]
    return found


def average_inside(level: Tensor, features: Features) -> Tensor:
    """Return the average of a feature map ``(B, D, H, W)`` over each image without its padding, ``(B, D)``."""
    if not features.padded:
        return level.mean(dim=(2, 3))
    inside = cells_inside(level.shape[-2:], features)[:, None].to(level)
    return (level * inside).sum(dim=(2, 3)) / inside.sum(dim=(2, 3)).clamp(min=1)


def group_by_padded_size(detector: Detector, images: list[Tensor]) -> list[list[Tensor]]:
    """Return the images ``(3, H, W)`` in groups of which each is padded alike; see `Detector.padded_size`."""
    groups: dict[tuple[int, int], list[Tensor]] = {}
    for image, size in zip(images, padded_sizes(detector, images), strict=True):
        groups.setdefault(size, []).append(image)
    return list(groups.values())


def padded_sizes(detector: Detector, images: list[Tensor]) -> list[tuple[int, int]]:
    """Return the `Detector.padded_size` of each image ``(3, H, W)``."""
    return [detector.padded_size(*image.shape[-2:]) for image in images]


def cells_inside(shape: tuple[int, int], features: Features) -> Tensor:
    """Return which cells of a feature map of `shape` (H, W) have their centre on the image, bool ``(B, H, W)``."""
    rows, columns = (
        (torch.arange(cells) + 0.5) * pixels / cells for cells, pixels in zip(shape, features.padded_size, strict=True)
    )
    sizes = torch.tensor(features.image_sizes)
    inside = (rows < sizes[:, :1])[:, :, None] & (columns < sizes[:, 1:])[:, None, :]
    return inside.to(features.maps[0].device, non_blocking=True)  # found on the host, which knows all sizes
