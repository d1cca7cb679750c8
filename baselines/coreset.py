"""Selection of images that cover the pool."""

from collections.abc import Iterator

import numpy as np

from miaod_plugin.parameters import Count, RandomState

from .greedy import GreedySampling


class CoreSetSampling(GreedySampling):
    """Choose images one after the other, each the farthest from all labelled and already chosen ones.

    Greedy k-center on the estimator's embeddings (`ObjectDetector.transform`), starting from the labelled images. The
    utility of an image is its distance to the nearest of them at the moment it is chosen.

    The covering radius, the largest distance that is left, is at most twice the smallest, r, that as many images can
    reach (Gonzalez 1985): were a row farther than 2 r from all picks and all that is labelled, it and the picks would
    be one too many, all farther than 2 r apart, for the best ones to cover. In two levels it is at most 4 r (Malkomes
    et al. 2015): for the same reason each row is within 2 r of a pick of its shard, and each such pick within 2 r of
    one that is chosen, or of what is labelled.

    Parameters
    ----------
    shard_size : int, optional
        Choose in two levels, from as many images at a time and then from what was chosen of each: memory then holds the
        embeddings of one shard and of `n_instances` images of each. Without, choose from the pool at once.
    random_state : int, optional
        Without effect: nothing is drawn.

    References
    ----------
    Sener and Savarese, *Active Learning for Convolutional Neural Networks: A Core-Set Approach*, ICLR 2018,
    algorithm 1. Gonzalez, *Clustering to minimize the maximum intercluster distance*, Theoretical Computer Science,
    1985. Malkomes et al., *Fast distributed k-center clustering with outliers on massive data*, NIPS 2015.
    """

    def __init__(self, shard_size: Count | None = None, random_state: RandomState = None):
        self.shard_size = shard_size
        self.random_state = random_state

    def order(self, pool, labeled, device="cpu", weights=None) -> Iterator[tuple[int, float]]:
        """Yield rows and their distances to the nearest before; a radius is the same however many rows it covers."""
        from .k_center import k_centers  # loads torch, which an experiment that is only planned does without

        return k_centers(pool, labeled, device)

    def alone(self, pool, labeled, device="cpu") -> np.ndarray:
        """Return the distance of each row to the nearest labelled one, ``(n,)``."""
        from .k_center import nearest_distances

        return nearest_distances(pool, labeled, device)
