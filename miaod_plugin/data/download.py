"""Public data sets from the net: their archives fetched, verified and unpacked."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import ConfigError, DataError
from .archives import Report, unpack
from .fetch import fetch


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
    ConfigError
        If `url_base` is none of http or https.
    DataError
        If `root` is no folder and cannot be made one, a download fails, a sum differs, an archive is damaged or
        hostile, or a folder is not complete.
    """
    root, made = Path(root), []
    _make_folder(root)
    for folder in folders:
        target = root / folder.name
        if not os.path.lexists(target):
            files = []
            for archive in folder.archives:
                url = f"{url_base.rstrip('/')}/{archive.name}" if url_base else archive.url
                files.append(fetch(url, root / archive.name, archive.md5, report))
            unpack(files, folder.prefix, target, report)
            for file in files:
                file.unlink(missing_ok=True)
            made.append(target)
        for name in folder.witnesses:
            if not (target / name).exists():
                raise DataError(f"{target / name}: missing; move {target} away and download it again")
    return made


def _make_folder(root: Path) -> None:
    try:
        root.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:  # ValueError: a NUL in its name
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{root}: cannot be made a folder: {reason}; give another one") from None
