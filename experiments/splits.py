"""Split files: which images are labelled before the first query, so that two people can start from the same ones.

One line for each image: its position in the training part, counted from 1 in the order of the data set's own list, and
its id where the data was at hand. The first line says how many images of how many there are:

    # 3 of 16551 images
    17      VOC2007/000043
    8213    VOC2012/2009_001234
    ...
"""

import hashlib
import re
from pathlib import Path

import numpy as np

from miaod_plugin.errors import ConfigError, DataError
from miaod_plugin.experiments.datasets import load_data, told_sizes
from miaod_plugin.experiments.sampling import initial_set
from miaod_plugin.experiments.schema import ExperimentConfig
from miaod_plugin.files import write_text

CHECKSUMS = "SHA256SUMS"  # as `sha256sum --check` reads it
_HEADER = re.compile(r"# (\d+) of (\d+) images")


def write_splits(config: ExperimentConfig, folder: str | Path) -> list[Path]:
    """Write the initial set of each seed as ``NAME_seedK.txt``, and the checksums of all files of that folder.

    Without the data set, `data.sizes` tells how many images there are, and the files name positions alone.

    Raises
    ------
    ConfigError
        If budgets do not count images.
    DataError
        If the data set cannot be loaded.
    """
    folder = Path(folder)
    if config.budget.unit != "images":
        raise ConfigError(f"{config.source}: budget.unit: initial sets are written for budgets that count images")
    told = told_sizes(config)
    ids = [""] * told.train if told else load_data(config)[0].ids.tolist()
    files = []
    for seed in config.seeds:
        rows = initial_set(np.ones(len(ids)), config.budgets[0], seed)
        lines = [f"# {len(rows)} of {len(ids)} images", *(f"{row + 1}\t{ids[row]}".rstrip() for row in rows)]
        files.append(folder / f"{config.name}_seed{seed}.txt")
        write_text(files[-1], "\n".join(lines) + "\n")
    sums = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in sorted(folder.glob("*.txt"))]
    write_text(folder / CHECKSUMS, "".join(sums))
    return files


def read_split(path: str | Path, ids: np.ndarray) -> np.ndarray:
    """Return the sorted rows that a split file names.

    Parameters
    ----------
    path : path of a split file
    ids : ndarray of str, (n,)
        The ids of the training part.

    Raises
    ------
    DataError
        If the file is missing or malformed, or is not about these images; names the line.
    """
    try:
        header, *lines = Path(path).read_text(encoding="utf-8").splitlines() or [""]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if not (told := _HEADER.fullmatch(header)):
        raise DataError(f"{path}: line 1: {header!r} is not of the form '# 827 of 16551 images'")
    if (len(lines), len(ids)) != tuple(map(int, told.groups())):
        raise DataError(f"{path}: line 1: {header!r}, but {len(lines)} follow and the training part has {len(ids)}")
    rows = [_row(line, f"{path}: line {number}", ids) for number, line in enumerate(lines, start=2)]
    if len(set(rows)) < len(rows):
        raise DataError(f"{path}: an image is named twice; each must be different")
    return np.sort(np.array(rows, dtype=np.int64))


def _row(line: str, where: str, ids: np.ndarray) -> int:
    position, _, name = line.partition("\t")
    if not position.isascii() or not position.isdigit() or not 1 <= int(position) <= len(ids):
        raise DataError(f"{where}: {position!r} is not a position from 1 to {len(ids)}")
    row = int(position) - 1
    if name and name != ids[row]:
        raise DataError(
            f"{where}: image {position} is {ids[row]!r} here, not {name!r}: another data set, or another order"
        )
    return row
