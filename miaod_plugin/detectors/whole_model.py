"""Models that keep their instances inside: they show detections and feature maps or embeddings, and nothing between."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..errors import ConfigError
from .base import Detector, Features

DETECTION = {"boxes": torch.float32, "labels": torch.int64, "scores": torch.float32}


@dataclass
class ModelFeatures(Features):
    """`Features` without anchors, with what the model made of the batch: its losses, or its detections.

    Attributes
    ----------
    losses : dict of Tensor or None
    found : list of dict or None
        ``boxes``, ``labels``, ``scores`` of each image, best first.
    vectors : Tensor, (B, d), or None
        The embeddings, where they are not the averages of the maps.
    """

    losses: dict[str, Tensor] | None = None
    found: list[dict[str, Tensor]] | None = None
    vectors: Tensor | None = None


class WholeModel(Detector):
    """A detector whose `features` hold all that its model made of a batch; MI-AOD cannot train it."""

    supervised_only = True

    def build_classifier(self, num_classes: int) -> nn.Module:
        return _NoClassifier()

    def box_outputs(self, features: ModelFeatures) -> Tensor:
        return features.anchors.new_zeros(len(features.image_sizes), 0, 4)

    def loss(self, heads: list[list[Tensor]], boxes: Tensor, features: ModelFeatures) -> dict[str, Tensor]:
        return features.losses

    def detections(self, logits: list[Tensor], boxes: Tensor, features: ModelFeatures) -> list[dict[str, Tensor]]:
        return features.found

    def embeddings(self, features: ModelFeatures) -> Tensor:
        return super().embeddings(features) if features.vectors is None else features.vectors


class _NoClassifier(nn.Module):
    """Stands where other detectors have a classifier; the model classifies by itself."""

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        return []


class ForeignModel(WholeModel):
    """A fitted model of another library, which can detect and embed but not be trained here: the base of adapters.

    A subclass keeps its model and implements `look`; `ForeignDetector` makes an estimator of it.

    Parameters
    ----------
    num_classes : int
    """

    def __init__(self, num_classes: int):
        super().__init__()
        self.num_classes = num_classes
        self.place = nn.Parameter(torch.zeros(0), requires_grad=False)  # tells the device, also of models without any

    @abstractmethod
    def look(self, images: list[Tensor]) -> tuple[Sequence[Mapping], Tensor]:
        """Return what the model makes of a batch, without gradients and in evaluation mode.

        Parameters
        ----------
        images : list of Tensor, each (3, H, W)
            RGB in 0..1, on the device; all of one size.

        Returns
        -------
        detections : sequence of mappings
            Of each image ``boxes`` (m, 4), absolute ``x1, y1, x2, y2`` in its pixels, ``labels`` (m,) in
            ``0..num_classes-1`` and ``scores`` (m,) in 0..1: tensors or arrays, in any order.
        embeddings : Tensor or ndarray, (B, d)
        """

    def features(self, images: list[Tensor], targets: list[dict[str, Tensor]] | None = None) -> ModelFeatures:
        if targets is not None:
            raise ConfigError(f"{type(self).__name__} has no losses here: it is trained elsewhere")
        detections, vectors = self.look(images)
        vectors = torch.as_tensor(vectors, dtype=torch.float32)
        found = [self._checked(one) for one in detections]
        if len(found) != len(images) or vectors.ndim != 2 or len(vectors) != len(images):
            raise ConfigError(
                f"{type(self).__name__}.look: {len(found)} detections and embeddings of shape {tuple(vectors.shape)}"
                f" for {len(images)} images; return a mapping and a row for each"
            )
        sizes = [tuple(image.shape[-2:]) for image in images]
        padded = tuple(max(side) for side in zip(*sizes, strict=True))
        return ModelFeatures([], vectors.new_zeros(0, 4), sizes, sizes, padded, found=found, vectors=vectors)

    def _checked(self, found: Mapping) -> dict[str, Tensor]:
        """Return the detections of an image as tensors, best first."""
        boxes, labels, scores = (torch.as_tensor(found[name], dtype=dtype) for name, dtype in DETECTION.items())
        if boxes.shape != (len(scores), 4) or labels.shape != scores.shape or scores.ndim != 1:
            shapes = ", ".join(str(tuple(one.shape)) for one in (boxes, labels, scores))
            raise ConfigError(
                f"{type(self).__name__}.look: boxes, labels and scores of shapes {shapes}; return (m, 4), (m,), (m,)"
            )
        if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < self.num_classes:
            raise ConfigError(
                f"{type(self).__name__}.look: labels {int(labels.min())} to {int(labels.max())};"
                f" return 0 to {self.num_classes - 1}"
            )
        best = scores.argsort(descending=True, stable=True)
        return {"boxes": boxes[best], "labels": labels[best], "scores": scores[best]}
