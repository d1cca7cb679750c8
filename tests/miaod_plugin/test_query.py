"""The base of every query strategy."""

import numpy as np
from sklearn.dummy import DummyClassifier

from miaod_plugin.query import QueryStrategy


class Rounded(QueryStrategy):
    """A strategy with many images of equal utility."""

    def utilities(self, estimator, X, *, labeled=None):
        return X[:, 0, 0, 0] % 3.0


def test_of_images_with_equal_utility_the_first_of_the_pool_come_first():
    X = np.random.default_rng(0).integers(0, 256, (200, 2, 2, 3), dtype=np.uint8)
    expected = sorted(range(200), key=lambda row: -int(X[row, 0, 0, 0] % 3))  # Python's sorting is stable
    for n_instances in (1, 150, 200):
        indices, utilities = Rounded().query(DummyClassifier(), X, n_instances)
        assert indices.tolist() == expected[:n_instances]
        assert utilities.tolist() == [X[row, 0, 0, 0] % 3 for row in indices]
