"""What something takes by the number of images, or of other things: a table, and a plot."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from miaod_plugin.files import atomic_path


@dataclass(frozen=True)
class Growth:
    """What something took, in seconds, by the number of images or other things."""

    name: str
    sizes: list[int]
    seconds: list[float]

    @property
    def slope(self) -> float:
        """The slope between the logarithms of the two largest sizes: 1 where cost is linear, 2 where quadratic."""
        (n0, n1), (t0, t1) = np.log(self.sizes[-2:]), np.log(self.seconds[-2:])
        return float((t1 - t0) / (n1 - n0))


def growth(name: str, sizes: list[int], prepared: Callable[[int], Callable[[], object]]) -> Growth:
    """Time what is prepared for each size, once the smallest has warmed it up."""
    prepared(sizes[0])()
    seconds = []
    for size in sizes:
        run = prepared(size)
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return Growth(name, sizes, seconds)


def show(grown: list[Growth], things: str = "images") -> None:
    """Print the seconds of every size and the slope."""
    table = Table("what", things, "seconds", "each (us)", "slope", title=f"torch {torch.__version__}")
    for one in grown:
        for k, (size, seconds) in enumerate(zip(one.sizes, one.seconds, strict=True)):
            last = k == len(one.sizes) - 1
            slope = f"{one.slope:.2f}" if last else ""
            table.add_row(
                one.name, f"{size:,}", f"{seconds:.3f}", f"{1e6 * seconds / size:.1f}", slope, end_section=last
            )
    Console(width=120).print(table)


def draw(grown: list[Growth], path: Path) -> None:
    """Write a plot of the seconds over the images, both by their logarithms."""
    figure = Figure(figsize=(6.4, 5.2), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for one, marker in zip(grown, "osD^v", strict=False):
        axes.loglog(one.sizes, one.seconds, marker=marker, label=f"{one.name}: slope {one.slope:.2f}")
    axes.set(xlabel="Images", ylabel="Seconds")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.0), fontsize=9, frameon=False)
    with atomic_path(path) as temporary:
        figure.savefig(temporary)
