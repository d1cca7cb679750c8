"""The runs in a folder and what state each is in."""

import os
import stat
import time
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout
from rich.console import Group
from rich.table import Table
from rich.text import Text

from miaod_plugin.errors import ConfigError, DataError

from .layout import open_run
from .records import survey
from .stored import is_there


@dataclass(frozen=True)
class State:
    """Where a run is.

    ``running``, ``finished``, ``partly``, ``failed`` (a cell was stopped), ``damaged`` or ``unreadable``; `notes` say
    what is damaged or cannot be read, a line each.
    """

    name: str
    state: str
    done: int
    total: int
    changed: float  # seconds since the epoch
    notes: tuple[str, ...] = ()


def list_runs(out: str | Path) -> list[State]:
    """Return the state of every run in a folder, the last changed one first.

    Raises
    ------
    ConfigError
        If there is no such folder.
    """
    out = Path(out)
    if not out.is_dir():
        raise ConfigError(f"{out}: no such folder; `miaod run` makes it, or name another with --out")
    states = [state_of(config.parent) for config in out.glob("*/config.yaml")]
    return sorted(states, key=lambda state: (-state.changed, state.name))


def state_of(root: Path) -> State:
    """Return the state of the run in a folder, from its files alone."""
    changed = _last_change(root)
    try:
        run = open_run(root)
    except (ConfigError, DataError) as error:  # damaged, of another version, or of strategies not installed here
        return State(root.name, "unreadable", 0, 0, changed, (str(error),))
    cells, found = run.shared_cells() + run.arm_cells(), survey(run)
    done = sum(found.finished(run, cell) for cell in cells)
    if is_locked(root / "lock"):
        state = "running"
    elif found.damage:
        state = "damaged"
    else:
        left = [cell for cell in cells if not found.finished(run, cell)]
        failed = any((run.folder(cell) / "error.json").exists() for cell in left)
        state = "failed" if failed else "partly" if left else "finished"
    return State(root.name, state, done, len(cells), changed, tuple(found.damage))


def _last_change(root: Path) -> float:
    """Return when a file of the run was last written; links are not followed, and files may vanish meanwhile."""
    changed = 0.0
    for folder, _, names in os.walk(root):
        for name in names:
            try:
                status = os.lstat(os.path.join(folder, name))
            except OSError:
                continue
            if stat.S_ISREG(status.st_mode):
                changed = max(changed, status.st_mtime)
    return changed


def is_locked(lock: Path) -> bool:
    """Whether a process is working on the run, as far as one may ask: that takes leave to write to the lock."""
    try:
        if is_there(lock):
            with FileLock(lock).acquire(timeout=0):
                return False
    except Timeout:
        return True
    except (OSError, DataError):
        return False
    return False


def runs_table(states: list[State]) -> Group:
    """Return the runs as a table, and below it what is wrong with which."""
    table = Table("run", "state", "cells", "last change")
    table.columns[2].justify = "right"
    for one in states:
        cells = f"{one.done}/{one.total}" if one.total else "?"
        table.add_row(one.name, one.state, cells, time.strftime("%Y-%m-%d %H:%M", time.localtime(one.changed)))
    notes = [Text(f"{one.name}: {note}") for one in states for note in one.notes]
    return Group(table, *notes)
