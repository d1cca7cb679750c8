"""Supervised training."""

from ..parameters import Count
from .base import Stage, Training, in_steps


class Supervised(Training):
    """Train a detector with one classifier on annotated images.

    Parameters
    ----------
    epochs : int
        Passes over the annotated images; the default is what MI-AOD's schedule for VOC makes of them.
    """

    def __init__(self, epochs: Count = 26):
        self.epochs = epochs

    def plan(self, n_labeled: int, n_unlabeled: int, batch_size: int, max_steps: int | None) -> list[Stage]:
        return in_steps([Stage("label", self.epochs)], n_labeled, batch_size, max_steps)
