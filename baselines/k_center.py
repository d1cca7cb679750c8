"""Greedy k-center: rows of a pool, each the farthest from those before it."""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from .embeddings import checked

CENTERS, ROWS = 4096, 1024  # held against each other at a time: 32 MiB of float64
TOGETHER = 16  # picks whose products are one
ENOUGH = 4  # bounds checked for a pick, before those are lowered that can be
MEASURED = "donot_use_mm_for_euclid_dist"  # sum the squares of differences: nothing cancels, and no temporary


def k_center_greedy(
    pool: np.ndarray, labeled: np.ndarray, n_instances: int, device: str | torch.device = "cpu"
) -> tuple[np.ndarray, np.ndarray]:
    """Choose `n_instances` rows of `pool`, see `k_centers`.

    Parameters
    ----------
    pool : ndarray, (n, d)
    labeled : ndarray, (m, d)
    n_instances : int
    device : str or torch.device
        Where to compute.

    Returns
    -------
    indices : ndarray of int64, (n_instances,)
    distances : ndarray of float64, (n_instances,)
        Of each to the nearest one at the moment it was chosen.

    Raises
    ------
    DataError
        If a row is not finite, or so large that its square is not.
    """
    indices, distances = np.empty(n_instances, dtype=np.int64), np.empty(n_instances)
    for k, (row, distance) in enumerate(islice(k_centers(pool, labeled, device), n_instances)):
        indices[k], distances[k] = row, distance
    return indices, distances


def k_centers(pool: np.ndarray, labeled: np.ndarray, device: str | torch.device = "cpu") -> Iterator[tuple[int, float]]:
    """Yield all rows of `pool`, each the farthest from `labeled` and those before it, with its distance to the nearest.

    Of rows at the same distance the first one comes first. The choice does not depend on the number of threads.
    """
    cover = Cover(*centered(pool, labeled, device))
    for _ in range(len(pool)):
        row, distance = cover.farthest()
        yield row, distance
        cover.add(row)


def nearest_distances(pool: np.ndarray, labeled: np.ndarray, device: str | torch.device = "cpu") -> np.ndarray:
    """Return the distance of each row of `pool` to the nearest of `labeled`, float64 ``(n,)``."""
    rows, centers = centered(pool, labeled, device)
    return nearest_of(rows, centers.split(CENTERS)).cpu().numpy().astype(np.float64)


def centered(pool: np.ndarray, labeled: np.ndarray, device: str | torch.device) -> tuple[Tensor, Tensor]:
    """Return both as float32, less the pool's mean: the smaller their norms, the less is rounded off.

    They are on the device, or on the CPU if they do not fit there.
    """
    pool, labeled = checked(pool, labeled)
    mean = torch.from_numpy(pool.mean(axis=0, dtype=np.float64).astype(np.float32))
    rows, centers = (torch.from_numpy(x) - mean for x in (pool, labeled))
    with suppress(torch.OutOfMemoryError):
        rows, centers = rows.to(device), centers.to(device)
    return rows, centers


def squared_norms(x: Tensor) -> Tensor:
    """Return ``|x|^2`` of each row, ``(n, d)`` -> ``(n,)``, without a temporary of x's size."""
    return torch.linalg.vector_norm(x, dim=1).square_()


def nearest_of(rows: Tensor, centers: Iterable[Tensor]) -> Tensor:
    """Return the distance of each row to the nearest of all blocks of centres, ``(n,)``; infinite without any.

    One matrix product in float64 for two blocks tells which is the nearest; the distance to that one is measured, so
    that it is 0 between equals.
    """
    nearest = rows.new_full((len(rows),), torch.inf)
    for block in centers:
        if not len(block):
            continue
        double = block.double()
        squares = squared_norms(double)
        for some, so_far in zip(rows.split(ROWS), nearest.split(ROWS), strict=True):
            closest = block[torch.addmm(squares, some.double(), double.T, alpha=-2).argmin(dim=1)]
            torch.minimum(so_far, torch.linalg.vector_norm(some - closest, dim=1), out=so_far)
    return nearest


