"""MaxHerding: images that are like as many others as possible."""

from collections.abc import Iterator
from typing import Annotated

import numpy as np

from miaod_plugin.baselines.greedy import GreedySampling
from miaod_plugin.parameters import Count, Number, RandomState

from .coverage import KernelCover, greedy_coverage


class MaxHerdingSampling(GreedySampling):
    """Choose images one after the other, each the one that makes the pool best covered by what is labelled and chosen.

    The coverage of an image is the Gaussian kernel of its embedding (`ObjectDetector.transform`, scaled to length 1)
    and that of the most similar labelled or chosen image; the utility of an image is what it adds to the mean coverage
    of the pool at the moment it is chosen. Core-set goes to the margins of a pool, this to where it is dense. With a
    kernel that is 1 within a radius and 0 beyond it would be ProbCover, whose radius is hard to choose.

    Parameters
    ----------
    sigma : float
        Of the kernel ``exp(-|x - c|^2 / (2 sigma^2))``; vectors of length 1 are at most 2 apart. Embeddings of one
        detector lie close together, which wants less than the 1 of the paper's self-supervised features.
    shard_size : int, optional
        Choose in two levels, from as many images at a time and then from what was chosen of each: ``n * shard_size``
        kernels in place of ``n * n``, and memory for one shard. Without, choose from the pool at once.
    random_state : int, optional
        Without effect: nothing is drawn.

    References
    ----------
    Bae, Noh and Sutherland, *Generalized Coverage for More Robust Low-Budget Active Learning*, ECCV 2024, section 3.
    Mirzasoleiman et al., *Distributed submodular maximization: identifying representative elements in massive data*,
    NIPS 2013, for two levels; theirs look at all images, or a sample, again, ours at what the picks stand for.
    """

    def __init__(
        self,
        sigma: Annotated[float, Number(1e-3, 1e3)] = 1.0,
        shard_size: Count | None = None,
        random_state: RandomState = None,
    ):
        self.sigma = sigma
        self.shard_size = shard_size
        self.random_state = random_state

    def order(self, pool, labeled, device="cpu", weights=None) -> Iterator[tuple[int, float]]:
        """Yield rows and what they add to the coverage."""
        before = np.inf
        for row, added in greedy_coverage(pool, labeled, self.sigma, device, weights):
            before = min(before, added)  # what rounding adds to a later one does not count
            yield row, before

    def alone(self, pool, labeled, device="cpu") -> np.ndarray:
        """Return what each row alone would add to the coverage by the labelled ones, 0..1, ``(n,)``."""
        return KernelCover(pool, labeled, self.sigma, device).gains(np.arange(len(pool)))

    def weights_of(self, pool, labeled, picked, device="cpu") -> np.ndarray:
        """Return the coverage that each picked row gives: a centre then covers a row by way of the one next to it.

        By a kernel of ``|x - p|^2 + |p - c|^2`` in place of ``|x - c|^2``, the same where the two are perpendicular.
        """
        return KernelCover(pool, labeled, self.sigma, device).shares(picked)
