"""The numbers behind a report: the rows of a run, or of several, seen through `statistics.py`."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean

from miaod_plugin.data.detection_data import DetectionData
from miaod_plugin.errors import ConfigError, did_you_mean

from ..store.layout import Cell, Run, begun_with
from ..store.records import Record, survey
from . import statistics
from .results import collect, full_supervision, score_name
from .savings import labels_saved

DEFAULT_REFERENCE = "supervised", "random"


@dataclass(frozen=True)
class Comparison:
    """Arms side by side. Metrics are fractions in 0..1.

    Attributes
    ----------
    rows : list of dict
        As `results.collect` returns them.
    score : str
        The column that is compared, ``ap50`` or ``ap``.
    reference : str
        The arm that the others are compared with.
    full : dict
        The score of full supervision over seeds, see `statistics.describe`; its mean is ``None`` without one.
    x : str
        The column that the budgets count: ``images``, ``boxes`` or ``spent`` (seconds).
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

    def areas(self) -> dict[str, dict]:
        """Return for each arm its area under the curve over seeds, described, with the seeds' own ``values``."""
        areas = statistics.areas(self.rows, self.score, self.x)
        return {arm: statistics.describe([*own.values()]) | {"values": [*own.values()]} for arm, own in areas.items()}

    def paired(self) -> dict[str, list[dict]]:
        """Return for each other arm its differences to the reference, see `statistics.paired_table`."""
        table: dict[str, list[dict]] = {arm: [] for arm in self.arms if arm != self.reference}
        for row in statistics.paired_table(self.rows, self.reference, self.score, self.x):
            table[row["arm"]].append(row)
        return table

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


def compare(run: Run, reference: str | None = None) -> Comparison:
    """Return the comparison of a run's arms.

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
    score = score_name(run)
    full = statistics.describe([*full_supervision(run).values()])
    counted = {"images": "images", "boxes": "boxes", "seconds": "spent"}[run.config.budget.unit]
    return Comparison(rows, score, reference or next(usual, arms[0]), full, counted)


def compare_runs(comparisons: dict[str, Comparison], reference: str) -> Comparison:
    """Return the arms of several runs in one comparison, named ``run: arm``; full supervision only if they share it."""
    rows = [row | {"arm": f"{name}: {row['arm']}"} for name, one in comparisons.items() for row in one.rows]
    first = next(iter(comparisons.values()))
    shared = all(one.full == first.full for one in comparisons.values())
    full = first.full if shared else statistics.describe([])
    return Comparison(rows, first.score, reference, full, first.x)


def per_class(run: Run, arms: Iterable[str]) -> dict[str, dict[str, float | None]]:
    """Return class -> arm -> AP at the arm's last budget that all its seeds have, mean over the seeds that have one."""
    table: dict[str, dict[str, float | None]] = {}
    records = survey(run).records
    for arm in arms:
        curves = [of_seed for seed in run.config.seeds if (of_seed := _records(run, records, arm, seed))]
        of_seeds = [of_seed[min(map(len, curves)) - 1].metrics["per_class"] for of_seed in curves]
        for name in of_seeds[0]:
            values = [scores[name] for scores in of_seeds if scores.get(name) is not None]
            table.setdefault(name, {})[arm] = fmean(values) if values else None
    return table


def overlap(run: Run, arms: list[str]) -> dict | None:
    """Return the Jaccard overlap of what each two arms selected up to the last cycle they all have, mean over seeds.

    Returns
    -------
    dict or None
        ``cycle``; ``pairs`` ``{(arm, other): jaccard}``, both ways round; ``chance``, what two random selections of
        this size from this pool are expected to share (the ratio of expectations). ``None`` with fewer than two arms,
        or before anything was selected.
    """
    shared: dict[tuple[str, str], list[float]] = {}
    chance, cycle, records = [], None, survey(run).records
    for seed in run.config.seeds:
        labelled = {}
        for arm in arms:
            labelled[arm] = [record.labelled for record in _records(run, records, arm, seed)]
        n_cycles = min(map(len, labelled.values()))
        if n_cycles < 2 or len(labelled) < 2:
            continue
        initial = next(iter(labelled.values()))[0]
        table = [row for row in statistics.overlap(labelled, initial) if row["cycle"] == n_cycles - 1]
        table = [row for row in table if row["jaccard"] is not None]
        if not table:
            continue  # the initial set reached this budget
        for row in table:
            for pair in ((row["arm"], row["other"]), (row["other"], row["arm"])):
                shared.setdefault(pair, []).append(row["jaccard"])
        cycle = n_cycles - 1 if cycle is None else min(cycle, n_cycles - 1)
        share = fmean(len(of_arm[n_cycles - 1]) - len(initial) for of_arm in labelled.values())
        share /= begun_with(run)["train"]["images"] - len(initial)
        chance.append(share / (2 - share))
    if not shared:
        return None
    return {"cycle": cycle, "pairs": {pair: fmean(values) for pair, values in shared.items()}, "chance": fmean(chance)}


def class_balance(run: Run, arms: list[str], train: DetectionData) -> dict:
    """Compare the classes of what each arm has selected in all its cycles with those of the pool, mean over seeds.

    Returns
    -------
    dict
        ``pool``, the counts of the training part; ``arms`` ``{arm: {"counts", "kl"}}``, boxes selected per class and
        the KL divergence to the pool in nats; ``top``, the largest share of any class in any of them. The initial set
        is not selected by anybody and does not count.
    """
    row_of = {name: row for row, name in enumerate(train.ids.tolist())}
    n_classes = len(train.classes)
    pool = statistics.class_counts(train.y, n_classes)
    balance, records = {}, survey(run).records
    for arm in arms:
        counts, divergences = [], []
        for seed in run.config.seeds:
            picked = [one["id"] for record in _records(run, records, arm, seed) for one in record.selected or ()]
            if picked:
                counts.append(statistics.class_counts(train.y[[row_of[name] for name in picked]], n_classes))
                divergences.append(statistics.class_balance(counts[-1], pool)["kl"])
        if counts:
            balance[arm] = {
                "counts": [fmean(of_seeds) for of_seeds in zip(*counts, strict=True)],
                "kl": fmean(divergences),
            }
    everything = [pool, *(one["counts"] for one in balance.values())]
    top = max(count / (sum(counts) or 1) for counts in everything for count in counts)
    return {"pool": pool, "arms": balance, "top": top or 1.0}


def _records(run: Run, records: dict[Cell, Record], arm: str, seed: int) -> list[Record]:
    """Return the records of an arm and seed by cycle, up to the first that does not count."""
    cells = [Cell(seed, cycle, run.trainings[arm], arm) for cycle in range(len(run.config.budgets))]
    return [records[cell] for cell in cells if cell in records]
