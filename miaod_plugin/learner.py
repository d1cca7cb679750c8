"""The active learner: modAL's, on any scikit-learn."""

import numpy as np
from modAL.models import ActiveLearner
from modAL.utils.data import retrieve_rows

from .data.image_sets import check_annotated_images, images_like
from .errors import ConfigError, shown
from .rollback import unchanged_if_it_fails


class DetectionLearner(ActiveLearner):
    """modAL's `ActiveLearner` for object detection: keeps the annotated images, queries, and teaches the estimator.

    modAL checks data with an argument that scikit-learn 1.8 removed, and calls a strategy a second time when the first
    call fails; this class does neither. Everything else is modAL's.

    Parameters
    ----------
    estimator : ObjectDetector
    query_strategy : QueryStrategy
    X_training, y_training : ndarray, optional
        Images and targets annotated so far; the estimator is fitted on them at once.
    **fit_kwargs
        Passed to that `fit`, such as ``unlabeled=pool``.

    Examples
    --------
    >>> from miaod_plugin import DetectionLearner, MIAODDetector
    >>> from miaod_plugin.data import make_digit_scenes
    >>> from miaod_plugin.strategies import MIAODSampling
    >>> data = make_digit_scenes(12, random_state=0)
    >>> learner = DetectionLearner(
    ...     estimator=MIAODDetector("retinanet_tiny", classes=data.classes, max_steps=10, random_state=0),
    ...     query_strategy=MIAODSampling(), X_training=data.X[:4], y_training=data.y[:4], unlabeled=data.X[4:])
    >>> picked, images = learner.query(data.X[4:], n_instances=2)
    >>> learner.teach(images, data.y[4:][picked], unlabeled=data.X[4:])
    >>> len(learner.X_training)
    6
    """

    def __init__(self, estimator, query_strategy, X_training=None, y_training=None, **fit_kwargs):
        if isinstance(estimator, type) or not hasattr(estimator, "fit"):
            raise ConfigError(
                f"estimator: {shown(estimator)} is not allowed; give a detector, such as MIAODDetector(...)"
            )
        if isinstance(query_strategy, type) or not callable(query_strategy):
            strategy = shown(query_strategy)
            raise ConfigError(f"query_strategy: {strategy} is not allowed; give a strategy, such as MIAODSampling()")
        super().__init__(estimator, query_strategy)
        self.X_training = self.y_training = None
        if X_training is not None:
            self.fit(X_training, y_training, **fit_kwargs)

    def __repr__(self) -> str:
        known = 0 if self.X_training is None else len(self.X_training)
        return f"DetectionLearner({self.estimator!r}, {self.query_strategy!r}, {known} annotated images)"

    def query(self, X_pool, *query_args, return_metrics: bool = False, **query_kwargs):
        """Ask the strategy, once, which images to annotate.

        Returns
        -------
        indices : ndarray of int64, (k,)
        images : ndarray
            ``X_pool[indices]``.
        utilities : ndarray of float64, (k,)
            Only with ``return_metrics=True``.
        """
        indices, utilities = self.query_strategy(self, X_pool, *query_args, **query_kwargs)
        images = retrieve_rows(X_pool, indices)
        return (indices, images, utilities) if return_metrics else (indices, images)

    def fit(self, X, y, **fit_kwargs) -> "DetectionLearner":
        """Forget what is known and fit the estimator to these images and targets.

        If that fails or is stopped, what is known stays.
        """
        X, y = check_annotated_images(X, y)
        with unchanged_if_it_fails(self):
            self.X_training, self.y_training = X, y
            return self._fit_to_known(**fit_kwargs)

    def teach(self, X, y, **fit_kwargs) -> None:
        """Add annotated images to what is known, and fit the estimator to all of it.

        `fit_kwargs` go to the estimator's `fit`, such as ``unlabeled=pool``. If that fails or is stopped, what is known
        stays as it was, so that the same images can be taught again.
        """
        X, y = check_annotated_images(X, y)
        if self.X_training is not None:
            X = np.concatenate([self.X_training, images_like(self.X_training, X, "X")])
            y = np.concatenate([self.y_training, y])
        self.fit(X, y, **fit_kwargs)
