"""What strategies around another one have in common."""

import numpy as np
import torch
from sklearn.base import clone
from torch import Tensor

from miaod_plugin.baselines.entropy import EntropySampling
from miaod_plugin.detectors.network import InstanceOutputs
from miaod_plugin.labeled import Labeled
from miaod_plugin.query import QueryStrategy


class WrappedStrategy(QueryStrategy):
    """A strategy that starts from the utilities of another one, its parameter ``strategy``."""

    @property
    def inner(self) -> QueryStrategy:
        """The strategy inside, by default entropy, with this one's seed where it has none of its own."""
        inner = EntropySampling() if self.strategy is None else clone(self.strategy)
        if inner.get_params().get("random_state", 0) is None:
            inner.set_params(random_state=self.random_state)
        return inner

    @property
    def trained_by(self) -> type | None:
        """What the strategy inside reads."""
        return self.inner.trained_by

    @property
    def n_detectors(self) -> int:
        """How many detectors the strategy inside compares."""
        return self.inner.n_detectors

    @property
    def adapts_by(self) -> str | None:
        """The strategy inside's, as a parameter of this one."""
        return None if self.inner.adapts_by is None else f"strategy__{self.inner.adapts_by}"

    def prepared(self, estimator, X, labeled: Labeled | None):
        """Return what the strategy inside makes of the estimator."""
        return self.inner.prepared(estimator, X, labeled)

    def preparing_steps(self, estimator, n_labeled: int, n_unlabeled: int = 0) -> int:
        """Return the optimiser steps that the strategy inside takes for that."""
        return self.inner.preparing_steps(estimator, n_labeled, n_unlabeled)

    def _rated(self, estimator, X, labeled) -> tuple[np.ndarray, np.ndarray]:
        """Return the utilities inside, ``(n,)``, and the objects to be expected of each class, ``(n, C)``.

        Both come from one pass where the strategy inside makes one over the pool as it is.
        """
        listening = _Listening(estimator, X)
        utilities = self.inner.utilities(listening, X, labeled=labeled)
        if listening.expected is None:
            listening.map_pool(X, {})
        return utilities, listening.expected.astype(np.float64)


class _Listening:
    """Stands in for an estimator, and takes a second look at the images of a pool when a strategy looks at them.

    Parameters
    ----------
    estimator : ObjectDetector
    X : ndarray
        The pool.

    Attributes
    ----------
    expected : ndarray, (n, C), or None
        The sum of the scores of each class's detections; they are probabilities, so this many objects are expected.
    """

    def __init__(self, estimator, X):
        self._asked, self._X, self.expected = estimator, X, None

    def __getattr__(self, name: str):
        return getattr(self._asked, name)

    def predict(self, X) -> np.ndarray:
        return type(self._asked).predict(self, X)

    def transform(self, X) -> np.ndarray:
        return type(self._asked).transform(self, X)

    def map_pool(self, X, reducers, y=None, views=None) -> dict[str, np.ndarray]:
        if X is not self._X or views is not None or self.expected is not None:
            return self._asked.map_pool(X, reducers, y, views)
        rows = self._asked.map_pool(X, {**reducers, "expected objects": expected_objects})
        self.expected = rows.pop("expected objects")
        return rows


def expected_objects(outputs: InstanceOutputs) -> Tensor:
    """Return the sum of the scores of each class's detections in each image, ``(B, C)``."""
    n_classes = outputs.network.detector.num_classes
    found = [(rows[:, 4].long().cpu(), rows[:, 5].cpu()) for rows in outputs.detection_rows]
    return torch.stack([torch.zeros(n_classes).index_add_(0, labels, scores) for labels, scores in found])
