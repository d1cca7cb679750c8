"""Choosing images one after the other by their embeddings: from a pool at once, or from its shards and then again."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np

from miaod_plugin.parameters import check_arguments
from miaod_plugin.query import QueryStrategy

from .embeddings import checked


class Picks(NamedTuple):
    """What is picked of a shard, in the order of the choice.

    Attributes
    ----------
    rows : ndarray of int64, (k,)
        Of the pool.
    utilities : ndarray of float64, (k,)
    embeddings : ndarray of float32, (k, d)
    weights : ndarray of float64, (k,)
        For how many rows of the shard each stands.
    size : int
        How many rows the shard has.
    """

    rows: np.ndarray
    utilities: np.ndarray
    embeddings: np.ndarray
    weights: np.ndarray
    size: int


class GreedySampling(QueryStrategy):
    """Choose images one after the other by their embeddings; the base of core-set and MaxHerding.

    A pool with more embeddings than memory holds is chosen from in two levels: as many images as are asked for from
    each shard, as if it were the pool, and then the answer from the picks of all shards. What is labelled counts at
    both. Memory holds a shard and the picks; time grows with the number of images. A pool of one shard is chosen from
    at once.

    A subclass says by `order` and `alone` what is chosen, and has a parameter ``shard_size``: the images of a shard, or
    None.
    """

    needs_labeled, reads_of_pool = "images", "embeddings"

    def order(
        self, pool: np.ndarray, labeled: np.ndarray, device="cpu", weights: np.ndarray | None = None
    ) -> Iterator[tuple[int, float]]:
        """Yield all rows of a pool and their utilities, in the order of the choice; of equal rows the first one first.

        Parameters
        ----------
        pool, labeled : ndarray of float32, (n, d), (m, d)
            Embeddings.
        device : str or torch.device
            Where to compute.
        weights : ndarray of float64, (n,), optional
            For what share of all images each row stands, where the rows are the picks of shards.
        """
        raise NotImplementedError

    def alone(self, pool: np.ndarray, labeled: np.ndarray, device="cpu") -> np.ndarray:
        """Return the utility that each row of a pool would have if it came first, ``(n,)``."""
        raise NotImplementedError

    def weights_of(self, pool: np.ndarray, labeled: np.ndarray, picked: np.ndarray, device="cpu") -> np.ndarray:
        """Return for how many rows of a shard each of its picked rows stands, float64 ``(k,)``."""
        return np.ones(len(picked))

    def of_shards(
        self, shards: Iterable[np.ndarray], labeled: np.ndarray, n_instances: int, device="cpu"
    ) -> Iterator[tuple[int, float]]:
        """Yield up to `n_instances` rows of a pool that is given shard by shard, and their utilities, in two levels.

        Parameters
        ----------
        shards : iterable of ndarray, (n, d) each
            The pool's embeddings, each let go before the next one is asked for: parts of an ``np.memmap``, or arrays
            that a generator reads from files.
        labeled : ndarray, (m, d)
            Those of the labelled images.
        n_instances : int
        device : str or torch.device
            Where to compute.

        Raises
        ------
        DataError
            If a row is not finite, or not as long as the labelled images' ones.
        """
        picks, first = [], 0
        for shard in shards:
            picks.append(self.picks_of(shard, labeled, n_instances, device, first))
            first += len(shard)
            del shard  # before the next one is read
        yield from self.of_picks(picks, labeled, n_instances, device)

    def picks_of(self, shard: np.ndarray, labeled: np.ndarray, n_instances: int, device="cpu", first: int = 0) -> Picks:
        """Return up to `n_instances` rows of a shard, as if it were the pool: the first level, which may run anywhere.

        `first` is the row of the pool that the shard begins with; the rest and errors are those of `of_shards`.
        """
        shard, labeled = checked(shard, labeled, first)
        chosen = list(islice(self.order(shard, labeled, device), n_instances)) if len(shard) else []
        rows = np.array([row for row, _ in chosen], dtype=np.int64)
        weights = self.weights_of(shard, labeled, rows, device)
        return Picks(first + rows, np.array([utility for _, utility in chosen]), shard[rows], weights, len(shard))

    def of_picks(
        self, picks: Sequence[Picks], labeled: np.ndarray, n_instances: int, device="cpu"
    ) -> Iterator[tuple[int, float]]:
        """Yield what `of_shards` does, by what `picks_of` returned for each shard: the second level."""
        picks = [one for one in picks if one.size]
        if len(picks) < 2:  # its order is the choice
            yield from ((int(row), float(utility)) for one in picks for row, utility in zip(*one[:2], strict=True))
            return
        rows, _, embeddings, weights = (np.concatenate(parts) for parts in list(zip(*picks, strict=True))[:4])
        by_row = np.argsort(rows)
        shares = weights[by_row] / sum(one.size for one in picks)
        for pick, utility in islice(self.order(embeddings[by_row], labeled, device, shares), n_instances):
            yield int(rows[by_row[pick]]), utility

    def utilities(self, estimator, X, *, labeled=None) -> np.ndarray:
        """Return the utility that each image would have if it came first, or first of its shard, ``(n,)``."""
        check_arguments(type(self), self.get_params())
        known, device = self._known(estimator, labeled)
        return np.concatenate([self.alone(shard, known, device) for shard in self._shards(estimator, X)])

    def select(self, estimator, X, n_instances: int, *, labeled=None) -> tuple[np.ndarray, np.ndarray]:
        """Return ``(indices, utilities)`` of the greedy choice, in its order."""
        indices, utilities = zip(*self.ranking(estimator, X, n_instances, labeled=labeled), strict=True)
        return np.array(indices), np.array(utilities)

    def ranking(self, estimator, X, at_most: int, *, labeled=None) -> Iterator[tuple[int, float]]:
        """Yield row and utility in the order of the choice; what is not asked for is not computed, of one shard."""
        check_arguments(type(self), self.get_params())
        known, device = self._known(estimator, labeled)
        shards = self._shards(estimator, X)
        if self.shard_size is None or len(X) <= self.shard_size:
            yield from islice(self.order(next(shards), known, device), at_most)
        else:
            yield from self.of_shards(shards, known, at_most, device)

    def _shards(self, estimator, X) -> Iterator[np.ndarray]:
        size = self.shard_size or len(X)
        return (estimator.transform(X[start : start + size]) for start in range(0, len(X), size))

    def _known(self, estimator, labeled) -> tuple[np.ndarray, object]:
        """Return the embeddings of the labelled images, and the device that they come from."""
        known = self.known_images(estimator, labeled).X
        embeddings = estimator.transform(known) if len(known) else np.zeros((0, 0), dtype=np.float32)
        network = getattr(estimator, "network_", None)
        return embeddings, next(network.parameters()).device if network is not None else "cpu"
