"""Images in which the detector overlooks objects."""

from typing import Annotated

import numpy as np
import torch
from sklearn.linear_model import PoissonRegressor
from torch import Tensor
from torchvision.ops import box_iou

from miaod_plugin.baselines.entropy import binary_entropy
from miaod_plugin.detectors.network import InstanceOutputs
from miaod_plugin.parameters import NonNegative, Number, Probability, RandomState, check_arguments
from miaod_plugin.query import QueryStrategy

from .overlaps import object_overlaps

SAME = 0.5  # IoU from which two boxes are of the same object


class MissesSampling(QueryStrategy):
    """Choose images in which objects are overlooked.

    The detections of an image are those with a score of `confident` or more. What is overlooked shows in the boxes that
    are not among them: the mass of an image is the sum of the scores of all boxes before non-maximum suppression that
    overlap no detection by half. On the annotated images a Poisson regression on ``ln(1 + mass)`` learns how many
    objects no detection of their class overlaps by half; the utility of an image is the number that it expects, plus
    `uncertainty` times the sum over the detections of the binary entropy of the score in bits and of how far the boxes
    of the class around the detection spread, the mean of ``1 - IoU`` with it weighed by their scores.

    A detector overlooks less on the images that it has learned from than on others: the numbers are too low, it is the
    order that counts. Where nothing annotated is overlooked, nothing is expected to be anywhere.

    Parameters
    ----------
    confident : float
        Score from which a box counts as a detection.
    uncertainty : float
        What an unsure detection counts beside an overlooked object. The sum of what is unsure grows with the number of
        objects; it is left out unless it is wanted.
    shrinkage : float
        L2 penalty of the regression's slope.
    random_state : int, optional
        Without effect: nothing is drawn.

    References
    ----------
    A count of false negatives is predicted, by a network of its own, by Nakamura et al., *Active Domain Adaptation with
    False Negative Prediction for Object Detection*, CVPR 2024; the regression is this package's.
    """

    needs_labeled, reads_of_pool = "targets", "image"

    def __init__(
        self,
        confident: Probability = 0.3,
        uncertainty: NonNegative = 0.0,
        shrinkage: Annotated[float, Number(0, 1000)] = 0.01,
        random_state: RandomState = None,
    ):
        self.confident = confident
        self.uncertainty = uncertainty
        self.shrinkage = shrinkage
        self.random_state = random_state

    def utilities(self, estimator, X, *, labeled=None) -> np.ndarray:
        """Return the expected overlooked objects of each image, and how unsure its detections are, ``(n,)``."""
        check_arguments(type(self), self.get_params())
        known = self.known_images(estimator, labeled)
        slope, intercept = self._learned(estimator, *known)
        seen = estimator.map_pool(X, {"signs": self._signs})["signs"]
        return np.exp(slope * np.log1p(seen[:, 0]) + intercept) + self.uncertainty * seen[:, 1]

    def _learned(self, estimator, X: np.ndarray, y: np.ndarray) -> tuple[float, float]:
        """Return slope and intercept of the logarithm of the number of overlooked objects."""
        if not len(X):
            return 0.0, -np.inf
        seen = estimator.map_pool(X, {"signs": self._signs, "detections": lambda outputs: outputs.detection_rows})
        missed = [self._missed(rows, target) for rows, target in zip(seen["detections"], y, strict=True)]
        if not any(missed):
            return 0.0, -np.inf
        regression = PoissonRegressor(alpha=self.shrinkage, solver="newton-cholesky", tol=1e-9)
        regression.fit(np.log1p(seen["signs"][:, :1]), missed)
        return float(regression.coef_[0]), float(regression.intercept_)

    def _missed(self, rows: np.ndarray, target: dict) -> int:
        """Return how many objects of an image no detection overlaps by half."""
        _, ious = object_overlaps(rows[rows[:, 5] >= self.confident], target)
        return int((ious.max(axis=1, initial=0) < SAME).sum())

    def _signs(self, outputs: InstanceOutputs) -> Tensor:
        """Return the mass that no detection covers, and how unsure the detections are, ``(B, 2)``."""
        pairs = zip(outputs.candidate_rows, outputs.detection_rows, strict=True)
        images = [(boxes.double(), rows[rows[:, 5] >= self.confident].double()) for boxes, rows in pairs]
        return torch.stack([signs(boxes, rows) for boxes, rows in images])


def signs(boxes: Tensor, detections: Tensor) -> Tensor:
    """Return the mass of boxes that no detection covers, and how unsure the detections are, ``(2,)``.

    Parameters
    ----------
    boxes : Tensor, (k, 6)
        All before non-maximum suppression: box, label, score.
    detections : Tensor, (m, 6)
    """
    near = box_iou(boxes[:, :4], detections[:, :4]).nan_to_num(0) if len(detections) else boxes.new_zeros(len(boxes), 1)
    mass = boxes[near.amax(dim=1) < SAME, 5].sum() if len(boxes) else boxes.new_zeros(())
    if not len(detections):
        return torch.stack([mass, mass.new_zeros(())])
    around = (near >= SAME) & (boxes[:, 4:5] == detections[:, 4])
    weights = boxes[:, 5:] * around
    spread = (weights * (1 - near)).sum(dim=0) / weights.sum(dim=0).clamp(min=1e-12)
    entropy = binary_entropy(detections[:, 5]) / np.log(2)
    return torch.stack([mass, (entropy + spread).sum()])
