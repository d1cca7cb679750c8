"""Benchmark of choosing in two levels: what it takes by the number of embeddings, and how far it is from at once.

The embeddings lie in a file, of which two levels read a shard at a time. Each measurement has a process of its own, so
that its peak of memory is its own, and takes turns with the others.
"""

import argparse
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from miaod_plugin.baselines import CoreSetSampling
from miaod_plugin.baselines.greedy import GreedySampling
from miaod_plugin.baselines.k_center import nearest_distances
from miaod_plugin.files import atomic_path
from miaod_plugin.strategies import MaxHerdingSampling
from miaod_plugin.strategies.coverage import KernelCover

DIMENSIONS, LABELED = 64, 100
BLOCK = 50_000  # embeddings written and looked at together
FILM = 200  # frames, one after the other, that are alike
SIGMA = 0.2  # of MaxHerding's kernel


@dataclass(frozen=True)
class Measured:
    """A choice from a file of embeddings, and what it took."""

    size: int
    shard_size: int | None  # None: at once
    rows: list[int]
    seconds: float
    bytes: int  # the peak, over what the process held before


def write(path: Path, n: int, kind: str) -> None:
    """Write embeddings: "normal", each drawn by itself, or "films", in each of which frames are alike."""
    rng = np.random.default_rng(0)
    basis = rng.standard_normal((8, DIMENSIONS), dtype=np.float32)
    with open(path, "wb") as file:
        for start in range(0, n, BLOCK):
            rows = rng.standard_normal((min(BLOCK, n - start), DIMENSIONS), dtype=np.float32)
            if kind == "films":
                scenes = rng.standard_t(4, size=(-(-len(rows) // FILM), 8)).astype(np.float32) @ basis
                rows = 0.1 * rows + np.repeat(scenes, FILM, axis=0)[: len(rows)]
            rows.tofile(file)


def shards(path: Path, shard_size: int) -> Iterator[np.ndarray]:
    """Read a file of embeddings shard by shard."""
    with open(path, "rb") as file:
        while len(shard := np.fromfile(file, np.float32, shard_size * DIMENSIONS)):
            yield shard.reshape(-1, DIMENSIONS)


def labeled() -> np.ndarray:
    """Return the embeddings of the labelled images."""
    return np.random.default_rng(1).standard_normal((LABELED, DIMENSIONS), dtype=np.float32)


def choose(path: Path, strategy: GreedySampling, picks: int) -> Measured:
    """Choose from a file of embeddings in this process."""
    size, warm = path.stat().st_size // (4 * DIMENSIONS), np.zeros((100, DIMENSIONS), np.float32)
    list(strategy.of_shards([warm, warm], labeled(), 2))
    before, start = peak_memory(), time.perf_counter()
    if strategy.shard_size is None:
        chosen = islice(strategy.order(next(shards(path, size)), labeled()), picks)
    else:
        chosen = strategy.of_shards(shards(path, strategy.shard_size), labeled(), picks)
    rows = [row for row, _ in chosen]
    return Measured(size, strategy.shard_size, rows, time.perf_counter() - start, peak_memory() - before)


def peak_memory() -> int:
    """Return the most bytes that this process has held; Linux alone tells, without what its parent held."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])


def in_turns(jobs: list[tuple[Path, GreedySampling]], picks: int, repeats: int) -> list[Measured]:
    """Run each job as often, in turns, and return its shortest time, and its memory then."""
    runs: list[list[Measured]] = [[] for _ in jobs]
    with ProcessPoolExecutor(1, get_context("spawn"), torch.set_num_threads, (1,), max_tasks_per_child=1) as pool:
        for _ in range(repeats):
            for job, measured in zip(jobs, runs, strict=True):
                measured.append(pool.submit(choose, *job, picks).result())
    return [min(measured, key=lambda one: one.seconds) for measured in runs]


def radius(path: Path, rows: list[int]) -> float:
    """Return the largest distance from an embedding of a file to the nearest one chosen or labelled."""
    pool = np.memmap(path, np.float32, "r").reshape(-1, DIMENSIONS)
    centers = np.concatenate([labeled(), pool[rows]])
    return max(float(nearest_distances(shard, centers).max()) for shard in shards(path, BLOCK))


def radii(folder: Path, n: int, picks: int, shard_sizes: list[int]) -> Table:
    """Return a table of core-set's radii and times, at once and in two levels."""
    table = Table(
        "embeddings", "shard", "radius", "/ at once", "seconds", "MB", title=f"core-set, {picks} of {n:,} x 64"
    )
    for kind in ("normal", "films"):
        write(folder / kind, n, kind)
        jobs = [(folder / kind, CoreSetSampling(shard_size=size)) for size in (None, *shard_sizes)]
        found = in_turns(jobs, picks, 1)
        exact = radius(folder / kind, found[0].rows)
        for one in found:
            reached = radius(folder / kind, one.rows)
            shard = "at once" if one.shard_size is None else f"{one.shard_size:,}"
            numbers = f"{reached:.4f}", f"{reached / exact:.4f}", f"{one.seconds:.1f}", f"{one.bytes / 1e6:.0f}"
            table.add_row(kind, shard, *numbers, end_section=one is found[-1])
    return table


def coverage(folder: Path, n: int, picks: int, shard_size: int) -> Table:
    """Return a table of MaxHerding's coverage and time, at once and in two levels."""
    table = Table("shard", "coverage", "/ at once", "seconds", title=f"MaxHerding, {picks} of {n:,} x 64, films")
    write(folder / "few", n, "films")
    pool = np.fromfile(folder / "few", np.float32).reshape(-1, DIMENSIONS)
    jobs = [(folder / "few", MaxHerdingSampling(sigma=SIGMA, shard_size=size)) for size in (None, shard_size)]
    found = in_turns(jobs, picks, 2)
    covered = [
        KernelCover(pool, np.concatenate([labeled(), pool[one.rows]]), SIGMA).covered.mean().item() for one in found
    ]
    for one, mean in zip(found, covered, strict=True):
        shard = "at once" if one.shard_size is None else f"{one.shard_size:,}"
        table.add_row(shard, f"{mean:.4f}", f"{mean / covered[0]:.4f}", f"{one.seconds:.1f}")
    return table


def growth(folder: Path, sizes: list[int], most_at_once: int, shard_size: int, picks: int) -> list[Measured]:
    """Measure core-set by the number of embeddings, at once for as many as fit, and in two levels."""
    jobs = []
    for size in sizes:
        write(folder / str(size), size, "films")
        kinds = [None, shard_size] if size <= most_at_once else [shard_size]
        jobs += [(folder / str(size), CoreSetSampling(shard_size=kind)) for kind in kinds]
    return in_turns(jobs, picks, 3)


def draw(found: list[Measured], path: Path) -> None:
    """Write a plot of seconds and of memory over the number of embeddings, all by their logarithms."""
    figure = Figure(figsize=(9.6, 4.4), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    for axes, what, unit in zip(
        figure.subplots(1, 2), ("seconds", "bytes"), ("Seconds", "MB over before"), strict=True
    ):
        for shard_size in sorted({one.shard_size for one in found}, key=lambda size: size or 0):
            some = [one for one in found if one.shard_size == shard_size]
            values = np.array([getattr(one, what) for one in some]) / (1e6 if what == "bytes" else 1)
            label = "at once" if shard_size is None else f"two levels, {shard_size:,} a shard"
            axes.loglog([one.size for one in some], values, marker="o", label=label)
        axes.set(xlabel="Embeddings", ylabel=unit)
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    with atomic_path(path) as temporary:
        figure.savefig(temporary)


def main() -> None:
    """Measure, print and draw."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--most", type=int, default=10**7, help="embeddings of the largest pool; they take 256 bytes each"
    )
    parser.add_argument("--picks", type=int, default=300)
    parser.add_argument("--out", type=Path, default=Path("runs/two_level.png"))
    options = parser.parse_args()
    sizes = [options.most // 4**k for k in (4, 3, 2, 1, 0)]
    console = Console(width=120)
    with TemporaryDirectory() as folder:
        found = growth(Path(folder), sizes, 10**6, 50_000, options.picks)
        draw(found, options.out)
        for one in found:
            print(f"{one.size:,} {one.shard_size or 'at once'}: {one.seconds:.2f} s, {one.bytes / 1e6:.0f} MB")
        console.print(radii(Path(folder), min(10**6, options.most), options.picks, [20_000, 50_000, 200_000]))
        console.print(coverage(Path(folder), 20_000, 100, 2_500))
    print(options.out)


if __name__ == "__main__":
    main()
