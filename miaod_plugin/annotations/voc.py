"""PASCAL VOC's XML files, one for each image, as labelling tools exchange them: a folder."""

import xml.etree.ElementTree as ET
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

import numpy as np

from ..data.parsing import number_in, read_xml, text_of
from ..data.paths import files_in, path_inside, require_folder
from ..data.voc import id_of_line, voc_objects
from ..data.voc_writing import voc_annotation
from ..errors import DataError
from ..files import atomic_folder, read_text, write_text
from .base import Annotation, AnnotationFormat, Suggestion
from .checking import MOST_BYTES, Drawn, check_size, check_suggestions, checked
from .project_images import ProjectImages

LAYOUT = "a folder of XML files, one for each image, or one that has them in Annotations"


class Voc(AnnotationFormat):
    """PASCAL VOC's XML files in a folder ``Annotations``, the images best first in ``ImageSets/Main/default.txt``.

    The classes stand in ``labelmap.txt``, without which CVAT and Datumaro know those of PASCAL VOC alone.
    Every image that has a file or stands in a list counts as annotated, with nothing to find where no file has an
    object: CVAT writes no file for such an image. VOC has no place for utilities and scores; ``difficult`` is not read.

    Parameters
    ----------
    one_based : bool, default=False
        Whether pixels are counted from 1, as in PASCAL VOC's own files; by default from 0, as CVAT and Datumaro count.
    """

    name = "voc"

    def __init__(self, one_based: bool = False):
        self.one_based = one_based

    def write(self, out: Path, suggestions: list[Suggestion], classes: list[str]) -> None:
        ids = [_stem(one.path) for one in suggestions]
        check_suggestions(suggestions, classes, ids)
        with atomic_folder(out, DataError) as folder:
            for one, name in zip(suggestions, ids, strict=True):
                none = np.zeros(len(one.boxes), dtype=bool)
                size, boxes = one.size[::-1], one.boxes.astype(np.float64)
                annotation = voc_annotation(size, boxes, one.labels, none, classes, one.path, self.one_based)
                annotation.find("filename").text = one.path
                write_text(folder / "Annotations" / f"{name}.xml", ET.tostring(annotation, encoding="unicode"))
            write_text(folder / "ImageSets" / "Main" / "default.txt", "".join(f"{name}\n" for name in ids))
            labels = "".join(f"{name}:::\n" for name in classes)
            write_text(folder / "labelmap.txt", f"# label:color_rgb:parts:actions\n{labels}")

    def read(self, source: Path, classes: list[str], sizes: Mapping[str, tuple[int, int]]) -> list[Annotation]:
        source, images = Path(source), ProjectImages(sizes)
        require_folder(source, LAYOUT)
        folder = source / "Annotations" if (source / "Annotations").is_dir() else source
        files = {_stem(name): path_inside(folder, name, source) for name in files_in(folder, ".xml")}
        drawn = [self._drawn(file, stem, images) for stem, file in files.items()]
        for stem, where in _listed(source).items():
            if stem not in files:
                drawn.append(Drawn(where, images.find_stem(stem, where)))
        if not drawn:
            raise DataError(f"{source}: has no XML files; expected {LAYOUT}")
        return checked(drawn, classes, sizes)

    def _drawn(self, file: Path, stem: str, images: ProjectImages) -> Drawn:
        """Return the boxes of one XML file."""
        annotation = read_xml(file, LAYOUT, "annotation", MOST_BYTES)
        drawn = Drawn(str(file), _image(images, annotation, stem, str(file)))
        told = [number_in(text_of(annotation, f"size/{side}")) for side in ("width", "height")]
        check_size(f"{file}: <size>", drawn.path, told, images.sizes)
        for found in voc_objects(annotation, 0):
            corners = np.array([number_in(text) for text in found.corners])
            drawn.add(corners - (np.array([1, 1, 0, 0]) if self.one_based else 0), found.name, found.box)
        return drawn


def _stem(path: str) -> str:
    return str(PurePosixPath(path).with_suffix(""))


def _listed(source: Path) -> dict[str, str]:
    """Return the ids in the lists of a folder, and the list of each."""
    ids = {}
    for name in files_in(source / "ImageSets" / "Main", ".txt"):
        file = path_inside(source / "ImageSets" / "Main", name, source)
        for line in filter(None, map(str.strip, read_text(file, MOST_BYTES, DataError).splitlines())):
            ids[id_of_line(line)] = str(file)
    return ids


def _image(images: ProjectImages, annotation: ET.Element, stem: str, where: str) -> str:
    """Return the path of the image: by the name of the file, or by what stands in it where that is not enough."""
    try:
        return images.find_stem(stem, where)
    except DataError:
        filename = text_of(annotation, "filename")
        if not filename:
            raise
        return images.find(filename, f"{where}: <filename>")
