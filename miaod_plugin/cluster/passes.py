"""Passes over the shards of a pool: what a worker makes of one, and Ray Data, which starts the workers."""

import hashlib
import logging
import pickle
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np
import torch

from ..errors import ConfigError, DataError, MiaodError
from ..estimator import ObjectDetector
from ..files import atomic_path
from ..labeled import Labeled
from ..query import QueryStrategy
from ..ranking.found import FOUND, Found, to_found
from .part import PartOfPool
from .shards import Shard


@dataclass(frozen=True)
class Rated:
    """What a worker tells of a shard.

    Attributes
    ----------
    size : int
        Images of the shard.
    part : str
        The file with all that was computed.
    rows, utilities : ndarray, (k,)
        Rows in the pool of the images with the highest utilities, and these, best first; none of embeddings.
    broken : dict of DataError
        By name.
    """

    size: int
    part: str
    rows: np.ndarray
    utilities: np.ndarray
    broken: dict[str, DataError]


@dataclass(frozen=True)
class Looking:
    """What a worker loads once: a detector.

    Parameters
    ----------
    checkpoint : str
    device : str
    labelled : Labeled, optional
        The images annotated so far.
    """

    checkpoint: str
    device: str
    labelled: Labeled | None

    @cached_property
    def detector(self) -> PartOfPool:
        """Load the detector, for the one core of a worker."""
        torch.set_num_threads(1)
        return PartOfPool(ObjectDetector.load(self.checkpoint, device=self.device), self.labelled)


@dataclass(frozen=True)
class Rating(Looking):
    """Rates the images of a shard, or embeds them, and writes a Parquet file of that, unless it is there.

    Parameters
    ----------
    strategy : QueryStrategy
    n_best : int
        How many of a shard are told.
    folder : str
        For the files; on storage that all workers share.
    key : str
        What else the rows follow from.
    """

    strategy: QueryStrategy
    n_best: int
    folder: str
    key: str

    def __call__(self, shard: Shard) -> Rated:
        from pyarrow import parquet

        digest = hashlib.sha256(self.key.encode() + shard.identity()).hexdigest()[:16]
        part = Path(self.folder, f"{shard.first:012d}-{digest}.parquet")
        table = parquet.read_table(part) if part.is_file() else None
        if table is None or table["error"].null_count < len(table):  # what could not be read may be mended
            table = self._table(shard)
            with atomic_path(part) as temporary:
                parquet.write_table(table, temporary)
        errors = table.filter(table["error"].is_valid())
        broken = dict(zip(errors["path"].to_pylist(), map(DataError, errors["error"].to_pylist()), strict=True))
        if "utility" not in table.column_names:
            return Rated(len(shard), str(part), np.zeros(0, np.int64), np.zeros(0), broken)
        whole = table.filter(table["error"].is_null())
        utilities = whole["utility"].to_numpy()
        best = np.argsort(-utilities, kind="stable")[: self.n_best]
        return Rated(len(shard), str(part), whole["row"].to_numpy()[best], utilities[best].astype(np.float64), broken)

    def _table(self, shard: Shard):
        import pyarrow

        parts, first = [], shard.first
        for names, answer, errors in self.detector.answers(shard.images(), self._ask):
            whole = np.array([k for k in range(len(names)) if k not in errors], dtype=np.int64)
            reasons = [str(errors[k]) if k in errors else None for k in range(len(names))]
            columns = {
                "row": pyarrow.array(range(first, first + len(names)), pyarrow.int64()),
                "path": pyarrow.array(names, pyarrow.string()),
                **{name: _column(values, whole, len(names)) for name, values in answer.items()},
                "error": pyarrow.array(reasons, pyarrow.string()),
            }
            parts.append(pyarrow.table(columns))
            first += len(names)
        return pyarrow.concat_tables(parts, promote_options="default")

    def _ask(self, detector: PartOfPool, X: np.ndarray) -> dict[str, np.ndarray]:
        if self.strategy.reads_of_pool == "embeddings":
            return {"embedding": detector.transform(X)}
        return {"utility": self.strategy.utilities(detector, X, labeled=self.labelled)}


@dataclass(frozen=True)
class Finding(Looking):
    """Finds objects in some images of a shard.

    Parameters
    ----------
    orientation : str
        As `Found.oriented` takes it.
    """

    orientation: str

    def __call__(self, wanted: tuple[Shard, list[int]]) -> tuple[dict[int, Found], dict[int, tuple[str, DataError]]]:
        """Return what was found in images, and the names of others and why they cannot be read, by rows of the pool."""
        shard, offsets = wanted
        found, broken, before = {}, {}, 0
        for names, answer, errors in self.detector.answers(shard.only(offsets).images(), self._ask):
            rows = [shard.first + offsets[before + k] for k in range(len(names))]
            whole = [k for k in range(len(names)) if k not in errors]
            for k, image in zip(whole, to_found([names[k] for k in whole], answer) if whole else [], strict=True):
                found[rows[k]] = image.oriented(self.detector.place(str(k)), self.orientation)
            broken |= {rows[k]: (names[k], error) for k, error in errors.items()}
            before += len(names)
        return found, broken

    def _ask(self, detector: PartOfPool, X: np.ndarray) -> dict[str, np.ndarray]:
        return detector.map_pool(X, FOUND)


