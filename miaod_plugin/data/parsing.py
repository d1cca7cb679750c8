"""JSON and XML that come from outside: within bounds, and refused in one line."""

import json
import xml.etree.ElementTree as ET
import zipfile
from pathlib import Path

from ..errors import DataError, shown
from .paths import read_file


def read_json(file: Path, layout: str, most_bytes: int | None = None) -> object:
    """Return what a JSON file holds, or raise a DataError that names the file; `layout` says what was expected."""
    try:
        return json.loads(_content(file, layout, most_bytes))
    except (ValueError, RecursionError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{file}: not well-formed JSON ({error}); fix the file") from error


class _NoDoctype(ET.TreeBuilder):
    """Refuses the only place where XML can declare entities."""

    def doctype(self, name, pubid, system):
        raise DataError("has a DOCTYPE, which annotations do not need and which may expand without end; remove it")


def read_xml(file: Path, layout: str, root: str, most_bytes: int | None = None) -> ET.Element:
    """Return the root element of an XML file, which must be called `root`, or raise a DataError that names the file."""
    content = _content(file, layout, most_bytes)
    try:
        element = ET.fromstring(content, parser=ET.XMLParser(target=_NoDoctype()))
    except DataError as error:
        raise DataError(f"{file}: {error}") from None
    except (ET.ParseError, LookupError, ValueError) as error:
        raise DataError(f"{file}: not well-formed XML ({error}); fix the file") from error
    if element.tag != root:
        raise DataError(f"{file}: its root element is {shown(element.tag)}, not {root!r}; expected {layout}")
    return element


def _content(file: Path, layout: str, most_bytes: int | None) -> bytes:
    content = read_file(file, layout, most_bytes)
    if content.startswith(b"PK\3\4") and zipfile.is_zipfile(file):
        raise DataError(f"{file}: is a zip archive; unpack it and give {layout}")
    return content


def text_of(element: ET.Element, path: str) -> str:
    """Return the text of the first element at `path`, with single blanks; "" where there is none."""
    return " ".join((element.findtext(path) or "").split())


def number_in(text: str) -> float:
    """Return the number that a text holds, NaN where it holds none."""
    try:
        return float(text)
    except ValueError:
        return float("nan")


def number_of(value: object) -> float:
    """Return a number of JSON as a float, NaN for whatever is no number."""
    try:
        return float("nan") if isinstance(value, bool | str) else float(value)
    except (TypeError, OverflowError):
        return float("nan")
