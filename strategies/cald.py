"""CALD: images whose detections change when the image does."""

from math import ceil
from typing import Annotated

import numpy as np
import torch
from scipy.special import rel_entr, softmax
from torch import Tensor
from torchvision.ops import box_iou

from miaod_plugin.detectors.network import InstanceOutputs
from miaod_plugin.parameters import NonNegative, Number, Probability, RandomState, check_arguments
from miaod_plugin.query import QueryStrategy
from miaod_plugin.views import AsItIs, CutOut, Mirrored, Rotated, Scaled

VIEWS = (AsItIs(), Mirrored(), CutOut(), Scaled(0.8), Rotated(5.0))


class CALDSampling(QueryStrategy):
    """Choose images whose detections are not the same in other views, and whose classes are those that are rare so far.

    Each image is seen as it is, mirrored, with two squares cut out, scaled to four fifths and turned by five degrees. A
    detection is matched to that of a view which overlaps it most, where it should be; they agree by
    ``IoU + (1 - JS) (s + s') / 2``, with the scores s and the Jensen-Shannon divergence in nats of their class
    probabilities. Of each view the least ``|agreement - base|`` of a detection counts, at most 1, and 0 where nothing
    is found. The utility of an image is 1 less the mean over the views.

    Of the ``reach`` times as many best images as asked for, those are chosen whose class scores (the highest of each
    class, mean over the views) diverge most from the mean number of objects of each class in the annotated images.

    Detectors that resize images see the scaled one at its old size, a little blurred. The paper draws what is cut out,
    away from detections; here it is always at the same place.

    Parameters
    ----------
    base : float
        The agreement that is the most informative: neither are the boxes unlike, nor alike and sure.
    reach : float
        Images kept by their utility for each that is asked for.
    undetected : float
        Utility of an image without any detection, 1 as in the authors' implementation; at 0 such images come last, for
        a detector that has learned so little that nearly all of them are empty.
    random_state : int, optional
        Without effect: nothing is drawn.

    References
    ----------
    Yu et al., *Consistency-based Active Learning for Object Detection*, CVPR workshops 2022 (arXiv 2103.10374),
    sections 3.2 and 3.3.
    """

    needs_labeled = "targets"

    def __init__(
        self,
        base: NonNegative = 1.3,
        reach: Annotated[float, Number(1)] = 1.2,
        undetected: Probability = 1.0,
        random_state: RandomState = None,
    ):
        self.base = base
        self.reach = reach
        self.undetected = undetected
        self.random_state = random_state

    def utilities(self, estimator, X, *, labeled=None) -> np.ndarray:
        """Return how informative the changes of each image's detections are, 0..1, ``(n,)``."""
        return self._look(estimator, X)["utility"].astype(np.float64)

    def select(self, estimator, X, n_instances: int, *, labeled=None) -> tuple[np.ndarray, np.ndarray]:
        """Return ``(indices, utilities)`` of the images whose classes diverge most among the best, best first."""
        counts = self._mean_counts(self.known_images(estimator, labeled).y, len(estimator.classes_))
        seen = self._look(estimator, X)
        utilities = seen["utility"].astype(np.float64)
        best = np.argsort(-utilities, kind="stable")[: ceil(self.reach * n_instances)]
        divergence = _divergence(softmax(counts), softmax(seen["classes"][best].astype(np.float64), axis=1))
        best = best[np.sort(np.argsort(-divergence, kind="stable")[:n_instances])]
        return best, utilities[best]

    def _look(self, estimator, X) -> dict[str, np.ndarray]:
        check_arguments(type(self), self.get_params())
        return estimator.map_pool(X, {"utility": self._utility, "classes": _class_scores}, views=VIEWS)

    @staticmethod
    def _mean_counts(targets: np.ndarray, n_classes: int) -> np.ndarray:
        labels = [np.asarray(target["labels"], dtype=np.int64) for target in targets]
        return np.bincount(np.concatenate([*labels, np.zeros(0, np.int64)]), minlength=n_classes) / max(1, len(labels))

    def _utility(self, first: InstanceOutputs, *others: InstanceOutputs) -> Tensor:
        """Return the utility of each image of a batch, ``(B,)``."""
        seen = [_detections(outputs) for outputs in (first, *others)]
        rows = []
        for image, size in enumerate(first.image_sizes):
            found, *views = (of_view[image] for of_view in seen)
            least = [
                self._least(view.boxes(found[0], size), *found[1:], *other)
                for view, other in zip(VIEWS[1:], views, strict=True)
            ]
            rows.append(1 - torch.stack(least).mean() if len(found[0]) else found[0].new_tensor(self.undetected))
        return torch.stack(rows)

    def _least(self, expected: Tensor, scores: Tensor, classes: Tensor, *other: Tensor) -> Tensor:
        """Return the least ``|agreement - base|`` of detections where a view should show them with what it shows."""
        boxes, their_scores, their_classes = other
        if not len(boxes) or not len(expected):
            return expected.new_zeros(())
        iou, nearest = box_iou(expected, boxes).nan_to_num(0).max(dim=1)  # boxes may have no area
        agreement = iou + (1 - jensen_shannon(classes, their_classes[nearest])) * (scores + their_scores[nearest]) / 2
        return (agreement - self.base).abs().min().clamp(max=1)


def jensen_shannon(p: Tensor, q: Tensor) -> Tensor:
    """Return the Jensen-Shannon divergence in nats of rows that sum to 1, ``(m, C)`` each -> ``(m,)``."""
    entropies = (torch.special.entr(x).sum(dim=1) for x in ((p + q) / 2, p, q))
    mean, of_p, of_q = entropies
    return (mean - (of_p + of_q) / 2).clamp(min=0)


def _detections(outputs: InstanceOutputs) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Return boxes, scores and class probabilities that sum to 1 of each image's detections."""
    logits = torch.cat(outputs.logits, dim=1)[outputs.detected_instances].float()
    probabilities = logits.softmax(dim=1) if outputs.network.detector.background else logits.sigmoid()
    probabilities = (probabilities / probabilities.sum(dim=1, keepdim=True).clamp(min=1e-12)).double()
    counts = [len(found["scores"]) for found in outputs.detections]
    pairs = zip(outputs.detections, probabilities.split(counts), strict=True)
    return [(found["boxes"].double(), found["scores"].double(), classes) for found, classes in pairs]


def _class_scores(*views: InstanceOutputs) -> Tensor:
    """Return the highest score of each class, 0 without a detection of it, mean over the views, ``(B, C)``."""
    highest = []
    for outputs in views:
        of_view = torch.zeros(len(outputs.image_sizes), outputs.network.detector.num_classes)
        for row, found in zip(of_view, outputs.detection_rows, strict=True):
            row.scatter_reduce_(0, found[:, 4].long().cpu(), found[:, 5].cpu(), "amax")
        highest.append(of_view)
    return torch.stack(highest).mean(dim=0)


def _divergence(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Return the Jensen-Shannon divergence in nats of a distribution ``(C,)`` from others ``(n, C)``, ``(n,)``."""
    mean = (p + q) / 2
    return (rel_entr(p, mean).sum(axis=-1) + rel_entr(q, mean).sum(axis=-1)) / 2
