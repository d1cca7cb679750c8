"""Embeddings as they come, from detectors or files: checked."""

import numpy as np

from miaod_plugin.errors import DataError

LARGEST = np.finfo(np.float32).max / 8  # of a squared norm: the square of a distance is at most 4 times that


def checked(pool: np.ndarray, labeled: np.ndarray, first: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return embeddings of a pool, or a shard of it, and of labelled images as float32 that may be written to.

    They are copied only where they are not that already. Where nothing is labelled, `labeled` may have any columns.

    Parameters
    ----------
    pool : ndarray, (n, d)
    labeled : ndarray, (m, d)
    first : int
        The row of the pool that a shard begins with.

    Raises
    ------
    DataError
        If a row is not finite, or so large that the square of a distance to it is not, or the columns differ.
    """
    if not len(labeled):
        labeled = np.zeros((0, *np.shape(pool)[1:]), dtype=np.float32)
    if np.ndim(pool) != 2 or np.shape(pool)[1:] != np.shape(labeled)[1:]:
        raise DataError(
            f"pool: embeddings of the shape {np.shape(pool)}, and labelled ones of {np.shape(labeled)}; give as many"
            " columns of both"
        )
    return _finite(pool, "pool", first), _finite(labeled, "labeled", 0)


def _finite(x: np.ndarray, name: str, first: int) -> np.ndarray:
    with np.errstate(over="ignore", invalid="ignore"):
        x = np.require(x, np.float32, "W")
        norms = np.einsum("ij,ij->i", x, x)
    if len(broken := np.flatnonzero(~(norms < LARGEST))):
        raise DataError(f"{name}: the embedding of image {first + broken[0]} is not finite; fit the detector anew")
    return x
