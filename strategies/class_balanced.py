"""A budget that goes to rare classes first."""

import numpy as np

from miaod_plugin.parameters import Positive, RandomState, check_arguments
from miaod_plugin.query import QueryStrategy

from .wrapping import WrappedStrategy


class ClassBalancedSampling(WrappedStrategy):
    """Choose images one after the other, each the most informative one that shows the class that is rarest so far.

    How often a class occurs so far is the number of its annotated objects, plus the objects to be expected in what was
    chosen, the sum of its detections' scores. Images with at least `present` of them to be expected show it; if none is
    left that does, the next rarest class takes its turn. The utility of an image is that of the strategy inside, and at
    most that of those chosen before it.

    Parameters
    ----------
    strategy : QueryStrategy, optional
        Whose utilities count; entropy if left out. In a file of settings its name, or ``{name, options}``.
    present : float
        Objects of a class to be expected in an image that shows it.
    random_state : int, optional
        Seed of the strategy inside, where it has none.
    """

    needs_labeled = "targets"

    def __init__(
        self, strategy: QueryStrategy | None = None, present: Positive = 0.5, random_state: RandomState = None
    ):
        self.strategy = strategy
        self.present = present
        self.random_state = random_state

    def utilities(self, estimator, X, *, labeled=None) -> np.ndarray:
        """Return the utilities of the strategy inside, ``(n,)``."""
        check_arguments(type(self), self.get_params(deep=False))
        return self.inner.utilities(estimator, X, labeled=labeled)

    def select(self, estimator, X, n_instances: int, *, labeled=None) -> tuple[np.ndarray, np.ndarray]:
        """Return ``(indices, utilities)`` in the order of the choice."""
        check_arguments(type(self), self.get_params(deep=False))
        counts = np.zeros(len(estimator.classes_))
        for target in self.known_images(estimator, labeled).y:
            np.add.at(counts, np.asarray(target["labels"], dtype=np.int64), 1)
        utilities, expected = self._rated(estimator, X, labeled)
        order, left = np.argsort(-utilities, kind="stable"), np.ones(len(utilities), dtype=bool)
        chosen = []
        for _ in range(n_instances):
            row = self._next(order[left[order]], expected, counts)
            chosen.append(row)
            left[row] = False
            counts += expected[row]
        return np.array(chosen), np.minimum.accumulate(utilities[chosen])

    def _next(self, order: np.ndarray, expected: np.ndarray, counts: np.ndarray) -> int:
        """Return the first row that shows the rarest class that any of them shows, else the first of all."""
        shows = expected[order] >= self.present
        for label in np.argsort(counts, kind="stable"):
            if shows[:, label].any():
                return int(order[shows[:, label].argmax()])
        return int(order[0])
