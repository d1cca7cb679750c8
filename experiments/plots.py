"""The learning curves of runs as files, for a paper or an issue."""

from collections.abc import Mapping
from pathlib import Path

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from miaod_plugin.experiments.comparison import Comparison
from miaod_plugin.experiments.layout import Run
from miaod_plugin.experiments.looks import LINES, MARKERS, colour_of, mark_of
from miaod_plugin.files import atomic_path

MEAN = {"linewidth": 1.8, "markersize": 6.5, "markeredgecolor": "white", "markeredgewidth": 0.8}
# What makes two files of one run alike to the last byte, and the text of the SVG text.
REPEATABLE = {"svg.hashsalt": "miaod-plugin", "svg.fonttype": "none"}


def draw_curves(compared: Mapping[str, tuple[Run, Comparison]], folder: Path) -> Path:
    """Write ``curves.png`` and ``curves.svg``, a panel for each run, and return the first.

    Means over seeds, bars for their 95 % intervals, small markers for the seeds.
    """
    figure = Figure(figsize=(6.4 * len(compared), 4.4), dpi=200, layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (name, (run, comparison)) in zip(
        figure.subplots(1, len(compared), squeeze=False)[0], compared.items(), strict=True
    ):
        _draw(axes, run, comparison)
        n_seeds = len(comparison.seeds)
        spread = f"mean and 95 % interval of {n_seeds} seeds" if n_seeds > 1 else "one seed, no interval"
        legend = {
            "loc": "lower left",
            "bbox_to_anchor": (-0.02, 1.0),
            "ncols": 2,
            "frameon": False,
            "handlelength": 3.2,
        }
        entries = len(axes.legend(fontsize=9, **legend).get_texts())
        axes.set_title(f"{name}: {spread}", loc="left", fontsize=10, pad=12 + 14 * ((entries + 1) // 2))
    for suffix in ("svg", "png"):
        path = folder / f"curves.{suffix}"
        with atomic_path(path) as temporary, rc_context(REPEATABLE):
            figure.savefig(temporary, metadata={"Date": None} if suffix == "svg" else None)
    return path


def _draw(axes: Axes, run: Run, comparison: Comparison) -> None:
    x = comparison.x
    step = 0.012 * (max(row[x] for row in comparison.rows) - min(row[x] for row in comparison.rows))
    shown = [comparison.full["mean"]] * (comparison.full["mean"] is not None)
    ends = []  # of the intervals
    for number, (arm, rows) in enumerate(comparison.table(x).items()):
        look = {"color": colour_of(number), "marker": MARKERS[mark_of(number)]}
        mean = [100 * row["mean"] for row in rows]
        axes.plot([row[x] for row in rows], mean, linestyle=LINES[mark_of(number)], label=arm, zorder=3, **look, **MEAN)
        spread = [row for row in rows if row["low"] is not None]
        if spread:
            points = [point for row in rows for point in row["points"]]
            shown += [y for _, y in points]
            axes.scatter([x for x, _ in points], [100 * y for _, y in points], s=12, alpha=0.5, linewidths=0, **look)
            shift = (number - (len(comparison.arms) - 1) / 2) * step
            half = [100 * (row["high"] - row["mean"]) for row in spread]
            places = [row[x] + shift for row in spread], [100 * row["mean"] for row in spread]
            ends += [end for row in spread for end in (row["low"], row["high"])]
            axes.errorbar(*places, half, fmt="none", ecolor=look["color"], elinewidth=1, capsize=2.5, alpha=0.7)
        shown += [row["mean"] for row in rows]
    if comparison.full["mean"] is not None:
        axes.axhline(100 * comparison.full["mean"], color="0.2", linestyle=(0, (1, 3)), linewidth=1.2)
        place = {"xy": (0, 100 * comparison.full["mean"]), "xycoords": ("axes fraction", "data")}
        axes.annotate("full supervision", **place, xytext=(4, 3), textcoords="offset points", fontsize=8)
    for curve in run.config.published if x == "images" else []:
        axes.plot(
            curve.images, curve.ap, color="0.55", marker="o", markerfacecolor="white", label=curve.label, zorder=1
        )
        shown += [ap / 100 for ap in curve.ap]
    low, high = min(shown), max(shown)
    reach = 0.3 * max(high - low, 0.02)  # wide intervals of few seeds are cut off rather than flatten the curves
    low, high = max(min([low, *ends]), low - reach), min(max([high, *ends]), high + reach)
    pad = 0.06 * max(high - low, 0.02)
    axes.set_ylim(100 * max(0.0, low - pad), 100 * min(1.0, high + pad))
    axes.set_xlabel(run.config.budget.words.capitalize())
    axes.set_ylabel(f"{comparison.score_label} (%)")
    if x == "images":
        axes.set_xticks(run.config.budgets if len(run.config.budgets) <= 8 else run.config.budgets[::2])
    axes.grid(axis="y", color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
