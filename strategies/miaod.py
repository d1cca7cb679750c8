"""MI-AOD's selection of images."""

from collections.abc import Callable
from typing import Literal

import numpy as np
from torch import Tensor

from miaod_plugin import mil
from miaod_plugin.detectors.network import InstanceOutputs
from miaod_plugin.labeled import Labeled
from miaod_plugin.mil.adapting import adapted_to, adversarial_stages
from miaod_plugin.mil.objective import class_logits, mil_instances
from miaod_plugin.mil.options import MIAODOptions
from miaod_plugin.mil.training import MIAOD
from miaod_plugin.parameters import Count, RandomState, Share, check_arguments
from miaod_plugin.query import QueryStrategy


class MIAODSampling(QueryStrategy):
    """Choose the images whose instances the two adversarial classifiers disagree on most.

    The utility of an image is its instance uncertainty, `miaod_plugin.mil.instance_uncertainty`, averaged over the
    `top_k` most uncertain instances or over all by their weights.

    Parameters
    ----------
    average : {"top_k", "weights"}
        Average over the most uncertain instances, as the paper does, or weigh every instance as the MIL head and the
        attention do in training. The former grows with the number of objects, so it picks crowded images; the latter
        grows less in the improved mode, where objects share the weight of their image.
    top_k : int or float, optional
        A number of instances, or as a float a share of the image's; by default the training's option.
    adapt : bool
        Before a query, run the adversarial rounds on the pool if the estimator has seen no unlabelled image. The
        estimator itself does not change.
    random_state : int, optional
        Without effect: nothing is drawn.

    References
    ----------
    Yuan et al., *Multiple Instance Active Learning for Object Detection*, CVPR 2021, section 3.4.

    Examples
    --------
    >>> from miaod_plugin import MIAODDetector
    >>> from miaod_plugin.data import make_digit_scenes
    >>> from miaod_plugin.strategies import MIAODSampling
    >>> data = make_digit_scenes(8, random_state=0)
    >>> detector = MIAODDetector("retinanet_tiny", classes=data.classes, max_steps=10, random_state=0)
    >>> detector = detector.fit(data.X[:4], data.y[:4], unlabeled=data.X[4:])
    >>> indices, utilities = MIAODSampling().query(detector, data.X[4:], n_instances=2)
    >>> len(indices), bool(utilities[0] >= utilities[1])
    (2, True)
    """

    trained_by, adapts_by, reads_of_pool = MIAOD, "adapt", "image"

    def __init__(
        self,
        average: Literal["top_k", "weights"] = "top_k",
        top_k: Count | Share | None = None,
        adapt: bool = True,
        random_state: RandomState = None,
    ):
        self.average = average
        self.top_k = top_k
        self.adapt = adapt
        self.random_state = random_state

    def prepared(self, estimator, X, labeled: Labeled | None):
        """Return a copy that went through the adversarial rounds on the pool if the estimator has seen none of it."""
        if self.adapt and getattr(estimator, "n_unlabeled_", None) == 0:
            return adapted_to(estimator, X, labeled)
        return estimator

    def preparing_steps(self, estimator, n_labeled: int, n_unlabeled: int = 0) -> int:
        """Return the optimiser steps of the adversarial rounds, with as many unlabelled images as labelled ones."""
        if n_unlabeled or not self.adapt:
            return 0
        return sum(stage.steps for stage in adversarial_stages(estimator, n_labeled, n_labeled))

    def utilities(self, estimator, X, *, labeled=None) -> np.ndarray:
        """Return the uncertainty of each image to the estimator as it is, ``(n,)``."""
        check_arguments(type(self), self.get_params())
        self.check_training(estimator.training_)
        return estimator.map_pool(X, {"uncertainty": self.reducer(estimator.training_.options_)})["uncertainty"]

    def reducer(self, options: MIAODOptions) -> Callable[[InstanceOutputs], Tensor]:
        """Return what computes the uncertainty of each image of a batch, ``(B,)``, in a pass over a pool."""
        top_k = options.top_k if self.top_k is None else self.top_k

        def uncertainty(outputs: InstanceOutputs) -> Tensor:
            if self.average == "weights":
                instances = mil_instances(outputs, options)
                return mil.weighted_uncertainty(instances.logits1, instances.logits2, instances.weights)
            return mil.image_uncertainty(*class_logits(outputs, options), top_k=top_k, valid=outputs.valid)

        return uncertainty
