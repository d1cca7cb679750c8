"""Which files of a run's folder are the run's own: only these does it ever delete."""

from collections.abc import Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path

from miaod_plugin.errors import DataError
from miaod_plugin.files import left_overs

from .stored import CHECKSUMS, inside, is_there

PIXELS = ("pixels.cache", "pixels.cache.lock")
RUN_FILES = (
    "config.yaml", "data.json", "environment.json", CHECKSUMS, "run.log", "lock",
    "results.csv", "results.md", "report.html", "curves.png", "curves.svg", "diagnosis.csv",
    *PIXELS,
)  # fmt: skip
CELL_FILES = (
    "labelled.txt", "unlabelled.txt", "losses.jsonl", "half_trained.ckpt", "model.safetensors", "training.json",
    "detections.safetensors", "selected.csv", "metrics.json", "error.json", CHECKSUMS,
)  # fmt: skip
CELL_FOLDERS = ("shared/seed*/*", "arms/*/seed*/cycle*")
EVENT_FOLDERS = ("tensorboard/*/seed*", "tensorboard/*/mean")
EVENTS_END = ".miaod"  # of the names of event files, which tells them from somebody else's
PARENTS = ("arms/*/seed*", "arms/*", "arms", "shared/seed*", "shared", "tensorboard/*", "tensorboard")


def run_files(root: Path) -> list[Path]:
    """Return the paths of the files that a run keeps beside its cells, whether they are there or not."""
    return [root / name for name in RUN_FILES]


def cell_folders(root: Path) -> list[Path]:
    """Return the folders of the run's cells; raises a DataError at a link on the way to one."""
    return [inside(root, folder) for folder in _folders(root, CELL_FOLDERS)]


def own_folder(folder: Path) -> Path:
    """Return the folder of a cell if nothing stands in the place of a file that the run is about to write."""
    for name in CELL_FILES:
        is_there(folder / name)
    return folder


def event_files(root: Path) -> list[Path]:
    """Return the event files that the run wrote; raises a DataError at a link on the way to one."""
    folders = [inside(root, folder) for folder in _folders(root, EVENT_FOLDERS)]
    return [path for folder in folders for path in folder.glob(f"events.out.tfevents.*{EVENTS_END}") if is_there(path)]


def _folders(root: Path, patterns: Sequence[str]) -> list[Path]:
    return [folder for pattern in patterns for folder in sorted(root.glob(pattern)) if folder.is_dir()]


def remove_pixels(root: Path) -> None:
    """Delete the decoded images of a run, unless something else has come to stand in their place."""
    for name in PIXELS:
        with suppress(OSError):
            (root / name).unlink()


def remove_left_overs(root: Path) -> None:
    """Delete what processes that were killed while they wrote left behind; links are not followed."""
    paths = run_files(root)
    for folder in _folders(root, CELL_FOLDERS):
        with suppress(DataError):  # a link, at which its cell will stop
            paths += [inside(root, folder) / name for name in CELL_FILES]
    for left_over in chain.from_iterable(map(left_overs, paths)):
        left_over.unlink()


def remove_run(root: Path) -> None:
    """Delete a run's own files, but for the lock, and its folders where nothing else is in them.

    Raises
    ------
    DataError
        If a link or a folder stands in the place of one of them; then nothing is deleted.
    """
    paths = [path for path in run_files(root) if path.name != "lock"]
    paths += [folder / name for folder in cell_folders(root) for name in CELL_FILES]
    own = [path for path in paths if is_there(path)] + event_files(root)
    remove_left_overs(root)
    for path in own:
        path.unlink()
    for pattern in (*CELL_FOLDERS, *EVENT_FOLDERS, *PARENTS):
        for folder in _folders(root, [pattern]):
            if not folder.is_symlink() and not any(folder.iterdir()):
                folder.rmdir()
