"""The report of one run or several: a page that needs nothing but itself, curves, and tables for a paper."""

from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path

import yaml

from miaod_plugin.errors import ConfigError, DataError
from miaod_plugin.files import write_text
from miaod_plugin.pages import charts
from miaod_plugin.pages.page import template_environment
from miaod_plugin.settings.stopping import StopWhen

from ..store.datasets import training_part
from ..store.environment import environments
from ..store.layout import Run, begun_with, open_run
from ..store.records import undamaged, unfinished
from ..store.stored import write_rows
from . import statistics
from .comparison import Comparison, class_balance, compare, compare_runs, overlap, per_class
from .pictures import MIN_SCORE, heatmaps, selections
from .plots import draw_curves
from .results import collect
from .stops import Stops, mean_stop, stops_of
from .tables import best, breakable, interval, markdown_table, p_value, percent, points, saving, seeds, signed

WIDTHS = {"wide": 720, "narrow": 360}  # a chart is drawn for a desktop and for a phone; the page shows one
UNITS = {"images": "images", "boxes": "boxes", "spent": "s"}
X_LABELS = {"images": "Labelled images", "boxes": "Labelled boxes", "spent": "Annotation time (seconds)"}


def write_report(
    folders: Sequence[str | Path],
    out: str | Path | None = None,
    reference: str | None = None,
    train=None,
) -> Path:
    """Write ``report.html``, and beside it curves.png, curves.svg and results.md; for several runs results.csv too.

    Parameters
    ----------
    folders : sequence of paths
        Folders of runs.
    out : path, optional
        The page to write; by default ``report.html`` in the run's folder, or beside several runs.
    reference : str, optional
        The arm that differences are taken to; by default supervised training with random selection if there is one.
    train : DetectionData, optional
        The training part of the only run, if it is at hand. It is loaded otherwise.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    ConfigError
        If a folder holds no run, nothing is finished in it, or it has no arm `reference`.
    """
    runs = [open_run(folder) for folder in folders]
    for run in runs:
        undamaged(run)  # says what is left out
    names = _distinct_names(runs)
    compared = {name: compare(run, reference) for name, run in zip(names, runs, strict=True)}
    root = runs[0].root if len(runs) == 1 else runs[0].root.parent
    page = Path(out) if out is not None else root / "report.html"

    sections = [_section(run, name, compared[name], train) for name, run in zip(names, runs, strict=True)]
    environment = template_environment(Path(__file__).parent / "templates")
    environment.filters |= {"percent": percent, "points": points, "signed": signed, "interval": interval}
    environment.filters |= {"p": p_value, "breakable": breakable, "saving": saving}
    environment.globals |= {
        "swatch": charts.swatch,
        "seeds": seeds,
        "best": best,
        "shade": _shade,
        "min_score": MIN_SCORE,
    }
    template = environment.get_template("report.html.jinja")
    write_text(page, template.render(sections=sections, together=_together(runs, compared)))

    draw_curves({name: (run, compared[name]) for name, run in zip(names, runs, strict=True)}, page.parent)
    write_text(page.parent / "results.md", markdown_table(compared, dict(zip(names, runs, strict=True))))
    if len(runs) > 1 or page.parent != root:
        rows = [{"run": name, **row} for name, run in zip(names, runs, strict=True) for row in collect(run)]
        columns = list(dict.fromkeys(chain.from_iterable(rows)))
        write_rows(page.parent / "results.csv", [{column: row.get(column) for column in columns} for row in rows])
    return page


def _distinct_names(runs: Sequence[Run]) -> list[str]:
    names = [run.config.name for run in runs]
    return names if len(set(names)) == len(names) else [str(run.root) for run in runs]


def _section(run: Run, name: str, comparison: Comparison, train) -> dict:
    """Return what the template shows of one run."""
    cells = run.shared_cells() + run.arm_cells()
    section = {
        "name": name,
        "comparison": comparison,
        "config": run.config,
        "data": begun_with(run),
        "unfinished": len(unfinished(run)),
        "cells": len(cells),
        "waiting": [arm.name for arm in run.config.arms if arm.name not in comparison.scored],
        "note": statistics.seeds_note(len(comparison.seeds)),
        "headings": headings(run, comparison),
        "stops": (stops := _stops(run, comparison)),
        "curves": _curves(run, comparison, stops),
        "bars": _bars(comparison),
        "differences": _differences(run, comparison),
        "per_class": (by_class := per_class(run, comparison.arms)),
        "heat": _extent(value for values in by_class.values() for value in values.values()),
        "overlap": overlap(run, comparison.arms),
        "yaml": yaml.safe_dump(run.config.model_dump(mode="json"), sort_keys=False, allow_unicode=True),
        "environments": environments(run),
    }
    try:
        train = train if train is not None else training_part(run)
    except (DataError, ConfigError) as error:
        return section | {"missing": str(error), "balance": None, "selections": [], "heatmaps": None}
    section |= {"missing": None, "classes": train.classes, "balance": class_balance(run, comparison.arms, train)}
    try:
        return section | {
            "selections": selections(run, comparison.arms, train),
            "heatmaps": heatmaps(run, comparison.arms, train),
        }
    except DataError as error:  # an image or a model is gone, or the model is of another version
        return section | {"missing": str(error), "selections": [], "heatmaps": None}


def headings(run: Run, comparison: Comparison) -> list[str]:
    """Return what the budget of each cycle is called in a table."""
    unit = run.config.budget.unit
    suffix = {"images": "", "boxes": " boxes", "seconds": " s"}[unit]
    return [f"{run.config.budgets[cycle]:,}{suffix}" for cycle in comparison.cycles]


