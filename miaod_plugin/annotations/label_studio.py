"""Label Studio's JSON: tasks with predictions go out, tasks with annotations come back."""

import json
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

from ..data.parsing import number_of, read_json
from ..errors import DataError, shown
from ..files import write_text
from .base import Annotation, AnnotationFormat, Suggestion
from .checking import MOST_BYTES, UNUSABLE, Drawn, check_size, check_suggestions, checked
from .project_images import ProjectImages

LAYOUT = "Label Studio's export as JSON"
CONFIG_FILE = "label_config.xml"
IMAGE, BOXES = "image", "boxes"  # tags of the labelling configuration, which results refer to
_SHAPES = {"rectangle", "ellipse", "polygon", "brush", "bitmask", "keypoint", "vector"}  # drawn without a class
_SIDES = ("x", "y", "width", "height")


class LabelStudio(AnnotationFormat):
    """Label Studio: a JSON file of tasks to import, and the export "JSON".

    Boxes to start from are each task's prediction, which has the mean of their scores as its own; the task has its
    ``utility``, to sort by in the data manager, and which is shown above the image. `label_config.xml`, written beside
    the tasks, is the labelling configuration to create the project with. Skipped tasks come back as such, and images
    whose choice is ``unusable`` as unusable. A rectangle that is rotated is refused: the upright box around it would be
    larger than the object, and the configuration forbids it. Tasks that nobody has submitted are left out.

    Parameters
    ----------
    prefix : str, default="/data/local-files/?d="
        What stands before the path of each image in the task: an address, or the folder of photographs below
        ``LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT``, as ``/data/local-files/?d=photos/``.
    """

    name = "label-studio"
    suffix = ".json"

    def __init__(self, prefix: str = "/data/local-files/?d="):
        self.prefix = prefix

    def write(self, out: Path, suggestions: list[Suggestion], classes: list[str]) -> None:
        check_suggestions(suggestions, classes, [one.path for one in suggestions])
        write_text(Path(out).with_name(CONFIG_FILE), label_config(classes))
        write_text(out, json.dumps([self._task(one, classes) for one in suggestions], indent=1))

    def _task(self, one: Suggestion, classes: Sequence[str]) -> dict:
        utility = "none" if one.utility is None else f"{one.utility:.4g}"  # the tool itself would write "null"
        data = {"image": self.prefix + quote(one.path), "path": one.path, "utility": one.utility}
        data["header"] = f"Utility: {utility}"
        if not len(one.boxes):
            return {"data": data}
        prediction = {"model_version": "miaod", "score": float(one.scores.mean()), "result": regions(one, classes)}
        return {"data": data, "predictions": [prediction]}

    def read(self, source: Path, classes: list[str], sizes: Mapping[str, tuple[int, int]]) -> list[Annotation]:
        tasks = read_json(Path(source), LAYOUT, MOST_BYTES)
        if not isinstance(tasks, list) or not tasks:
            raise DataError(f"{source}: is {shown(tasks)}, not a list of tasks; export as JSON")
        images, drawn = ProjectImages(sizes), []
        for number, task in enumerate(tasks):
            if not isinstance(task, dict) or not isinstance(task.get("data"), dict):
                mend = "; export as JSON, not as JSON-MIN" if isinstance(task, dict) and "image" in task else ""
                raise DataError(f"{source}: task {number} is {shown(task)}, not an object with 'data'{mend}")
            where = f"{source}: task {shown(task.get('id', number))}"
            path = image_of(images, task["data"], where)
            drawn += _annotations(task, where, path, sizes)
        return checked(drawn, classes, sizes)


def label_config(classes: Sequence[str]) -> str:
    """Return the labelling configuration (XML) that the tasks of `LabelStudio` need."""
    view = ET.Element("View")
    ET.SubElement(view, "Header", value="$header")
    ET.SubElement(view, "Image", name=IMAGE, value="$image", zoom="true")
    boxes = ET.SubElement(view, "RectangleLabels", name=BOXES, toName=IMAGE, canRotate="false")
    for name in classes:
        ET.SubElement(boxes, "Label", value=name)
    use = ET.SubElement(view, "Choices", name="use", toName=IMAGE, choice="single")
    ET.SubElement(use, "Choice", value=UNUSABLE)
    ET.indent(view)
    return ET.tostring(view, encoding="unicode") + "\n"


def regions(one: Suggestion, classes: Sequence[str]) -> list[dict]:
    """Return the boxes of an image as the ``result`` of a prediction."""
    rows = zip(one.boxes.tolist(), one.labels, one.scores.tolist(), strict=True)
    return [_region(f"box{k}", box, classes[label], score, one.size) for k, (box, label, score) in enumerate(rows)]


