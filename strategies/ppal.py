"""PPAL: uncertain images of difficult classes, and of those the ones that differ."""

from math import ceil
from typing import Annotated

import numpy as np
import torch
from torch import Tensor

from miaod_plugin.baselines.entropy import binary_entropy
from miaod_plugin.detectors.network import InstanceOutputs
from miaod_plugin.parameters import Number, Probability, RandomState, check_arguments
from miaod_plugin.query import QueryStrategy

from .matching import k_medoids, matching_distances
from .overlaps import object_overlaps


class PPALSampling(QueryStrategy):
    """Choose images that are uncertain in difficult classes, then of those the ones that differ in what they show.

    The utility of an image is the sum over its detections of the binary entropy of the score times the weight of the
    class, ``1 + alpha beta ln((e^(1 / alpha) - 1) (1 - q) + 1)``, where q is how well the class is detected. The
    ``delta`` times as many best images as asked for are looked at once more, and those of them chosen that are the
    k-medoids by `strategies.matching.matching_distances`, which compares the features of detections.

    The quality q of a class is the mean over its objects of the largest ``score^xi IoU^(1 - xi)`` of a detection of the
    class, 0 for an object that is overlooked and for a class without objects. The paper keeps a moving average of it,
    of momentum 0.99, over the positive anchors of training; here the fitted detector is asked once about the annotated
    images, so that any training will do.

    Parameters
    ----------
    delta : float
        Images kept by their utility for each that is asked for.
    alpha, beta : float
        How fast the weight rises with the difficulty of a class, and by how much it does at most.
    xi : float
        The part of the score in the quality of a detection, against that of its IoU.
    threshold : float
        Least score of a detection that counts.
    random_state : int, optional
        Without effect: nothing is drawn; k-medoids starts from the image with the highest utility.

    References
    ----------
    Yang et al., *Plug and Play Active Learning for Object Detection*, CVPR 2024, sections 3.2 and 3.3.
    """

    needs_labeled = "targets"

    def __init__(
        self,
        delta: Annotated[float, Number(1)] = 4.0,
        alpha: Annotated[float, Number(0.01, 100)] = 0.3,
        beta: Annotated[float, Number(0, 100)] = 0.2,
        xi: Probability = 0.6,
        threshold: Probability = 0.05,
        random_state: RandomState = None,
    ):
        self.delta = delta
        self.alpha = alpha
        self.beta = beta
        self.xi = xi
        self.threshold = threshold
        self.random_state = random_state

    def utilities(self, estimator, X, *, labeled=None) -> np.ndarray:
        """Return the difficulty-calibrated uncertainty of each image in nats, ``(n,)``."""
        check_arguments(type(self), self.get_params())
        weights = self.class_weights(self._class_quality(estimator, labeled))
        images = estimator.map_pool(X, {"detections": _rows})["detections"]
        return np.array([self._uncertainty(rows, weights) for rows in images])

    def class_weights(self, quality: np.ndarray) -> np.ndarray:
        """Return the weight of classes by how well they are detected, 0..1, ``(C,)`` -> ``(C,)``."""
        return 1 + self.alpha * self.beta * np.log(np.expm1(1 / self.alpha) * (1 - quality) + 1)

    def select(self, estimator, X, n_instances: int, *, labeled=None) -> tuple[np.ndarray, np.ndarray]:
        """Return ``(indices, utilities)`` of the images that differ among the most uncertain, best first."""
        utilities = self.utilities(estimator, X, labeled=labeled)
        best = np.argsort(-utilities, kind="stable")[: ceil(self.delta * n_instances)]
        if len(best) > n_instances:
            shown = estimator.map_pool(X[best], {"features": _features})["features"]
            images = [rows[rows[:, 1] > self.threshold] for rows in shown]
            best = best[k_medoids(matching_distances(images), n_instances)]
        return best, utilities[best]

    def _class_quality(self, estimator, labeled) -> np.ndarray:
        known = self.known_images(estimator, labeled)
        sums, counts = np.zeros((2, len(estimator.classes_)))
        images = estimator.map_pool(known.X, {"detections": _rows})["detections"] if len(known.X) else []
        for rows, target in zip(images, known.y, strict=True):
            labels, ious = object_overlaps(rows, target)
            qualities = rows[:, 5].astype(np.float64) ** self.xi * ious.astype(np.float64) ** (1 - self.xi)
            np.add.at(sums, labels, np.where(ious > 0, qualities, 0).max(axis=1, initial=0))
            np.add.at(counts, labels, 1)
        return sums / np.maximum(counts, 1)

    def _uncertainty(self, rows: np.ndarray, weights: np.ndarray) -> float:
        rows = rows[rows[:, 5] > self.threshold]
        scores = torch.from_numpy(rows[:, 5].astype(np.float64))
        return float(weights[rows[:, 4].astype(np.int64)] @ binary_entropy(scores).numpy())


def _rows(outputs: InstanceOutputs) -> list[Tensor]:
    return outputs.detection_rows


def _features(outputs: InstanceOutputs) -> list[Tensor]:
    """Return label, score and features of each image's detections, ``(m, 2 + D)``."""
    pairs = zip(outputs.detection_rows, outputs.detection_features, strict=True)
    return [torch.cat([rows[:, 4:], features], dim=1) for rows, features in pairs]
