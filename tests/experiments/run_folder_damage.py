"""Ways to damage the folder of a finished run, and what must come of it: the same results, or the damage is named."""

import io
import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from tiny_experiment import write_experiment

from miaod_plugin.errors import MiaodError
from miaod_plugin.experiments.config.schema import load_config
from miaod_plugin.experiments.report.results import collect
from miaod_plugin.experiments.runner.run import run_experiment
from miaod_plugin.experiments.store.layout import open_run
from miaod_plugin.experiments.store.listing import list_runs

OWN = ("config.yaml", "data.json", "environment.json", "SHA256SUMS")
RANDOM = os.path.join("arms", "supervised+random", "seed1")
OF_A_CELL = ("metrics.json", "labelled.txt", "selected.csv", "training.json", "losses.jsonl", "unlabelled.txt")


def _flip(content: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(len(content))
    return content[:place] + bytes([content[place] ^ 1 << rng.randrange(8)]) + content[place + 1 :]


def _other_digit(content: bytes, rng: random.Random) -> bytes:
    places = [place for place, byte in enumerate(content) if chr(byte).isdigit()]
    if not places:
        return content + b"7"
    place = rng.choice(places)
    return content[:place] + b"%d" % ((content[place] - 48 + rng.randint(1, 9)) % 10) + content[place + 1 :]


def _without_a_line(content: bytes, rng: random.Random) -> bytes:
    lines = content.splitlines(keepends=True)
    del lines[rng.randrange(len(lines))]
    return b"".join(lines)


def _line_twice(content: bytes, rng: random.Random) -> bytes:
    lines = content.splitlines(keepends=True)
    return content + rng.choice(lines)


# How a file's content may change.
CONTENTS: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "a flipped bit": _flip,
    "another digit": _other_digit,
    "a line less": _without_a_line,
    "a line twice": _line_twice,
    "cut short": lambda content, rng: content[: rng.randrange(len(content))],
    "empty": lambda content, rng: b"",
    "NUL bytes": lambda content, rng: content + bytes(8),
    "no UTF-8": lambda content, rng: b"\xff\xfe" + content,
    "null": lambda content, rng: b"null\n",
    "a list": lambda content, rng: b"[]\n",
    "nested without end": lambda content, rng: b"[" * 100_000,
    "not a number": lambda content, rng: content.replace(b": 0", b": NaN") if b": 0" in content else b"NaN",
    "a huge number": lambda content, rng: content.replace(b": 0", b": 1" + b"0" * 6000) + b"1" + b"0" * 6000,
}


def _removed(path: Path, run: Path, rng: random.Random) -> None:
    path.unlink()


def _a_folder(path: Path, run: Path, rng: random.Random) -> None:
    path.unlink()
    path.mkdir()


def _a_link(path: Path, run: Path, rng: random.Random) -> None:
    outside = run.parent.parent / f"outside of {run.name}" / path.name
    outside.parent.mkdir(exist_ok=True)
    shutil.move(path, outside)
    path.symlink_to(outside)


def _of_another_cell(path: Path, run: Path, rng: random.Random) -> None:
    others = [other for other in sorted(run.glob(f"*/**/{path.name}")) if other.parent != path.parent]
    content = rng.choice(others).read_bytes() if others else b""
    path.unlink()
    path.write_bytes(content)


# What else may stand in the place of a file.
PLACES: dict[str, Callable[[Path, Path, random.Random], None]] = {
    "removed": _removed,
    "a folder": _a_folder,
    "a link": _a_link,
    "another cell's": _of_another_cell,
}


def copy_of(run: Path, folder: Path) -> Path:
    """Return a copy of a run in ``folder/runs``; its files are the same ones, so change none in place."""
    return Path(shutil.copytree(run, folder / "runs" / run.name, copy_function=os.link))


def rewrite(path: Path, content) -> None:
    """Put a text, or JSON, in the place of a file of a copied run."""
    path.unlink()
    path.write_text(content if isinstance(content, str) else json.dumps(content))


def without_checksums(run: Path) -> None:
    """Make a run one of an earlier version."""
    for path in run.glob("**/SHA256SUMS"):
        path.unlink()


def files_of(run: Path) -> list[Path]:
    """Return the files whose damage matters: those of the run itself and of every cell."""
    names = set(OWN) | set(OF_A_CELL)
    return sorted(path for path in run.glob("**/*") if path.name in names and "tensorboard" not in path.parts)


def damage(run: Path, path: Path, kind: str, rng: random.Random) -> bool:
    """Damage a file of a copied run; return False if nothing has changed."""
    before = path.read_bytes()
    if kind in PLACES:
        PLACES[kind](path, run, rng)
    else:
        after = CONTENTS[kind](before, rng) if before else b"\n"
        path.unlink()
        path.write_bytes(after)
    return not path.is_file() or path.is_symlink() or path.read_bytes() != before


def at_random(run: Path, rng: random.Random) -> tuple[Path, str]:
    """Damage one file of a copied run in one way; return which and how."""
    while True:
        path, kind = rng.choice(files_of(run)), rng.choice([*CONTENTS, *PLACES])
        if damage(run, path, kind, rng):
            return path, kind


def look(run: Path) -> tuple[list[dict], str]:
    """Read a run in every way that needs no data; return its rows and what was said on the way."""
    said = []
    try:
        rows = collect(open_run(run))
    except MiaodError as error:
        rows, said = [], [str(error)]
    for state in list_runs(run.parent):
        said += [f"{state.name}: {state.state}", *state.notes]
    assert all("\n" not in line and len(line) < 1000 for line in said)
    return rows, "\n".join(said)


def require_told(rows: list[dict], said: str, expected: list[dict], path: Path, kind: str) -> None:
    """Check that the rows are those of the undamaged run, or fewer, and then that the damaged file is named."""
    assert all(row in expected for row in rows), f"{path}: {kind}: other results"
    named = path.name in said and (path.parent.name in said or path.name in OWN)
    named |= path.name == "metrics.json" and kind == "removed" and ": partly" in said  # as if it had been stopped there
    assert rows == expected or named, f"{path}: {kind}: rows are missing, and nobody says why: {said}"


def go_on(run: Path, **changes) -> tuple[list, str]:
    """Start a copied run again; return the failures and what was printed."""
    console = Console(file=io.StringIO(), width=400)
    config = load_config(write_experiment(run.parent, **changes))
    return run_experiment(config, run.parent, console=console), console.file.getvalue()
