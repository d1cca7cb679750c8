"""The runs in a folder and what state each is in."""

import fcntl
import time
from dataclasses import dataclass
from pathlib import Path

import yaml
from pydantic import ValidationError
from rich.table import Table

from miaod_plugin.errors import ConfigError
from miaod_plugin.experiments.layout import Run
from miaod_plugin.experiments.schema import ExperimentConfig


@dataclass(frozen=True)
class State:
    """Where a run is: ``running``, ``finished``, ``partly``, ``failed`` (a cell was stopped), or ``unreadable``."""

    name: str
    state: str
    done: int
    total: int
    changed: float  # seconds since the epoch


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
    changed = max(path.stat().st_mtime for path in root.glob("**/*") if path.is_file())
    try:
        config = ExperimentConfig.model_validate(yaml.safe_load((root / "config.yaml").read_text(encoding="utf-8")))
    except (OSError, ValueError, yaml.YAMLError, ValidationError):
        return State(root.name, "unreadable", 0, 0, changed)  # of another version, or of strategies not installed here
    run = Run(config.model_copy(update={"name": root.name}), root.parent)  # the folder may have been renamed
    cells = run.shared_cells() + run.arm_cells()
    done = [cell for cell in cells if run.finished(cell)]
    failed = any((run.folder(cell) / "error.json").exists() for cell in set(cells) - set(done))
    state = "finished" if len(done) == len(cells) else "failed" if failed else "partly"
    return State(root.name, "running" if is_locked(root / "lock") else state, len(done), len(cells), changed)


def is_locked(lock: Path) -> bool:
    """Whether a process is working on the run."""
    try:
        with open(lock) as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def runs_table(states: list[State]) -> Table:
    """Return the runs as a table."""
    table = Table("run", "state", "cells", "last change")
    table.columns[2].justify = "right"
    for one in states:
        cells = f"{one.done}/{one.total}" if one.total else "?"
        table.add_row(one.name, one.state, cells, time.strftime("%Y-%m-%d %H:%M", time.localtime(one.changed)))
    return table
