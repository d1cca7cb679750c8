"""YOLO as Ultralytics has it: ``data.yaml`` and a text file for each image. A folder."""

from collections.abc import Mapping
from pathlib import Path, PurePosixPath

import yaml

from ..data.parsing import number_in
from ..data.paths import files_in, path_inside, require_folder
from ..errors import DataError, shown
from ..files import atomic_folder, read_text, write_text
from .base import Annotation, AnnotationFormat, Suggestion
from .checking import MOST_BYTES, Drawn, check_suggestions, checked
from .project_images import ProjectImages

LAYOUT = "a folder with data.yaml (or classes.txt) and text files in labels"


class _PlainLoader(yaml.SafeLoader):
    """Refuses aliases, which data.yaml does not need and which may expand without end."""

    def compose_node(self, parent, index):
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it has an alias (*); write its value out")
        return super().compose_node(parent, index)


class Yolo(AnnotationFormat):
    """Ultralytics' YOLO: ``data.yaml``, the images best first in ``train.txt``, and ``labels/PATH.txt`` for each.

    The photographs belong into ``images`` beside them. Every text file in a folder ``labels`` counts as annotated, with
    nothing to find where it is empty; classes come from ``data.yaml``, or from ``classes.txt`` as Label Studio writes
    it. YOLO has no place for utilities and scores, and does not tell the size of an image.
    """

    name = "yolo"

    def write(self, out: Path, suggestions: list[Suggestion], classes: list[str]) -> None:
        ids = [str(PurePosixPath(one.path).with_suffix("")) for one in suggestions]
        check_suggestions(suggestions, classes, ids)
        with atomic_folder(out, DataError) as folder:
            for one, name in zip(suggestions, ids, strict=True):
                write_text(folder / "labels" / f"{name}.txt", _lines(one))
            write_text(folder / "train.txt", "".join(f"./images/{one.path}\n" for one in suggestions))
            names = dict(enumerate(classes))
            about = {"path": ".", "train": "train.txt", "val": "train.txt", "names": names}
            write_text(folder / "data.yaml", yaml.safe_dump(about, sort_keys=False, allow_unicode=True))

    def read(self, source: Path, classes: list[str], sizes: Mapping[str, tuple[int, int]]) -> list[Annotation]:
        source, images, drawn = Path(source), ProjectImages(sizes), []
        require_folder(source, LAYOUT)
        names = _class_names(source)
        for name in files_in(source, ".txt"):
            parts = PurePosixPath(name).with_suffix("").parts
            if "labels" not in parts[:-1]:
                continue
            file = path_inside(source, name, source)
            stem = "/".join(parts[parts.index("labels") + 1 :])
            path = images.find_stem(stem, str(file))
            drawn.append(_drawn(file, path, names, sizes[path]))
        if not drawn:
            raise DataError(f"{source}: has no text files in a folder labels; expected {LAYOUT}")
        return checked(drawn, classes, sizes)


def _lines(one: Suggestion) -> str:
    """Return a line for each box: class, centre, width and height, as fractions of the image's width and height."""
    width, height = one.size
    lines = []
    for (x1, y1, x2, y2), label in zip(one.boxes.tolist(), one.labels, strict=True):
        values = ((x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height)
        lines.append(f"{label} {' '.join(f'{value:.10g}' for value in values)}\n")
    return "".join(lines)


def _drawn(file: Path, path: str, names: dict[int, str], size: tuple[int, int]) -> Drawn:
    """Return the boxes of a text file."""
    drawn, (width, height) = Drawn(str(file), path), size
    for number, line in enumerate(read_text(file, MOST_BYTES, DataError).splitlines(), start=1):
        columns = line.split()
        if not columns:
            continue
        if len(columns) != 5:
            mend = "; outlines and rotated boxes are not read, draw rectangles" if len(columns) > 6 else ""
            raise DataError(f"{file}: line {number} has {len(columns)} columns, not class, x, y, width, height{mend}")
        x, y, w, h = (number_in(text) for text in columns[1:])
        name = names.get(int(columns[0]) if columns[0].isdecimal() and len(columns[0]) < 10 else -1)
        box = [(x - w / 2) * width, (y - h / 2) * height, (x + w / 2) * width, (y + h / 2) * height]
        drawn.add(box, f"number {columns[0]}" if name is None else name, f"line {number} {shown(line)}")
    return drawn


def _class_names(folder: Path) -> dict[int, str]:
    """Return the names of the classes by their numbers."""
    file = folder / "classes.txt"
    if file.is_file() and not (folder / "data.yaml").exists():
        return dict(enumerate(line.strip() for line in read_text(file, MOST_BYTES, DataError).splitlines()))
    file = folder / "data.yaml"
    try:
        content = yaml.load(read_text(file, MOST_BYTES, DataError), Loader=_PlainLoader)
    except DataError:
        raise
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise DataError(f"{file}: not well-formed YAML ({str(error)[:100]}); fix the file") from None
    names = content.get("names") if isinstance(content, dict) else None
    names = dict(enumerate(names)) if isinstance(names, list) else names
    if not isinstance(names, dict) or not all(
        isinstance(key, int) and isinstance(name, str) for key, name in names.items()
    ):
        raise DataError(f"{file}: names is {shown(names)}; expected the names of the classes by their numbers")
    return names
