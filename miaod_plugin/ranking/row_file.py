"""Rows that a pass over images computed, kept in a file until all of it is done."""

import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from ..errors import DataError
from ..tensor_file import read_tensors, write_tensors

_KIND = "miaod_plugin_rows"
_DIGEST = 16  # bytes that stand for an image file as it is


@dataclass
class Rows:
    """What a reducer made of images: a row of one array each, or a list of arrays that may differ in length."""

    listed: bool
    of: dict[bytes, np.ndarray] = field(default_factory=dict)  # by `image_identity`


class RowFile:
    """Rows by question and image, which survive the process that computed them.

    A question is the name of what was computed; an image is known by its path, size and time of change.

    Parameters
    ----------
    path : path
        Written by `save`. Rows in it are taken up if it is whole and was written with the same `key`.
    key : str
        What the rows follow from beside the image, such as a hash of the model and its options.
    """

    def __init__(self, path: str | Path, key: str):
        self.path, self.key = Path(path), key
        self._questions = _read(self.path, key) if self.path.is_file() else {}
        self._unsaved = False

    def rows(self, question: str) -> Rows:
        """Return what is known of a question."""
        return self._questions.get(question, Rows(listed=False))

    def add(self, question: str, images: list[bytes], rows: np.ndarray | list) -> None:
        """Keep the rows of some images; in memory until `save`."""
        known = self._questions.setdefault(question, Rows(isinstance(rows, list)))
        known.of.update(zip(images, rows, strict=True))
        self._unsaved = True

    def save(self) -> None:
        """Write all rows that are arrays, if some are new."""
        if not self._unsaved:
            return
        tensors, questions = {}, []
        for question, known in self._questions.items():
            rows = [np.asarray(row) for row in known.of.values()]
            if any(row.dtype.kind not in "biuf" for row in rows):
                continue
            number = len(questions)
            tensors[f"{number}.images"] = np.frombuffer(b"".join(known.of), np.uint8).reshape(-1, _DIGEST)
            tensors[f"{number}.rows"] = np.concatenate(rows) if known.listed else np.stack(rows)
            if known.listed:
                tensors[f"{number}.lengths"] = np.array([len(row) for row in rows], np.int64)
            questions.append(question)
        tensors = {name: torch.from_numpy(np.array(values)) for name, values in tensors.items()}
        write_tensors(self.path, _KIND, {"questions": questions, "key": self.key}, tensors)
        self._unsaved = False

    def remove(self) -> None:
        """Delete the file: what it was for is done."""
        self.path.unlink(missing_ok=True)


def image_identity(path: str) -> bytes:
    """Return what stands for an image file as it is now; a changed file is another image."""
    try:
        found = os.stat(path)
        state = f"{found.st_size} {found.st_mtime_ns}"
    except OSError:
        state = "missing"
    return hashlib.sha256(os.fsencode(os.path.abspath(path)) + b"\0" + state.encode()).digest()[:_DIGEST]


def _read(path: Path, key: str) -> dict[str, Rows]:
    """Return the rows in a file; none if it is damaged or belongs to something else."""
    try:
        about, tensors = read_tensors(path, _KIND, "rows of a pass")
    except DataError:
        return {}
    found = {}
    for number, question in enumerate(about["questions"] if about["key"] == key else []):
        images, rows = (tensors[f"{number}.{part}"].numpy() for part in ("images", "rows"))
        lengths = tensors.get(f"{number}.lengths")
        rows = rows if lengths is None else np.split(rows, np.cumsum(lengths.numpy())[:-1])
        found[question] = Rows(lengths is not None, dict(zip(map(bytes, images), rows, strict=True)))
    return found
