"""PASCAL VOC's XML files, one for each image, as labelling tools exchange them: a folder."""

import xml.etree.ElementTree as ET
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

import numpy as np

from ..data.parsing import number_in, read_xml, text_of
from ..data.paths import files_in, path_inside, require_folder
from ..data.voc import voc_objects
from ..data.voc_writing import voc_annotation
from ..errors import DataError
from ..files import atomic_folder, write_text
from .base import Annotation, AnnotationFormat, Suggestion
from .checking import MOST_BYTES, Drawn, check_size, check_suggestions, checked
from .project_images import ProjectImages

LAYOUT = "a folder of XML files, one for each image, or one that has them in Annotations"


class Voc(AnnotationFormat):
    """PASCAL VOC's XML files in a folder ``Annotations``, the images best first in ``ImageSets/Main/default.txt``.

    Every file that is there counts as annotated, with nothing to find where it has no object. VOC has no place for
    utilities and scores; ``difficult`` is not read.

    Parameters
    ----------
    one_based : bool, default=False
        Whether pixels are counted from 1, as in PASCAL VOC's own files; by default from 0, as CVAT and Datumaro count.
    """

    name = "voc"

    def __init__(self, one_based: bool = False):
        self.one_based = one_based

    def write(self, out: Path, suggestions: list[Suggestion], classes: list[str]) -> None:
        ids = [str(PurePosixPath(one.path).with_suffix("")) for one in suggestions]
        check_suggestions(suggestions, classes, ids)
        with atomic_folder(out, DataError) as folder:
            for one, name in zip(suggestions, ids, strict=True):
                none = np.zeros(len(one.boxes), dtype=bool)
                size, boxes = one.size[::-1], one.boxes.astype(np.float64)
                annotation = voc_annotation(size, boxes, one.labels, none, classes, one.path, self.one_based)
                annotation.find("filename").text = one.path
                write_text(folder / "Annotations" / f"{name}.xml", ET.tostring(annotation, encoding="unicode"))
            write_text(folder / "ImageSets" / "Main" / "default.txt", "".join(f"{name}\n" for name in ids))

    def read(self, source: Path, classes: list[str], sizes: Mapping[str, tuple[int, int]]) -> list[Annotation]:
        source, images, drawn = Path(source), ProjectImages(sizes), []
        require_folder(source, LAYOUT)
        folder = source / "Annotations" if (source / "Annotations").is_dir() else source
        for name in files_in(folder, ".xml"):
            file = path_inside(folder, name, source)
            annotation = read_xml(file, LAYOUT, "annotation", MOST_BYTES)
            path = _image(images, annotation, str(PurePosixPath(name).with_suffix("")), str(file))
            check_size(
                f"{file}: <size>",
                path,
                [number_in(text_of(annotation, f"size/{side}")) for side in ("width", "height")],
                sizes,
            )
            drawn.append(Drawn(str(file), path))
            for found in voc_objects(annotation, 0):
                corners = np.array([number_in(text) for text in found.corners])
                drawn[-1].add(corners - (np.array([1, 1, 0, 0]) if self.one_based else 0), found.name, found.box)
        if not drawn:
            raise DataError(f"{source}: has no XML files; expected {LAYOUT}")
        return checked(drawn, classes, sizes)


def _image(images: ProjectImages, annotation: ET.Element, stem: str, where: str) -> str:
    """Return the path of the image: by the name of the file, or by what stands in it where that is not enough."""
    try:
        return images.find_stem(stem, where)
    except DataError:
        filename = text_of(annotation, "filename")
        if not filename:
            raise
        return images.find(filename, f"{where}: <filename>")
