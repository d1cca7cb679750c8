"""Everything that chance decides in an experiment, each from its own stream so that no draw depends on another."""

import zlib

import numpy as np


def stream(seed: int, purpose: str, cycle: int = 0) -> np.random.Generator:
    """Return the random generator of one purpose in one cycle of a seed; arms do not take part, so they share it."""
    return np.random.default_rng([seed, zlib.crc32(purpose.encode()), cycle])


def random_state(seed: int, purpose: str, cycle: int) -> int:
    """Return a scikit-learn ``random_state`` drawn from `stream`."""
    return int(stream(seed, purpose, cycle).integers(2**31))


def initial_set(n_pool: int, n_images: int, seed: int) -> np.ndarray:
    """Return the sorted indices of the images that are labelled before the first query."""
    return np.sort(stream(seed, "initial set").choice(n_pool, n_images, replace=False))


def unlabelled_subset(pool: np.ndarray, n_labelled: int, seed: int, cycle: int) -> np.ndarray:
    """Return a sorted random subset of `pool`, as large as the labelled set where the pool allows.

    MI-AOD trains on as many unlabelled images as labelled ones (Yuan et al., CVPR 2021, section 4.1).
    """
    chosen = stream(seed, "unlabelled subset", cycle).choice(pool, min(len(pool), n_labelled), replace=False)
    return np.sort(chosen)