def _region(key: str, box: Sequence[float], name: str, score: float, size: tuple[int, int]) -> dict:
    """Return one rectangle of a prediction: its corner and sides in percent of the image's."""
    (x1, y1, x2, y2), (width, height) = box, size
    sides = (x1 / width, y1 / height, (x2 - x1) / width, (y2 - y1) / height)
    return {
        "id": key,
        "type": "rectanglelabels",
        "from_name": BOXES,
        "to_name": IMAGE,
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
        "score": score,
        "value": {
            **{side: 100 * value for side, value in zip(_SIDES, sides, strict=True)},
            "rotation": 0,
            "rectanglelabels": [name],
        },
    }


def image_of(images: ProjectImages, data: dict, where: str) -> str:
    """Return the path of a task's image: the one that `LabelStudio.write` noted, else by the address."""
    noted = data.get("path")
    if isinstance(noted, str) and noted in images.sizes:
        return noted
    if "image" not in data:
        raise DataError(f"{where}: data {shown(data)} has no 'image'; create the project with {CONFIG_FILE}")
    return images.find(data["image"], where)


def _annotations(task: dict, where: str, path: str, sizes: Mapping[str, tuple[int, int]]) -> Iterator[Drawn]:
    """Yield what each annotator made of a task."""
    annotations = _list_of_objects(task, "annotations", where)
    answered = {_annotator(annotation) for annotation in annotations if not annotation.get("was_cancelled")}
    for number, annotation in enumerate(annotations):
        place = f"{where}, annotation {shown(annotation.get('id', number))}"
        drawn = Drawn(place, path, annotator=_annotator(annotation), time=_time(annotation))
        if not annotation.get("was_cancelled"):
            _draw(drawn, annotation, sizes)
            yield drawn
        elif drawn.annotator not in answered:  # who skipped a task first may have come back to it
            drawn.state = "skipped"
            yield drawn


def _draw(drawn: Drawn, annotation: dict, sizes: Mapping[str, tuple[int, int]]) -> None:
    """Add the rectangles of an annotation, or find that the image is of no use."""
    for number, result in enumerate(_list_of_objects(annotation, "result", drawn.where), start=1):
        kind, value = result.get("type"), result.get("value")
        where = f"{drawn.where}, result {number}"
        value = value if isinstance(value, dict) else {}
        if kind == "choices" and value.get("choices") == [UNUSABLE]:
            drawn.state = "unusable"
        elif kind == "rectanglelabels":
            _add_rectangle(drawn, result, value, where, sizes)
        elif isinstance(kind, str) and (kind in _SHAPES or kind.endswith("labels")):
            raise DataError(
                f"{where}: is of type {shown(kind)}, not rectanglelabels; draw rectangles that have a class"
            )
    if drawn.state == "unusable":
        drawn.boxes, drawn.names, drawn.fields = [], [], []


def _add_rectangle(drawn: Drawn, result: dict, value: dict, where: str, sizes: Mapping) -> None:
    for rotated, angle in (("the rectangle", value.get("rotation")), ("the image", result.get("image_rotation"))):
        if angle is not None and number_of(angle) % 360 != 0:
            raise DataError(f"{where}: {rotated} is rotated by {shown(angle)} degrees; draw it upright")
    check_size(where, drawn.path, [number_of(result.get(f"original_{side}")) for side in ("width", "height")], sizes)
    names = value.get("rectanglelabels")
    if not isinstance(names, list) or len(names) != 1:
        raise DataError(f"{where}: rectanglelabels is {shown(names)}; give each rectangle one class")
    (width, height), (x, y, w, h) = sizes[drawn.path], (number_of(value.get(side)) / 100 for side in _SIDES)
    box = [x * width, y * height, (x + w) * width, (y + h) * height]
    drawn.add(box, names[0], ", ".join(f"{side}={shown(value.get(side))}%" for side in _SIDES))


def _list_of_objects(parent: dict, key: str, where: str) -> list[dict]:
    found = parent.get(key, [])
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise DataError(f"{where}: {key} is {shown(found)}, not a list of objects; {LAYOUT} expected")
    return found


def _annotator(annotation: dict) -> str | None:
    """Return the address or the number of who made an annotation."""
    by = annotation.get("completed_by")
    if isinstance(by, dict):
        by = by.get("email", by.get("id"))
    return str(by)[:200] if isinstance(by, int | str) else None


def _time(annotation: dict) -> str | None:
    time = annotation.get("updated_at", annotation.get("created_at"))
    return time[:200] if isinstance(time, str) else None
