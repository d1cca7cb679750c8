"""The network that is trained: a detector with one classifier, or with the two and the MIL head of MI-AOD."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from ..errors import ConfigError
from ..randomness import seeded
from ..registry import DETECTORS, registered
from .base import Detector, Features


def require_instances(detector: Detector, training: str) -> None:
    """Raise a ConfigError that names the mend if a detector keeps its instances from a training that needs them."""
    if detector.supervised_only:
        raise ConfigError(
            f"detector: {type(detector).__name__} can be trained supervised only; leave out `training`, or for"
            f" {training} choose one of {', '.join(registered(DETECTORS))}, or a Detector of your own"
        )


@dataclass
class InstanceOutputs:
    """Everything a network says about the instances of a batch: what a reducer of `map_pool` gets.

    What follows from the features is computed when it is first read, with gradients or in inference mode as they were,
    so that a pass costs what its reducers need.

    Attributes
    ----------
    features : Features
    network : DetectionNetwork
    annotated : (list of Tensor, list of dict) or None
        The images and their targets in pixels of the image, in a pass over annotated images.
    """

    features: Features
    network: "DetectionNetwork"
    annotated: tuple[list[Tensor], list[dict[str, Tensor]]] | None = None

    def __post_init__(self):
        self._modes = torch.is_inference_mode_enabled(), torch.is_grad_enabled()

    @contextmanager
    def _as_in_forward(self, *, gradients: bool = True) -> Iterator[None]:
        inference, grad = self._modes
        with torch.inference_mode(inference), torch.set_grad_enabled(grad and gradients):
            yield

    def _output_of(self, head: nn.Module) -> list[Tensor]:
        with self._as_in_forward():
            return head(self.features.maps)

    @cached_property
    def heads(self) -> list[list[Tensor]]:
        """Class logits; one classifier for a supervised detector, f1 and f2 for MI-AOD.

        Lists over classifiers of lists over levels, each ``(B, A_l, C)``; C counts a softmax detector's background.
        """
        return [self._first_head, *map(self._output_of, self.network.classifiers[1:])]

    @cached_property
    def _first_head(self) -> list[Tensor]:
        return self._output_of(self.network.classifiers[0])

    @cached_property
    def mil_logits(self) -> list[Tensor] | None:
        """Logits of the MIL head if there is one, each ``(B, A_l, C)`` or with background last ``(B, A_l, C + 1)``."""
        return None if self.network.mil_head is None else self._output_of(self.network.mil_head)

    @cached_property
    def boxes(self) -> Tensor:
        """Box regression, ``(B, A, 4)``; gradients reach it only if any of the detector trains."""
        with self._as_in_forward(gradients=self.network.detector_trains):
            return self.network.detector.box_outputs(self.features)

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
            return self._first_head
        return [torch.stack(level).mean(dim=0) for level in zip(*self.heads, strict=True)]

    @cached_property
    def detections(self) -> list[dict[str, Tensor]]:
        """``boxes``, ``labels``, ``scores`` and, of most detectors, ``instances`` of each image, best first."""
        return self.network.detector.detections(self.logits, self.boxes, self.features)

    @cached_property
    def detection_rows(self) -> list[Tensor]:
        """Box, label and score of each image's detections, ``(m, 6)`` float32, best first: rows that can be kept."""
        return [_rows(found) for found in self.detections]

    @cached_property
    def candidate_rows(self) -> list[Tensor]:
        """The same of what detections are chosen from by non-maximum suppression, ``(k, 6)``, in no order."""
        return [_rows(found) for found in self.network.detector.candidates(self.logits, self.boxes, self.features)]

    @cached_property
    def detected_instances(self) -> tuple[Tensor, Tensor]:
        """The image and the instance of every detection of the batch, those of the first image first, each ``(M,)``."""
        if any("instances" not in found for found in self.detections):
            raise ConfigError(
                f"detector: {type(self.network.detector).__name__} does not say which instances its detections come"
                " from; choose a strategy that does not look into them, such as entropy or coreset"
            )
        instances = [found["instances"] for found in self.detections]
        images = [torch.full_like(of_image, image) for image, of_image in enumerate(instances)]
        return torch.cat(images), torch.cat(instances)

    @cached_property
    def detection_features(self) -> list[Tensor]:
        """What the classifiers read of the instance of each detection, a ``(m, D)`` for each image."""
        features = self.network.detector.instance_features(self.features, *self.detected_instances)
        return list(features.float().split([len(found["scores"]) for found in self.detections]))

    @cached_property
    def embeddings(self) -> Tensor:
        """A vector for each image, ``(B, d)``; by default the average of each feature map."""
        return self.network.detector.embeddings(self.features)

    @property
    def loss(self) -> dict[str, Tensor]:
        """The named parts of the detection loss, the classification part averaged over the classifiers.

        It is the batch's, of a network that was given targets. A pass over a pool gives none, since some detectors then
        choose other instances; for annotated images it has `losses`.
        """
        return self.network.detector.loss(self.heads, self.boxes, self.features)

    @cached_property
    def losses(self) -> list[dict[str, Tensor]]:
        """The parts of `loss` of each image, whatever its batch mates: computed from the image alone.

        Only in a pass that was given ``y``.
        """
        if self.annotated is None:
            raise ConfigError("y: missing; the losses of images need their targets, as in map_pool(X, reducers, y=y)")
        found = []
        for image, target in zip(*self.annotated, strict=True):
            with seeded(0, image.device):  # Faster R-CNN samples its proposals
                found.append(self.network([image], [target]).loss)
        return found


def _rows(found: dict[str, Tensor]) -> Tensor:
    return torch.cat([found["boxes"], found["labels"][:, None], found["scores"][:, None]], dim=1).float()


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
        if adversarial:
            require_instances(detector, "MI-AOD")
        classes = detector.num_classes + detector.background
        self.detector = detector
        self.classifiers = nn.ModuleList(detector.build_classifier(classes) for _ in range(2 if adversarial else 1))
        mil_classes = detector.num_classes + (background or detector.background)
        self.mil_head = detector.build_classifier(mil_classes) if adversarial else None
        self.detect_with = detect_with

    def forward(
        self, images: list[Tensor], targets: list[dict[str, Tensor]] | None = None, seen: Features | None = None
    ) -> InstanceOutputs:
        """Compute the features, and in training all outputs; gradients reach the detector only if any of it trains.

        With `seen`, features of other views of these images, the instances are theirs.
        """
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.detector_trains):
            if seen is None:
                features = self.detector.features(images, targets)
            else:
                features = self.detector.features_of_views(images, seen)
        outputs = InstanceOutputs(features, self)
        if self.training:  # where statistics of BatchNorm in a head must not depend on who reads it
            outputs.boxes, outputs.heads, outputs.mil_logits  # noqa: B018 (reading them computes them)
        return outputs

    @property
    def detector_trains(self) -> bool:
        """Whether anything trains before the classifiers and beside them."""
        return any(parameter.requires_grad for parameter in self.detector.parameters())
