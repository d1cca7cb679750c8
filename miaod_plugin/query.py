"""The base class of every query strategy."""

from collections.abc import Iterator

import numpy as np
from sklearn.base import BaseEstimator

from .data.image_sets import check_images
from .errors import ConfigError, shown
from .parameters import check_arguments


class QueryStrategy(BaseEstimator):
    """Choose the images of a pool that are worth annotating.

    A subclass implements `utilities`, or overrides `select` where the choice of one image depends on the others (and
    `ranking`, if it chooses them one after the other). It draws random numbers only from its own `random_state` and
    never changes its inputs: the same question has the same answer.
    """

    requires_adversarial = False  # whether the estimator must have MI-AOD's two classifiers

    def utilities(self, estimator, X) -> np.ndarray:
        """Return how informative each image is, float ``(n,)``; higher is more."""
        raise NotImplementedError

    def select(self, estimator, X, n_instances: int) -> tuple[np.ndarray, np.ndarray]:
        """Return ``(indices, utilities)`` of the `n_instances` most informative images, best first."""
        utilities = self.utilities(estimator, X)
        best = np.argsort(-utilities, kind="stable")[:n_instances]
        return best, utilities[best]

    def query(self, estimator, X, n_instances: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows of X to annotate next.

        Parameters
        ----------
        estimator : ObjectDetector
            A fitted detector.
        X : ndarray
            The pool, ``(n,)`` image paths or ``(n, H, W, 3)`` uint8 images.
        n_instances : int
            How many images to choose, at most n.

        Returns
        -------
        indices : ndarray of int64, (n_instances,)
            Distinct rows of X, best first.
        utilities : ndarray of float64, (n_instances,)
            Their utilities.

        Raises
        ------
        ConfigError
            If `n_instances` is not in 1..n, or a parameter of the strategy or the estimator is not allowed.
        """
        check_arguments(type(self), self.get_params(deep=False))
        if isinstance(estimator, type) or not hasattr(estimator, "fit"):
            raise ConfigError(f"estimator: {shown(estimator)} is not allowed; give a fitted detector")
        X = check_images(X)
        if isinstance(n_instances, bool) or not isinstance(n_instances, int | np.integer) or n_instances < 1:
            raise ConfigError(f"n_instances: {shown(n_instances)} is not allowed; give a whole number from 1 on")
        if n_instances > len(X):
            raise ConfigError(f"n_instances: {n_instances} asked for, but the pool has {len(X)} images")
        indices, utilities = self.select(estimator, X, int(n_instances))
        return np.asarray(indices, dtype=np.int64), np.asarray(utilities, dtype=np.float64)

    def ranking(self, estimator, X, at_most: int) -> Iterator[tuple[int, float]]:
        """Yield the row and the utility of up to `at_most` images, best first, for as long as the caller goes on.

        This is for a budget that counts boxes or time, where how many images it buys shows only on the way. The pool is
        asked about once.
        """
        indices, utilities = self.query(estimator, X, at_most)
        yield from zip(indices.tolist(), utilities.tolist(), strict=True)

    def __call__(self, learner, X, n_instances: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """Answer modAL, which passes its learner; an estimator itself will do too."""
        return self.query(getattr(learner, "estimator", learner), X, n_instances)
