"""Where images and tables lie: files, or objects of a store that fsspec reads (``s3://``, ``gs://``, ``memory://``)."""

import posixpath
from pathlib import Path

from ..data.images import MAX_PIXELS, EncodedImage
from ..data.paths import check_relative, path_inside
from ..errors import DataError, one_line, shown

MAX_BYTES = 3 * MAX_PIXELS  # of an image that is not compressed


def is_url(location: str) -> bool:
    """Whether fsspec reads it."""
    return "://" in location


def opened_store(url: str):
    """Return the file system of a URL and the path in it, or raise a DataError that says what to install."""
    try:
        import fsspec

        return fsspec.core.url_to_fs(url)
    except ImportError as error:  # of fsspec itself, or of the library that speaks the protocol
        reason = "pip install fsspec" if error.name == "fsspec" else one_line(str(error))
        raise DataError(f"{url}: a library is missing that reads it: {reason}") from None
    except ValueError as error:
        raise DataError(f"{url}: {one_line(str(error))}; give a folder, or a URL that fsspec knows") from None


def files_below(root: str) -> list[str]:
    """Return all files below a URL, relative to it; hidden ones are not taken.

    Raises
    ------
    DataError
        If it cannot be listed.
    """
    store, top = opened_store(root)
    try:
        found = store.find(top)
    except Exception as error:  # each store has errors of its own
        raise DataError(f"{root}: cannot be listed ({_reason(error)})") from error
    top = top.rstrip("/") + "/"
    names = (path.removeprefix(top) for path in found if path.startswith(top))
    return sorted(name for name in names if not any(part.startswith(".") for part in name.split("/")))


def open_file(location: str):
    """Open a file or an object to read bytes from it, or raise a DataError."""
    try:
        if not is_url(location):
            return open(location, "rb")
        store, path = opened_store(location)
        return store.open(path, "rb")
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"{location}: cannot be read ({_reason(error)})") from error


def fetched(location: str | EncodedImage) -> str | EncodedImage:
    """Return what `read_image` reads: a path as it is, and the content of an object."""
    if isinstance(location, EncodedImage) or not is_url(location):
        return location
    with open_file(location) as file:
        try:
            content = file.read(MAX_BYTES + 1)
        except Exception as error:
            raise DataError(f"{location}: cannot be read ({_reason(error)})") from error
    if len(content) > MAX_BYTES:
        raise DataError(f"{location}: has more than {MAX_BYTES:,} bytes; make the image smaller")
    return EncodedImage(location, content)


def place_inside(root: str, name: str, source: str) -> str:
    """Return where an image lies that `source` says is below `root`, a folder or URL.

    Raises
    ------
    DataError
        If the name leads elsewhere, as `path_inside` sees it; a name that begins with `root` is inside.
    """
    inside = name.removeprefix(root.rstrip("/") + "/")
    if not is_url(root):
        return str(path_inside(Path(root), inside, source))
    check_relative(root, inside, source)
    if is_url(inside) or "::" in inside:  # with which fsspec puts one file system into another
        raise DataError(f"{source}: {shown(inside)} is no name below {root}; use a relative path without '::' or '://'")
    return posixpath.join(root, inside)


def _reason(error: Exception) -> str:
    return one_line(str(error) or type(error).__name__)[:200]
