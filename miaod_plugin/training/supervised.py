"""Supervised training."""

from ..parameters import Count, Probability
from .base import Stage, Training, in_steps


class Supervised(Training):
    """Train a detector with one classifier on annotated images.

    Parameters
    ----------
    epochs : int
        Passes over the annotated images; the default is what MI-AOD's schedule for VOC makes of them.
    average : float
        Share of the steps so far over which the weights that detect are an average of those that were trained; at 0
        they are the last ones.
    """

    def __init__(self, epochs: Count = 26, average: Probability = 0.0):
        self.epochs = epochs
        self.average = average

    def plan(self, n_labeled: int, n_unlabeled: int, batch_size: int, max_steps: int | None) -> list[Stage]:
        return in_steps([Stage("label", self.epochs)], n_labeled, batch_size, max_steps)
