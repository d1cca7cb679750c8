"""Query by committee: images in which detectors that were trained apart see different objects."""

from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
import torch
from sklearn.base import clone
from torch import Tensor
from torchvision.ops import batched_nms, box_iou

from miaod_plugin.baselines.entropy import binary_entropy
from miaod_plugin.committee import Committee
from miaod_plugin.detectors.network import InstanceOutputs
from miaod_plugin.errors import ConfigError
from miaod_plugin.estimator import ObjectDetector
from miaod_plugin.labeled import labeled_images
from miaod_plugin.parameters import RandomState, Whole, check_arguments
from miaod_plugin.query import QueryStrategy
from miaod_plugin.randomness import seed_of

SAME = 0.5  # IoU from which two boxes are of the same object


class CommitteeSampling(QueryStrategy):
    """Choose images about whose objects the members of a committee disagree most.

    The objects of an image are what non-maximum suppression, class by class, leaves of the detections of all members.
    The vote v of a member for an object is the highest score of its detections of the class that overlap it by half, 0
    without one. The disagreement about an object is the mean divergence of the votes from their mean, ``H(mean v) -
    mean H(v)`` with the binary entropy H in nats: 0 where all are alike, at most ln 2. An image without any detection
    has utility 0.

    Each member makes one pass over the pool. A `Committee` is asked as it is. Of a single detector, `query` first
    trains more on the annotated images, alike but for their seeds; that takes as long as their training does, and with
    the annotated images of a detector that was loaded it must be told, ``labeled=(X, y)``.

    Parameters
    ----------
    members : int
        How many detectors are to be compared, where a query trains them, the one that it is asked about included.
    aggregate : {"max", "mean", "sum"}
        What an image makes of the disagreement about its objects.
    random_state : int, optional
        Seed of the members that a query trains.

    References
    ----------
    Seung, Opper and Sompolinsky, *Query by Committee*, COLT 1992. McCallum and Nigam, *Employing EM and Pool-Based
    Active Learning for Text Classification*, ICML 1998, for the divergence. Roy, Unmesh and Namboodiri, *Deep active
    learning for object detection*, BMVC 2018, whose committee are the layers of one detector.
    """

    def __init__(
        self,
        members: Annotated[int, Whole(2, 100)] = 3,
        aggregate: Literal["max", "mean", "sum"] = "max",
        random_state: RandomState = None,
    ):
        self.members = members
        self.aggregate = aggregate
        self.random_state = random_state

    @property
    def n_detectors(self) -> int:
        """How many members there are to be."""
        return self.members

    def prepared(self, estimator, X, labeled):
        """Return a committee of the estimator, and of more that are trained as it was with other seeds."""
        if _is_committee(estimator):
            return estimator
        if not isinstance(estimator, ObjectDetector):
            raise ConfigError(
                f"estimator: {type(estimator).__name__} cannot be trained again with another seed; query a"
                " Committee([...]) of fitted detectors"
            )
        known = labeled_images(estimator, labeled)
        if known is None or known.y is None:
            raise ConfigError(
                "labeled: the other members train on the annotated images, which a loaded detector does not know;"
                " query with labeled=(X, y), or query a Committee([...]) of fitted detectors"
            )
        seeds = np.random.default_rng(seed_of(self.random_state)).integers(2**31, size=self.members - 1)
        others = [clone(estimator).set_params(random_state=int(seed), checkpoint=None, on_step=None) for seed in seeds]
        unlabeled = X if estimator.n_unlabeled_ else None
        return Committee([estimator, *(other.fit(*known, unlabeled=unlabeled) for other in others)])

    def preparing_steps(self, estimator, n_labeled: int, n_unlabeled: int = 0) -> int:
        """Return the optimiser steps of the other members."""
        return 0 if _is_committee(estimator) else (self.members - 1) * estimator.total_steps(n_labeled, n_unlabeled)

    def utilities(self, estimator, X, *, labeled=None) -> np.ndarray:
        """Return how far the members disagree about each image, in nats, ``(n,)``."""
        check_arguments(type(self), self.get_params())
        if not _is_committee(estimator):
            raise ConfigError(
                f"estimator: {type(self).__name__} compares several detectors; give a Committee([...]) of fitted ones,"
                " or call query(), which trains them"
            )
        estimator.check()
        seen = [member.map_pool(X, {"detections": _rows})["detections"] for member in estimator.members]
        images = [disagreements(of_members) for of_members in zip(*seen, strict=True)]
        return np.array([getattr(image, self.aggregate)() if len(image) else 0.0 for image in images])


def disagreements(seen: Sequence[np.ndarray]) -> np.ndarray:
    """Return how far the members disagree about each object of an image, float64 ``(k,)``.

    Parameters
    ----------
    seen : sequence of ndarray, each (m, 6)
        What each member detects: box, label, score.
    """
    seen = [own[(own[:, 2:4] > own[:, :2]).all(axis=1)] for own in seen]  # boxes without an area overlap nothing
    rows = torch.from_numpy(np.concatenate(seen)).double()
    member_of = torch.arange(len(seen)).repeat_interleave(torch.tensor([len(own) for own in seen]))
    boxes, labels, scores = rows[:, :4], rows[:, 4], rows[:, 5]
    objects = batched_nms(boxes, scores, labels, SAME)
    same = (box_iou(boxes[objects], boxes) >= SAME) & (labels[objects, None] == labels)
    votes = torch.zeros(len(objects), len(seen), dtype=torch.float64)
    votes.scatter_reduce_(1, member_of.expand(len(objects), -1), scores * same, "amax")
    return (binary_entropy(votes.mean(dim=1)) - binary_entropy(votes).mean(dim=1)).clamp(min=0).numpy()


def _rows(outputs: InstanceOutputs) -> list[Tensor]:
    return outputs.detection_rows


def _is_committee(estimator) -> bool:
    """Whether this is a Committee, or stands in for one."""
    return hasattr(estimator, "members")
