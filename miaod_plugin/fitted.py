"""What a fitted detector can do."""

import copy
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from . import model_file
from .data import check_targets, read_image
from .data.image_sets import check_annotated_images, check_images
from .data.pixel_cache import pixel_cache
from .detectors.network import InstanceOutputs
from .distributed.group import group_of
from .distributed.ranks import run
from .errors import DataError
from .metrics import voc_average_precision
from .pool import map_batches, stack_rows, warn_of_size
from .progress import Progress


class FittedDetector(BaseEstimator):
    """The methods of `ObjectDetector` once it is fitted: one batched pass over images each, and `save`."""

    def predict(self, X) -> np.ndarray:
        """Detect objects: an object array of dicts ``boxes`` (m, 4), ``labels`` (m,), ``scores`` (m,), best first."""
        return self.map_pool(X, {"detections": _detections})["detections"]

    def score(self, X, y) -> float:
        """Return the mean average precision at IoU 0.5, 11-point as in PASCAL VOC 2007, in 0..1."""
        check_is_fitted(self, "network_")
        check_targets(y, len(self.classes_))
        return voc_average_precision(self.predict(X), y, len(self.classes_))["map"]

    def transform(self, X) -> np.ndarray:
        """Return an embedding of each image, float32 ``(n, d)``: the average of each of the detector's feature maps."""
        return self.map_pool(X, {"embeddings": lambda outputs: outputs.embeddings})["embeddings"]

    def map_pool(
        self,
        X,
        reducers: Mapping[str, Callable[..., object]],
        y=None,
        views: Sequence[Callable[[torch.Tensor], torch.Tensor]] | None = None,
    ) -> dict[str, np.ndarray]:
        """Pass the images through the network once, batch by batch, and feed every reducer.

        Parameters
        ----------
        X : ndarray
            ``(n,)`` image paths, or ``(n, H, W, 3)`` uint8 images.
        reducers : dict of callables
            Each gets the `InstanceOutputs` of a batch and returns a row per image: a tensor ``(B, ...)``, or a list.
        y : ndarray of object, (n,), optional
            A target for each image; `InstanceOutputs.losses` are then there.
        views : sequence of callables, optional
            Ways to see an image, mirrored or scaled, say: uint8 tensor ``(3, H, W)`` -> another one. A reducer then
            gets the outputs of the same images in each view, one after the other: ``reducer(first, second)`` of two.

        Returns
        -------
        dict of ndarray
            For each reducer an array ``(n, ...)``; lists give an object array ``(n,)``.
        """
        X, parts, order = check_images(X), {name: [] for name in reducers}, []
        progress = Progress(type(self).__name__, self.verbose)
        for indices, rows in self.map_batches(X, reducers, y=y, views=views):
            for name, part in rows.items():
                parts[name].append(part)
            order.extend(indices)
            progress.show(len(order), len(X), "images")
        return {name: stack_rows(part)[np.argsort(order)] for name, part in parts.items()}

    def map_batches(
        self,
        X,
        reducers: Mapping[str, Callable],
        on_broken: Callable[[int, DataError], None] | None = None,
        *,
        y=None,
        views: Sequence[Callable[[torch.Tensor], torch.Tensor]] | None = None,
        read: Callable[..., torch.Tensor] | None = None,
    ) -> Iterator[tuple[np.ndarray, dict]]:
        """Yield what `map_pool` stacks, batch by batch, so that a long pass can be shown, stopped and gone on with.

        Parameters
        ----------
        X, reducers, y, views
            As in `map_pool`.
        on_broken : callable, optional
            Called with the row of an image that cannot be read, and the error; the image is left out. Without it the
            error is raised.
        read : callable, optional
            What makes a uint8 tensor ``(3, H, W)`` of an element of X, or raises a DataError; by default `read_image`,
            by way of the cache where there is one.

        Yields
        ------
        indices : ndarray of int64, (b,)
            Rows of X, whose images are padded alike; not in order where X holds images of several shapes.
        rows : dict
            What each reducer made of them.
        """
        check_is_fitted(self, "network_")
        self._check_parameters()
        X = check_images(X)
        if y is not None:
            X, y = check_annotated_images(X, y)
            if unlabelled := [row for row, target in enumerate(y) if target is None]:
                raise DataError(f"y[{unlabelled[0]}] is None; give a target for each image, or no y")
            check_targets(y, len(self.classes_))
        warn_of_size(self.network_, X)
        if (group := group_of(self.devices)) is None:
            return self._map_apart(X, reducers, on_broken, y, views, read)
        how = {"read": read or self._read, "precision": self.precision, "group": group}
        return map_batches(
            self.network_, X, reducers, self.score_batch_size, self.num_workers, on_broken, y, views, **how
        )

    def _map_apart(self, X, reducers, on_broken, y, views, read) -> Iterator[tuple[np.ndarray, dict]]:
        """Do what `map_batches` does in processes of their own, one for each device."""
        job = partial(_map_as_one_of_many, self._apart(), X, reducers, on_broken is not None, y, views, read)
        for batch, broken in run(job, self.devices, self.device):
            if broken is not None:
                on_broken(*broken)
            else:
                yield batch

    def _apart(self) -> "FittedDetector":
        """Return a copy to be sent to other processes, which tell nobody how far they are."""
        apart = copy.copy(self)
        apart.network_ = copy.deepcopy(self.network_).cpu()
        apart.on_step, apart.verbose = None, 0
        return apart

    @property
    def _read(self) -> Callable[..., torch.Tensor]:
        """How images are read."""
        if self.cache is None or not self.cache_bytes:
            return read_image
        return pixel_cache(os.path.abspath(self.cache), self.cache_bytes).read

    def save(self, path) -> None:
        """Write the fitted detector to one safetensors file: weights as tensors, configuration as JSON.

        A detector that is there is replaced. Tuples among the parameters come back as such; of NumPy's values and paths
        the plain numbers, lists and strings do.

        Raises
        ------
        DataError
            If there is something else at `path`.
        ConfigError
            If a parameter has no form in JSON.
        """
        check_is_fitted(self, "network_")
        model_file.save(self, path)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.estimator_type = "detector"
        tags.input_tags.one_d_array = tags.input_tags.string = True
        tags.input_tags.two_d_array = False
        tags.target_tags.required = True
        tags.no_validation = True
        return tags


def _map_as_one_of_many(detector: FittedDetector, X, reducers, skip: bool, y, views, read, send: Callable) -> None:
    """Pass over the images in one of the processes that share them; the first sends what all have found."""
    detector.network_.to(group_of(detector.devices).device, memory_format=torch.channels_last)
    on_broken = (lambda index, error: send((None, (index, error)))) if skip else None
    for batch in detector.map_batches(X, reducers, on_broken, y=y, views=views, read=read):
        send((batch, None))


def _detections(outputs: InstanceOutputs) -> list[dict[str, torch.Tensor]]:
    return [{name: found[name] for name in ("boxes", "labels", "scores")} for found in outputs.detections]
