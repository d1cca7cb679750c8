"""Public data sets from the net: downloaded with resumption, verified, and unpacked whole or not at all.

An archive is not trusted: one that names a path outside its folder, a link or a device is refused before anything of it
is written.
"""

import errno
import hashlib
import http.client
import os
import shutil
import stat
import tarfile
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from miaod_plugin.data.paths import path_inside
from miaod_plugin.errors import ConfigError, DataError

ATTEMPTS = 5  # connections in a row without a single byte before giving up
DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM}  # not the net's fault
CHUNK = 1 << 20

Report = Callable[[str, int, int], None]  # report(what, bytes done, bytes in all or 0)


@dataclass(frozen=True)
class Archive:
    """A file on the net and the MD5 sum that its publisher or its users give for it."""

    url: str
    md5: str

    @property
    def name(self) -> str:
        return self.url.rpartition("/")[2]


@dataclass(frozen=True)
class Folder:
    """A folder of a data set: what its archives hold under `prefix`, and a file that shows that it is complete."""

    name: str
    archives: tuple[Archive, ...]
    prefix: str
    witnesses: tuple[str, ...]


VOC_TREE = """ROOT/
    VOC2007/
        Annotations/000001.xml ...
        ImageSets/Main/trainval.txt test.txt ...
        JPEGImages/000001.jpg ...
    VOC2012/ (the same, without test.txt)"""

COCO_TREE = """ROOT/
    annotations/instances_train2017.json instances_val2017.json ...
    train2017/000000000009.jpg ...
    val2017/000000000139.jpg ..."""

_COCO = "http://images.cocodataset.org"  # has no certificate of its own for https: the sums below are what protects
# COCO publishes no sums; these are the ones that many independent projects check.
COCO = (
    Folder(
        "annotations",
        (Archive(f"{_COCO}/annotations/annotations_trainval2017.zip", "f4bbac642086de4f52a3fdda2de5fa2c"),),
        "annotations",
        ("instances_train2017.json", "instances_val2017.json"),
    ),
    Folder(
        "val2017",
        (Archive(f"{_COCO}/zips/val2017.zip", "442b8da7639aecaf257c1dceb8ba8c80"),),
        "val2017",
        ("000000000139.jpg",),
    ),
    Folder(
        "train2017",
        (Archive(f"{_COCO}/zips/train2017.zip", "cced6f7f71b7629ddf16f17bbcfab6b2"),),
        "train2017",
        ("000000000009.jpg",),
    ),
)


def voc_folders(years: Sequence[int]) -> tuple[Folder, ...]:
    """Return the folders of some years of PASCAL VOC, with torchvision's addresses and sums; 2007 has its test set."""
    from torchvision.datasets.voc import DATASET_YEAR_DICT

    known = sorted(int(year) for year in DATASET_YEAR_DICT if year.isdigit())
    folders = []
    for year in dict.fromkeys(years):
        if year not in known:
            raise ConfigError(f"years: {year} is not a year of PASCAL VOC; known: {', '.join(map(str, known))}")
        parts = [DATASET_YEAR_DICT[key] for key in (str(year), f"{year}-test") if key in DATASET_YEAR_DICT]
        lists = ("trainval", "test")[: len(parts)]
        folders.append(
            Folder(
                f"VOC{year}",
                tuple(Archive(part["url"], part["md5"]) for part in parts),
                parts[0]["base_dir"].replace(os.sep, "/"),
                ("Annotations", "JPEGImages", *(f"ImageSets/Main/{name}.txt" for name in lists)),
            )
        )
    return tuple(folders)


def download(folders: Sequence[Folder], root: str | Path, url_base: str | None, report: Report) -> list[Path]:
    """Make the folders that are missing in `root`, from their archives.

    Parameters
    ----------
    folders : sequence of Folder
    root : path
        Made when missing. Archives are kept there until they are unpacked; the same call goes on with half of one.
    url_base : str, optional
        A mirror: archives are taken from ``url_base/NAME`` instead, and verified all the same.
    report : callable
        Gets ``(what, bytes done, bytes in all)`` as the work goes on.

    Returns
    -------
    list of Path
        The folders that were made.

    Raises
    ------
    DataError
        If a download fails, a sum differs, an archive is damaged or hostile, or a folder is not complete.
    """
    root, made = Path(root), []
    root.mkdir(parents=True, exist_ok=True)
    for folder in folders:
        target = root / folder.name
        if not target.exists():
            files = []
            for archive in folder.archives:
                url = f"{url_base.rstrip('/')}/{archive.name}" if url_base else archive.url
                files.append(fetch(url, root / archive.name, archive.md5, report))
            unpack(files, folder.prefix, target, report)
            for file in files:
                file.unlink()
            made.append(target)
        for name in folder.witnesses:
            if not (target / name).exists():
                raise DataError(f"{target / name}: missing; move {target} away and download it again")
    return made


