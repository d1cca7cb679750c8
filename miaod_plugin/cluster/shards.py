"""A pool in shards: images that lie one after the other, which a worker looks at in one go."""

import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import accumulate

from ..data import load_folder
from ..data.images import IMAGE_SUFFIXES, EncodedImage
from ..errors import DataError, cut_list
from ..ranking.row_file import image_identity
from .stores import files_below, is_url, open_file, opened_store, place_inside

LEAST, MOST = 64, 4096  # images of a shard: what a killed worker loses, and what has a file of its own
SHARDS = 200  # of a pool of middling size: a share of the time that is worth showing
PATH, BYTES = "path", "bytes"  # columns of a table of images
ROWS = 256  # of a table that are read at a time

Located = tuple[str, "str | EncodedImage | DataError"]  # an image's name, and where it is, or why nowhere


@dataclass(frozen=True)
class FileShard:
    """Images that lie in files of their own.

    Parameters
    ----------
    first : int
        Row of the first one in the pool.
    root : str
        Folder or URL in which they lie.
    names : tuple of str
        Relative to that.
    """

    first: int
    root: str
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)

    def identity(self) -> bytes:
        """Return what stands for the images as they are now; of objects in a store their names."""
        places = [f"{self.root}/{name}" for name in self.names]
        known = [place.encode() if is_url(place) else image_identity(place) for place in places]
        return hashlib.sha256(b"\0".join(known)).digest()

    def images(self) -> Iterator[Located]:
        """Yield name and place of each image, in order."""
        for name in self.names:
            yield name, place_inside(self.root, name, self.root) if is_url(self.root) else f"{self.root}/{name}"

    def only(self, offsets: list[int]) -> "FileShard":
        """Return some of the images."""
        return replace(self, names=tuple(self.names[k] for k in offsets))


@dataclass(frozen=True)
class TableShard:
    """Rows of a Parquet file with a column ``path``, or ``bytes``, or both: then the path is a name.

    Parameters
    ----------
    first : int
        Row of the first one in the pool.
    root : str
        Folder or URL in which the paths lie.
    table : str
        Place of the file.
    state : str
        What stands for its content.
    columns : tuple of str
        ``path`` and ``bytes``, those that there are.
    offsets : range or list of int
        Its rows, rising.
    """

    first: int
    root: str
    table: str
    state: str
    columns: tuple[str, ...]
    offsets: "range | list[int]"

    def __len__(self) -> int:
        return len(self.offsets)

    def identity(self) -> bytes:
        """Return what stands for the rows as they are now."""
        return hashlib.sha256(repr((self.table, self.state, self.root, self.offsets)).encode()).digest()

    def images(self) -> Iterator[Located]:
        """Yield name and place or content of each image, in order; no more than some rows are in memory."""
        for offset, row in _rows(self.table, list(self.columns), self.offsets):
            name = row.get(PATH) or f"{self.table}#{offset}"
            if BYTES in row:
                yield name, EncodedImage(name, row[BYTES] or b"")
                continue
            try:
                yield name, place_inside(self.root, row[PATH] or "", self.table)
            except DataError as error:
                yield name, error

    def only(self, offsets: list[int]) -> "TableShard":
        """Return some of the images."""
        return replace(self, offsets=[self.offsets[k] for k in offsets])


Shard = FileShard | TableShard


@dataclass(frozen=True)
class ImagePool:
    """Where a pool lies.

    Parameters
    ----------
    place : str
        A folder of images, a Parquet file or a folder of such; or the URL of one of these.
    root : str, optional
        Folder or URL in which the paths of Parquet files lie; by default the folder of each.
    together : int
        Images of a batch; shards are made of whole ones.
    """

    place: str
    root: str | None
    together: int

    def shards(self) -> list[Shard]:
        """Return the images in an order that does not change.

        Raises
        ------
        DataError
            If there are none, or a file is not of this form.
        """
        tables = _tables(self.place)
        return self._of_tables(tables) if tables else self._of_files()

    def _of_files(self) -> list[Shard]:
        if self.root is not None:
            raise DataError(f"{self.place}: holds no Parquet file, whose paths --root would be for; leave it out")
        names = _image_names(self.place)
        size = shard_size(len(names), self.together)
        place = self.place.rstrip("/") if is_url(self.place) else os.path.abspath(self.place)
        return [FileShard(start, place, names[start : start + size]) for start in range(0, len(names), size)]

    def _of_tables(self, tables: list[str]) -> list[Shard]:
        with ThreadPoolExecutor(16) as threads:  # hides the latency of a store
            known = list(threads.map(_about_table, tables))
        total = sum(count for count, _, _ in known)
        if not total:
            raise DataError(f"{self.place}: holds no rows, and so no images")
        size, shards, first = shard_size(total, self.together), [], 0
        for table, (count, columns, state) in zip(tables, known, strict=True):
            root = self.root or table.rpartition("/")[0]
            parts = [range(start, min(start + size, count)) for start in range(0, count, size)]
            shards += [TableShard(first + part.start, root, table, state, columns, part) for part in parts]
            first += count
        return shards


