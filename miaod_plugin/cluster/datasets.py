"""`map_pool` over a Ray Data set of images."""

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..data.images import EncodedImage
from ..errors import DataError, cut_list
from ..pool import stack_rows
from .connection import require_ray
from .passes import Looking, gpus_of_worker, workers_for
from .shards import BYTES, PATH, Located
from .stores import is_url, place_inside

if TYPE_CHECKING:
    from ray.data import Dataset


def map_dataset(
    dataset: "Dataset", checkpoint: str | Path, reducers: Mapping[str, Callable], root: str = ".", device: str = "auto"
) -> "Dataset":
    """Return a Ray Data set with a column more for each reducer, of what `ObjectDetector.map_pool` makes of the images.

    Nothing is computed before it is asked for; then batches flow through workers, each of which has loaded the detector
    once, so that never are all rows in memory: ``map_dataset(...).write_parquet(folder)``. A worker has a core; there
    must be one more for what reads the data set.

    Parameters
    ----------
    dataset : ray.data.Dataset
        With a column ``path`` of strings, or ``bytes`` of what image files hold, or both: then the path is a name.
    checkpoint : path
        A detector that `save` wrote, on storage that all nodes share.
    reducers : dict of callables
        By the name of the column; an entropy is ``EntropySampling().reducer()``, an embedding
        ``lambda outputs: outputs.embeddings``.
    root : str
        Folder or URL in which all paths lie.
    device : str
        cpu, cuda or auto.

    Raises
    ------
    ConfigError
        If Ray is not installed, or there is no such device.
    """
    ray = require_ray("map_dataset", "pyarrow")
    gpus = gpus_of_worker(ray, device)
    looking = Looking(os.path.abspath(checkpoint), "cuda" if gpus else "cpu", None)
    return dataset.map_batches(
        _Mapping,
        fn_constructor_args=(looking, reducers, root if is_url(root) else os.path.abspath(root)),
        batch_size=None,
        concurrency=(1, workers_for(ray, gpus)),  # with as many from the start no core might be left to read on
        num_cpus=1,
        num_gpus=gpus,
    )


class _Mapping:
    """An actor of Ray Data."""

    def __init__(self, looking: Looking, reducers: Mapping[str, Callable], root: str):
        self._looking, self._reducers, self._root = looking, reducers, root

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        parts: dict[str, list] = {name: [] for name in self._reducers}
        for _, rows, errors in self._looking.detector.answers(self._images(batch), self._ask):
            if errors:
                raise next(iter(errors.values()))
            for name, part in rows.items():
                parts[name].append(part)
        return batch | {name: stack_rows(part) for name, part in parts.items()}

    def _ask(self, detector, X: np.ndarray) -> dict[str, np.ndarray]:
        return detector.map_pool(X, self._reducers)

    def _images(self, batch: dict[str, np.ndarray]) -> Iterator[Located]:
        if PATH not in batch and BYTES not in batch:
            raise DataError(f"the data set has no column path or bytes, but {cut_list(batch)}; name them so")
        for row in range(len(next(iter(batch.values())))):
            name = str(batch[PATH][row]) if PATH in batch else f"row {row}"
            if BYTES in batch:
                yield name, EncodedImage(name, batch[BYTES][row])
            else:
                yield name, place_inside(self._root, name, "the data set")
