"""A small project to annotate, and its images as a tool's export has them."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from miaod_plugin.annotations import Annotation, AnnotationFormat, Suggestion
from miaod_plugin.registry import ANNOTATION_FORMATS, find, registered

FORMATS = registered(ANNOTATION_FORMATS)
CLASSES = ["cat", "traffic light", "Ä & <b>"]
SIZES = {"a/b c.jpg": (40, 30), "a/d.png": (33, 47), "e.jpg": (1920, 1080)}


def suggestion(path: str, boxes: Sequence = (), labels: Sequence = (), utility: float | None = 0.25) -> Suggestion:
    """Return an image of `SIZES` with boxes whose scores fall."""
    boxes = np.array(boxes, dtype=np.float32).reshape(-1, 4)
    scores = np.linspace(0.9, 0.1, len(boxes), dtype=np.float32)
    return Suggestion(path, SIZES[path], utility, boxes, np.array(labels, dtype=np.int64), scores)


SUGGESTIONS = [
    suggestion("e.jpg", [(0, 0, 1920, 1080), (3.25, 4.5, 700.125, 1079), (5, 6, 7, 8)], [0, 2, 1], 2.5),
    suggestion("a/b c.jpg", [(1 / 3, 2.7182818, 39.9, 29.3)], [1], None),
    suggestion("a/d.png"),
]


def make(name: str) -> AnnotationFormat:
    return find(ANNOTATION_FORMATS, name)()


def exported(name: str, out: Path, suggestions: list[Suggestion] = SUGGESTIONS, classes: list[str] = CLASSES) -> Path:
    """Write suggestions, and make of the file what the tool exports once an annotator has accepted every box."""
    make(name).write(out, suggestions, classes)
    if name == "label-studio":
        tasks = json.loads(out.read_text())
        for key, task in enumerate(tasks):
            result = [dict(region) for one in task.get("predictions", []) for region in one["result"]]
            task |= {"id": 10 + key, "annotations": [{"id": key, "completed_by": 1, "result": result}]}
        out.write_text(json.dumps(tasks))
    return out


def same(found: list[Annotation], wanted: list[Suggestion], pixels: float = 1e-3) -> None:
    """Assert that all images are annotated with the boxes that were suggested, in whatever order."""
    found = {one.path: one for one in found}
    assert found.keys() == {one.path for one in wanted}
    for one in wanted:
        assert found[one.path].state == "annotated"
        assert found[one.path].labels.tolist() == one.labels.tolist()
        assert found[one.path].boxes.dtype == np.float32
        np.testing.assert_allclose(found[one.path].boxes, one.boxes, atol=pixels)
