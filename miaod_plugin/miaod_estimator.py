"""The MI-AOD detector as a scikit-learn estimator."""

import copy
import logging
from collections.abc import Callable, Mapping, Sequence
from itertools import dropwhile
from os import PathLike
from typing import Annotated, Literal

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted

from .data.image_sets import check_images
from .errors import ConfigError
from .estimator import ObjectDetector
from .labeled import labeled_images
from .mil.options import MIAODOptions, miaod_options
from .parameters import Count, Names, Natural, NonNegative, Number, Probability, RandomState, Whole
from .randomness import seed_of
from .training.loop import Round, plan_rounds

logger = logging.getLogger("miaod_plugin")


class MIAODDetector(ObjectDetector):
    """A detector with two adversarial classifiers and a MIL head, which also learns from unlabelled images.

    With unlabelled images, `fit` runs the whole schedule of MI-AOD: label-set training, then `rounds` times a round
    that minimises the discrepancy of the classifiers, one that maximises it, and label-set training. Without, it runs
    label-set training alone. The unlabelled images of a `fit` are a random subset as large as the labelled set.

    Parameters
    ----------
    detector, classes, detector_options, max_steps, batch_size, optimizer, learning_rate, momentum, weight_decay, \
warmup_steps, drop_at, max_grad_norm, augmentation, horizontal_flip, score_batch_size, num_workers, device, \
random_state, checkpoint, checkpoint_seconds, on_step, verbose
        As in `ObjectDetector`.
    label_epochs, min_epochs, max_epochs : int
        Passes over the labelled images in each label-set, minimising and maximising round; the latter two take as many
        steps again on unlabelled images.
    rounds : int
        How often minimising, maximising and label-set training follow each other.
    repeat : int
        How often an epoch repeats the sets.
    mode : {"improved", "faithful"}
        Do what the original implementation does, or what puts its known flaws right; see `MIAODOptions`.
    options : dict, optional
        Single options of `MIAODOptions` that differ from the mode's.

    Attributes
    ----------
    options_ : MIAODOptions
        What the mode and the options come to.

    References
    ----------
    Yuan et al., *Multiple Instance Active Learning for Object Detection*, CVPR 2021, sections 3 and 4.1.

    Examples
    --------
    >>> from miaod_plugin import MIAODDetector
    >>> from miaod_plugin.data import make_digit_scenes
    >>> data = make_digit_scenes(8, random_state=0)
    >>> detector = MIAODDetector("retinanet_tiny", classes=data.classes, max_steps=10, random_state=0)
    >>> detector.fit(data.X[:4], data.y[:4], unlabeled=data.X[4:]).n_unlabeled_
    4
    """

    def __init__(
        self,
        detector: str | Callable = "retinanet_resnet50_fpn",
        classes: Annotated[Sequence, Names()] | None = None,
        *,
        detector_options: Mapping | None = None,
        label_epochs: Count = 3,
        min_epochs: Natural = 1,
        max_epochs: Natural = 1,
        rounds: Natural = 2,
        repeat: Count = 2,
        max_steps: Count | None = None,
        mode: Literal["improved", "faithful"] = "improved",
        options: Mapping | None = None,
        batch_size: Count = 2,
        optimizer: Literal["sgd", "adamw"] = "sgd",
        learning_rate: NonNegative = 1e-3,
        momentum: Annotated[float, Number(0, 1, below=True)] = 0.9,
        weight_decay: NonNegative = 5e-4,
        warmup_steps: Natural = 0,
        drop_at: NonNegative = 0.94,
        max_grad_norm: NonNegative | None = None,
        augmentation: Literal["flip", "ssd"] = "flip",
        horizontal_flip: Probability = 0.5,
        score_batch_size: Count = 8,
        num_workers: Annotated[int, Whole(0, 256)] = 0,
        device: str | torch.device = "auto",
        random_state: RandomState = None,
        checkpoint: str | PathLike | None = None,
        checkpoint_seconds: NonNegative = 60.0,
        on_step: Callable[[dict], None] | None = None,
        verbose: bool | Natural = 0,
    ):
        super().__init__(
            detector,
            classes,
            detector_options=detector_options,
            max_steps=max_steps,
            batch_size=batch_size,
            optimizer=optimizer,
            learning_rate=learning_rate,
            momentum=momentum,
            weight_decay=weight_decay,
            warmup_steps=warmup_steps,
            drop_at=drop_at,
            max_grad_norm=max_grad_norm,
            augmentation=augmentation,
            horizontal_flip=horizontal_flip,
            score_batch_size=score_batch_size,
            num_workers=num_workers,
            device=device,
            random_state=random_state,
            checkpoint=checkpoint,
            checkpoint_seconds=checkpoint_seconds,
            on_step=on_step,
            verbose=verbose,
        )
        del self.epochs  # the schedule below takes its place
        self.label_epochs = label_epochs
        self.min_epochs = min_epochs
        self.max_epochs = max_epochs
        self.rounds = rounds
        self.repeat = repeat
        self.mode = mode
        self.options = options

    @property
    def options_(self) -> MIAODOptions:
        """What the mode and the options come to."""
        return miaod_options(self.mode, self.options)

    def adapted_to(self, pool, labeled=None) -> "MIAODDetector":
        """Return a copy that has gone on, from label-set training, through the adversarial rounds on a pool.

        This is what a MI-AOD query does with a detector that has seen no unlabelled image; the detector itself does not
        change. Passing the pool to `fit` (`teach(..., unlabeled=pool)`) does it once instead of with every query.

        Parameters
        ----------
        pool : ndarray
            Unlabelled images; a random subset as large as the labelled set is used.
        labeled : tuple (X, y), optional
            The annotated images to train on, and their targets; by default those of the last `fit`.
        """
        check_is_fitted(self, "network_")
        known = labeled_images(self, labeled)
        if known is None or known.y is None:
            raise ConfigError(
                "labeled: the adversarial rounds train on annotated images, which a loaded detector does not know;"
                " query with labeled=(X, y), or with adapt=False"
            )
        seed = seed_of(self.random_state)
        adapted = copy.copy(self)
        adapted.network_ = copy.deepcopy(self.network_)
        adapted.checkpoint = adapted.on_step = None
        unlabeled = adapted._choose_unlabeled(check_images(pool), len(known.X), seed)
        rounds = self._adversarial_rounds(len(known.X), len(unlabeled))
        steps = sum(stage.steps for stage in rounds)
        logger.info("no unlabelled image was seen in training: %d steps of adversarial rounds on the pool", steps)
        adapted._train(known.X, known.y, unlabeled, rounds, seed)
        return adapted

    def adapting_steps(self, n_labeled: int, n_unlabeled: int) -> int:
        """Return how many optimiser steps `adapted_to` takes with so many annotated images and such a pool."""
        return sum(stage.steps for stage in self._adversarial_rounds(n_labeled, n_unlabeled))

    def _adversarial_rounds(self, n_labeled: int, n_unlabeled: int) -> list[Round]:
        """Return the schedule without the label-set training that it begins with."""
        return [*dropwhile(lambda stage: stage.kind == "label", self._rounds(n_labeled, n_unlabeled))]

    def _schedule(self) -> list[tuple[str, int]]:
        again = [("min", self.min_epochs), ("max", self.max_epochs), ("label", self.label_epochs)]
        return [(kind, epochs * self.repeat) for kind, epochs in [("label", self.label_epochs), *again * self.rounds]]

    def _rounds(self, n_labeled: int, n_unlabeled: int) -> list[Round]:
        schedule = self._schedule()
        if not n_unlabeled:
            schedule = [(kind, epochs) for kind, epochs in schedule if kind == "label"]
        return plan_rounds(schedule, n_labeled, self.batch_size, self.max_steps)

    def _options(self) -> MIAODOptions:
        return self.options_

    def _check_parameters(self) -> None:
        super()._check_parameters()
        self._options()

    def _choose_unlabeled(self, unlabeled: np.ndarray, n_labeled: int, seed: int) -> np.ndarray:
        count = min(n_labeled, len(unlabeled))
        return unlabeled[np.sort(np.random.default_rng((seed, 2)).choice(len(unlabeled), count, replace=False))]

    def _network_options(self) -> dict:
        options = self.options_
        return {"adversarial": True, "background": options.background, "detect_with": options.detect_with}
