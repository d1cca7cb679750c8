"""Which image of the project it is that a tool speaks of, whatever the tool made of its name."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from urllib.parse import parse_qs, unquote, urlsplit

from ..errors import DataError, cut_list, did_you_mean, shown

_UPLOADED = re.compile(r"[0-9a-f]{8}-(.+)")  # what Label Studio makes of a name at an upload


class ProjectImages:
    """The images of a project, to be found by the names that tools give them.

    An image goes by its path, by its path behind the folders or the address under which the tool has it, or by the end
    of its path (such as the file's name alone) where no other image's ends like that.

    Parameters
    ----------
    sizes : mapping of str to (int, int)
        Width and height of each image, by its path.
    """

    def __init__(self, sizes: Mapping[str, tuple[int, int]]):
        self.sizes = sizes
        self._whole = _Names((path, path) for path in sizes)
        self._without_suffix = _Names((_without_suffix(path), path) for path in sizes)
        self._uploaded = _Names((_as_uploaded(PurePosixPath(path).name), path) for path in sizes)

    def find(self, name: object, where: str) -> str:
        """Return the path of the image that a file calls `name`: a path, an address, or a name after an upload.

        Raises
        ------
        DataError
            If it is no name, climbs with ``..``, is not an image of the project, or could be several of them.
        """
        text = _location(name, where)
        found = self._whole.find(text, where)
        if found is None and (match := _UPLOADED.fullmatch(PurePosixPath(text).name)):
            found = self._uploaded.find(match[1], where)
        if found is None:
            raise self._stranger(name, where)
        return found

    def find_stem(self, name: str, where: str) -> str:
        """Return the path of the image that a file calls `name`, which has no suffix; see `find`."""
        text = _location(name, where)
        found = self._without_suffix.find(text, where)
        if found is None and (match := _UPLOADED.fullmatch(PurePosixPath(text).name)):
            found = self._without_suffix.find(match[1], where)
        if found is None:
            raise self._stranger(name, where)
        return found

    def _stranger(self, name: object, where: str) -> DataError:
        return DataError(
            f"{where}: {shown(name)} is not among the {len(self.sizes)} images of the project; is this another"
            f" project's export?{did_you_mean(name, self.sizes)}"
        )


class _Names:
    """Paths by their names, and by all ends of those."""

    def __init__(self, named: Iterable[tuple[str, str]]):
        self._whole, self._ends = defaultdict(list), defaultdict(list)
        for name, path in named:
            self._whole[name].append(path)
            for end in _ends(name):
                self._ends[end].append(path)

    def find(self, name: str, where: str) -> str | None:
        """Return the one path that a name, or its longest possible end, stands for; else that whose name ends so."""
        for end in _ends(name):
            if end in self._whole:
                return _only(self._whole[end], name, where)
        return _only(self._ends[name], name, where) if name in self._ends else None


def _only(paths: list[str], name: str, where: str) -> str:
    if len(paths) > 1:
        raise DataError(f"{where}: {shown(name)} may be {cut_list(paths, 2)}; keep folders and suffixes in the names")
    return paths[0]


def _ends(name: str) -> list[str]:
    """Return a path, the longest first, without ever more of its first folders."""
    parts = name.split("/")
    return ["/".join(parts[k:]) for k in range(len(parts))]


def _location(name: object, where: str) -> str:
    """Return the path in an address or on any system, with ``/`` between its parts."""
    if not isinstance(name, str) or not name or len(name) > 4096:
        raise DataError(f"{where}: {shown(name)} is not the name of an image")
    if "://" in name or name.startswith("/data/"):  # the latter is Label Studio's own server
        try:
            address = urlsplit(name)
        except ValueError as error:
            raise DataError(f"{where}: {shown(name)} is not an address ({error})") from None
        name = parse_qs(address.query).get("d", [unquote(address.path)])[0]
    parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]
    if ".." in parts or not parts:
        raise DataError(f"{where}: {shown(name)} is not a path inside the project; use one without '..'")
    return "/".join(parts)


def _without_suffix(path: str) -> str:
    return str(PurePosixPath(path).with_suffix(""))


def _as_uploaded(name: str) -> str:
    """Return what Label Studio's server leaves of a file's name."""
    return re.sub(r"[^-\w.]", "", name.strip().replace(" ", "_"))
