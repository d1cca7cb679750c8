"""Random selection, the baseline of every comparison."""

import numpy as np

from miaod_plugin.parameters import RandomState
from miaod_plugin.query import QueryStrategy
from miaod_plugin.randomness import seed_of


class RandomSampling(QueryStrategy):
    """Choose images uniformly at random, without a look at them.

    Parameters
    ----------
    random_state : int, optional
        Seed. With an int, the same pool gives the same answer.
    """

    reads_of_pool = "number"

    def __init__(self, random_state: RandomState = None):
        self.random_state = random_state

    def utilities(self, estimator, X, *, labeled=None) -> np.ndarray:
        """Return uniform random numbers in 0..1, ``(n,)``."""
        return np.random.default_rng(seed_of(self.random_state)).random(len(X))
