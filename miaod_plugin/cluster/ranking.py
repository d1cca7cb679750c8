"""Which images of a pool in shards to annotate next."""

import hashlib
import json
import math
import os
from bisect import bisect_right
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..errors import ConfigError, DataError
from ..files import write_text
from ..labeled import Labeled
from ..query import QueryStrategy
from ..ranking.found import Found
from ..ranking.patient import BrokenImages
from ..ranking.row_file import image_identity
from .connection import check_address, connected, require_ray
from .passes import Embedding, Finding, Picking, Rated, Rating, gpus_of_worker, spread
from .shards import MOST, FileShard, ImagePool, Shard

NOTHING_LEFT = "there is no image left that can be read"


@dataclass(frozen=True)
class PoolQuery:
    """What is asked about a pool.

    Parameters
    ----------
    strategy : QueryStrategy
    n_instances : int
        How many images to choose; fewer where the pool has fewer.
    checkpoint : str
        The detector's file, on storage that all nodes share.
    key : str
        What stands for the detector and the strategy, see `ranking_key`.
    labelled : Labeled, optional
        Files of the images annotated so far.
    orientation : str
        Of boxes, as `Found.oriented` takes it.
    """

    strategy: QueryStrategy
    n_instances: int
    checkpoint: str
    key: str
    labelled: Labeled | None = None
    orientation: str = "upright"

    @property
    def rows_key(self) -> str:
        """What utilities or embeddings follow from beside the images of the pool."""
        digest = hashlib.sha256(self.key.encode())
        if self.strategy.needs_labeled == "targets":
            for path, target in zip(*self.labelled, strict=True):
                digest.update(image_identity(path) + b"".join(target[name].tobytes() for name in ("boxes", "labels")))
        return digest.hexdigest()


def rank_on_ray(
    query: PoolQuery,
    pool: ImagePool,
    folder: Path,
    address: str | None,
    device: str,
    on_progress: Callable[[int, int], None],
    on_broken: Callable[[BrokenImages], None] | None = None,
) -> tuple[list[Found], int]:
    """Return the images to annotate next, best first, as `rank_images` does, and how many there are to choose from.

    Parameters
    ----------
    query : PoolQuery
    pool : ImagePool
    folder : Path
        For Parquet files with what is computed of each image, on storage that all nodes share: ``row``, ``path``,
        ``utility`` or ``embedding``, ``error``. What is there of the same question is not computed again.
    address : str or None
        Of the cluster, see `connected`.
    device : str
        cpu, cuda or auto.
    on_progress : callable
        Called with how many images are done and how many there are.
    on_broken : callable, optional
        Called with the images that cannot be read, which are then left out. Without it they are an error.

    Raises
    ------
    BrokenImages
        Without `on_broken`, when all others are done.
    DataError
        If no image is left, or the pool is not of the form that `ImagePool` says.
    ConfigError
        If the strategy wants the whole pool in one place, or the cluster cannot be reached.
    """
    if query.strategy.reads_of_pool is None:
        raise ConfigError(
            f"--strategy: {type(query.strategy).__name__} cannot be asked shard by shard, as --ray does; rank without"
            " it, or by one that rates each image, such as entropy"
        )
    ray = require_ray("--ray", "pyarrow")
    check_address(address, "--ray")
    shards = pool.shards()
    with connected(ray, address):
        return _PoolRanking(ray, query, shards, folder, gpus_of_worker(ray, device), on_progress, on_broken).best()


