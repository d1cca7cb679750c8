"""The base class of every query strategy."""

from collections.abc import Iterator
from typing import ClassVar, Literal

import numpy as np
from sklearn.base import BaseEstimator

from .data.image_sets import check_images
from .errors import ConfigError, shown
from .labeled import Labeled, labeled_images
from .parameters import check_arguments
from .registry import TRAININGS, find, registered


class QueryStrategy(BaseEstimator):
    """Choose the images of a pool that are worth annotating.

    A subclass implements `utilities`, or overrides `select` where the choice of one image depends on the others (and
    `ranking`, if it chooses them one after the other). What must be done to the estimator before it is asked is
    `prepared`. It draws random numbers only from its own `random_state` and never changes its inputs: the same question
    has the same answer.

    Every method may be given the images annotated so far, ``labeled``: an ndarray of images, or a tuple ``(X, y)`` with
    their targets. Without, they are those that the estimator was fitted on; see `labeled_images`.
    """

    # The training whose network and options the strategy reads, such as MIAOD with its two classifiers.
    trained_by: ClassVar[type | None] = None

    # What a query must be told of the images annotated so far: the images, or with "targets" their boxes, too.
    needs_labeled: ClassVar[Literal["images", "targets"] | None] = None

    # What the choice follows from, where many machines look at the pool: "image" where `utilities` rates each image
    # whatever else the pool holds and the highest are chosen, "number" where it depends on how many images there are
    # alone, "embeddings" where `picks_of` and `of_picks` make it. Without, the pool must be in one place.
    reads_of_pool: ClassVar[Literal["image", "number", "embeddings"] | None] = None

    # The parameter of the strategy, true or false, that says whether `prepared` may train on the pool.
    adapts_by: ClassVar[str | None] = None

    # How many detectors it compares; those of a `Committee`, if more than one.
    n_detectors: int = 1

    def prepared(self, estimator, X, labeled: Labeled | None):
        """Return the estimator that `query` asks: this one, which does not change, or one that is made from it."""
        return estimator

    def preparing_steps(self, estimator, n_labeled: int, n_unlabeled: int = 0) -> int:
        """Return the optimiser steps that `prepared` takes with an estimator that is fitted to so many images.

        The estimator itself need not be fitted: the plan of its training tells.
        """
        return 0

    def utilities(self, estimator, X, *, labeled=None) -> np.ndarray:
        """Return how informative each image is to the estimator as it is, float ``(n,)``; higher is more."""
        raise NotImplementedError

    def select(self, estimator, X, n_instances: int, *, labeled=None) -> tuple[np.ndarray, np.ndarray]:
        """Return ``(indices, utilities)`` of the `n_instances` images to annotate next, best first.

        The estimator is asked as it is.
        """
        utilities = self.utilities(estimator, X, labeled=labeled)
        best = np.argsort(-utilities, kind="stable")[:n_instances]
        return best, utilities[best]

    def query(self, estimator, X, n_instances: int = 1, *, labeled=None) -> tuple[np.ndarray, np.ndarray]:
        """Prepare the estimator, and return the rows of X to annotate next.

        Parameters
        ----------
        estimator : ObjectDetector
            A fitted detector.
        X : ndarray
            The pool, ``(n,)`` image paths or ``(n, H, W, 3)`` uint8 images.
        n_instances : int
            How many images to choose, at most n.
        labeled : ndarray, or tuple (X, y), optional
            The images annotated so far, and their targets.

        Returns
        -------
        indices : ndarray of int64, (n_instances,)
            Distinct rows of X, best first.
        utilities : ndarray of float64, (n_instances,)
            Their utilities.

        Raises
        ------
        ConfigError
            If `n_instances` is not in 1..n, a parameter of the strategy or the estimator is not allowed, or the
            strategy needs annotated images that nobody told.
        DataError
            If X or `labeled` is not of this form.
        """
        check_arguments(type(self), self.get_params(deep=False))
        if isinstance(estimator, type) or not hasattr(estimator, "fit"):
            raise ConfigError(f"estimator: {shown(estimator)} is not allowed; give a fitted detector")
        self.check_training(getattr(estimator, "training_", None))
        X = check_images(X)
        if isinstance(n_instances, bool) or not isinstance(n_instances, int | np.integer) or n_instances < 1:
            raise ConfigError(f"n_instances: {shown(n_instances)} is not allowed; give a whole number from 1 on")
        if n_instances > len(X):
            raise ConfigError(f"n_instances: {n_instances} asked for, but the pool has {len(X)} images")
        labeled = labeled_images(estimator, labeled)
        estimator = self.prepared(estimator, X, labeled)
        indices, utilities = self.select(estimator, X, int(n_instances), labeled=labeled)
        return np.asarray(indices, dtype=np.int64), np.asarray(utilities, dtype=np.float64)

    def reads(self, training: type) -> bool:
        """Whether detectors of such a training have what the strategy reads."""
        return self.trained_by is None or issubclass(training, self.trained_by)

    def check_training(self, training: object) -> None:
        """Raise a ConfigError that names the mend unless the strategy can read detectors of this training."""
        if not self.reads(type(training)):
            fitting = " or ".join(name for name in registered(TRAININGS) if self.reads(find(TRAININGS, name)))
            raise ConfigError(
                f"{type(self).__name__} needs a detector trained by {self.trained_by.__name__}, not by"
                f" {type(training).__name__}; give the estimator such a training ({fitting}), as MIAODDetector does"
            )

    def known_images(self, estimator, labeled) -> Labeled:
        """Return the annotated images that the strategy starts from, or raise a ConfigError that names the mend."""
        known, with_targets = labeled_images(estimator, labeled), self.needs_labeled == "targets"
        if known is None or (with_targets and known.y is None):
            raise ConfigError(
                f"labeled: {type(self).__name__} starts from the annotated images{' and their boxes' * with_targets},"
                f" which a loaded detector does not know; query with labeled={'(X, y)' if with_targets else 'X'}"
            )
        return known

    def ranking(self, estimator, X, at_most: int, *, labeled=None) -> Iterator[tuple[int, float]]:
        """Yield the row and the utility of up to `at_most` images, best first, for as long as the caller goes on.

        This is for a budget that counts boxes or time, where how many images it buys shows only on the way. The pool is
        asked about once.
        """
        indices, utilities = self.query(estimator, X, at_most, labeled=labeled)
        yield from zip(indices.tolist(), utilities.tolist(), strict=True)

    def __call__(self, learner, X, n_instances: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """Answer modAL, which passes its learner and so what that has learned from; an estimator will do too."""
        X_training = getattr(learner, "X_training", None)
        labeled = None if X_training is None else (X_training, learner.y_training)
        return self.query(getattr(learner, "estimator", learner), X, n_instances, labeled=labeled)
