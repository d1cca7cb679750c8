"""How the cost of scoring, core-set and training grows with the number of images, as a table and a plot.

A cost that is linear has slope 1 between logarithms; below, what is there in any case still counts.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from miaod_plugin import MIAODDetector, ObjectDetector
from miaod_plugin.baselines.k_center import k_center_greedy
from miaod_plugin.data import make_digit_scenes
from miaod_plugin.files import atomic_path
from miaod_plugin.strategies import MIAODSampling

SIDE = 32  # pixels of an image: a million of them fit into memory
TINY = {"detector": "retinanet_tiny", "detector_options": {"width": 8, "fpn_channels": 16}, "random_state": 0}


@dataclass(frozen=True)
class Growth:
    """What something took, in seconds, by the number of images."""

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


def scenes(n_images: int):
    """Return digit scenes of `SIDE` pixels, the same few again and again: what is on them costs nothing."""
    few = make_digit_scenes(100, image_size=SIDE, object_size=(8, 16), random_state=0)
    rows = np.arange(n_images) % len(few)
    return few.X[rows], few.y[rows], few.classes


def scoring(sizes: list[int]) -> Growth:
    """Time MI-AOD's utilities of a pool, by a network so small that the rest of the pass counts."""
    X, y, classes = scenes(100)
    detector = MIAODDetector(**TINY, classes=classes, max_steps=4, score_batch_size=256).fit(X, y, unlabeled=X)
    return growth("scoring a pool", sizes, lambda n: partial(MIAODSampling().utilities, detector, scenes(n)[0]))


def coreset(sizes: list[int], dimensions: int = 64, picks: int = 100) -> Growth:
    """Time the choice of as many core-set images from pools of random embeddings."""

    def prepared(n: int) -> Callable[[], object]:
        rng = np.random.default_rng(0)
        pool, labeled = (rng.standard_normal((rows, dimensions), dtype=np.float32) for rows in (n, 100))
        return partial(k_center_greedy, pool, labeled, picks)

    return growth(f"core-set, {picks} picks", sizes, prepared)


def training(sizes: list[int]) -> Growth:
    """Time a supervised training of one pass over the labelled images."""

    def prepared(n: int) -> Callable[[], object]:
        X, y, classes = scenes(n)
        return partial(ObjectDetector(**TINY, classes=classes, batch_size=8, max_steps=n // 8).fit, X, y)

    return growth("one pass of training", sizes, prepared)


def show(grown: list[Growth]) -> None:
    """Print the seconds of every size and the slope."""
    table = Table("what", "images", "seconds", "per image (us)", "slope", title=f"torch {torch.__version__}")
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
    figure = Figure(figsize=(6.4, 4.4), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for one, marker in zip(grown, "osD^v", strict=False):
        axes.loglog(one.sizes, one.seconds, marker=marker, label=f"{one.name}: slope {one.slope:.2f}")
    axes.set(xlabel="Images", ylabel="Seconds")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    with atomic_path(path) as temporary:
        figure.savefig(temporary)


def main() -> None:
    """Measure, print and draw."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--most", type=int, default=100_000, help="images of the largest pool")
    parser.add_argument("--out", type=Path, default=Path("growth.png"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    sizes = [10**k for k in range(3, 1 + int(np.log10(options.most)))]
    grown = [scoring(sizes), coreset(sizes), training([size // 10 for size in sizes])]
    show(grown)
    draw(grown, options.out)
    print(options.out)


if __name__ == "__main__":
    main()
