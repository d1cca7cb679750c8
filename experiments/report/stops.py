"""Where stopping rules would have stopped the arms of an experiment, and what that would have lost and saved."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

from miaod_plugin.stopping import Round, StoppingRule

from .statistics import Row, describe, known


@dataclass(frozen=True)
class Stops:
    """What one rule does in one arm.

    Attributes
    ----------
    arm : str
    rows : list of dict
        The rows of the arm's seeds at which the rule stops before their last.
    n : int
        Seeds in all.
    lost, saved : dict
        Described over all seeds (`statistics.describe`): how much of the last score, and what share of the labels; a
        seed that goes on to its end loses and saves nothing.
    """

    arm: str
    rows: list[Row]
    n: int
    lost: dict
    saved: dict


def stops_of(rule: StoppingRule, rows: Iterable[Row], metric: str = "ap50", x: str = "images") -> list[Stops]:
    """Return what a rule does in each arm, in the order of the arms.

    Parameters
    ----------
    rule : StoppingRule
    rows : iterable of mapping
        As `results.collect` returns them. A rule is asked about the cycles of a seed up to each, as an annotator would.
    metric, x : str
        The columns of the score and of the amount of labels.
    """
    curves: dict[str, dict[int, list[Row]]] = {}
    for row in rows:
        curves.setdefault(row["arm"], {}).setdefault(row["seed"], []).append(row)
    return [_of_arm(rule, arm, [*seeds.values()], metric, x) for arm, seeds in curves.items()]


def _of_arm(rule: StoppingRule, arm: str, seeds: Sequence[list[Row]], metric: str, x: str) -> Stops:
    stopped, lost, saved = [], [], []
    for rows in seeds:
        at = rule.stop([_round(row, metric) for row in rows])
        row, last = rows[-1 if at is None else at], rows[-1]
        if row is not last:
            stopped.append(row)
        if known(row[metric]) and known(last[metric]):
            lost.append(last[metric] - row[metric])
        saved.append(1 - row[x] / last[x] if last[x] else 0.0)
    return Stops(arm, stopped, len(seeds), describe(lost), describe(saved))


def _round(row: Row, metric: str) -> Round:
    score = row[metric] if known(row[metric]) else None
    return Round(row["images"], row["spent"], score, row["agreement"], row["uncertainty"])


def mean_stop(stops: Stops, metric: str, x: str) -> tuple[float, float] | None:
    """Return the mean amount of labels and score at which a rule stops, where it stops more than half of the seeds."""
    rows = [row for row in stops.rows if known(row[metric])]
    if 2 * len(rows) <= stops.n:
        return None
    return fmean(row[x] for row in rows), fmean(row[metric] for row in rows)
