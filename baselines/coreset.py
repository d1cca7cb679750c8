"""Selection of images that cover the pool."""

import numpy as np
from sklearn.utils.validation import check_is_fitted

from miaod_plugin.errors import ConfigError
from miaod_plugin.query import QueryStrategy


class CoreSetSampling(QueryStrategy):
    """Choose images one after the other, each the farthest from all labelled and already chosen ones.

    Greedy k-center on the estimator's embeddings (`ObjectDetector.transform`), starting from its labelled images. The
    utility of an image is its distance to the nearest of them at the moment it is chosen.

    Parameters
    ----------
    random_state : int, optional
        Unused: the selection is deterministic. Every strategy has it.

    References
    ----------
    Sener and Savarese, *Active Learning for Convolutional Neural Networks: A Core-Set Approach*, ICLR 2018,
    algorithm 1.
    """

    def __init__(self, random_state: int | None = None):
        self.random_state = random_state

    def utilities(self, estimator, X) -> np.ndarray:
        """Return the distance of each image to the nearest labelled one, ``(n,)``."""
        return self._distances(*self._embeddings(estimator, X))

    def select(self, estimator, X, n_instances: int) -> tuple[np.ndarray, np.ndarray]:
        """Return ``(indices, distances)`` of the k-center greedy choice, in its order."""
        pool, labeled = self._embeddings(estimator, X)
        nearest = self._distances(pool, labeled)
        indices, distances = np.empty(n_instances, dtype=np.int64), np.empty(n_instances)
        for k in range(n_instances):
            farthest = int(np.argmax(nearest))
            indices[k], distances[k] = farthest, nearest[farthest]
            np.minimum(nearest, np.linalg.norm(pool - pool[farthest], axis=1), out=nearest)
            nearest[farthest] = -1.0  # chosen: never again, even when others lie at distance 0
        return indices, distances

    @staticmethod
    def _embeddings(estimator, X) -> tuple[np.ndarray, np.ndarray]:
        """Return the centred embeddings of the pool and of the labelled images; centring keeps float32 exact enough."""
        check_is_fitted(estimator, "network_")
        if not hasattr(estimator, "X_labeled_"):
            raise ConfigError("CoreSetSampling starts from the labelled images; set estimator.X_labeled_ after load()")
        pool, labeled = estimator.transform(X), estimator.transform(estimator.X_labeled_)
        center = pool.mean(axis=0, dtype=np.float64).astype(np.float32)
        return pool - center, labeled - center

    @staticmethod
    def _distances(pool: np.ndarray, labeled: np.ndarray) -> np.ndarray:
        """Return the distance of each row of `pool` to the nearest of `labeled`, one labelled row at a time."""
        nearest = np.full(len(pool), np.inf)
        for row in labeled:
            np.minimum(nearest, np.linalg.norm(pool - row, axis=1), out=nearest)
        return nearest
