"""How unlike images are by what is detected in them, and the images in the middle of others."""

from collections.abc import Sequence

import numpy as np
import torch

ROWS = 1024  # detections held against all of their class at a time
ROUNDING = 1e-6  # share of a sum of distances that tells nothing
MOST_ROUNDS = 100  # of k-medoids; as a rule a few are enough


def matching_distances(images: Sequence[np.ndarray]) -> np.ndarray:
    """Return how unlike images are, 0 to 2: ``(n,)`` sets of detections -> ``(n, n)``, symmetric.

    Each detection is matched to the one of its class in the other image whose features have the highest cosine, or to
    none, which counts as a cosine of -1. The distance from an image to another is the mean of ``1 - cosine`` over its
    detections, weighed by their scores; both ways are averaged. Two images without a detection are alike, with one
    that has some they have nothing in common.

    Parameters
    ----------
    images : sequence of ndarray, each (m, 2 + d)
        Label, score and features of each detection.

    References
    ----------
    Yang et al., *Plug and Play Active Learning for Object Detection*, CVPR 2024, section 3.3.
    """
    n, counts = len(images), [len(rows) for rows in images]
    rows = torch.from_numpy(np.concatenate(images).astype(np.float32, copy=False))
    image_of = torch.arange(n).repeat_interleave(torch.tensor(counts))
    labels, scores, features = rows[:, 0], rows[:, 1], torch.nn.functional.normalize(rows[:, 2:], dim=1)
    weights = torch.zeros(n).index_add_(0, image_of, scores)
    shares = scores / weights[image_of]
    cosines = torch.full((n, n), -1.0).masked_fill_((weights == 0)[:, None] & (weights == 0), 1.0)
    cosines[weights > 0] = 0.0
    for label in labels.unique():
        here = (labels == label).nonzero()[:, 0]
        for some in here.split(ROWS):
            best = _best_of_images(features[some] @ features[here].T, image_of[here], n)
            cosines.index_add_(0, image_of[some], shares[some, None] * best)
    distances = (1 - (cosines + cosines.T) / 2).clamp_(0, 2).fill_diagonal_(0)
    return distances.numpy()


def _best_of_images(cosines: torch.Tensor, image_of: torch.Tensor, n: int) -> torch.Tensor:
    """Return the largest value of each image's columns, ``(m, k)`` -> ``(m, n)``, -1 for images without a column."""
    best = cosines.new_full((len(cosines), n), -1.0)
    return best.scatter_reduce_(1, image_of.expand(len(cosines), -1), cosines.clamp(-1, 1), "amax")


def k_medoids(distances: np.ndarray, k: int) -> np.ndarray:
    """Return the rows of k images that lie in the middle of those nearest to them, rising, from ``(n, n)`` distances.

    The first images are the greedy k-centers that begin with row 0. Then each group's middle, the image with the least
    sum of distances within it, takes its place and images join the nearest one, until that changes nothing.
    """
    medoids, nearest = np.zeros(k, dtype=np.int64), distances[0].copy()
    for place in range(1, k):
        nearest[medoids[place - 1]] = -1  # never again, even when others lie at distance 0
        medoids[place] = nearest.argmax()
        nearest = np.minimum(nearest, distances[medoids[place]])
    for _ in range(MOST_ROUNDS):
        groups = distances[:, medoids].argmin(axis=1)
        groups[medoids] = np.arange(k)  # of equals at distance 0 each medoid keeps its own group
        moved = medoids.copy()
        for group in range(k):
            members = np.flatnonzero(groups == group)
            sums = distances[np.ix_(members, members)].sum(axis=1)
            own = sums[np.searchsorted(members, medoids[group])]
            if sums.min() < own * (1 - ROUNDING):  # of two images, say, either is the middle
                moved[group] = members[sums.argmin()]
        if np.array_equal(moved, medoids):
            break
        medoids = moved
    return np.sort(medoids)