class _PoolRanking:
    def __init__(self, ray, query: PoolQuery, shards: list[Shard], folder: Path, gpus: float, on_progress, on_broken):
        self.ray, self.query, self.shards, self.folder, self.gpus = ray, query, shards, folder, gpus
        self.on_progress, self.on_broken = on_progress, on_broken
        self.looking = (query.checkpoint, "cuda" if gpus else "cpu", query.labelled)
        self.n_broken = 0

    @property
    def size(self) -> int:
        """How many images there are."""
        return sum(map(len, self.shards))

    def best(self) -> tuple[list[Found], int]:
        ways = {"image": self._best_of_each, "number": self._by_number, "embeddings": self._in_two_levels}
        return ways[self.query.strategy.reads_of_pool](), self.size - self.n_broken

    def _best_of_each(self) -> list[Found]:
        """Choose those with the highest utilities, which each shard has told of its own."""
        rows, utilities = np.zeros(0, np.int64), np.zeros(0)
        for rated in self._rate():
            rows, utilities = np.append(rows, rated.rows), np.append(utilities, rated.utilities)
            order = np.lexsort((rows, -utilities))[: self.query.n_instances]
            rows, utilities = rows[order], utilities[order]
        return self._found_again(rows, utilities)

    def _by_number(self) -> list[Found]:
        """Choose without a look at the pool; again where it holds less than there seemed to be."""
        left = np.arange(self.size)
        while len(left):
            picked, utilities = self.query.strategy.select(None, left, min(self.query.n_instances, len(left)))
            found, broken = self._find(left[picked])
            if not broken:
                return _rated(found, left[picked], utilities)
            self._tell(dict(broken.values()))
            left = np.setdiff1d(left, list(broken))
        raise DataError(NOTHING_LEFT)

    def _in_two_levels(self) -> list[Found]:
        """Choose from some shards each, and then from what was chosen of each, see `GreedySampling`."""
        whole = {rated.part: rated.size - len(rated.broken) for rated in self._rate()}
        if not sum(whole.values()):
            raise DataError(NOTHING_LEFT)
        names = [os.path.abspath(path).lstrip("/") for path in self.query.labelled.X]
        labelled = [FileShard(start, "", names[start : start + MOST]) for start in range(0, len(names), MOST)]
        known = list(spread(self.ray, Embedding(*self.looking), labelled, self.gpus))
        known = np.concatenate(known) if known else np.zeros((0, 0), np.float32)
        pick = Picking(self.query.strategy, known, self.query.n_instances)
        # As many at a time as there will be picks of all: neither level has more than the other to hold.
        at_once = math.isqrt(sum(whole.values()) * self.query.n_instances)
        groups, size = [[]], 0
        for part in sorted(part for part, count in whole.items() if count):
            groups[-1].append(part)
            size += whole[part]
            if size >= at_once:
                groups.append([])
                size = 0
        picks = list(spread(self.ray, pick, filter(None, groups), gpus=0))
        rows, utilities = zip(*self.query.strategy.of_picks(picks, known, self.query.n_instances), strict=True)
        return self._found_again(np.array(rows), np.array(utilities))

    def _found_again(self, rows: np.ndarray, utilities: np.ndarray) -> list[Found]:
        """Return what is found in images that could be read a moment ago."""
        if not len(rows):
            raise DataError(NOTHING_LEFT)
        found, broken = self._find(rows)
        if broken:
            raise BrokenImages(dict(broken.values()))
        return _rated(found, rows, utilities)

    def _rate(self) -> Iterable[Rated]:
        """Yield what workers tell of each shard, and then leave no file that is not theirs."""
        self._begin()
        rate = Rating(*self.looking, self.query.strategy, self.query.n_instances, str(self.folder), self.query.rows_key)
        done, parts, broken = 0, set(), {}
        self.on_progress(0, self.size)
        for rated in spread(self.ray, rate, self.shards, self.gpus):
            done += rated.size
            parts.add(rated.part)
            broken |= rated.broken
            self.on_progress(done, self.size)
            yield rated
        for path in self.folder.glob("*.parquet"):
            if str(path) not in parts:
                path.unlink()  # of images that have changed or gone
        if broken:
            self._tell(broken)

    def _begin(self) -> None:
        """Keep the files of an earlier call if they are of the same question, and delete them otherwise."""
        about, mine = self.folder / "about.json", json.dumps({"key": self.query.rows_key})
        if not about.is_file() or about.read_text(encoding="utf-8") != mine:
            for path in self.folder.glob("*.parquet") if about.is_file() else ():
                path.unlink()
            write_text(about, mine)

    def _tell(self, broken: dict[str, DataError]) -> None:
        error = BrokenImages(broken)
        if self.on_broken is None:
            raise error
        self.n_broken += len(broken)
        self.on_broken(error)

    def _find(self, rows: np.ndarray) -> tuple[dict[int, Found], dict[int, tuple[str, DataError]]]:
        """Return what the detector finds in images of the pool, and which cannot be read, by their rows."""
        firsts, wanted = [shard.first for shard in self.shards], {}
        for row in np.sort(rows).tolist():
            number = bisect_right(firsts, row) - 1
            wanted.setdefault(number, []).append(row - firsts[number])
        find = Finding(*self.looking, self.query.orientation)
        found, broken = {}, {}
        for some, errors in spread(
            self.ray, find, [(self.shards[number], offsets) for number, offsets in wanted.items()], self.gpus
        ):
            found |= some
            broken |= errors
        return found, broken


def _rated(found: dict[int, Found], rows: np.ndarray, utilities: np.ndarray) -> list[Found]:
    pairs = zip(rows.tolist(), utilities.tolist(), strict=True)
    return [replace(found[row], utility=utility) for row, utility in pairs]