def shard_size(n_images: int, together: int) -> int:
    """Return how many images a shard of a pool holds, a multiple of `together`."""
    wanted = min(max(n_images // SHARDS, LEAST), MOST)
    return -(-wanted // together) * together


def _tables(pool: str) -> list[str]:
    """Return the Parquet files of a pool; none where it is one of images."""
    if pool.endswith(".parquet"):
        return [pool if is_url(pool) else os.path.abspath(pool)]
    if is_url(pool):
        return [f"{pool.rstrip('/')}/{name}" for name in files_below(pool) if name.endswith(".parquet")]
    try:
        names = sorted(name for name in os.listdir(pool) if name.endswith(".parquet") and not name.startswith("."))
    except OSError:
        return []  # said where images are looked for
    return [os.path.join(os.path.abspath(pool), name) for name in names]


def _image_names(pool: str) -> tuple[str, ...]:
    if not is_url(pool):
        return tuple(load_folder(pool).ids.tolist())
    names = tuple(name for name in files_below(pool) if name.lower().endswith(IMAGE_SUFFIXES))
    if not names:
        raise DataError(f"{pool}: holds no images; expected files ending in {', '.join(IMAGE_SUFFIXES)}, or .parquet")
    return names


def _about_table(table: str) -> tuple[int, tuple[str, ...], str]:
    """Return how many rows a Parquet file has, its columns of images, and what stands for its content."""
    import pyarrow
    from pyarrow import parquet

    with open_file(table) as file:
        try:
            about = parquet.read_metadata(file)
            schema = about.schema.to_arrow_schema()
        except (pyarrow.ArrowException, OSError) as error:
            raise DataError(f"{table}: is no Parquet file that can be read ({str(error)[:100]})") from error
    kinds = {PATH: (pyarrow.types.is_string, pyarrow.types.is_large_string)}
    kinds[BYTES] = (pyarrow.types.is_binary, pyarrow.types.is_large_binary)
    columns = tuple(
        name for name, tests in kinds.items()
        if name in schema.names and any(test(schema.field(name).type) for test in tests)
    )  # fmt: skip
    if not columns:
        raise DataError(
            f"{table}: has no column path of strings or bytes of binary, but {cut_list(schema.names)}; name them so"
        )
    if is_url(table):
        store, path = opened_store(table)
        state = str(store.info(path).get("ETag") or store.info(path).get("size"))
    else:
        state = image_identity(table).hex()
    return about.num_rows, columns, state


def _rows(table: str, columns: list[str], wanted: "range | list[int]") -> Iterator[tuple[int, dict]]:
    """Yield the rows of a table at rising offsets, each with its offset; only row groups that hold some are read."""
    from pyarrow import parquet

    with open_file(table) as opened:
        file = parquet.ParquetFile(opened)
        ends = list(accumulate(file.metadata.row_group(k).num_rows for k in range(file.num_row_groups)))
        left = iter(wanted)
        following = next(left, None)
        for group, end in enumerate(ends):
            start = end - file.metadata.row_group(group).num_rows
            if following is None or following >= end:
                continue
            for batch in file.iter_batches(ROWS, row_groups=[group], columns=columns):
                while following is not None and following < start + len(batch):
                    yield following, {name: batch[name][following - start].as_py() for name in columns}
                    following = next(left, None)
                start += len(batch)
                if following is None or following >= end:
                    break
