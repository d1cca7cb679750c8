"""What a training is: a plan of stages, what each of them trains, and what it minimises."""

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from sklearn.base import BaseEstimator
from torch import Tensor, nn

from ..detectors.base import Detector
from ..detectors.network import DetectionNetwork
from ..parameters import check_arguments


@dataclass(frozen=True)
class Stage:
    """A part of a training in which the same is trained to the same end.

    Parameters
    ----------
    kind : str
        What its training calls it; reported to `on_step`.
    steps : int
        Optimiser steps; in a schedule that `in_steps` is given, passes over the labelled images.
    alternates : bool
        Every second step is on a batch of unlabelled images.
    mixes : bool
        Every step is on a labelled batch and an unlabelled one, whose losses are added up.
    fresh_optimizer : bool
        Momentum and warm-up begin anew with this stage.
    """

    kind: str
    steps: int
    alternates: bool = False
    mixes: bool = False
    fresh_optimizer: bool = False


class Training(BaseEstimator):
    """How a detector is trained: a scikit-learn-style object of parameters, which `ObjectDetector` is given.

    What is learned lives in the network. A subclass implements `plan`, and overrides what differs from training a
    detector with one classifier on annotated images; `Supervised` is the shortest one.
    """

    uses_unlabeled: ClassVar[bool] = False  # whether it learns from images without annotation

    # What a subclass may have as parameters: whether it learns from all unlabelled images, or from a random subset as
    # large as the labelled set, and over which share of the steps the weights that detect are an average (see `average`
    # of `Supervised`).
    whole_pool: bool = False
    average: float = 0.0

    def check(self) -> None:
        """Raise a ConfigError that names the first parameter which is not allowed."""
        check_arguments(type(self), self.get_params(deep=False))

    def build(self, detector: Detector) -> DetectionNetwork:
        """Return the network that is trained; what of it never trains requires no gradient."""
        return DetectionNetwork(detector)

    def plan(self, n_labeled: int, n_unlabeled: int, batch_size: int, max_steps: int | None) -> list[Stage]:
        """Return the stages of a training on so many images, with exactly `max_steps` steps in all where it is given.

        Without unlabelled images no stage alternates or mixes.
        """
        raise NotImplementedError

    def begin(self, network: DetectionNetwork, stage: Stage, trainable: list[nn.Parameter]) -> None:
        """Make the network ready for a stage, also where it goes on in the middle of one.

        Parameters
        ----------
        network : DetectionNetwork
        stage : Stage
        trainable : list of Parameter
            All that trains at all; what requires no gradient in a stage is left as it is, bit by bit.
        """
        for parameter in trainable:
            parameter.requires_grad_(True)
        network.train()

    def losses(
        self, network: DetectionNetwork, images: list[Tensor], targets: list[dict[str, Tensor]] | None, stage: Stage
    ) -> dict[str, Tensor]:
        """Return the losses of a batch by name; their sum is minimised.

        Parameters
        ----------
        network : DetectionNetwork
        images : list of Tensor, each (3, H, W) in 0..1
        targets : list of dict or None
            ``boxes`` and ``labels`` of each image; ``None`` for a batch of unlabelled images.
        stage : Stage
        """
        return network(images, targets).loss

    def share(self, loss: str, n_images: int, n_batch: int) -> float:
        """Return the weight of a loss of `n_images` of a batch of `n_batch`, of which a step sees a part at a time.

        Here that of a mean over images. Override it for a loss that is a sum over them, whose weight is 1.
        """
        return n_images / n_batch

    def after_step(self, network: DetectionNetwork) -> None:
        """Do what follows every optimiser step, such as taking a moving average of weights."""


def in_steps(schedule: list[Stage], n_images: int, batch_size: int, max_steps: int | None) -> list[Stage]:
    """Return a schedule whose stages count passes over the labelled images in optimiser steps.

    A pass is ``n_images / batch_size`` steps, rounded up; where a stage alternates as many again, on unlabelled images.
    With `max_steps` the same schedule is stretched or squeezed to exactly that many steps in all.
    """
    per_pass = math.ceil(n_images / min(batch_size, n_images))
    steps = [stage.steps * per_pass * (2 if stage.alternates else 1) for stage in schedule]
    if max_steps is not None:
        ends = np.rint(np.cumsum(steps) / sum(steps) * max_steps).astype(int)
        steps = np.diff(ends, prepend=0).tolist()
    return [replace(stage, steps=count) for stage, count in zip(schedule, steps, strict=True) if count]
