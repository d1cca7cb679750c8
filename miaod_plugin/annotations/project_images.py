"""Which image of the project it is that a tool speaks of, whatever the tool made of its name."""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

from ..errors import DataError, cut_list, did_you_mean, shown

_OWN_SERVER = ("/data/local-files/", "/data/upload/")  # of Label Studio
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
        self._names = _Names(sizes, str), _Names(sizes, _as_uploaded)
        self._stems = _Names(sizes, _without_suffix), _Names(sizes, lambda path: _without_suffix(_as_uploaded(path)))

    def find(self, name: object, where: str) -> str:
        """Return the path of the image that a file calls `name`: a path, an address, or a name after an upload.

        Raises
        ------
        DataError
            If it is no name, climbs with ``..``, is not an image of the project, or could be several of them.
        """
        return self._find(self._names, name, where)

    def find_stem(self, name: str, where: str) -> str:
        """Return the path of the image that a file calls `name`, which has no suffix; see `find`."""
        return self._find(self._stems, name, where)

    def _find(self, known: tuple["_Names", "_Names"], name: object, where: str) -> str:
        if isinstance(name, str) and name in known[0]:
            return known[0].find(name, where)
        for text in _locations(name, where):
            found = known[0].find(text, where)
            if found is None and (uploaded := _UPLOADED.fullmatch(PurePosixPath(text).name)):
                found = known[1].find(uploaded[1], where)
            if found is not None:
                return found
        raise DataError(
            f"{where}: {shown(name)} is not among the {len(self.sizes)} images of the project; is this another"
            f" project's export? if it was moved or renamed, put it back{did_you_mean(name, self.sizes)}"
        )


class _Names:
    """Paths by their names, and by all ends of those."""

    def __init__(self, paths: Iterable[str], name_of: Callable[[str], str]):
        self._whole, self._ends = defaultdict(list), defaultdict(list)
        for path in paths:
            name = name_of(path)
            self._whole[name].append(path)
            for end in _ends(name):
                self._ends[end].append(path)

    def __contains__(self, name: str) -> bool:
        return name in self._whole

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


def _locations(name: object, where: str) -> list[str]:
    """Return the path in an address or on any system, with ``/`` between its parts; as it is, and %20 as blanks."""
    if not isinstance(name, str) or not name or len(name) > 4096:
        raise DataError(f"{where}: {shown(name)} is not the name of an image")
    text = name
    if "://" in name or name.startswith(_OWN_SERVER):
        try:
            address = urlsplit(name)
        except ValueError as error:
            raise DataError(f"{where}: {shown(name)} is not an address ({error})") from None
        local = re.search(r"(?:^|&)d=([^&]+)", address.query)
        text = local[1] if local else address.path
    locations = []
    for path in dict.fromkeys((text, unquote(text))):
        parts = [part for part in path.replace("\\", "/").split("/") if part not in ("", ".")]
        if ".." in parts or not parts:
            raise DataError(f"{where}: {shown(name)} is not a path inside the project; use one without '..'")
        locations.append("/".join(parts))
    return locations


def _without_suffix(path: str) -> str:
    return str(PurePosixPath(path).with_suffix(""))


def _as_uploaded(path: str) -> str:
    """Return what Label Studio's server leaves of a file's path, but for the number that it puts before it."""
    return re.sub(r"[^-\w.]", "", PurePosixPath(path).name.strip().replace(" ", "_"))
