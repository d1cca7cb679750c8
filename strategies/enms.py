"""Entropy without what is redundant in an image, and images whose prototypes differ."""

from math import ceil

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from miaod_plugin.baselines.entropy import binary_entropy
from miaod_plugin.detectors.network import InstanceOutputs
from miaod_plugin.parameters import Probability, RandomState, Share, check_arguments
from miaod_plugin.query import QueryStrategy


class ENMSSampling(QueryStrategy):
    """Choose images that are uncertain in several ways, unlike those chosen before, rare classes first.

    The utility of an image is the sum of the binary entropies of its detections' scores, without redundant ones: the
    most entropic detection is taken, those of its class go whose features have a cosine above `redundant`, and so on.
    The prototype of a class in an image is the mean of the features of what was taken, weighed by entropy.

    Images are gone through by falling utility. One is accepted if for at least one of its classes no accepted image has
    a prototype with a cosine of `alike` or more. First come those that also show a minority class, one of the share
    `minority` of classes with the fewest annotated objects, with a score above `present`; each such class is wanted in
    ``reserved n / (minority C)`` images of the n that are asked for. Then the others, and where they run out those that
    were left out. What comes later has at most the utility of what came before. A prototype of each image and class is
    kept of the whole pool.

    Parameters
    ----------
    redundant : float
        Cosine above which a detection tells nothing that a more entropic one of its class does not.
    alike : float
        Cosine from which two prototypes of a class are alike.
    minority : float
        Share of the classes, 0..1, that count as minority.
    reserved : float
        Share of the images asked for that is divided among minority classes.
    present : float
        Score above which a minority class is taken to be there.
    random_state : int, optional
        Without effect: nothing is drawn.

    References
    ----------
    Wu, Chen and Huang, *Entropy-based Active Learning for Object Detection with Progressive Diversity Constraint*, CVPR
    2022, sections 3.2 and 3.3, which stops accepting where minority classes have what they want.
    """

    needs_labeled = "targets"

    def __init__(
        self,
        redundant: Probability = 0.5,
        alike: Probability = 0.7,
        minority: Share = 0.5,
        reserved: Probability = 0.75,
        present: Probability = 0.3,
        random_state: RandomState = None,
    ):
        self.redundant = redundant
        self.alike = alike
        self.minority = minority
        self.reserved = reserved
        self.present = present
        self.random_state = random_state

    def utilities(self, estimator, X, *, labeled=None) -> np.ndarray:
        """Return the entropy of each image without what is redundant in it, in nats, ``(n,)``."""
        return _entropies(self._prototypes(estimator, X))

    def select(self, estimator, X, n_instances: int, *, labeled=None) -> tuple[np.ndarray, np.ndarray]:
        """Return ``(indices, utilities)`` of the images accepted, in the order in which they were."""
        n_classes = len(estimator.classes_)
        quotas = self._quotas(self.known_images(estimator, labeled).y, n_classes, n_instances)
        images = self._prototypes(estimator, X)
        entropies = _entropies(images)
        order = np.argsort(-entropies, kind="stable")
        chosen = np.array(self._accepted(images, order.tolist(), quotas, n_instances), dtype=np.int64)
        return chosen, np.minimum.accumulate(entropies[chosen])

    def _prototypes(self, estimator, X) -> np.ndarray:
        """Return for each image a row for each class found: label, entropy, highest score, prototype."""
        check_arguments(type(self), self.get_params())
        return estimator.map_pool(X, {"prototypes": self._reducer})["prototypes"]

    def _reducer(self, outputs: InstanceOutputs) -> list[Tensor]:
        pairs = zip(outputs.detection_rows, outputs.detection_features, strict=True)
        return [prototypes(rows[:, 4].long(), rows[:, 5], features, self.redundant) for rows, features in pairs]

    def _quotas(self, targets: np.ndarray, n_classes: int, n_instances: int) -> dict[int, int]:
        """Return in how many images each minority class is wanted."""
        counts = np.zeros(n_classes)
        for target in targets:
            np.add.at(counts, np.asarray(target["labels"], dtype=np.int64), 1)
        rarest = np.argsort(counts, kind="stable")[: ceil(self.minority * n_classes)]
        return dict.fromkeys(rarest.tolist(), ceil(self.reserved * n_instances / len(rarest)))

    def _accepted(self, images: np.ndarray, order: list[int], quotas: dict[int, int], n: int) -> list[int]:
        """Return the rows of n images: those with a minority class, others that differ, then the rest."""
        accepted, seen = {}, {}  # rows in their order, and the accepted prototypes of each class
        for only_minority in (True, False):
            for row in order:
                shown = [int(label) for label, _, score, *_ in images[row][:, :3] if score > self.present]
                wanted = [label for label in shown if quotas.get(label, 0) > 0]
                if len(accepted) == n or (only_minority and not any(quotas.values())):
                    break
                if row in accepted or (only_minority and not wanted) or not self._differs(images[row], seen):
                    continue
                accepted[row] = None
                for own in images[row]:
                    seen[int(own[0])] = np.vstack([seen.get(int(own[0]), own[3:][None][:0]), own[3:]])
                for label in wanted:
                    quotas[label] -= 1
        return [*accepted, *(row for row in order if row not in accepted)][:n]

    def _differs(self, image: np.ndarray, seen: dict[int, np.ndarray]) -> bool:
        """Whether an image shows a class as no accepted one does; one without a detection shows nothing new."""
        return any(int(own[0]) not in seen or (seen[int(own[0])] @ own[3:]).max() < self.alike for own in image)


def prototypes(labels: Tensor, scores: Tensor, features: Tensor, redundant: float) -> Tensor:
    """Return a row for each class in an image, by label: label, sum of entropies, highest score, prototype.

    Parameters
    ----------
    labels, scores : Tensor, (m,)
    features : Tensor, (m, D)
    redundant : float

    Returns
    -------
    Tensor, (k, 3 + D)
        The prototype has length 1.
    """
    entropy, unit = binary_entropy(scores.double()), F.normalize(features.double(), dim=1)
    order = entropy.argsort(descending=True, stable=True)
    goes_with = ((unit @ unit.T > redundant) & (labels[:, None] == labels))[order][:, order].cpu().numpy()
    taken = torch.from_numpy(_kept(goes_with)).to(order.device)
    taken = order[taken]
    rows = []
    for label in labels.unique():
        here = taken[labels[taken] == label]
        weights = entropy[here]
        prototype = F.normalize((weights[:, None] * features[here].double()).sum(dim=0), dim=0)
        head = torch.stack([label.double(), weights.sum(), scores[labels == label].max().double()])
        rows.append(torch.cat([head, prototype]))
    return torch.stack(rows).float() if rows else features.new_zeros(0, 3 + features.shape[1])


def _kept(goes_with: np.ndarray) -> np.ndarray:
    """Return which rows stay when each, in order, takes out the later ones that go with it, ``(m, m)`` -> ``(m,)``."""
    kept = np.ones(len(goes_with), dtype=bool)
    for row in range(len(goes_with)):
        if kept[row]:
            kept[row + 1 :] &= ~goes_with[row, row + 1 :]
    return kept


def _entropies(images: np.ndarray) -> np.ndarray:
    return np.array([image[:, 1].sum(dtype=np.float64) for image in images])
