"""What a result must be like when a damaged input is accepted."""

import os
from pathlib import Path

import numpy as np
import torch

from miaod_plugin.annotations import Annotation
from miaod_plugin.data import DetectionData, check_targets, image_size, read_image
from miaod_plugin.errors import DataError

MOST_PIXELS = 200_000_000


def sane_image(path: Path) -> torch.Tensor:
    """Read an image and hold it to what the header says."""
    height, width = image_size(path)
    assert height > 0 and width > 0 and height * width <= MOST_PIXELS
    image = read_image(path)
    assert image.dtype == torch.uint8 and tuple(image.shape) == (3, height, width)
    return image


def sane_data(data: DetectionData, root: Path) -> None:
    """Hold a loaded data set to its contract: equal lengths, distinct ids, files in `root`, boxes in their images."""
    n = len(data.X)
    assert n > 0 and data.X.shape == data.y.shape == data.ids.shape == (n,) and len(set(data.ids)) == n
    assert all(isinstance(name, str) and name for name in data.classes) and len(set(data.classes)) == len(data.classes)
    check_targets(data.y, len(data.classes))
    inside = os.path.join(os.path.realpath(root), "")
    for path, target in zip(data.X, data.y, strict=True):
        assert os.path.realpath(path).startswith(inside) and os.path.isfile(path)
        height, width = image_size(path)
        boxes = target["boxes"]
        assert boxes.dtype == np.float32 and target["labels"].dtype == np.int64
        assert (boxes >= 0).all() and (boxes <= [width, height, width, height]).all()


def same_data(data: DetectionData, other: DetectionData) -> None:
    """Hold a data set that lost nothing to the one it was."""
    assert [Path(path).name for path in data.X] == [Path(path).name for path in other.X]
    assert list(data.ids) == list(other.ids) and data.classes == other.classes
    for target, expected in zip(data.y, other.y, strict=True):
        assert target.keys() == expected.keys()
        assert all(np.array_equal(target[key], expected[key]) for key in target)


def sane_annotations(annotations: list[Annotation], sizes: dict[str, tuple[int, int]], n_classes: int) -> None:
    """Hold what came back from a labelling tool to its contract: images of the project, boxes in them."""
    assert annotations and len({(one.path, one.annotator) for one in annotations}) == len(annotations)
    for one in annotations:
        assert one.state in ("annotated", "unusable", "skipped") and (one.state == "annotated" or not len(one.boxes))
        assert all(said is None or (isinstance(said, str) and len(said) <= 200) for said in (one.annotator, one.time))
        check_targets([{"boxes": one.boxes, "labels": one.labels}], n_classes)
        assert one.boxes.dtype == np.float32 and one.labels.dtype == np.int64
        assert (one.boxes >= 0).all() and (one.boxes <= np.tile(sizes[one.path], 2)).all()


def sane_detections(predictions: np.ndarray, sizes: list[tuple[int, int]], n_classes: int) -> None:
    """Hold predictions to what `predict` promises."""
    assert predictions.shape == (len(sizes),)
    for found, (height, width) in zip(predictions, sizes, strict=True):
        boxes, labels, scores = (np.asarray(found[key]) for key in ("boxes", "labels", "scores"))
        assert boxes.shape == (len(labels), 4) and scores.shape == labels.shape
        assert np.isfinite(boxes).all() and np.isfinite(scores).all() and (scores >= 0).all() and (scores <= 1).all()
        assert (boxes >= 0).all() and (boxes <= np.array([width, height, width, height]) + 1e-3).all()
        assert ((labels >= 0) & (labels < n_classes)).all()


def undecodable(path: Path) -> bool:
    try:
        sane_image(path)
    except DataError:
        return True
    return False
