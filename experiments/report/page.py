"""The report of one run or several: a page that needs nothing but itself, curves, and tables for a paper."""

from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path

import yaml

from miaod_plugin.data.detection_data import DetectionData
from miaod_plugin.errors import ConfigError, DataError
from miaod_plugin.files import write_text
from miaod_plugin.pages import charts
from miaod_plugin.pages.page import template_environment

from ..store.datasets import stored_parts
from ..store.environment import environments
from ..store.layout import Run, begun_with, open_run
from ..store.records import undamaged, unfinished
from ..store.stored import write_rows
from . import figures, statistics, tables
from .classes import LEAST_BOXES, boxes_by_class, class_mean, frequent_classes, per_class
from .comparison import Comparison, compare, compare_runs, order
from .pictures import MIN_SCORE, heatmaps, selections
from .plots import draw_curves
from .results import collect
from .selection import boxes_per_image, class_balance, overlap


def write_report(
    folders: Sequence[str | Path],
    out: str | Path | None = None,
    reference: str | None = None,
    parts: tuple[DetectionData, DetectionData] | None = None,
    least_boxes: int = LEAST_BOXES,
    prices: tuple[float, float] | None = None,
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
    parts : (DetectionData, DetectionData), optional
        The training and the test part of the only run, if they are at hand. They are loaded otherwise.
    least_boxes : int, default=50
        Classes with fewer boxes in the test images are left out of a second mean.
    prices : (float, float), optional
        What annotating costs: an image, and each box in it.

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
    root = runs[0].root if len(runs) == 1 else runs[0].root.parent
    page = Path(out) if out is not None else root / "report.html"

    compared, sections = {}, []
    for name, run in zip(names, runs, strict=True):
        train, test, missing = (*parts, None) if parts is not None else parts_at_hand(run)
        boxes = None if test is None else boxes_by_class(test)
        compared[name] = compare(run, reference, boxes, least_boxes, prices)
        section = _section(run, name, compared[name]) | _of_classes(run, compared[name], boxes, least_boxes)
        sections.append(section | _of_images(run, compared[name].arms, train, missing))
    template = _environment().get_template("report.html.jinja")
    write_text(page, template.render(sections=sections, together=_together(runs, compared)))

    draw_curves({name: (run, compared[name]) for name, run in zip(names, runs, strict=True)}, page.parent)
    write_text(page.parent / "results.md", tables.markdown_table(compared, dict(zip(names, runs, strict=True))))
    if len(runs) > 1 or page.parent != root:
        rows = [{"run": name, **row} for name, run in zip(names, runs, strict=True) for row in collect(run)]
        columns = list(dict.fromkeys(chain.from_iterable(rows)))
        write_rows(page.parent / "results.csv", [{column: row.get(column) for column in columns} for row in rows])
    return page


def _environment():
    """Return what makes pages of the templates, with all that they call."""
    environment = template_environment(Path(__file__).parent / "templates")
    for name in ("percent", "spread", "points", "signed", "ends", "breakable", "saving"):
        environment.filters[name] = getattr(tables, name)
    environment.filters["p"] = tables.p_value
    environment.globals |= {"swatch": charts.swatch, "seeds": tables.seeds, "best": tables.best, "shade": _shade}
    environment.globals |= {"min_score": MIN_SCORE, "least_seeds": statistics.LEAST_SEEDS}
    return environment


def _distinct_names(runs: Sequence[Run]) -> list[str]:
    names = [run.config.name for run in runs]
    return names if len(set(names)) == len(names) else [str(run.root) for run in runs]


def parts_at_hand(run: Run) -> tuple[DetectionData | None, DetectionData | None, str | None]:
    """Return the training and the test part of a run, and why they are missing, if they are."""
    try:
        return *stored_parts(run), None
    except (DataError, ConfigError) as error:
        return None, None, str(error)


def _section(run: Run, name: str, comparison: Comparison) -> dict:
    """Return what the template shows of one run's results."""
    cells = run.shared_cells() + run.arm_cells()
    return {
        "name": name,
        "comparison": comparison,
        "config": run.config,
        "data": begun_with(run),
        "unfinished": len(unfinished(run)),
        "cells": len(cells),
        "waiting": [arm.name for arm in run.config.arms if arm.name not in comparison.scored],
        "note": statistics.seeds_note(len(comparison.seeds)),
        "headings": tables.headings(run, comparison),
        "stops": (stops := figures.stops_in(run, comparison)),
        "curves": figures.curves(run, comparison, stops),
        "bars": figures.bars(comparison),
        "differences": figures.differences(run, comparison),
        "overlap": overlap(run, comparison.arms),
        "crowded": boxes_per_image(comparison.rows),
        "yaml": yaml.safe_dump(run.config.model_dump(mode="json"), sort_keys=False, allow_unicode=True),
        "environments": environments(run),
    }


def _of_classes(run: Run, comparison: Comparison, boxes: dict[str, int] | None, least_boxes: int) -> dict:
    """Return what the template shows of the classes: scores, and the means over all and over those with many boxes."""
    by_class = per_class(run, comparison.arms)
    means = {"Mean": list(by_class)}
    if frequent := frequent_classes(boxes or {}, least_boxes):
        means[f"Mean of classes with {least_boxes} test boxes or more"] = frequent
    return {
        "per_class": by_class,
        "heat": _extent(value for values in by_class.values() for value in values.values()),
        "test_boxes": boxes,
        "least_boxes": least_boxes,
        "class_means": {
            title: {
                arm: class_mean({name: values.get(arm) for name, values in by_class.items()}, names)
                for arm in comparison.arms
            }
            for title, names in means.items()
        },
    }


def _of_images(run: Run, arms: list[str], train: DetectionData | None, missing: str | None) -> dict:
    """Return what the template shows of the training images, if they are at hand, and why not, if not."""
    if train is None:
        return {"missing": missing, "balance": None, "selections": [], "heatmaps": None}
    shown = {"missing": None, "classes": train.classes, "balance": class_balance(run, arms, train)}
    try:
        return shown | {"selections": selections(run, arms, train), "heatmaps": heatmaps(run, arms, train)}
    except DataError as error:  # an image or a model is gone, or the model is of another version
        return shown | {"missing": str(error), "selections": [], "heatmaps": None}


def _extent(values: Iterable[float | None]) -> tuple[float, float]:
    known = [value for value in values if value is not None] or [0.0]
    return min(known), max(known)


def _shade(share: float) -> str:
    """Return the style of a heat table's cell for a value at `share` of the way from the lightest to the darkest."""
    return f"background:rgb(0 90 160/{0.06 + 0.84 * share:.2f});color:{'#fff' if share > 0.5 else 'inherit'}"


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
    drawn = {"curves": figures.curves(None, everything), "bars": figures.bars(everything)}
    return {"comparison": everything, "names": list(compared), "order": order(compared), **drawn}
