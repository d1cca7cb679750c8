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
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from miaod_plugin.errors import ConfigError, DataError, shown
from miaod_plugin.files import read_text, write_text

from ..config.sampling import initial_set
from ..config.schema import ExperimentConfig
from .datasets import load_data, require_affordable
from .stored import CHECKSUMS

MOST_BYTES = 64 << 20  # of a split file: more than a million images with long names
_HEADER = re.compile(r"# ([0-9]{1,9}) of ([0-9]{1,9}) images")
_POSITION = re.compile(r"[0-9]{1,9}")


def initial_rows(config: ExperimentConfig, ids: Sequence[str], costs: np.ndarray, seed: int) -> np.ndarray:
    """Return the sorted rows of the images that a seed starts from: those its split file names, or drawn ones.

    Parameters
    ----------
    ids : sequence of str, (n,)
        The ids of the training part; empty ones where it is not at hand.
    costs : ndarray, (n,)
        What annotating each image costs, in the unit of the budget.

    Raises
    ------
    ConfigError, DataError
        If the split file is not one of these images, or not of the first budget.
    """
    if config.initial is None:
        return initial_set(costs, config.budgets[0], seed)
    path = config.initial.replace("{seed}", str(seed))
    rows = read_split(path, ids)
    if len(rows) != config.budgets[0]:
        raise ConfigError(f"{path}: has {len(rows)} images, but the first budget is {config.budgets[0]}")
    return rows


def write_splits(config: ExperimentConfig, folder: str | Path) -> list[Path]:
    """Write down the images that each seed starts from as ``NAME_seedK.txt``, and the folder's checksums.

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
    if told := config.data.told_sizes():
        require_affordable(config, told.train)
    ids = [""] * told.train if told else load_data(config)[0].ids.tolist()
    files = []
    for seed in config.seeds:
        rows = initial_rows(config, ids, np.ones(len(ids)), seed)
        lines = [f"# {len(rows)} of {len(ids)} images", *(f"{row + 1}\t{ids[row]}".rstrip() for row in rows)]
        files.append(folder / f"{config.name}_seed{seed}.txt")
        write_text(files[-1], "\n".join(lines) + "\n")
    sums = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in sorted(folder.glob("*.txt"))]
    write_text(folder / CHECKSUMS, "".join(sums))
    return files


def read_split(path: str | Path, ids: Sequence[str]) -> np.ndarray:
    """Return the sorted rows that a split file names.

    Parameters
    ----------
    path : path of a split file
    ids : sequence of str, (n,)
        The ids of the training part; empty ones where it is not at hand.

    Raises
    ------
    DataError
        If the file is missing or malformed, or is not about these images; names the line.
    """
    header, *lines = read_text(path, MOST_BYTES, DataError).splitlines() or [""]
    if not (told := _HEADER.fullmatch(header)):
        raise DataError(f"{path}: line 1: {shown(header)} is not of the form '# 827 of 16551 images'")
    if (len(lines), len(ids)) != tuple(map(int, told.groups())):
        raise DataError(
            f"{path}: line 1: {shown(header)}, but {len(lines)} follow and the training part has {len(ids)}"
        )
    rows = [_row(line, f"{path}: line {number}", ids) for number, line in enumerate(lines, start=2)]
    if len(set(rows)) < len(rows):
        raise DataError(f"{path}: an image is named twice; each must be different")
    return np.sort(np.array(rows, dtype=np.int64))


def _row(line: str, where: str, ids: Sequence[str]) -> int:
    position, _, name = line.partition("\t")
    if not _POSITION.fullmatch(position) or not 1 <= int(position) <= len(ids):
        raise DataError(f"{where}: {shown(position)} is not a position from 1 to {len(ids)}")
    row = int(position) - 1
    if name and ids[row] and name != ids[row]:
        raise DataError(
            f"{where}: image {position} is {shown(ids[row])} here, not {shown(name)}: another data set or order"
        )
    return row
