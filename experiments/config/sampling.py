"""Everything that chance decides in an experiment, each from its own stream so that no draw depends on another."""

import math
import zlib

import numpy as np

from .sections import Budget


def stream(seed: int, purpose: str, cycle: int = 0) -> np.random.Generator:
    """Return the random generator of one purpose in one cycle of a seed; arms do not take part, so they share it."""
    return np.random.default_rng([seed, zlib.crc32(purpose.encode()), cycle])


def random_state(seed: int, purpose: str, cycle: int) -> int:
    """Return a scikit-learn ``random_state`` drawn from `stream`."""
    return int(stream(seed, purpose, cycle).integers(2**31))


def annotation_costs(targets: np.ndarray, budget: Budget) -> np.ndarray:
    """Return what it costs to annotate each image, float64 ``(n,)``, in the unit of the budget."""
    boxes = np.array([len(target["labels"]) for target in targets], dtype=np.float64)
    if budget.unit == "seconds":
        return budget.per_image + budget.per_box * boxes
    return boxes if budget.unit == "boxes" else np.ones(len(boxes))


def reaching(costs: np.ndarray, amount: float) -> int:
    """Return how many images, taken in order, bring their cost to `amount`; one more than there are if none do.

    An image is annotated whole, and its cost is known only then: the last one may go beyond the amount. An amount of 0
    or less is reached by none.
    """
    return int(np.searchsorted(np.concatenate([[0.0], np.cumsum(costs)]), amount))


def most_images(costs: np.ndarray, amount: float) -> int:
    """Return how many of the images bring their cost to `amount` at the latest, whatever their order."""
    return min(len(costs), reaching(np.sort(costs), amount))


def initial_set(costs: np.ndarray, budget: float, seed: int) -> np.ndarray:
    """Return the sorted indices of the images that are labelled before the first query, for the first budget."""
    cheapest = costs.min()
    at_most = min(len(costs), math.ceil(budget / cheapest)) if cheapest else len(costs)
    drawn = stream(seed, "initial set").choice(len(costs), at_most, replace=False)
    return np.sort(drawn[: reaching(costs[drawn], budget)])


def unlabelled_subset(pool: np.ndarray, n_labelled: int, seed: int, cycle: int) -> np.ndarray:
    """Return a sorted random subset of `pool`, as large as the labelled set where the pool allows.

    MI-AOD trains on as many unlabelled images as labelled ones (Yuan et al., CVPR 2021, section 4.1).
    """
    chosen = stream(seed, "unlabelled subset", cycle).choice(pool, min(len(pool), n_labelled), replace=False)
    return np.sort(chosen)
