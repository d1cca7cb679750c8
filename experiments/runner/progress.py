"""What a person sees while an experiment runs: bars on a terminal, plain lines elsewhere and in ``run.log``."""

import time
from contextlib import suppress
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from ..executors.base import Progress as Message
from ..store.layout import Cell


class Display:
    """A bar for the whole experiment, in optimiser steps, and one for each cycle that is being worked on."""

    def __init__(self, log: Path, console: Console):
        self._log, self._console = log, console
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            TextColumn("{task.percentage:>3.0f} %"),
            TextColumn("{task.fields[stage]}"),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self._tasks: dict[Cell, int] = {}
        self._ended: set[Cell] = set()
        self._done = 0

    def __enter__(self) -> "Display":
        self._bars.start()
        return self

    def __exit__(self, *_) -> None:
        self._bars.stop()

    def begin(self, n_cells: int, n_finished: int, steps: int, steps_finished: int) -> None:
        """Show the bar over all cells; finished ones count as done."""
        self._n_cells, self._n_finished, self._done = n_cells, n_finished, steps_finished
        self._whole = self._bars.add_task("all cycles", total=steps, completed=steps_finished, stage=self._count())

    def show(self, message: Message) -> None:
        """Move the bar of one cell."""
        if message.cell in self._ended:
            return  # the message was slower than the cell's result
        if message.cell not in self._tasks:
            self._tasks[message.cell] = self._bars.add_task(str(message.cell), total=None, stage="")
        task = self._tasks[message.cell]
        if message.total:
            self._bars.update(task, completed=message.step, total=message.total, stage=message.stage)
        else:
            self._bars.update(task, stage=message.stage)
        running = sum(bar.completed for bar in self._bars.tasks if bar.id in self._tasks.values())
        self._bars.update(self._whole, completed=self._done + running)

    def finish(self, cell: Cell, steps: int, ok: bool) -> None:
        """Remove the bar of a cell that has ended, and count it when it is finished."""
        self._ended.add(cell)
        if cell in self._tasks:
            self._bars.remove_task(self._tasks.pop(cell))
        self._done += steps * ok
        self._n_finished += ok
        self._bars.update(self._whole, completed=self._done, stage=self._count())

    def say(self, line: str) -> None:
        """Print a line above the bars and append it, with the time, to ``run.log`` where the disk has room for it."""
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)
        with suppress(OSError), open(self._log, "a", encoding="utf-8") as log:
            log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {line}\n")

    def _count(self) -> str:
        return f"{self._n_finished}/{self._n_cells}"
