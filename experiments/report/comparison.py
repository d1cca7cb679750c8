"""The numbers behind a report: the rows of a run, or of several, seen through `statistics.py`."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import fmean

import numpy as np
from scipy.stats import rankdata

from miaod_plugin.errors import ConfigError, did_you_mean

from ..store.layout import Cell, Run
from ..store.records import survey
from . import statistics
from .classes import LEAST_BOXES, class_mean, frequent_classes
from .results import collect, full_supervision, score_name
from .savings import labels_saved

DEFAULT_REFERENCE = "supervised", "random"


@dataclass(frozen=True)
class Comparison:
    """Arms side by side. Metrics are fractions in 0..1.

    Attributes
    ----------
    rows : list of dict
        As `results.collect` returns them, with ``frequent``, the mean over the classes with enough test boxes, where
        that leaves any out, and ``cost``, where annotating has a price.
    score : str
        The column that is compared: ``ap50``, ``ap`` or ``frequent``.
    reference : str
        The arm that the others are compared with.
    full : dict
        The score of full supervision over seeds, see `statistics.describe`; its mean is ``None`` without one.
    x : str
        The column that scores are drawn against; that of the budgets is ``images``, ``boxes`` or ``spent`` (seconds).
    """

    rows: list[dict]
    score: str
    reference: str
    full: dict
    x: str = "images"

    @property
    def score_label(self) -> str:
        return "COCO AP" if self.score == "ap" else "AP50"

    @cached_property
    def arms(self) -> list[str]:
        return list(dict.fromkeys(row["arm"] for row in self.rows))

    @cached_property
    def seeds(self) -> list[int]:
        return sorted({row["seed"] for row in self.rows})

    @cached_property
    def cycles(self) -> list[int]:
        return sorted({row["cycle"] for row in self.rows})

    @property
    def scored(self) -> set[str]:
        """The arms that have a score: none has, where the test images hold no objects."""
        return {row["arm"] for row in self.rows if statistics.known(row[self.score])}

    @property
    def comparable(self) -> bool:
        """Whether there is another arm whose curve is complete for a seed where the reference's is."""
        return any(need["n"] for arm, need in self.saved(self.x).items() if arm != self.reference)

    @cached_property
    def fewest(self) -> int:
        """The number of seeds of the arm that has the fewest."""
        return min(len({row["seed"] for row in self.rows if row["arm"] == arm}) for arm in self.arms)

    @property
    def few(self) -> bool:
        """Whether an arm has so few seeds that charts show ranges: an interval of them would run off the chart."""
        return self.fewest < statistics.ENOUGH_SEEDS

    @property
    def seeds_words(self) -> str:
        """How many seeds the arms have: '5 seeds', or '3 to 5 seeds' where some arms have fewer."""
        most = len(self.seeds)
        return f"{self.fewest} to {most} seeds" if self.fewest < most else f"{most} seed{'s' * (most > 1)}"

    def spread(self, summary: Mapping) -> tuple[float | None, float | None]:
        """Return the ends of the bar that charts draw at a described mean; ``None`` for a single seed."""
        low, high = ("least", "most") if self.few and summary["n"] > 1 else ("low", "high")
        return summary[low], summary[high]

    def table(self, x: str | None = None) -> dict[str, list[dict]]:
        """Return for each arm a row per cycle, see `statistics.budget_table`, with the seeds' own ``points`` (x, y)."""
        x = x or self.x
        table = {arm: [] for arm in self.arms}
        for row in statistics.budget_table(self.rows, self.score, x, self.full["mean"]):
            points = [
                (own[x], own[self.score])
                for own in self.rows
                if (own["arm"], own["cycle"]) == (row["arm"], row["cycle"]) and statistics.known(own[self.score])
            ]
            table[row["arm"]].append(row | {"points": points})
        return table

    @cached_property
    def areas(self) -> dict[str, dict]:
        """For each arm its area under the curve over seeds, described, with the seeds' own ``values``."""
        areas = statistics.areas(self.rows, self.score, self.x)
        return {arm: statistics.describe([*own.values()]) | {"values": [*own.values()]} for arm, own in areas.items()}

    @cached_property
    def paired(self) -> dict[str, list[dict]]:
        """For each other arm its differences to the reference, see `statistics.paired_table`."""
        table: dict[str, list[dict]] = {arm: [] for arm in self.arms if arm != self.reference}
        for row in statistics.paired_table(self.rows, self.reference, self.score, self.x):
            table[row["arm"]].append(row)
        return table

    @cached_property
    def measures(self) -> list["Comparison"]:
        """The comparison by each score, against what the budgets count and against boxes."""
        scores = [self.score, *(["frequent"] if any("frequent" in row for row in self.rows) else [])]
        return [replace(self, score=score, x=x) for score in scores for x in dict.fromkeys([self.x, "boxes"])]

    def before_selection(self) -> dict[str, dict]:
        """Return for each training what its first model scores, described, before any strategy was asked.

        ``difference``: to the reference's training, see `statistics.paired_difference`, with ``p_holm`` over the
        others.
        """
        rows = [row | {"arm": row["training"]} for row in self.rows if row["cycle"] == self.cycles[0]]
        scores = {
            training: {seed: score for seed, cycles in seeds.items() for _, score in cycles.values()}
            for training, seeds in statistics.curves_of(rows, self.score, self.x).items()
        }
        usual = next(row["training"] for row in self.rows if row["arm"] == self.reference)
        table = {name: statistics.describe(own.values()) | {"difference": None} for name, own in scores.items()}
        others = [name for name in scores if name != usual]
        differences = [statistics.paired_difference(scores[name], scores[usual]) for name in others]
        corrected = statistics.holm([difference["p_value"] for difference in differences])
        for name, difference, p in zip(others, differences, corrected, strict=True):
            table[name]["difference"] = difference | {"p_holm": p}
        return table

    def selections(self) -> list["Comparison"]:
        """Return a comparison of the arms of each training with its own random one, where that is not the reference.

        Their models learn alike, so that what differs is selection alone.
        """
        found = []
        for training in dict.fromkeys(row["training"] for row in self.rows):
            rows = [row for row in self.rows if row["training"] == training]
            random = next((row["arm"] for row in rows if row["strategy"] == "random"), self.reference)
            if random != self.reference and any(row["arm"] != random for row in rows):
                found.append(replace(self, rows=rows, reference=random))
        return found

    def saved(self, x: str) -> dict[str, dict]:
        """Return how many labels each arm needs for the reference's last score, see `savings.labels_saved`."""
        return labels_saved(self.rows, self.reference, self.score, x)

    def cost(self) -> dict[str, dict]:
        """Return for each arm the mean seconds of a training and of a query, and its hours over all seeds and cycles.

        A model that arms share is counted in each: what the arm would have cost on its own.
        """
        costs = {}
        for arm in self.arms:
            rows = [row for row in self.rows if row["arm"] == arm]
            training = [row["train_seconds"] for row in rows]
            queries = [row["query_seconds"] for row in rows if row["query_seconds"] is not None]
            costs[arm] = {
                "train": fmean(training),
                "query": fmean(queries) if queries else None,
                "hours": (sum(training) + sum(queries)) / 3600,
            }
        return costs


