"""The losses of a training, step by step, on disk."""

import json
import math
import time
from collections.abc import Callable
from pathlib import Path

from miaod_plugin.errors import DataError
from miaod_plugin.files import write_text

from .stored import parse_json, read_text

Report = Callable[..., None]  # report(stage, step=0, total=0)


class LossRecord:
    """Writes each optimiser step to ``losses.jsonl`` as it happens; a resumed training continues the file."""

    def __init__(self, path: Path, report: Report):
        self._path, self._report = path, report
        self._start, self._before = time.perf_counter(), 0.0
        self.step = 0

    def __call__(self, event: dict) -> None:
        if self.step == 0:
            self._continue_at(event["step"])
        self.step = event["step"]
        row = {"seconds": round(self.seconds(), 3), **{name: event[name] for name in ("step", "round", "losses")}}
        with open(self._path, "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        self._report("training", self.step, event["total"])

    def _continue_at(self, step: int) -> None:
        kept = [row for row in read_losses(self._path) if row["step"] < step] if step > 1 else []
        write_text(self._path, "".join(json.dumps(row) + "\n" for row in kept))
        self._before = kept[-1]["seconds"] if kept else 0.0

    def seconds(self) -> float:
        """Return the training time so far, that before an interruption included."""
        return self._before + time.perf_counter() - self._start

    def last_means(self, n_steps: int = 50) -> dict[str, float]:
        """Return the mean of each loss over the last steps."""
        values: dict[str, list[float]] = {}
        for row in read_losses(self._path)[-n_steps:]:
            for name, value in row["losses"].items():
                values.setdefault(name, []).append(value)
        return {name: sum(series) / len(series) for name, series in values.items()}


def read_losses(path: Path) -> list[dict]:
    """Return the steps recorded in a ``losses.jsonl``, up to the first line that is none.

    A power failure cuts the last line off.

    Raises
    ------
    DataError
        If the file cannot be read as text.
    """
    rows: list[dict] = []
    for line in (read_text(path) or "").splitlines():
        try:
            row = parse_json(line, path)
            if row["step"] <= (rows[-1]["step"] if rows else 0):
                break
            if not all(map(math.isfinite, [row["step"], row["seconds"], *row["losses"].values()])):
                break
        except (DataError, KeyError, TypeError, AttributeError, OverflowError):
            break
        rows.append(row)
    return rows
