"""Selection of images that cover the pool."""

from collections.abc import Iterator
from itertools import islice

import numpy as np

from miaod_plugin.errors import ConfigError
from miaod_plugin.labeled import labeled_images
from miaod_plugin.parameters import RandomState
from miaod_plugin.query import QueryStrategy


class CoreSetSampling(QueryStrategy):
    """Choose images one after the other, each the farthest from all labelled and already chosen ones.

    Greedy k-center on the estimator's embeddings (`ObjectDetector.transform`), starting from the labelled images. The
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

    def __init__(self, random_state: RandomState = None):
        self.random_state = random_state

    def utilities(self, estimator, X, *, labeled=None) -> np.ndarray:
        """Return the distance of each image to the nearest labelled one, ``(n,)``."""
        return nearest_distances(*self._embeddings(estimator, X, labeled))

    def select(self, estimator, X, n_instances: int, *, labeled=None) -> tuple[np.ndarray, np.ndarray]:
        """Return ``(indices, distances)`` of the k-center greedy choice, in its order."""
        return k_center_greedy(*self._embeddings(estimator, X, labeled), n_instances)

    def ranking(self, estimator, X, at_most: int, *, labeled=None) -> Iterator[tuple[int, float]]:
        """Yield row and distance in the order of the choice; what is not asked for is not computed."""
        yield from islice(k_centers(*self._embeddings(estimator, X, labeled)), at_most)

    @staticmethod
    def _embeddings(estimator, X, labeled) -> tuple[np.ndarray, np.ndarray]:
        """Return the centred embeddings of the pool and of the labelled images; centring keeps float32 exact enough."""
        known = labeled_images(estimator, labeled)
        if known is None:
            raise ConfigError(
                "labeled: CoreSetSampling starts from the annotated images, which a loaded detector does not know;"
                " query with labeled=X"
            )
        pool = estimator.transform(X)
        center = pool.mean(axis=0, dtype=np.float64).astype(np.float32)
        return pool - center, estimator.transform(known.X) - center


def k_center_greedy(pool: np.ndarray, labeled: np.ndarray, n_instances: int) -> tuple[np.ndarray, np.ndarray]:
    """Choose `n_instances` rows of `pool`, see `k_centers`.

    Parameters
    ----------
    pool : ndarray, (n, d)
    labeled : ndarray, (m, d)
    n_instances : int

    Returns
    -------
    indices : ndarray of int64, (n_instances,)
    distances : ndarray of float64, (n_instances,)
        Of each to the nearest one at the moment it was chosen.
    """
    indices, distances = np.empty(n_instances, dtype=np.int64), np.empty(n_instances)
    for k, (row, distance) in enumerate(islice(k_centers(pool, labeled), n_instances)):
        indices[k], distances[k] = row, distance
    return indices, distances


def k_centers(pool: np.ndarray, labeled: np.ndarray) -> Iterator[tuple[int, float]]:
    """Yield all rows of `pool`, each the farthest from `labeled` and those before it, with its distance to the nearest.

    One distance update a pick, no pairwise matrix: memory is that of the embeddings.
    """
    nearest = nearest_distances(pool, labeled)
    for _ in range(len(pool)):
        farthest = int(np.argmax(nearest))
        yield farthest, float(nearest[farthest])
        np.minimum(nearest, np.linalg.norm(pool - pool[farthest], axis=1), out=nearest)
        nearest[farthest] = -1.0  # chosen: never again, even when others lie at distance 0


def nearest_distances(pool: np.ndarray, labeled: np.ndarray) -> np.ndarray:
    """Return the distance of each row of `pool` to the nearest of `labeled`, ``(n,)``, one labelled row at a time."""
    nearest = np.full(len(pool), np.inf)
    for row in labeled:
        np.minimum(nearest, np.linalg.norm(pool - row, axis=1), out=nearest)
    return nearest
