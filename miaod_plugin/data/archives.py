"""Archives are not trusted: unpacked whole or not at all, and nothing but plain files inside their folder."""

import lzma
import os
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from ..errors import DataError, shown
from .paths import path_inside

CHUNK = 1 << 20
# An archive of images is about as large as they are, one of JSON a few times smaller; what unpacks to more is a bomb.
MOST_TIMES, MOST_BESIDE = 50, 1 << 24
COMPRESSED = {b"\x1f\x8b": "gz", b"BZh": "bz2", b"\xfd7zXZ\0": "xz"}  # what a tar starts with
EXTENDED = (
    *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
    *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
)
LONGEST_HEADER = 1 << 16  # bytes that tar may spend on a name or on pax fields; Python's reader takes them at once

# What Python's readers raise on damage, by format and version.
DAMAGE = (
    *(tarfile.TarError, zipfile.BadZipFile, lzma.LZMAError, zlib.error, EOFError),
    *(RuntimeError, ValueError, LookupError, ArithmeticError, MemoryError),
)

Report = Callable[[str, int, int], None]  # report(what, bytes done, bytes in all or 0)
Archive = tarfile.TarFile | zipfile.ZipFile


class _Member(NamedTuple):
    """A file of an archive; `entry` is what the archive's own reader knows it by."""

    entry: tarfile.TarInfo | zipfile.ZipInfo
    name: str
    size: int


def unpack(archives: Sequence[Path], prefix: str, target: Path, report: Report) -> None:
    """Unpack what archives hold under `prefix` into the new folder `target`, which appears when all is there.

    Raises
    ------
    DataError
        If an archive is damaged, holds anything but plain files and folders, unpacks to far more than its size, or does
        not fit the disk. Nothing is left behind.
    """
    temporary = target.with_name(f".{target.name}.unpacking")
    shutil.rmtree(temporary, ignore_errors=True)  # of a call that was killed
    if os.path.lexists(temporary):
        raise DataError(f"{temporary}: in the way; move it away")
    try:
        for archive in archives:
            _unpack_into(temporary, archive, prefix, report)
        if not temporary.exists():
            raise DataError(f"{archives[0]}: holds no {prefix}; it is another archive")
        try:
            os.replace(temporary, target)
        except OSError as error:
            raise DataError(f"{target}: cannot be made: {error.strerror}; move away what is there") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _unpack_into(folder: Path, archive: Path, prefix: str, report: Report) -> None:
    try:
        with _open(archive) as opened:
            _extract(_checked(opened, archive, folder), opened, archive, prefix, folder, report)
    except DataError:
        raise
    except DAMAGE as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{archive}: the archive is damaged ({reason}); delete it and download again") from None
    except OSError as error:
        raise DataError(f"{archive}: cannot be unpacked: {error.strerror or error}") from None


def _open(archive: Path) -> Archive:
    if archive.suffix == ".zip":
        return zipfile.ZipFile(archive)
    with open(archive, "rb") as file:
        start = file.read(6)
    kind = next((kind for magic, kind in COMPRESSED.items() if start.startswith(magic)), "tar")
    return tarfile.open(archive, f"r:{kind}", tarinfo=_TarInfo)


class _TarInfo(tarfile.TarInfo):
    """Refuses, before the reader acts on it, a header that makes it read without bound or run in a circle."""

    @classmethod
    def frombuf(cls, buf, encoding, errors):
        found = super().frombuf(buf, encoding, errors)
        too_long = found.type in EXTENDED and found.size > LONGEST_HEADER
        if found.size < 0 or too_long or found.type == tarfile.GNUTYPE_SPARSE:
            raise tarfile.ReadError(f"a header of type {found.type!r} and size {found.size}")
        return found


def _checked(opened: Archive, archive: Path, folder: Path) -> list[_Member]:
    """Return the files of an archive, after every member was found harmless."""
    files, seen, total = [], set(), 0
    room = shutil.disk_usage(folder.parent).free
    is_zip = isinstance(opened, zipfile.ZipFile)
    for member, is_folder in _zip_members(opened, archive) if is_zip else _tar_members(opened, archive):
        if is_folder and member.name in ("", "."):
            continue
        path = path_inside(folder, member.name, archive)
        total += member.size
        if total > room:
            raise DataError(f"{archive}: {total / 1e9:.1f} GB unpacked, more than is free on the disk")
        if total > _most_unpacked(archive):
            raise DataError(f"{archive}: {archive.stat().st_size} bytes that unpack to {total} and more; refused")
        if is_folder:
            continue
        if path in seen:
            raise DataError(f"{archive}: {shown(member.name)} is in it twice; refused, nothing was unpacked")
        seen.add(path)
        files.append(member)
    return files


def _most_unpacked(archive: Path) -> int:
    return MOST_TIMES * archive.stat().st_size + MOST_BESIDE


def _zip_members(opened: zipfile.ZipFile, archive: Path) -> Iterator[tuple[_Member, bool]]:
    """Yield each member and whether it is a folder."""
    for entry in opened.infolist():
        name = entry.filename
        if stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise DataError(f"{archive}: {shown(name)} is a link or a device; refused, nothing was unpacked")
        if entry.flag_bits & 1:
            raise DataError(f"{archive}: {shown(name)} is encrypted; refused, nothing was unpacked")
        yield _Member(entry, name.removeprefix("./"), entry.file_size), entry.is_dir()


def _tar_members(opened: tarfile.TarFile, archive: Path) -> Iterator[tuple[_Member, bool]]:
    """Yield each member and whether it is a folder."""
    for entry in opened:
        if not (entry.isreg() or entry.isdir()):
            raise DataError(f"{archive}: {shown(entry.name)} is a link or a device; refused, nothing was unpacked")
        if entry.size < 0 or entry.issparse():
            raise tarfile.ReadError(f"{shown(entry.name)} has size {entry.size}, or is sparse")
        yield _Member(entry, entry.name.removeprefix("./"), entry.size), entry.isdir()
    # Python's reader takes a damaged header for the end of the archive.
    opened.fileobj.seek(opened.offset)
    end = opened.fileobj.read(tarfile.BLOCKSIZE)
    if not end or end.strip(b"\0"):
        raise tarfile.ReadError(f"no header at byte {opened.offset}")
    # The checksum of a compressed file stands behind all of it, and is compared by whoever reads that far.
    left = _most_unpacked(archive)
    while chunk := opened.fileobj.read(CHUNK):
        left -= len(chunk)
        if left < 0:
            raise tarfile.ReadError(f"more than {_most_unpacked(archive)} bytes behind its end")


def _extract(files: list[_Member], opened: Archive, archive: Path, prefix: str, folder: Path, report: Report) -> None:
    """Write the files under `prefix` to `folder`."""
    done, total = 0, sum(member.size for member in files)
    for entry, name, size in files:
        if not name.startswith(f"{prefix}/"):
            continue
        path = path_inside(folder, name.removeprefix(f"{prefix}/"), archive)
        path.parent.mkdir(parents=True, exist_ok=True)
        is_zip = isinstance(opened, zipfile.ZipFile)
        with opened.open(entry) if is_zip else opened.extractfile(entry) as source, open(path, "wb") as file:
            shutil.copyfileobj(source, file, CHUNK)
        if path.stat().st_size != size:
            raise EOFError(f"{name} is cut off")
        done += size
        report(f"unpack {archive.name}", done, total)
