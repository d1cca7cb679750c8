"""Selection by the entropy of the class scores."""

from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from miaod_plugin.detectors.network import InstanceOutputs
from miaod_plugin.errors import ConfigError
from miaod_plugin.parameters import RandomState, check_arguments
from miaod_plugin.query import QueryStrategy


class EntropySampling(QueryStrategy):
    """Choose the images whose class scores are the least certain.

    The entropy of an instance is the sum over classes of the binary entropy of its score, or the entropy of its softmax
    over classes and background if the detector has one; an image aggregates those of its detections, or of all its
    instances. An image without any detection has utility 0.

    Parameters
    ----------
    over : {"detections", "instances"}
        The detections that survive the score threshold and non-maximum suppression (each has the score of its class
        alone), or every instance of the detector.
    aggregate : {"max", "mean", "sum"}
        What an image makes of the entropies of its detections or instances.
    random_state : int, optional
        Without effect: nothing is drawn.

    References
    ----------
    Settles, *Active Learning Literature Survey*, 2009, section 3.1. Roy et al., *Deep active learning for object
    detection*, BMVC 2018, for the aggregation over a detector's outputs.
    """

    reads_of_pool = "image"

    def __init__(
        self,
        over: Literal["detections", "instances"] = "detections",
        aggregate: Literal["max", "mean", "sum"] = "max",
        random_state: RandomState = None,
    ):
        self.over = over
        self.aggregate = aggregate
        self.random_state = random_state

    def utilities(self, estimator, X, *, labeled=None) -> np.ndarray:
        """Return the aggregated entropy of each image in nats, ``(n,)``."""
        check_arguments(type(self), self.get_params())
        return estimator.map_pool(X, {"entropy": self.reducer()})["entropy"]

    def reducer(self) -> Callable[[InstanceOutputs], Tensor]:
        """Return what computes the entropy of each image of a batch, ``(B,)``, in a pass over a pool."""
        return self._detection_entropy if self.over == "detections" else self._instance_entropy

    def _detection_entropy(self, outputs) -> Tensor:
        images = [binary_entropy(detections["scores"]) for detections in outputs.detections]
        return torch.stack([self._aggregate(entropy) for entropy in images])

    def _instance_entropy(self, outputs) -> Tensor:
        detector = outputs.network.detector
        if detector.supervised_only:
            raise ConfigError(f"over: {type(detector).__name__} shows no instances; choose 'detections'")
        logits = torch.cat(outputs.logits, dim=1)
        if detector.background:
            entropy = torch.special.entr(logits.softmax(dim=2)).sum(dim=2)
        else:
            entropy = binary_entropy(logits.sigmoid()).sum(dim=2)
        if outputs.valid is None:
            return torch.stack([self._aggregate(image) for image in entropy])
        valid = torch.cat(outputs.valid, dim=1)
        return torch.stack([self._aggregate(image[mask]) for image, mask in zip(entropy, valid, strict=True)])

    def _aggregate(self, entropy: Tensor) -> Tensor:
        return getattr(entropy, self.aggregate)() if len(entropy) else entropy.sum()


def binary_entropy(p: Tensor) -> Tensor:
    """Return ``-p log p - (1 - p) log(1 - p)`` in nats, elementwise; 0 at 0 and 1."""
    return torch.special.entr(p) + torch.special.entr(1 - p)
