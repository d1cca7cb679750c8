"""The learning curves of a run."""

import statistics
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from miaod_plugin.experiments.layout import Run
from miaod_plugin.experiments.results import by_arm, collect, score_name
from miaod_plugin.files import atomic_path

# Okabe and Ito's palette, told apart by colour-blind readers; markers and lines tell arms apart in grey print too.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
MARKERS = "osD^vPX*"
MEAN = {"linewidth": 1.8, "markersize": 6.5, "markeredgecolor": "white", "markeredgewidth": 0.8}
LINES = ("-", "--", "-.", (0, (1, 1)), (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)), (0, (3, 1)), "-")


def draw_curves(run: Run) -> Path:
    """Write ``curves.png``: mean over seeds, a band of one standard deviation, and small markers for the seeds."""
    figure = Figure(figsize=(6.4, 4.4), dpi=200, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    score = score_name(run)
    for number, (arm, scores) in enumerate(by_arm(collect(run), score).items()):
        look = {"color": COLOURS[number % 8], "marker": MARKERS[number % 8]}
        images = sorted(scores)
        percent = {n: [100 * value for value in scores[n]] for n in images}
        mean = [statistics.fmean(percent[n]) for n in images]
        axes.plot(images, mean, linestyle=LINES[number % 8], label=arm, zorder=3, **look, **MEAN)
        if any(len(percent[n]) > 1 for n in images):
            spread = [statistics.stdev(percent[n]) if len(percent[n]) > 1 else 0.0 for n in images]
            low, high = ([m + sign * s for m, s in zip(mean, spread, strict=True)] for sign in (-1, 1))
            axes.fill_between(images, low, high, color=look["color"], alpha=0.15, linewidth=0)
            points = [(n, value) for n in images for value in percent[n]]
            axes.scatter(*zip(*points, strict=True), s=12, alpha=0.6, linewidths=0, zorder=2, **look)

    axes.set_xlabel("Labelled images")
    axes.set_ylabel("COCO AP (%)" if score == "ap" else "AP50 (%)")
    axes.set_xticks(run.config.budgets if len(run.config.budgets) <= 8 else run.config.budgets[::2])
    axes.set_ylim(bottom=0)
    axes.grid(axis="y", color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    n_seeds = len(run.config.seeds)
    spread = f"mean and standard deviation of {n_seeds} seeds" if n_seeds > 1 else "one seed"
    figure.suptitle(f"{run.config.name}: {spread}", x=0.02, ha="left", fontsize=10)
    axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=2, frameon=False, fontsize=9, handlelength=3.2)

    path = run.root / "curves.png"
    with atomic_path(path) as temporary:
        figure.savefig(temporary)
    return path
