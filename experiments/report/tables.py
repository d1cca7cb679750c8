"""How numbers are written in tables, and the results as Markdown for a paper or an issue."""

import re
from collections.abc import Mapping, Sequence

from markupsafe import Markup, escape

from ..store.layout import Run
from . import statistics
from .comparison import Comparison

NONE = "\N{EN DASH}"  # "cannot be said"
MINUS = "\N{MINUS SIGN}"


def headings(run: Run, comparison: Comparison) -> list[str]:
    """Return what the budget of each cycle is called in a table."""
    unit = run.config.budget.unit
    suffix = {"images": "", "boxes": " boxes", "seconds": " s"}[unit]
    return [f"{run.config.budgets[cycle]:,}{suffix}" for cycle in comparison.cycles]


def percent(summary: Mapping, few: bool) -> str:
    """Return a described fraction in percent with its `spread`: '43.1 ± 2.0' or '43.1 (41.2 to 45.0)'."""
    spreads = spread(summary, few)
    return points(summary["mean"]) + (f" ({spreads})" if spreads and few else f" {spreads}" if spreads else "")


def spread(summary: Mapping, few: bool) -> str:
    """Return half of the 95 % interval of a described fraction, or of `few` seeds, as charts do, their range."""
    if few:
        return f"{points(summary['least'])} to {points(summary['most'])}" if summary["n"] > 1 else ""
    return "" if summary["high"] is None else f"± {100 * (summary['high'] - summary['mean']):.1f}"


def points(value: float | None) -> str:
    """Return a fraction in percent with one decimal."""
    return NONE if value is None else f"{100 * value:.1f}"


def signed(summary: Mapping) -> str:
    """Return a described difference with its sign, in points."""
    return NONE if summary["mean"] is None else _signed(summary["mean"])


def ends(low_high: tuple[float | None, float | None]) -> str:
    """Return the ends of an interval or a range of differences, in points, if there is one."""
    low, high = low_high
    return "" if low is None else f"{_signed(low)} to {_signed(high)}"


def _signed(value: float) -> str:
    text = f"{100 * value:+.1f}".replace("-", MINUS)
    return "0.0" if text in ("+0.0", f"{MINUS}0.0") else text


def saving(need: Mapping, x: str) -> tuple[str, str, str]:
    """Return what an arm needs, see `savings.labels_saved`; what that saves, and the interval: '9', '4 %', '1 to 7'."""
    n = need["n"]
    if need["saved"] is not None:
        interval = "" if need["low"] is None else f"{_whole(need['low'])} to {_whole(need['high'])}"
        return f"{need[x]:,.0f}", f"{_whole(need['saved'])} %", interval
    for count, words in ((need["never"], "not reached"), (need["at_start"], "from the start")):
        if count:
            return (words if count == n else f"{words} in {count} of {n} seeds"), NONE, ""
    return NONE, NONE, ""


def _whole(share: float) -> str:
    text = f"{100 * share:.0f}".replace("-", MINUS)
    return "0" if text == f"{MINUS}0" else text


def seeds(n: int) -> str:
    """Return '1 seed' or '3 seeds'."""
    return f"{n} seed{'' if n == 1 else 's'}"


def p_value(value: float | None) -> str:
    """Return 'p = 0.03', as exact as it is worth."""
    if value is None:
        return "no test"
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}" if value < 0.1 else f"p = {value:.2f}"


def best(rows: Sequence[Mapping]) -> list[Mapping]:
    """Return those of described means that are the largest; none where all are equal.

    Fewer seeds than others have may be just the good ones: such a mean is not compared.
    """
    n = max((row["n"] for row in rows), default=0)
    compared = [row for row in rows if row["n"] == n and n]
    most = max((row["mean"] for row in compared), default=None)
    largest = [row for row in compared if row["mean"] == most]
    return largest if len(largest) < len(compared) else []


def breakable(text: str) -> Markup:
    """Return a name that a browser may break after '+', '_' and '/'."""
    return Markup(re.sub(r"([+_/])(?=.)", r"\1<wbr>", str(escape(text))))


def markdown_table(comparisons: Mapping[str, Comparison], runs: Mapping[str, Run]) -> str:
    """Return a Markdown table per run of arms x budgets: the mean, its spread, and the share of full supervision."""
    parts = []
    for name, comparison in comparisons.items():
        run, n_seeds, few = runs[name], len(comparison.seeds), comparison.few
        how = ("mean (range of the seeds), " if few else "mean ± half the 95 % interval, ") if n_seeds > 1 else ""
        caption = f"**{_cell(name)}**: {comparison.score_label} (%) by {run.config.budget.words}"
        caption += f"; {how}{comparison.seeds_words}"
        full = comparison.full
        if full["mean"] is not None:
            of_full = f"{percent(full, full['few'])}, {seeds(full['n'])}"
            caption += f"; in brackets: share of full supervision ({of_full})"
        budgets = [f"{run.config.budgets[cycle]:,}" for cycle in comparison.cycles]
        lines = [f"| arm | {' | '.join(budgets)} | AULC |", f"| :-- |{' --: |' * (len(budgets) + 1)}"]
        areas = comparison.areas
        for arm, rows in comparison.table().items():
            by_cycle = {row["cycle"]: row for row in rows}
            cells = [_with_ratio(by_cycle.get(cycle), few) for cycle in comparison.cycles]
            lines.append(f"| {_cell(arm)} | {' | '.join(cells)} | {percent(areas[arm], few)} |")
        note = statistics.seeds_note(n_seeds)
        parts.append("\n".join([caption + ".", "", *lines] + ["", f"Note: {note}."] * (note is not None)) + "\n")
    return "\n".join(parts)


def _with_ratio(row: Mapping | None, few: bool) -> str:
    if row is None:
        return NONE
    return percent(row, few) + (f" ({points(row['ratio'])} %)" if row["ratio"] is not None else "")


def _cell(text: str) -> str:
    """Return text that does not end a cell or begin a tag."""
    for character in "\\|<>*_`[]":
        text = text.replace(character, "\\" + character)
    return " ".join(text.split())