@dataclass(frozen=True)
class Embedding(Looking):
    """Embeds the images of a shard, all of which can be read."""

    def __call__(self, shard: Shard) -> np.ndarray:
        parts = []
        for _, answer, errors in self.detector.answers(shard.images(), lambda detector, X: detector.transform(X)):
            if errors:
                raise next(iter(errors.values()))
            parts.append(answer)
        return np.concatenate(parts)


@dataclass(frozen=True)
class Picking:
    """Chooses from the embeddings of some shards as if they were the pool.

    Parameters
    ----------
    strategy : QueryStrategy
        One that reads embeddings.
    known : ndarray, (m, d)
        Embeddings of the labelled images.
    n_instances : int
    """

    strategy: QueryStrategy
    known: np.ndarray
    n_instances: int

    def __call__(self, parts: list[str]) -> NamedTuple:
        """Return what `picks_of` does, by the rows of the pool."""
        rows, embeddings = embedded_in(parts)
        picks = self.strategy.picks_of(embeddings, self.known, self.n_instances)
        return picks._replace(rows=rows[picks.rows])


def embedded_in(parts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return rows of the pool and their embeddings, ``(n,)`` and ``(n, d)``, from files that `Rating` wrote."""
    from pyarrow import parquet

    rows, embeddings = [], []
    for part in parts:
        table = parquet.read_table(part)
        table = table.filter(table["error"].is_null()).combine_chunks()
        if len(table):
            rows.append(table["row"].to_numpy())
            embeddings.append(table["embedding"].combine_chunks().flatten().to_numpy().reshape(len(table), -1))
    return np.concatenate(rows), np.concatenate(embeddings)


def _column(values: np.ndarray, whole: np.ndarray, n: int):
    """Return answers about some of n images as a column of a table, null for the others."""
    import pyarrow

    rows = np.full(n, -1)
    rows[whole] = np.arange(len(whole))
    taken = pyarrow.array(rows, mask=rows < 0)
    if values.ndim == 1:
        return pyarrow.array(values).take(taken)
    width = values.shape[1]
    return pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(values.ravel()), width).take(taken)


class _Worker:
    """An actor of Ray Data. What the user can mend is returned: Ray would make a long story of it."""

    def __init__(self, do: Callable):
        self._do = do

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, list]:
        return {"done": [pickle.dumps(self._done(pickle.loads(item))) for item in batch["item"]]}

    def _done(self, item):
        try:
            return self._do(item)
        except (MiaodError, OSError) as error:
            return error


def spread(ray: ModuleType, do: Callable, items: Iterable, gpus: float) -> Iterator:
    """Yield ``do(item)`` of all items as each is done, by as many workers as the cluster has room for.

    A worker has one core, and so many GPUs. Where one dies another one does its item.

    Raises
    ------
    MiaodError, OSError
        What `do` raises of these.
    """
    import ray.data

    items = [{"item": pickle.dumps(item)} for item in items]
    if not items:
        return
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    dataset = ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
        _Worker,
        fn_constructor_args=(do,),
        batch_size=1,
        concurrency=min(workers_for(ray, gpus), len(items)),
        num_cpus=1,
        num_gpus=gpus,
    )
    for row in dataset.iter_rows():
        done = pickle.loads(row["done"])
        if isinstance(done, Exception):
            raise done
        yield done


def workers_for(ray: ModuleType, gpus: float) -> int:
    """Return how many workers the cluster has room for, of a core and so many GPUs each."""
    room = ray.cluster_resources()
    return max(1, int(room.get("GPU", 0) / gpus) if gpus else int(room.get("CPU", 1)))


def gpus_of_worker(ray: ModuleType, device: str) -> float:
    """Return how many GPUs a worker gets for a `device`: one where the cluster has any, unless it is cpu.

    Raises
    ------
    ConfigError
        If the device names one GPU, or there is none.
    """
    there = ray.cluster_resources().get("GPU", 0) > 0
    if device not in ("auto", "cpu", "cuda") or (device == "cuda" and not there):
        raise ConfigError(f"device: {device!r} is not allowed; Ray deals out the GPUs that there are: give cpu or auto")
    return float(there and device != "cpu")
