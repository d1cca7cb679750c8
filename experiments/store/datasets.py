"""The train and test parts of an experiment's data set."""

import hashlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from miaod_plugin.data import read_image
from miaod_plugin.data.detection_data import DetectionData
from miaod_plugin.errors import ConfigError, DataError

from ..config.sampling import annotation_costs
from ..config.schema import ExperimentConfig
from .layout import Run, begun_with
from .records import require_images


def load_data(config: ExperimentConfig) -> tuple[DetectionData, DetectionData]:
    """Return the training part (the pool of the experiment) and the test part.

    Raises
    ------
    DataError
        If the data set is missing, malformed, or one part is empty.
    ConfigError
        If a budget is larger than the training part, or `data.sizes` tells another number of images.
    """
    train, test = config.data.load(config.on_error)
    for part, data in (("train", train), ("test", test)):
        if not len(data):
            raise DataError(f"{config.source}: data.{part}: no images; choose another split or folder")
        told = getattr(getattr(config.data, "sizes", None), part, len(data))
        if told != len(data):
            raise ConfigError(f"{config.source}: data.sizes.{part}: {told}, but the data set has {len(data)} images")
    require_affordable(config, annotation_costs(train.y, config.budget).sum())
    return train, test


def stored_parts(run: Run) -> tuple[DetectionData, DetectionData]:
    """Return the training and the test part of a stored run.

    Raises
    ------
    DataError, ConfigError
        If they cannot be loaded, or are not what the run began with.
    """
    train, test = load_data(run.config)
    for part, data in (("train", train), ("test", test)):
        if describe(data) != begun_with(run)[part]:
            raise DataError(
                f"data.{part}: not what the run in {run.root} began with; give it the data it was made with"
            )
    require_images(run, train.ids.tolist())
    return train, test


def require_affordable(config: ExperimentConfig, total: float) -> None:
    """Raise a ConfigError if the last budget is more than the `total` cost of the training part."""
    if config.budgets[-1] > total:
        unit = config.budget.words.removeprefix("labelled ")
        raise ConfigError(
            f"{config.source}: budgets: {config.budgets[-1]} is larger than the {total:g} {unit} of data.train"
        )


def decode_all(*parts: DetectionData) -> None:
    """Decode every image file once, so that a broken one is found now and not days into an experiment.

    Raises
    ------
    DataError
        If an image is missing or does not decode.
    """
    with ThreadPoolExecutor() as threads:
        for data in parts:
            if data.X.ndim == 1:
                for _ in threads.map(_decode, data.X):
                    pass


def _decode(path: str) -> None:
    read_image(path)  # keeps nothing of it


def describe(data: DetectionData, rows: np.ndarray | None = None) -> dict:
    """Return the size of a part, or some of its rows, and a digest of ids and annotations (and pixels in memory)."""
    rows = np.arange(len(data)) if rows is None else rows
    digest = hashlib.sha256(data.X[rows].tobytes() if data.X.ndim > 1 else b"")
    boxes = 0
    for name, target in zip(data.ids[rows].tolist(), data.y[rows], strict=True):
        digest.update(name.encode() + target["boxes"].tobytes() + target["labels"].tobytes())
        boxes += len(target["labels"])
    return {"images": len(rows), "boxes": boxes, "sha256": digest.hexdigest()}
