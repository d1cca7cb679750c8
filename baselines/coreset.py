"""Selection of images that cover the pool."""

from collections.abc import Iterator
from itertools import islice

import numpy as np

from miaod_plugin.parameters import RandomState
from miaod_plugin.query import QueryStrategy


class CoreSetSampling(QueryStrategy):
    """Choose images one after the other, each the farthest from all labelled and already chosen ones.

    Greedy k-center on the estimator's embeddings (`ObjectDetector.transform`), starting from the labelled images. The
    utility of an image is its distance to the nearest of them at the moment it is chosen.

    Parameters
    ----------
    random_state : int, optional
        Without effect: nothing is drawn.

    References
    ----------
    Sener and Savarese, *Active Learning for Convolutional Neural Networks: A Core-Set Approach*, ICLR 2018,
    algorithm 1.
    """

    needs_labeled = "images"

    def __init__(self, random_state: RandomState = None):
        self.random_state = random_state

    def utilities(self, estimator, X, *, labeled=None) -> np.ndarray:
        """Return the distance of each image to the nearest labelled one, ``(n,)``."""
        from .k_center import nearest_distances  # loads torch, which an experiment that is only planned does without

        return nearest_distances(*self._embeddings(estimator, X, labeled))

    def select(self, estimator, X, n_instances: int, *, labeled=None) -> tuple[np.ndarray, np.ndarray]:
        """Return ``(indices, distances)`` of the k-center greedy choice, in its order."""
        from .k_center import k_center_greedy

        pool, known, device = self._embeddings(estimator, X, labeled)
        return k_center_greedy(pool, known, n_instances, device)

    def ranking(self, estimator, X, at_most: int, *, labeled=None) -> Iterator[tuple[int, float]]:
        """Yield row and distance in the order of the choice; what is not asked for is not computed."""
        from .k_center import k_centers

        yield from islice(k_centers(*self._embeddings(estimator, X, labeled)), at_most)

    def _embeddings(self, estimator, X, labeled) -> tuple:
        """Return the embeddings of the pool and of the labelled images, and the device that they come from."""
        known = self.known_images(estimator, labeled)
        pool, known = estimator.transform(X), estimator.transform(known.X)
        network = getattr(estimator, "network_", None)
        return pool, known, next(network.parameters()).device if network is not None else "cpu"
