"""What goes to a labelling tool, what comes back, and what a format has to do for it."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np


@dataclass(frozen=True, eq=False)
class Suggestion:
    """An image to annotate, as it is sent to the tool; lists of them are best first.

    Attributes
    ----------
    path : str
        Of the image, relative to the folder of photographs, with ``/`` between its parts.
    size : (int, int)
        Width and height in pixels, in the orientation of the data set.
    utility : float or None
        How informative the strategy takes the image to be.
    boxes, labels, scores : ndarray, float32 (m, 4), int64 (m,), float32 (m,)
        Boxes to start from, as ``x1, y1, x2, y2`` in pixels; ``m`` may be 0.
    """

    path: str
    size: tuple[int, int]
    utility: float | None
    boxes: np.ndarray
    labels: np.ndarray
    scores: np.ndarray


@dataclass(frozen=True, eq=False)
class Annotation:
    """What came back for one image from one annotator.

    Attributes
    ----------
    path : str
        As in `Suggestion`.
    state : {"annotated", "unusable", "skipped"}
        An image in which there is nothing to find is ``"annotated"`` with no box.
    boxes, labels : ndarray, float32 (m, 4), int64 (m,)
        As in `Suggestion`; none unless the image is annotated.
    annotator, time : str or None
        Who said so and when (ISO 8601), where the tool tells.
    """

    path: str
    state: Literal["annotated", "unusable", "skipped"]
    boxes: np.ndarray
    labels: np.ndarray
    annotator: str | None = None
    time: str | None = None


class AnnotationFormat(ABC):
    """A file or folder that a labelling tool imports and exports; subclass it and register it to add one."""

    name: ClassVar[str]
    suffix: ClassVar[str] = ""  # of the file that `write` makes; a folder has none

    @abstractmethod
    def write(self, out: Path, suggestions: list[Suggestion], classes: list[str]) -> None:
        """Write what the tool imports, a file or a folder, atomically.

        Raises
        ------
        DataError
            Before anything is written, if the format cannot hold an image's or a class's name.
        """

    @abstractmethod
    def read(self, source: Path, classes: list[str], sizes: Mapping[str, tuple[int, int]]) -> list[Annotation]:
        """Return what the tool exported, in the order of its file.

        Parameters
        ----------
        source : path
            The file or folder.
        classes : list of str
            Class names, in label order.
        sizes : mapping of str to (int, int)
            All images of the project: their path, width and height in the orientation of the data set.

        Raises
        ------
        DataError
            If anything in it is not usable; then all of it is refused.
        """
