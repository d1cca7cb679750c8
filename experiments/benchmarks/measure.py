"""Run times side by side, and the table that shows them."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Comparison:
    """What ours and a peer took, in seconds of the same run.

    The peer's are ``None`` where it is not installed. `same` says whether both came to the same, if that was held
    against each other.
    """

    name: str
    ours: float
    peer: float | None
    same: bool | None = None

    def cells(self) -> list[str]:
        """Return the row of the table."""
        peer = ["not installed", ""] if self.peer is None else [f"{self.peer:.4f}", f"{self.peer / self.ours:.2f}"]
        return [self.name, f"{self.ours:.4f}", *peer, {None: "", True: "yes", False: "NO"}[self.same]]


def side_by_side(
    name: str, ours: Callable[[], object], peer: Callable[[], object] | None, repeats: int = 3, same: bool = False
) -> Comparison:
    """Run both in turns, so that what else the machine does slows both down, and compare the shortest times.

    Parameters
    ----------
    name : str
    ours, peer : callable
        `peer` is ``None`` where it is not installed.
    repeats : int
        Turns that count, after one to warm up; with 1 there is none to warm up.
    same : bool
        Whether to hold the arrays that both return against each other.
    """
    functions, times, results = [ours] if peer is None else [ours, peer], [], []
    for turn in range(repeats + (repeats > 1)):
        for function in functions:
            start = time.perf_counter()
            result = function()
            times.append(time.perf_counter() - start)
            if turn == 0:
                results.append(result)
    counted = times[len(functions) :] if repeats > 1 else times
    best = [min(counted[k :: len(functions)]) for k in range(len(functions))]
    agree = bool(np.array_equal(*results)) if same and peer is not None else None
    return Comparison(name, best[0], best[1] if peer is not None else None, agree)


def show(comparisons: Iterable[Comparison]) -> None:
    """Print a table with a row for each comparison."""
    table = Table("ours / peer", title=f"{torch.get_num_threads()} threads, torch {torch.__version__}")
    for column in ("ours (s)", "peer (s)", "times as fast", "same"):
        table.add_column(column, justify="right")
    for comparison in comparisons:
        table.add_row(*comparison.cells())
    Console(width=120).print(table)
