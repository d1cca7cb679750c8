"""Utility for what annotating an image costs."""

import numpy as np

from miaod_plugin.parameters import NonNegative, Positive, RandomState, check_arguments
from miaod_plugin.query import QueryStrategy

from .wrapping import WrappedStrategy


class CostAwareSampling(WrappedStrategy):
    """Choose the images with the highest utility for each second that their annotation is expected to take.

    The utility is that of the strategy inside over ``per_image + per_box`` times the number of boxes to be expected,
    the sum of the detections' scores. For budgets in boxes or seconds: many utilities grow with the number of objects,
    and so does what an image costs. The strategy inside is asked for its utilities, not for its choice of a set.

    Parameters
    ----------
    strategy : QueryStrategy, optional
        Whose utilities count; entropy if left out. In a file of settings its name, or ``{name, options}``.
    per_image : float
        Seconds to look an image through.
    per_box : float
        Seconds to draw a box.
    random_state : int, optional
        Seed of the strategy inside, where it has none.

    References
    ----------
    The default costs are the median times of Su, Deng and Fei-Fei, *Crowdsourcing annotations for visual object
    detection*, AAAI workshop on human computation, 2012.

    Examples
    --------
    >>> from miaod_plugin.strategies import CostAwareSampling, EntropySampling
    >>> CostAwareSampling(EntropySampling(aggregate="sum")).set_params(strategy__aggregate="mean").strategy
    EntropySampling(aggregate='mean')
    """

    def __init__(
        self,
        strategy: QueryStrategy | None = None,
        per_image: Positive = 7.8,
        per_box: NonNegative = 25.5,
        random_state: RandomState = None,
    ):
        self.strategy = strategy
        self.per_image = per_image
        self.per_box = per_box
        self.random_state = random_state

    @property
    def needs_labeled(self) -> str | None:
        """What the strategy inside needs."""
        return self.inner.needs_labeled

    @property
    def reads_of_pool(self) -> str | None:
        """What the strategy inside does, if it rates each image."""
        return "image" if self.inner.reads_of_pool == "image" else None

    def utilities(self, estimator, X, *, labeled=None) -> np.ndarray:
        """Return the utility of each image for a second of annotation, ``(n,)``."""
        check_arguments(type(self), self.get_params(deep=False))
        utilities, expected = self._rated(estimator, X, labeled)
        return utilities / (self.per_image + self.per_box * expected.sum(axis=1))
