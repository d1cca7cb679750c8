"""Greedy coverage of a pool by a kernel: rows, each the one that adds most to how well all rows are covered."""

from collections.abc import Iterator
from contextlib import suppress

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from miaod_plugin.baselines.k_center import squared_norms
from miaod_plugin.errors import DataError

ROWS, CENTERS = 4096, 512  # held against each other at a time: 16 MiB of float64
DECIMALS = 10  # of gains; the rest is rounding, and would decide between rows that add the same
TOGETHER = 64  # gains measured at a time before a pick


def greedy_coverage(
    pool: np.ndarray, labeled: np.ndarray, sigma: float, device: str | torch.device = "cpu"
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

    Raises
    ------
    DataError
        If a row is not finite.
    """
    cover, n = KernelCover(pool, labeled, sigma, device), len(pool)
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

    def __init__(self, pool: np.ndarray, labeled: np.ndarray, sigma: float, device: str | torch.device = "cpu"):
        self.rows, centers = _finite(pool, "pool", device), _finite(labeled, "labeled", device)
        self.sigma = sigma
        self.covered = self.rows.new_zeros(len(self.rows), dtype=torch.float64)
        for block in centers.split(CENTERS):
            self._cover(block)

    def gains(self, candidates: np.ndarray) -> np.ndarray:
        """Return what rows of the pool would add to the mean coverage, each alone, ``(k,)`` -> float64 ``(k,)``."""
        found = np.zeros(len(candidates))
        for start in range(0, len(candidates), CENTERS):
            some = torch.from_numpy(candidates[start : start + CENTERS]).to(self.rows.device)
            for rows, covered in zip(self.rows.split(ROWS), self.covered.split(ROWS), strict=True):
                added = self._kernel(rows, self.rows[some]).sub_(covered[:, None]).clamp_(min=0).sum(dim=0)
                found[start : start + CENTERS] += added.cpu().numpy()
        return np.round(found / len(self.rows), DECIMALS)

    def add(self, row: int) -> None:
        """Make a row a centre."""
        self._cover(self.rows[row : row + 1])

    def _cover(self, centers: Tensor) -> None:
        if len(centers):
            for rows, covered in zip(self.rows.split(ROWS), self.covered.split(ROWS), strict=True):
                torch.maximum(covered, self._kernel(rows, centers).amax(dim=1), out=covered)

    def _kernel(self, rows: Tensor, centers: Tensor) -> Tensor:
        rows, centers = (F.normalize(x.double(), dim=1) for x in (rows, centers))  # a block at a time
        squares = squared_norms(rows)[:, None] + squared_norms(centers) - 2 * rows @ centers.T
        return squares.clamp_(min=0).div_(-2 * self.sigma**2).exp_()


def _finite(x: np.ndarray, name: str, device: str | torch.device) -> Tensor:
    """Return rows as float32 on the device, or on the CPU if it has no room, or raise a DataError."""
    rows = torch.as_tensor(x, dtype=torch.float32)
    if broken := (~squared_norms(rows).isfinite()).nonzero()[:1].tolist():
        raise DataError(f"{name}: the embedding of image {broken[0][0]} is not finite; fit the detector anew")
    with suppress(torch.OutOfMemoryError):
        rows = rows.to(device)
    return rows