class Cover:
    """How far each row of a pool is from the nearest centre, the labelled rows at first.

    A new centre c lowers the distances by ``|x|^2 + |c|^2 - 2 x c``, one matrix product for several picks; until then
    the bounds hold all the same. In float32 the result is off by at most a known share of the norms; with that added it
    is an upper bound. Where a bound decides which row is the farthest, the distance is measured in its place, usually
    once a pick. That is the lazy greedy algorithm of Minoux, *Accelerated algorithms for maximizing submodular set
    functions*, 1978. Where rows lie so close together that most bounds would have to be checked, all distances are
    measured from then on.

    Parameters
    ----------
    rows : Tensor of float32, (n, d)
    labeled : Tensor of float32, (m, d)
    """

    def __init__(self, rows: Tensor, labeled: Tensor):
        self.rows = rows
        self.from_labeled = nearest_of(rows, labeled.split(CENTERS))
        self.bounds = self.from_labeled.square()  # of the squares; -1 for a row that is a centre
        self.slack = 1 + (2 * rows.shape[1] + 16) * torch.finfo(torch.float32).eps  # more than all roundings
        self.raised = squared_norms(rows) * self.slack
        self.buffer = torch.empty_like(self.raised)
        self.picked: list[Tensor] = []  # blocks of CENTERS rows, so that they lie side by side
        self.n_picks = 0
        self.n_pending = 0  # the last picks, by which bounds are not lowered yet
        exact = rows.device.type == "cpu" and torch.backends.mkldnn.matmul.fp32_precision in ("ieee", "none")
        self.n_together = TOGETHER if exact else 1  # products of matrices may round to fewer bits than of vectors
        self.measures = False
        self.checked = 0  # rows that were read to check bounds

    def farthest(self) -> tuple[int, float]:
        """Return the row that is the farthest from its nearest centre, the first of several, and the distance."""
        distances: dict[int, float] = {}
        while (row := int(self.bounds.argmax())) not in distances:
            if self.measures:
                return row, float(self.bounds[row].sqrt())
            distances[row] = self._distance(row)
            self.bounds[row] = distances[row] ** 2
            if self.n_pending and len(distances) == ENOUGH:
                self._lower()
            if self.checked > len(self.rows) * (self.n_picks + 1):
                self._measure()
                distances.clear()
        return row, distances[row]

    def add(self, row: int) -> None:
        """Make a row a centre."""
        block, place = divmod(self.n_picks, CENTERS)
        if place == 0:
            self.picked.append(self.rows.new_empty(min(CENTERS, len(self.rows)), self.rows.shape[1]))
        self.picked[block][place] = self.rows[row]
        self.n_picks += 1
        self.bounds[row] = -1.0  # never again, even when others lie at distance 0
        if self.measures:
            squares = torch.cdist(self.rows, self.rows[row : row + 1], compute_mode=MEASURED)[:, 0].square_()
            torch.minimum(self.bounds, squares, out=self.bounds)
            return
        self.n_pending += 1
        if self.n_pending == self.n_together or place == CENTERS - 1:
            self._lower()

    def _lower(self) -> None:
        """Lower the bounds by the last picks."""
        end = (self.n_picks - 1) % CENTERS + 1
        centers = self.picked[-1][end - self.n_pending : end]
        norms = squared_norms(centers) * self.slack
        if len(centers) == 1:
            squares = torch.addmv(self.raised, self.rows, centers[0], alpha=-2, out=self.buffer).add_(norms[0])
        else:
            products = torch.addmm(norms[:, None], centers, self.rows.T, alpha=-2)
            squares = torch.amin(products, dim=0, out=self.buffer).add_(self.raised)
        torch.minimum(self.bounds, squares.clamp_(min=0), out=self.bounds)
        self.n_pending = 0

    def _centers(self) -> Iterator[Tensor]:
        """Yield the rows that were made centres, block by block."""
        for k, block in enumerate(self.picked):
            yield block[: self.n_picks - k * CENTERS]

    def _distance(self, row: int) -> float:
        self.checked += self.n_picks + len(self.rows) // self.rows.shape[1]  # the bounds are searched once more, too
        nearest = self.from_labeled[row]
        for block in self._centers():
            distances = torch.cdist(self.rows[row : row + 1], block, compute_mode=MEASURED)
            nearest = torch.minimum(nearest, distances.amin())
        return float(nearest)

    def _measure(self) -> None:
        """Replace all bounds by distances, for good: checking them has cost as much as measuring would have."""
        self.measures, self.n_pending = True, 0
        squares = torch.minimum(self.from_labeled, nearest_of(self.rows, self._centers())).square_()
        self.bounds = squares.masked_fill_(self.bounds < 0, -1.0)
