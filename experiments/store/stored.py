"""The files of a run: read as input like any other, written whole, and vouched for by checksums.

A folder's ``SHA256SUMS``, as `sha256sum --check` reads it, says what its other files hold. It is written before the
file that makes them count, so that a process may be killed at any moment. Files of earlier versions have no checksums:
their content alone is checked.
"""

import csv
import hashlib
import io
import json
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from miaod_plugin import files
from miaod_plugin.errors import DataError, shown
from miaod_plugin.files import write_text

CHECKSUMS = "SHA256SUMS"
LARGEST = 1 << 28  # bytes of a file that is read at once


def inside(root: Path, path: Path) -> Path:
    """Return `path`, which lies in `root`, unless it or a folder between the two is a link.

    Raises
    ------
    DataError
        A link may lead anywhere; a run keeps its files itself.
    """
    for part in (path, *path.parents):
        if part == root:
            break
        if part.is_symlink():
            raise DataError(f"{part}: is a link, which a run does not follow; put what it leads to in its place")
    return path


def is_there(path: Path) -> bool:
    """Whether the run's file is there.

    Raises
    ------
    DataError
        If something else stands in its place (a folder, a link, a device), or the folder cannot be read.
    """
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return False
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    if not stat.S_ISREG(mode):
        kind = "folder" if stat.S_ISDIR(mode) else "link" if stat.S_ISLNK(mode) else "device"
        raise DataError(f"{path}: is a {kind}, where a run keeps a file; move it away")
    return True


def read_text(path: Path) -> str | None:
    """Return the text (UTF-8) of a file, or None when there is none; raises a DataError like everything here."""
    return files.read_text(path, LARGEST, DataError) if is_there(path) else None


def read_json(path: Path) -> Any:
    """Return the content of a JSON file, or None when there is none."""
    text = read_text(path)
    return None if text is None else parse_json(text, path)


def parse_json(text: str, where: object) -> Any:
    """Return what a JSON text stands for."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: not valid JSON: {error}") from None


def read_lines(path: Path) -> list[str]:
    """Return the lines of a text file, one id each."""
    *lines, rest = required(read_text(path), path).split("\n")
    if rest:
        raise DataError(f"{path}: the last line, {shown(rest)}, is cut off")
    return lines


def read_rows(path: Path, columns: Iterable[str]) -> list[dict[str, str]] | None:
    """Return the rows of a CSV file with these columns, or None when there is none."""
    text = read_text(path)
    if text is None:
        return None
    try:
        header, *rows = [*csv.reader(io.StringIO(text, newline=""), strict=True)] or [[]]
    except csv.Error as error:
        raise DataError(f"{path}: not valid CSV: {error}") from None
    if header != list(columns):
        raise DataError(f"{path}: line 1: the columns are {shown(header)}, not {shown(list(columns))}")
    for number, row in enumerate(rows, start=2):
        if len(row) != len(header):
            raise DataError(f"{path}: row {number} has {len(row)} values for {len(header)} columns")
    return [dict(zip(header, row, strict=True)) for row in rows]


def required(content, path: object):
    """Return the content of a file, or of a part of it, that has to be there."""
    if content is None:
        raise DataError(f"{path}: is missing")
    return content


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Write one id a line, atomically."""
    write_text(path, "".join(f"{line}\n" for line in lines))


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file atomically."""
    write_text(path, as_json(content))


def as_json(content: Any) -> str:
    """Return the text of a JSON file."""
    return json.dumps(content, indent=2) + "\n"


def write_rows(path: Path, rows: list[dict], columns: Iterable[str] | None = None) -> None:
    """Write dicts of equal keys as CSV with a header, atomically; `columns` are needed where there is no row."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(columns or rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def digest(path: Path) -> str | None:
    """Return the SHA-256 of a file of any size, or None when there is none."""
    if not is_there(path):
        return None
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None


def read_sums(folder: Path) -> dict[str, set[str]] | None:
    """Return what the checksums of a folder allow each file to be; None without them: by an earlier version."""
    text = read_text(folder / CHECKSUMS)
    if text is None:
        return None
    sums: dict[str, set[str]] = {}
    for line in text.splitlines():
        value, separator, name = line.partition("  ")
        if not separator or len(value) != 64:
            raise DataError(f"{folder / CHECKSUMS}: {shown(line)} is not a checksum and the name of a file")
        sums.setdefault(name, set()).add(value)
    return sums


def write_sums(folder: Path, sums: dict[str, set[str]]) -> None:
    """Write down what each file of a folder may be."""
    lines = [f"{value}  {name}\n" for name, values in sorted(sums.items()) for value in sorted(values)]
    write_text(folder / CHECKSUMS, "".join(lines))


def seal(path: Path, text: str, others: Iterable[str]) -> None:
    """Write `text` to `path`, after checksums of it and of the `others` in its folder; atomically."""
    sums = {name: {required(digest(path.with_name(name)), path.with_name(name))} for name in others}
    write_sums(path.parent, sums | {path.name: {_sha256(text)}})
    write_text(path, text)


def reseal(path: Path, text: str) -> None:
    """Write `text` to `path`, whose folder's checksums keep vouching for the other files, atomically."""
    sums, new = read_sums(path.parent) or {}, {_sha256(text)}
    write_sums(
        path.parent, sums | {path.name: sums.get(path.name, set()) | new}
    )  # it may be either until it is written
    write_text(path, text)
    write_sums(path.parent, sums | {path.name: new})


def require_sealed(folder: Path, names: Iterable[str]) -> None:
    """Raise a DataError that names the first file which is not what the checksums of its folder say, if it has any."""
    sums = read_sums(folder)
    for name in names if sums is not None else ():
        found = required(digest(folder / name), folder / name)
        if name not in sums:
            raise DataError(f"{folder / CHECKSUMS}: is damaged: it does not say what {name} holds")
        if found not in sums[name]:
            raise DataError(f"{folder / name}: is damaged: {CHECKSUMS} says that it held something else")


def require_fit(model: type[BaseModel], content: Any, path: Path) -> None:
    """Raise a DataError that names the first value of a file which the model does not allow."""
    try:
        model.model_validate(content)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"]) or "content"
        raise DataError(f"{path}: {where}: {shown(problem['input'])}: {problem['msg']}") from None
    except (RecursionError, OverflowError) as error:
        raise DataError(f"{path}: {error}") from None


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
