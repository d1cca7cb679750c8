"""Selection of images that cover the pool."""

from collections.abc import Iterator
from itertools import islice

import numpy as np

from miaod_plugin.labeled import Labeled
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

        return nearest_distances(*embedded(estimator, X, self.known_images(estimator, labeled)))

    def select(self, estimator, X, n_instances: int, *, labeled=None) -> tuple[np.ndarray, np.ndarray]:
        """Return ``(indices, distances)`` of the k-center greedy choice, in its order."""
        from .k_center import k_center_greedy

        pool, known, device = embedded(estimator, X, self.known_images(estimator, labeled))
        return k_center_greedy(pool, known, n_instances, device)

    def ranking(self, estimator, X, at_most: int, *, labeled=None) -> Iterator[tuple[int, float]]:
        """Yield row and distance in the order of the choice; what is not asked for is not computed."""
        from .k_center import k_centers

        known = self.known_images(estimator, labeled)
        yield from islice(k_centers(*embedded(estimator, X, known)), at_most)


def embedded(estimator, X, known: Labeled) -> tuple:
    """Return the embeddings of a pool and of the labelled images, and the device that they come from."""
    pool = estimator.transform(X)
    centers = estimator.transform(known.X) if len(known.X) else pool[:0]
    network = getattr(estimator, "network_", None)
    return pool, centers, next(network.parameters()).device if network is not None else "cpu"