def fetch(url: str, path: Path, md5: str, report: Report) -> Path:
    """Download a file, going on with what an earlier call left, and verify it.

    Raises
    ------
    DataError
        If the server cannot be reached or breaks off again and again, or the MD5 sum differs.
    """
    if not path.exists():
        part = path.with_name(path.name + ".part")
        failures = 0
        while failures < ATTEMPTS:
            before = _size(part)
            try:
                if _receive(url, part, report):
                    break
                reason = "the connection was cut"
            except urllib.error.HTTPError as error:
                raise DataError(f"{url}: the server answers {error.code} {error.reason}") from None
            except (OSError, http.client.HTTPException) as error:
                if getattr(error, "errno", None) in DISK:
                    raise DataError(f"{part}: cannot be written: {error.strerror}") from None
                reason = str(getattr(error, "reason", error)) or type(error).__name__
            failures = 0 if _size(part) > before else failures + 1
            time.sleep(min(0.1 * 2**failures, 5))
        else:
            raise DataError(f"{url}: {reason} after {_size(part)} bytes; the same command goes on from there")
        if (found := _md5(part, report)) != md5:
            part.unlink()
            raise DataError(f"{url}: MD5 sum {found} instead of {md5}; the file was deleted, download it again")
        os.replace(part, path)
    return path


def _receive(url: str, part: Path, report: Report) -> bool:
    """Append to `part` what it lacks; return whether it is complete."""
    have = _size(part)
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        response = urllib.request.urlopen(request, timeout=30)
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise
        if error.headers.get("Content-Range") == f"bytes */{have}":
            return True
        part.unlink()  # longer than the file on the server
        return False
    with response:
        if response.status != 206 or not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            have = 0  # the server sends the whole file
        length = response.headers.get("Content-Length")
        total = have + int(length) if length else 0
        if total - have > shutil.disk_usage(part.parent).free:
            raise DataError(f"{part.parent}: no room for {url}: {(total - have) / 1e9:.1f} GB are missing")
        with open(part, "ab" if have else "wb") as file:
            while chunk := response.read(CHUNK):
                file.write(chunk)
                have += len(chunk)
                report(f"download {part.stem}", have, total)
    return not total or have == total


def unpack(archives: Sequence[Path], prefix: str, target: Path, report: Report) -> None:
    """Unpack what archives hold under `prefix` into the new folder `target`, which appears when all is there.

    Raises
    ------
    DataError
        If an archive is damaged, holds anything but plain files and folders under `prefix`, or does not fit the disk.
        Nothing is left behind.
    """
    temporary = target.with_name(f".{target.name}.unpacking")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        for archive in archives:
            try:
                with _open(archive) as opened:
                    _extract(opened, archive, prefix, temporary, report)
            except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
                raise DataError(f"{archive}: the archive is damaged ({error}); delete it and download again") from None
            except OSError as error:
                raise DataError(f"{archive}: cannot be unpacked: {error.strerror or error}") from None
        if not temporary.exists():
            raise DataError(f"{archives[0]}: holds no {prefix}; it is another archive")
        os.replace(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _open(archive: Path) -> tarfile.TarFile | zipfile.ZipFile:
    return zipfile.ZipFile(archive) if archive.suffix == ".zip" else tarfile.open(archive, "r:*")


def _extract(opened, archive: Path, prefix: str, folder: Path, report: Report) -> None:
    """Write the files under `prefix` to `folder`, after every member was found harmless."""
    is_zip = isinstance(opened, zipfile.ZipFile)
    members = opened.infolist() if is_zip else opened.getmembers()
    plain, sizes = [], []
    for member in members:
        name = member.filename if is_zip else member.name
        path_inside(folder, name, archive)
        kind = stat.S_IFMT(member.external_attr >> 16) if is_zip else None
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR) if is_zip else not (member.isreg() or member.isdir()):
            raise DataError(f"{archive}: {name!r} is a link or a device; refused, nothing was unpacked")
        if not (member.is_dir() if is_zip else member.isdir()):
            plain.append((member, name.removeprefix("./")))
            sizes.append(member.file_size if is_zip else member.size)
    if sum(sizes) > shutil.disk_usage(folder.parent).free:
        raise DataError(f"{archive}: {sum(sizes) / 1e9:.1f} GB unpacked, more than is free on the disk")
    done = 0
    for (member, name), size in zip(plain, sizes, strict=True):
        if not name.startswith(f"{prefix}/"):
            continue
        path = path_inside(folder, name.removeprefix(f"{prefix}/"), archive)
        path.parent.mkdir(parents=True, exist_ok=True)
        with opened.open(member) if is_zip else opened.extractfile(member) as source, open(path, "wb") as file:
            shutil.copyfileobj(source, file, CHUNK)
        if path.stat().st_size != size:
            raise EOFError(f"{name} is cut off")
        done += size
        report(f"unpack {archive.name}", done, sum(sizes))


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _md5(path: Path, report: Report) -> str:
    digest, done, total = hashlib.md5(usedforsecurity=False), 0, _size(path)
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            done += len(chunk)
            report(f"verify {path.stem}", done, total)
    return digest.hexdigest()
