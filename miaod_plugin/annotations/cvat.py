"""CVAT for images 1.1: one XML file."""

import xml.etree.ElementTree as ET
from collections.abc import Mapping
from pathlib import Path

from ..data.parsing import number_in, read_xml, text_of
from ..errors import DataError, shown
from ..files import atomic_path
from .base import Annotation, AnnotationFormat, Suggestion
from .checking import MOST_BYTES, UNUSABLE, Drawn, check_size, check_suggestions, checked
from .project_images import ProjectImages

LAYOUT = "annotations.xml, exported as 'CVAT for images 1.1'"
CORNERS = ("xtl", "ytl", "xbr", "ybr")


class Cvat(AnnotationFormat):
    """CVAT's own format for images.

    Boxes to start from have their score as the attribute ``score``, which CVAT shows where the label has such an
    attribute. CVAT has no place for utilities and sorts images by name. An image with the tag ``unusable`` comes back
    as such. As CVAT exports every image of a task, those without a box count as annotated, with nothing to find:
    export a job once it is done. Its assignee is the annotator.
    """

    name = "cvat"
    suffix = ".xml"

    def write(self, out: Path, suggestions: list[Suggestion], classes: list[str]) -> None:
        check_suggestions(suggestions, classes, [one.path for one in suggestions])
        root = ET.Element("annotations")
        _child(root, "version", "1.1")
        task = _child(_child(root, "meta"), "task")
        _child(task, "size", str(len(suggestions)))
        _child(task, "mode", "annotation")
        labels = _child(task, "labels")
        for name in classes:
            _describe_score(_label(labels, name, "rectangle"))
        if UNUSABLE not in classes:
            _label(labels, UNUSABLE, "tag")
        for number, one in enumerate(suggestions):
            width, height = map(str, one.size)
            image = _child(root, "image", id=str(number), name=one.path, width=width, height=height)
            for box, label, score in zip(one.boxes.tolist(), one.labels, one.scores, strict=True):
                corners = {corner: repr(value) for corner, value in zip(CORNERS, box, strict=True)}
                element = _child(
                    image, "box", label=classes[label], source="auto", occluded="0", **corners, z_order="0"
                )
                _child(element, "attribute", f"{score:.4g}", name="score")
        ET.indent(root)
        with atomic_path(out) as temporary:
            ET.ElementTree(root).write(temporary, encoding="utf-8", xml_declaration=True)

    def read(self, source: Path, classes: list[str], sizes: Mapping[str, tuple[int, int]]) -> list[Annotation]:
        root = read_xml(Path(source), LAYOUT, "annotations", MOST_BYTES)
        if root.find("track") is not None:
            raise DataError(f"{source}: has tracks of 'CVAT for video'; export as 'CVAT for images 1.1'")
        annotator = text_of(root, "meta/job/assignee/username") or text_of(root, "meta/task/assignee/username") or None
        images, drawn = ProjectImages(sizes), []
        for number, element in enumerate(root.iterfind("image"), start=1):
            where = f"{source}: image {number} ({(element.get('name') or '')[:80]})"
            path = images.find(element.get("name"), where)
            check_size(where, path, [number_in(element.get(side) or "") for side in ("width", "height")], sizes)
            drawn.append(_drawn(element, Drawn(where, path, annotator=annotator)))
        if not drawn:
            raise DataError(f"{source}: has no images; expected {LAYOUT}")
        return checked(drawn, classes, sizes)


def _drawn(image: ET.Element, drawn: Drawn) -> Drawn:
    """Return `drawn` with what was drawn on the image."""
    for number, element in enumerate(image, start=1):
        if element.tag == "tag":
            if element.get("label") == UNUSABLE:
                return Drawn(drawn.where, drawn.path, "unusable", annotator=drawn.annotator)
            continue
        where = f"{drawn.where}, shape {number}"
        if element.tag != "box":
            raise DataError(f"{where}: is a {shown(element.tag)}, not a box; draw rectangles")
        if number_in(element.get("rotation") or "0") % 360 != 0:
            raise DataError(f"{where}: is rotated by {element.get('rotation')[:20]} degrees; draw it upright")
        corners = [element.get(corner) or "" for corner in CORNERS]
        field = ", ".join(f"{corner}={text[:20] or 'missing'}" for corner, text in zip(CORNERS, corners, strict=True))
        drawn.add([number_in(text) for text in corners], element.get("label") or "", field)
    return drawn


def _child(parent: ET.Element, tag: str, text: str | None = None, **attributes: str) -> ET.Element:
    element = ET.SubElement(parent, tag, attributes)
    element.text = text
    return element


def _label(labels: ET.Element, name: str, kind: str) -> ET.Element:
    label = _child(labels, "label")
    _child(label, "name", name)
    _child(label, "type", kind)
    return _child(label, "attributes")


def _describe_score(attributes: ET.Element) -> None:
    attribute = _child(attributes, "attribute")
    for field, value in (
        ("name", "score"),
        ("mutable", "False"),
        ("input_type", "text"),
        ("default_value", ""),
        ("values", ""),
    ):
        _child(attribute, field, value)
