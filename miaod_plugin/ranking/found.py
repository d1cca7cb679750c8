"""What a detector found in image files, as CSV, JSON or COCO annotations to start from."""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..data.images import EncodedImage, on_stored_pixels
from ..data.orientation import UPRIGHT
from ..detectors.network import InstanceOutputs

_LEAST_SIDE = 0.01  # pixels of a box that is worth writing down, to two decimals


@dataclass(frozen=True)
class Found:
    """The detections in one image.

    Attributes
    ----------
    path : str
        Of the image, as the files name it.
    size : (int, int)
        Height and width in pixels.
    boxes, labels, scores : ndarray, (m, 4), (m,), (m,)
        As `ObjectDetector.predict` gives them, best first.
    utility : float or None
        How informative the image is, where a strategy was asked.
    """

    path: str
    size: tuple[int, int]
    boxes: np.ndarray
    labels: np.ndarray
    scores: np.ndarray
    utility: float | None = None

    @property
    def expected_boxes(self) -> float:
        """The sum of all scores: they are probabilities, so this many boxes are to be expected."""
        return float(self.scores.sum(dtype=np.float64))

    def above(self, threshold: float) -> "Found":
        """Return the same image with the detections whose score is at least the threshold and that have an area."""
        sides = self.boxes[:, 2:] - self.boxes[:, :2]
        keep = (self.scores >= threshold) & (sides >= _LEAST_SIDE).all(axis=1)
        return replace(self, boxes=self.boxes[keep], labels=self.labels[keep], scores=self.scores[keep])

    def oriented(self, file: str | Path | EncodedImage, orientation: str) -> "Found":
        """Return the same with size and boxes on the pixels of its file ``"upright"``, as they are, or ``"stored"``."""
        if orientation == UPRIGHT:
            return self
        size, boxes = on_stored_pixels(file, self.boxes)
        return replace(self, size=size, boxes=boxes)


def _rows(outputs: InstanceOutputs) -> list[Tensor]:
    return outputs.detection_rows


def _sizes(outputs: InstanceOutputs) -> Tensor:
    return torch.tensor(outputs.image_sizes)


FOUND = {"detections": _rows, "sizes": _sizes}  # reducers of `map_pool`


def to_found(paths: Sequence[str], rows: dict, utilities: Sequence[float] | None = None) -> list[Found]:
    """Return what the reducers `FOUND` say of images."""
    utilities = [None] * len(paths) if utilities is None else [float(utility) for utility in utilities]
    return [
        Found(str(path), (int(height), int(width)), row[:, :4], row[:, 4].astype(np.int64), row[:, 5], utility)
        for path, row, (height, width), utility in zip(paths, rows["detections"], rows["sizes"], utilities, strict=True)
    ]


def as_csv(images: list[Found]) -> str:
    """Return a line per image: rank, path, uncertainty, expected_boxes."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["rank", "path", "uncertainty", "expected_boxes"])
    for rank, image in enumerate(images, start=1):
        writer.writerow([rank, image.path, f"{image.utility:.6g}", f"{image.expected_boxes:.2f}"])
    return text.getvalue()


def as_json(images: list[Found], classes: Sequence[str], threshold: float) -> str:
    """Return the images in order, each with its detections from `threshold` on as ``class``, ``score``, ``box``."""
    content = []
    for image in images:
        shown = image.above(threshold)
        content.append(
            {
                "path": image.path,
                "height": image.size[0],
                "width": image.size[1],
                **_utility(image),
                "expected_boxes": round(image.expected_boxes, 2),
                "boxes": [
                    {"class": classes[label], "score": _short(score), "box": [round(float(side), 2) for side in box]}
                    for box, label, score in zip(shown.boxes, shown.labels, shown.scores, strict=True)
                ],
            }
        )
    return json.dumps({"classes": list(classes), "threshold": threshold, "images": content}, indent=1)


def as_coco(images: list[Found], classes: Sequence[str], threshold: float) -> str:
    """Return COCO's ``images``, ``annotations`` and ``categories``, with a ``score`` for each annotation.

    `load_coco` reads it, and so do tools for annotation, as boxes to start from.
    """
    entries, annotations = [], []
    for number, image in enumerate(images, start=1):
        height, width = image.size
        entries.append({"id": number, "file_name": image.path, "height": height, "width": width, **_utility(image)})
        shown = image.above(threshold)
        for (x1, y1, x2, y2), label, score in zip(shown.boxes.tolist(), shown.labels, shown.scores, strict=True):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": int(label) + 1,
                    "bbox": [round(x1, 2), round(y1, 2), round(x2 - x1, 2), round(y2 - y1, 2)],
                    "area": round((x2 - x1) * (y2 - y1), 2),
                    "iscrowd": 0,
                    "score": _short(score),
                }
            )
    categories = [{"id": label, "name": name} for label, name in enumerate(classes, start=1)]
    return json.dumps({"images": entries, "annotations": annotations, "categories": categories}, indent=1)


def _utility(image: Found) -> dict:
    return {} if image.utility is None else {"utility": _short(image.utility)}


def _short(value: float) -> float:
    return float(f"{value:.6g}")
