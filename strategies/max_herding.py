"""MaxHerding: images that are like as many others as possible."""

from collections.abc import Iterator
from itertools import islice
from typing import Annotated

import numpy as np

from miaod_plugin.baselines.coreset import embedded
from miaod_plugin.parameters import Number, RandomState, check_arguments
from miaod_plugin.query import QueryStrategy

from .coverage import KernelCover, greedy_coverage


class MaxHerdingSampling(QueryStrategy):
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
    random_state : int, optional
        Without effect: nothing is drawn.

    References
    ----------
    Bae, Noh and Sutherland, *Generalized Coverage for More Robust Low-Budget Active Learning*, ECCV 2024, section 3.
    """

    needs_labeled = "images"

    def __init__(self, sigma: Annotated[float, Number(1e-3, 1e3)] = 1.0, random_state: RandomState = None):
        self.sigma = sigma
        self.random_state = random_state

    def utilities(self, estimator, X, *, labeled=None) -> np.ndarray:
        """Return what each image alone would add to the coverage by the labelled ones, 0..1, ``(n,)``."""
        check_arguments(type(self), self.get_params())
        pool, known, device = embedded(estimator, X, self.known_images(estimator, labeled))
        return KernelCover(pool, known, self.sigma, device).gains(np.arange(len(pool)))

    def select(self, estimator, X, n_instances: int, *, labeled=None) -> tuple[np.ndarray, np.ndarray]:
        """Return ``(indices, utilities)`` of the greedy choice, in its order."""
        chosen = list(self.ranking(estimator, X, n_instances, labeled=labeled))
        indices, utilities = zip(*chosen, strict=True)
        return np.array(indices), np.array(utilities)

    def ranking(self, estimator, X, at_most: int, *, labeled=None) -> Iterator[tuple[int, float]]:
        """Yield row and utility in the order of the choice; what is not asked for is not computed."""
        check_arguments(type(self), self.get_params())
        pool, known, device = embedded(estimator, X, self.known_images(estimator, labeled))
        before = np.inf
        for row, added in islice(greedy_coverage(pool, known, self.sigma, device), at_most):
            before = min(before, added)  # what rounding adds to a later one does not count
            yield row, before