def _extent(values: Iterable[float | None]) -> tuple[float, float]:
    known = [value for value in values if value is not None] or [0.0]
    return min(known), max(known)


def _shade(share: float) -> str:
    """Return the style of a heat table's cell for a value at `share` of the way from the lightest to the darkest."""
    return f"background:rgb(0 90 160/{0.06 + 0.84 * share:.2f});color:{'#fff' if share > 0.5 else 'inherit'}"


def _series(comparison: Comparison, x: str) -> list[charts.Series]:
    series = []
    for look, (arm, rows) in enumerate(comparison.table(x).items()):
        drawn = [
            charts.Point(
                row[x], row["mean"], *comparison.spread(row), row["points"],
                f"{arm}: {percent(row)} % at {row[x]:,.0f} {UNITS[x]}",
            )
            for row in rows
        ]  # fmt: skip
        series.append(charts.Series(arm, look, drawn))
    return series


def _stops(run: Run, comparison: Comparison) -> list[tuple[StopWhen, list[Stops]]]:
    """Return each stopping rule of the experiment with what it does in each arm."""
    rules = run.config.stopping
    return [(rule, stops_of(rule.make(), comparison.rows, comparison.score, comparison.x)) for rule in rules]


def _marks(comparison: Comparison, stops: Sequence[tuple[StopWhen, list[Stops]]], x: str) -> list[charts.Mark]:
    """Return the numbers of the rules where they stop the arms, on the curves over one amount of labels."""
    marks = []
    for number, (rule, of_arms) in enumerate(stops, start=1):
        for one in of_arms:
            if (place := mean_stop(one, comparison.score, x)) is not None:
                title = f"{rule.rule} stops {one.arm} at {place[0]:,.0f} {UNITS[x]}"
                marks.append(charts.Mark(comparison.arms.index(one.arm), *place, number, title))
    return marks


def _curves(run: Run | None, comparison: Comparison, stops: Sequence[tuple[StopWhen, list[Stops]]] = ()) -> list[dict]:
    """Return the learning curves against each amount of labels, in both widths; none without a score."""
    if not comparison.scored:
        return []
    kinds = list(dict.fromkeys([comparison.x, "images", "boxes"]))
    curves = []
    for x in kinds:
        series = _series(comparison, x)
        ticks = sorted({point.x for one in series for point in one.points}) if x == "images" else None
        published = run.config.published if run is not None and x == "images" else []
        known = [(one.label, [(n, ap / 100) for n, ap in zip(one.images, one.ap, strict=True)]) for one in published]
        label, marks = f"{comparison.score_label} (%)", _marks(comparison, stops, x)
        svgs = {
            name: charts.learning_curves(
                series, X_LABELS[x], label, ticks, comparison.full["mean"], known, width, marks
            )
            for name, width in WIDTHS.items()
        }
        curves.append({"x": x, "name": X_LABELS[x].partition(" (")[0], **svgs})
    return curves


def _bars(comparison: Comparison) -> dict | None:
    areas = comparison.areas()
    if not all(area["n"] for area in areas.values()):
        return None
    series = [
        charts.Series(
            arm,
            look,
            [
                charts.Point(
                    0.0,
                    area["mean"],
                    *comparison.spread(area),
                    [(0.0, value) for value in area["values"]],
                    f"{arm}: AULC {percent(area)} %",
                )
            ],
        )
        for look, (arm, area) in enumerate(areas.items())
    ]
    label = f"Area under the learning curve: mean {comparison.score_label} (%) over the budgets"
    short = f"AULC: mean {comparison.score_label} (%)"
    return {name: charts.bars(series, label if name == "wide" else short, width) for name, width in WIDTHS.items()}


def _differences(run: Run | None, comparison: Comparison) -> dict | None:
    """Return the plot of paired differences to the reference; None when there are none."""
    paired = comparison.paired()
    if not any(row["n"] for rows in paired.values() for row in rows):
        return None
    groups = [*comparison.cycles, "area"]
    looks = {arm: look for look, arm in enumerate(comparison.arms)}
    series = [
        charts.Series(
            arm,
            looks[arm],
            [
                charts.Point(
                    groups.index(row["cycle"]), row["mean"], *comparison.spread(row),
                    seeds=[(groups.index(row["cycle"]), value) for value in row["values"]],
                    title=f"{arm}: {signed(row)} points",
                )
                for row in rows
                if row["mean"] is not None
            ],
        )
        for arm, rows in paired.items()
    ]  # fmt: skip
    names = [f"cycle {cycle}" for cycle in comparison.cycles] if run is None else headings(run, comparison)
    unit = "Cycle" if run is None else run.config.budget.words.capitalize()
    label = f"Difference in {comparison.score_label} (points)"
    return {
        name: charts.differences(series, [*names, "AULC"], comparison.reference, label, unit, width)
        for name, width in WIDTHS.items()
    }


def _together(runs: Sequence[Run], compared: dict[str, Comparison]) -> dict | None:
    """Return the curves of several runs in one chart, where they measured the same on the same data."""
    parts = [begun_with(run) for run in runs]
    alike = {
        (one.score, str(part["train"]), str(part["test"])) for part, one in zip(parts, compared.values(), strict=True)
    }
    if len(runs) < 2 or len(alike) > 1:
        return None
    name, first = next(iter(compared.items()))
    everything = compare_runs(compared, f"{name}: {first.reference}")
    return {"comparison": everything, "curves": _curves(None, everything), "bars": _bars(everything)}