def compare(
    run: Run,
    reference: str | None = None,
    test_boxes: Mapping[str, int] | None = None,
    least_boxes: int = LEAST_BOXES,
    prices: tuple[float, float] | None = None,
) -> Comparison:
    """Return the comparison of a run's arms.

    Parameters
    ----------
    test_boxes : mapping of str to int, optional
        The boxes of each class in the test images, if they are known; classes with fewer than `least_boxes` are rare.
    prices : (float, float), optional
        What annotating costs: an image, and each box in it.

    Raises
    ------
    ConfigError
        If no cycle is finished, or there is no arm `reference`.
    """
    rows = collect(run)
    if not rows:
        raise ConfigError(f"{run.root}: no cycle is finished yet; there is nothing to report")
    arms = list(dict.fromkeys(row["arm"] for row in rows))
    if reference is not None and reference not in arms:
        raise ConfigError(f"{run.root}: --reference: there is no arm {reference!r}{did_you_mean(reference, arms)}")
    usual = (row["arm"] for row in rows if (row["training"], row["strategy"]) == DEFAULT_REFERENCE)
    if names := frequent_classes(test_boxes or {}, least_boxes):
        records = survey(run).records
        cells = [Cell(row["seed"], row["cycle"], row["training"], row["arm"]) for row in rows]
        scores = [records[cell].metrics["per_class"] for cell in cells]
        rows = [row | {"frequent": class_mean(own, names)} for row, own in zip(rows, scores, strict=True)]
    if prices is not None:
        rows = [row | {"cost": prices[0] * row["images"] + prices[1] * row["boxes"]} for row in rows]
    full = statistics.describe([*full_supervision(run).values()])
    counted = {"images": "images", "boxes": "boxes", "seconds": "spent"}[run.config.budget.unit]
    return Comparison(rows, score_name(run), reference or next(usual, arms[0]), full, counted)


def compare_runs(comparisons: dict[str, Comparison], reference: str) -> Comparison:
    """Return the arms of several runs in one comparison, named ``run: arm``; full supervision only if they share it."""
    rows = [row | {"arm": f"{name}: {row['arm']}"} for name, one in comparisons.items() for row in one.rows]
    first = next(iter(comparisons.values()))
    shared = all(one.full == first.full for one in comparisons.values())
    full = first.full if shared else statistics.describe([])
    return Comparison(rows, first.score, reference, full, first.x)


def order(comparisons: Mapping[str, Comparison]) -> dict | None:
    """Return how runs order the arms that all of them have by the mean area, to see whether an order transfers.

    Returns
    -------
    dict or None
        ``arms`` ``{arm: [(area, place), ...]}`` and ``correlations``, Spearman's with the first run; a value for each
        run. ``None`` for fewer than three arms: two are in the same order half of the time.
    """
    areas = [{arm: area["mean"] for arm, area in one.areas.items() if area["n"]} for one in comparisons.values()]
    shared = [arm for arm in areas[0] if all(arm in own for own in areas)]
    if len(shared) < 3:
        return None
    values = np.array([[own[arm] for arm in shared] for own in areas])
    places = rankdata(-values, axis=1)
    pairs = [
        [*zip(of_arm, of_places, strict=True)] for of_arm, of_places in zip(values.T.tolist(), places.T, strict=True)
    ]
    with np.errstate(invalid="ignore"):  # where all places are one
        correlations = np.atleast_2d(np.corrcoef(places))[0].tolist()
    return {"arms": dict(zip(shared, pairs, strict=True)), "correlations": correlations}
