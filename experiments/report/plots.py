"""The learning curves of runs as files, for a paper or an issue."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from miaod_plugin.files import atomic_path
from miaod_plugin.pages.looks import LINES, MARKERS, apart, colour_of, mark_of, short

from ..store.layout import Run
from .comparison import Comparison

LONGEST_NAME = 32  # characters of a name that is written at the end of its curve; the legend has the others
MEAN = {"linewidth": 1.8, "markersize": 6.5, "markeredgecolor": "white", "markeredgewidth": 0.8}
# What makes two files of one run alike to the last byte, and the text of the SVG text.
REPEATABLE = {"svg.hashsalt": "miaod-plugin", "svg.fonttype": "none"}


def draw_curves(
    compared: Mapping[str, tuple[Run, Comparison]], folder: Path, formats: Sequence[str] = ("svg", "png")
) -> None:
    """Write ``curves.svg`` and ``curves.png``, a panel for each run.

    Means over seeds, bars for their 95 % intervals or, of few seeds, their ranges, small markers for the seeds.
    """
    most = max(len(comparison.arms) for _, comparison in compared.values())
    figure = Figure(figsize=(6.4 * len(compared), 4.4 + 0.1 * max(0, most - 8)), dpi=200, layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (name, (run, comparison)) in zip(
        figure.subplots(1, len(compared), squeeze=False)[0], compared.items(), strict=True
    ):
        named = _draw(axes, run, comparison)
        bars = "range" if comparison.few else "95 % interval"
        spread = f"mean and {bars} of {comparison.seeds_words}" if len(comparison.seeds) > 1 else "1 seed"
        rows = _legend(axes, named)
        axes.set_title(f"{short(name, 60)}: {spread}", loc="left", fontsize=10, pad=12 + 14 * rows)
    for suffix in formats:
        path = folder / f"curves.{suffix}"
        with atomic_path(path) as temporary, rc_context(REPEATABLE):
            figure.savefig(temporary, metadata={"Date": None} if suffix == "svg" else None)


def _legend(axes: Axes, named: list[str]) -> int:
    """Put a legend of the curves that have no name beside them above, and return its number of rows.

    In two columns where the names are short enough.
    """
    lines, names = axes.get_legend_handles_labels()
    curves = {short(name, 64): line for line, name in zip(lines, names, strict=True) if name not in named}
    if not curves:
        return 0
    columns = 2 if max(map(len, curves)) <= 32 else 1
    place = {"loc": "lower left", "bbox_to_anchor": (-0.02, 1.0)}
    axes.legend(curves.values(), curves, **place, fontsize=9, ncols=columns, frameon=False, handlelength=3.2)
    return -(-len(curves) // columns)


def _draw(axes: Axes, run: Run, comparison: Comparison) -> list[str]:
    """Draw a run's curves and return those whose names stand beside them."""
    x, full = comparison.x, comparison.full["mean"]
    published = run.config.published if x == "images" else []
    shown = [full] * (full is not None) + [ap / 100 for curve in published for ap in curve.ap]
    spreads = []  # the ends of the bars
    amounts = [row[x] for row in comparison.rows]
    step = min(0.012, 0.06 / len(comparison.arms)) * (max(amounts) - min(amounts))
    for number, rows in enumerate(comparison.table(x).values()):
        shift = (number - (len(comparison.arms) - 1) / 2) * step
        spreads += _draw_arm(axes, comparison, number, rows, shift)
        shown += [value for row in rows for value in (row["mean"], *(y for _, y in row["points"]))]
    if full is not None:
        axes.axhline(100 * full, color="0.2", linestyle=(0, (1, 3)), linewidth=1.2)
        place = {"xy": (0, 100 * full), "xycoords": ("axes fraction", "data")}
        axes.annotate("full supervision", **place, xytext=(4, 3), textcoords="offset points", fontsize=8)
    for curve in published:
        look = {"color": "0.55", "marker": "o", "markerfacecolor": "white"}
        axes.plot(curve.images, curve.ap, **look, label=curve.label, zorder=1)
    axes.set_ylim(*_limits(shown, spreads))
    axes.set_xlabel(run.config.budget.words.capitalize())
    axes.set_ylabel(f"{comparison.score_label} (%)")
    if x == "images":
        axes.set_xticks(run.config.budgets if len(run.config.budgets) <= 8 else run.config.budgets[::2])
    axes.grid(axis="y", color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return _name_ends(axes, comparison)


def _draw_arm(axes: Axes, comparison: Comparison, number: int, rows: list[dict], shift: float) -> list[float]:
    """Draw an arm's curve, seeds and, moved by `shift`, bars; return the ends of the bars."""
    x, arm = comparison.x, comparison.arms[number]
    look = {"color": colour_of(number), "marker": MARKERS[mark_of(number)]}
    means = [100 * row["mean"] for row in rows]
    axes.plot([row[x] for row in rows], means, linestyle=LINES[mark_of(number)], label=arm, zorder=3, **look, **MEAN)
    bars = [(row, *comparison.spread(row)) for row in rows if comparison.spread(row)[0] is not None]
    if bars:
        points = [point for row in rows for point in row["points"]]
        axes.scatter([x for x, _ in points], [100 * y for _, y in points], s=12, alpha=0.5, linewidths=0, **look)
        places = [row[x] + shift for row, _, _ in bars], [100 * row["mean"] for row, _, _ in bars]
        down = [100 * (row["mean"] - low) for row, low, _ in bars]
        up = [100 * (high - row["mean"]) for row, _, high in bars]
        axes.errorbar(*places, (down, up), fmt="none", ecolor=look["color"], elinewidth=1, capsize=2.5, alpha=0.7)
    return [end for _, *ends in bars for end in ends]


def _limits(shown: list[float], spreads: list[float]) -> tuple[float, float]:
    """Return the axis, in percent, that shows all values, and of the bars what does not flatten the curves."""
    low, high = min(shown, default=0.0), max(shown, default=1.0)
    reach = 0.3 * max(high - low, 0.02)
    low, high = max(min([low, *spreads]), low - reach), min(max([high, *spreads]), high + reach)
    pad = 0.06 * max(high - low, 0.02)
    return 100 * max(0.0, low - pad), 100 * min(1.0, high + pad)


def _name_ends(axes: Axes, comparison: Comparison) -> list[str]:
    """Write the arms' names beside the ends of their curves, moved apart, none where they do not fit; return them."""
    ends = {
        (number, arm): 100 * rows[-1]["mean"]
        for number, (arm, rows) in enumerate(comparison.table().items())
        if rows and len(arm) <= LONGEST_NAME
    }
    low, high = axes.get_ylim()
    places = apart([*ends.values()], 0.048 * (high - low), low, high) or []
    named = list(zip(ends, places, strict=False))
    for (number, arm), y in named:
        beside = {"transform": axes.get_yaxis_transform(), "clip_on": False}
        look = {"color": colour_of(number), "marker": MARKERS[mark_of(number)], "linestyle": LINES[mark_of(number)]}
        axes.plot([1.02, 1.05, 1.08], [y, y, y], markevery=[1], **look, **beside, **MEAN)
        axes.text(1.095, y, arm, fontsize=8, va="center", **beside)
    return [arm for (_, arm), _ in named]
