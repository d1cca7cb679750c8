"""Benchmarks of core-set: against a bare loop of products, a pairwise matrix, and scikit-activeml if it is installed.

The bare loop is what no choice by matrix-vector products can do without: per pick one `torch.addmv` over the pool, one
minimum, one maximum, into tensors that are there. It gets the distances to the labelled images for nothing.
"""

import argparse
import resource
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from scipy.spatial.distance import cdist

from miaod_plugin.baselines.k_center import k_center_greedy, nearest_distances

from .measure import Comparison, show, side_by_side


class Size(NamedTuple):
    """How many embeddings there are, of how many dimensions, and how many are labelled and chosen."""

    pool: int
    dimensions: int
    labeled: int
    picks: int

    def __str__(self) -> str:
        return f"{self.picks:,} of {self.pool:,} x {self.dimensions}, {self.labeled:,} labelled"


MATRIX = Size(6_000, 128, 100, 200)
USUAL = Size(20_000, 512, 100, 500)
COCO = Size(117_266, 256, 2_345, 2_345)  # train2017's images with objects, at 2 % a cycle


def embeddings(size: Size) -> tuple[np.ndarray, np.ndarray]:
    """Return normally distributed embeddings of a pool and of labelled images."""
    rng = np.random.default_rng(0)
    shapes = (size.pool, size.dimensions), (size.labeled, size.dimensions)
    return tuple(rng.standard_normal(shape, dtype=np.float32) for shape in shapes)


def bare_loop(pool: np.ndarray, labeled: np.ndarray, picks: int) -> Callable[[], np.ndarray]:
    """Return the loop that the module's docstring describes, ready to run."""
    x, start = torch.from_numpy(pool), torch.from_numpy(nearest_distances(pool, labeled)).float().square()
    norms, buffer = x.square().sum(dim=1), torch.empty(len(x))

    def loop() -> np.ndarray:
        nearest, chosen = start.clone(), []
        for _ in range(picks):
            row = int(nearest.argmax())
            chosen.append(row)
            torch.addmv(norms, x, x[row], alpha=-2, out=buffer).add_(norms[row])
            torch.minimum(nearest, buffer, out=nearest)
        return np.array(chosen)

    return loop


def pairwise_matrix(pool: np.ndarray, labeled: np.ndarray, picks: int) -> np.ndarray:
    """Choose by a matrix of all distances, in float64."""
    distances, nearest, chosen = cdist(pool, pool), cdist(pool, labeled).min(axis=1), []
    for _ in range(picks):
        chosen.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, distances[chosen[-1]])
    return np.array(chosen)


def scikit_activeml(pool: np.ndarray, labeled: np.ndarray, picks: int) -> Callable[[], np.ndarray] | None:
    """Return scikit-activeml's core-set, or None if it is not installed."""
    try:
        from skactiveml.pool import CoreSet
    except ImportError:
        return None
    X = np.concatenate([labeled, pool])
    y = np.concatenate([np.zeros(len(labeled)), np.full(len(pool), np.nan)])
    return lambda: CoreSet(random_state=0).query(X, y, batch_size=picks) - len(labeled)


def coreset(usual: Size = USUAL, matrix: Size = MATRIX) -> Iterator[Comparison]:
    """Yield core-set beside each of its peers."""
    pool, labeled = embeddings(matrix)
    ours = chooser(pool, labeled, matrix.picks)
    peer = partial(pairwise_matrix, pool, labeled, matrix.picks)
    yield side_by_side(f"core-set, {matrix} / pairwise matrix", ours, peer, 2, same=True)
    pool, labeled = embeddings(usual)
    ours = chooser(pool, labeled, usual.picks)
    yield side_by_side(f"core-set, {usual} / bare loop", ours, bare_loop(pool, labeled, usual.picks), same=True)
    peer = scikit_activeml(pool, labeled, usual.picks)
    yield side_by_side(f"core-set, {usual} / scikit-activeml", ours, peer, 1, same=True)


def large(size: Size = COCO) -> Iterator[Comparison]:
    """Yield core-set beside the bare loop at the scale of COCO, and print the memory that it takes."""
    pool, labeled = embeddings(size)
    ours = chooser(pool, labeled, size.picks)
    before = peak_memory()
    ours()
    print(f"core-set, {size}: at most {peak_memory() - before:.2f} GB over the embeddings")
    yield side_by_side(f"core-set, {size} / bare loop", ours, bare_loop(pool, labeled, size.picks), 1, same=True)


def chooser(pool: np.ndarray, labeled: np.ndarray, picks: int) -> Callable[[], np.ndarray]:
    """Return our choice, ready to run."""
    return lambda: k_center_greedy(pool, labeled, picks)[0]


def peak_memory() -> float:
    """Return the most memory that this process has held, in GB; Linux tells it in KiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def main() -> None:
    """Run the benchmarks of core-set alone."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--large", action="store_true", help="at the scale of COCO, which takes minutes")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    show(large() if options.large else coreset())


if __name__ == "__main__":
    main()
