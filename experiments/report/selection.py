"""What the arms of a run have selected: how much of it they share, of which classes, and how crowded it is."""

from collections.abc import Iterable, Mapping
from statistics import fmean

from miaod_plugin.data.detection_data import DetectionData

from ..store.layout import Run, begun_with
from ..store.records import survey
from . import statistics
from .results import records_of


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
            labelled[arm] = [record.labelled for record in records_of(run, records, arm, seed)]
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
            picked = [one["id"] for record in records_of(run, records, arm, seed) for one in record.selected or ()]
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


def boxes_per_image(rows: Iterable[Mapping]) -> dict[str, dict[int, float]]:
    """Return arm -> cycle -> the boxes in an image of those that its query picked, mean over the seeds that picked any.

    Parameters
    ----------
    rows : iterable of mapping
        As `results.collect` returns them, whose ``images`` and ``boxes`` count all that is labelled.
    """
    before: dict[tuple, Mapping] = {}
    of_seeds: dict[str, dict[int, list[float]]] = {}
    for row in rows:
        last = before.get((row["arm"], row["seed"], row["cycle"] - 1))
        before[row["arm"], row["seed"], row["cycle"]] = row
        if last is not None and row["images"] > last["images"]:
            share = (row["boxes"] - last["boxes"]) / (row["images"] - last["images"])
            of_seeds.setdefault(row["arm"], {}).setdefault(last["cycle"], []).append(share)
    return {arm: {cycle: fmean(values) for cycle, values in cycles.items()} for arm, cycles in of_seeds.items()}
