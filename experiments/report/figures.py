"""The charts of a page, each drawn for a desktop and for a phone."""

from collections.abc import Sequence

from miaod_plugin.pages import charts
from miaod_plugin.settings.stopping import StopWhen

from ..store.layout import Run
from .comparison import Comparison
from .stops import Stops, mean_stop, stops_of
from .tables import headings, percent, signed

WIDTHS = {"wide": 720, "narrow": 360}  # the page shows one
UNITS = {"images": "images", "boxes": "boxes", "spent": "s"}
X_LABELS = {"images": "Labelled images", "boxes": "Labelled boxes", "spent": "Annotation time (seconds)"}


def _series(comparison: Comparison, x: str) -> list[charts.Series]:
    series = []
    for look, (arm, rows) in enumerate(comparison.table(x).items()):
        drawn = [
            charts.Point(
                row[x], row["mean"], *comparison.spread(row), row["points"],
                f"{arm}: {percent(row, comparison.few)} % at {row[x]:,.0f} {UNITS[x]}",
            )
            for row in rows
        ]  # fmt: skip
        series.append(charts.Series(arm, look, drawn))
    return series


def stops_in(run: Run, comparison: Comparison) -> list[tuple[StopWhen, list[Stops]]]:
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


def curves(run: Run | None, comparison: Comparison, stops: Sequence[tuple[StopWhen, list[Stops]]] = ()) -> list[dict]:
    """Return the learning curves against each amount of labels, in both widths; none without a score."""
    if not comparison.scored:
        return []
    kinds = list(dict.fromkeys([comparison.x, "images", "boxes"]))
    drawn = []
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
        drawn.append({"x": x, "name": X_LABELS[x].partition(" (")[0], **svgs})
    return drawn


def bars(comparison: Comparison) -> dict | None:
    """Return the areas under the curves as bars; None where an arm has none."""
    areas = comparison.areas
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
                    f"{arm}: AULC {percent(area, comparison.few)} %",
                )
            ],
        )
        for look, (arm, area) in enumerate(areas.items())
    ]
    label = f"Area under the learning curve: mean {comparison.score_label} (%) over the budgets"
    short = f"AULC: mean {comparison.score_label} (%)"
    return {name: charts.bars(series, label if name == "wide" else short, width) for name, width in WIDTHS.items()}


def differences(run: Run, comparison: Comparison) -> dict | None:
    """Return the plot of paired differences to the reference; None when there are none."""
    paired = comparison.paired
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
    names, unit = [*headings(run, comparison), "AULC"], run.config.budget.words.capitalize()
    label = f"Difference in {comparison.score_label} (points)"
    return {
        name: charts.differences(series, names, comparison.reference, label, unit, width)
        for name, width in WIDTHS.items()
    }
