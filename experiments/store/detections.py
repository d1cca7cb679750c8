"""What the model of a cell found in the test images, for the next cycle to be compared with."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from miaod_plugin.errors import DataError
from miaod_plugin.stopping.fixed_set import LEAST_SCORE
from miaod_plugin.tensor_file import read_tensors, write_tensors

from .stored import is_there

KIND = "detections"


def write_detections(path: Path, predictions: Sequence[dict]) -> None:
    """Write the detections that count in `agreement`, atomically."""
    kept = [one["scores"] >= LEAST_SCORE for one in predictions]
    columns = {
        name: np.concatenate([one[name][keep] for one, keep in zip(predictions, kept, strict=True)])
        for name in ("boxes", "labels", "scores")
    }
    columns["counts"] = np.array([keep.sum() for keep in kept])
    write_tensors(path, KIND, {}, {name: torch.as_tensor(values) for name, values in columns.items()})


def read_detections(path: Path, n_images: int) -> list[dict] | None:
    """Return the detections in each of so many images; None where there is no file, as in runs of earlier versions.

    Raises
    ------
    DataError
        If the file is damaged, or of other images.
    """
    if not is_there(path):
        return None
    _, tensors = read_tensors(path, KIND, "the detections of a cell")
    counts = tensors["counts"].numpy()
    if len(counts) != n_images or any(len(one) != counts.sum() for name, one in tensors.items() if name != "counts"):
        raise DataError(f"{path}: holds the detections of {len(counts)} images, not of the {n_images} test images")
    ends = np.cumsum(counts)[:-1]
    columns = {name: np.split(tensors[name].numpy(), ends) for name in ("boxes", "labels", "scores")}
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
