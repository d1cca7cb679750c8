"""Greedy coverage of a pool by a kernel: rows, each the one that adds most to how well all rows are covered."""

from collections.abc import Iterator
from contextlib import suppress

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from miaod_plugin.baselines.embeddings import checked
from miaod_plugin.baselines.k_center import squared_norms

ROWS, CENTERS = 4096, 512  # held against each other at a time: 16 MiB of float64
DECIMALS = 10  # of gains; the rest is rounding, and would decide between rows that add the same
TOGETHER = 64  # gains measured at a time before a pick


def greedy_coverage(
    pool: np.ndarray,
    labeled: np.ndarray,
    sigma: float,
    device: str | torch.device = "cpu",
    weights: np.ndarray | None = None,
) -> Iterator[tuple[int, float]]:
    """Yield all rows of `pool`, each with what it adds to the coverage by `labeled` and the rows before it.

    The coverage is the mean over the pool of the largest ``exp(-|x - c|^2 / (2 sigma^2))`` of a centre c, of rows
    scaled to length 1. What a row adds can only fall while others are taken, so what it added once is a bound: only
    rows whose bound is the largest are measured anew (Minoux 1978), and the choice is that of measuring all. Of rows
    that add the same, as two do that are most like each other, the first one comes first.

    Parameters
    ----------
    pool : ndarray, (n, d)
    labeled : ndarray, (m, d)
    sigma : float
    device : str or torch.device
        Where to compute.
    weights : ndarray of float64, (n,), optional
        What each row counts in place of ``1 / n``.

    Raises
    ------
    DataError
        If a row is not finite, or the columns differ.
    """
    cover, n = KernelCover(pool, labeled, sigma, device, weights), len(pool)
    bounds = cover.gains(np.arange(n))
    for _ in range(n):
        measured = np.zeros(n, dtype=bool)
        while not measured[row := bounds.argmax()]:
            highest = np.argpartition(-bounds, min(TOGETHER, n) - 1)[:TOGETHER]
            stale = np.union1d(row, highest[~measured[highest] & (bounds[highest] >= 0)])
            bounds[stale], measured[stale] = cover.gains(stale), True
        yield int(row), float(bounds[row])
        cover.add(row)
        bounds[row] = -1.0  # never again, even when others add nothing


class KernelCover:
    """How well each row of a pool is covered: the kernel with the centre that is most like it, 0 without any.

    Parameters as in `greedy_coverage`.
    """

    def __init__(
        self,
        pool: np.ndarray,
        labeled: np.ndarray,
        sigma: float,
        device: str | torch.device = "cpu",
        weights: np.ndarray | None = None,
    ):
        self.rows, centers = (torch.from_numpy(x) for x in checked(pool, labeled))
        with suppress(torch.OutOfMemoryError):
            self.rows, centers = self.rows.to(device), centers.to(device)
        self.sigma = sigma
        self.weights = None if weights is None else torch.from_numpy(weights).to(self.rows.device)
        self.covered = self.rows.new_zeros(len(self.rows), dtype=torch.float64)
        for block in centers.split(CENTERS):
            self._cover(block)

    def gains(self, candidates: np.ndarray) -> np.ndarray:
        """Return what rows of the pool would add to the mean coverage, each alone, ``(k,)`` -> float64 ``(k,)``."""
        found = np.zeros(len(candidates))
        for start in range(0, len(candidates), CENTERS):
            some = torch.from_numpy(candidates[start : start + CENTERS]).to(self.rows.device)
            for block in self._blocks():
                added = self._kernel(self.rows[block], self.rows[some]).sub_(self.covered[block, None]).clamp_(min=0)
                total = added.sum(dim=0) if self.weights is None else self.weights[block] @ added
                found[start : start + CENTERS] += total.cpu().numpy()
        return np.round(found / len(self.rows) if self.weights is None else found, DECIMALS)

    def add(self, row: int) -> None:
        """Make a row a centre."""
        self._cover(self.rows[row : row + 1])

    def shares(self, picked: np.ndarray) -> np.ndarray:
        """Return the coverage that each of some rows gives those that it covers best, ``(k,)`` -> float64 ``(k,)``.

        Centres so far come first: what they cover no worse is theirs.
        """
        best, by = self.covered.clone(), torch.full_like(self.covered, -1, dtype=torch.int64)
        for start in range(0, len(picked), CENTERS):
            some = self.rows[torch.from_numpy(picked[start : start + CENTERS]).to(self.rows.device)]
            for block in self._blocks():
                given, place = self._kernel(self.rows[block], some).max(dim=1)
                better = given > best[block]
                best[block] = torch.where(better, given, best[block])
                by[block] = torch.where(better, start + place, by[block])
        given, by = best[by >= 0].cpu().numpy(), by[by >= 0].cpu().numpy()
        return np.bincount(by, given, minlength=len(picked))

    def _cover(self, centers: Tensor) -> None:
        if len(centers):
            for block in self._blocks():
                best = self._kernel(self.rows[block], centers).amax(dim=1)
                torch.maximum(self.covered[block], best, out=self.covered[block])

    def _blocks(self) -> Iterator[slice]:
        return (slice(start, start + ROWS) for start in range(0, len(self.rows), ROWS))

    def _kernel(self, rows: Tensor, centers: Tensor) -> Tensor:
        rows, centers = (F.normalize(x.double(), dim=1) for x in (rows, centers))  # a block at a time
        squares = squared_norms(rows)[:, None] + squared_norms(centers) - 2 * rows @ centers.T
        return squares.clamp_(min=0).div_(-2 * self.sigma**2).exp_()
