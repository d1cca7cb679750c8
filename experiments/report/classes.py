"""Average precision class by class, and its mean over the classes that the test images hold enough boxes of."""

from collections.abc import Iterable, Mapping
from statistics import fmean

import numpy as np

from miaod_plugin.data.detection_data import DetectionData

from ..store.layout import Run
from ..store.records import survey
from . import statistics
from .results import records_of, score_name

LEAST_BOXES = 50  # of a class; with fewer, a single box moves its average precision by points


def boxes_by_class(test: DetectionData) -> dict[str, int]:
    """Return how many boxes of each class average precision counts: none that is difficult or a crowd."""
    counted = []
    for target in test.y:
        left_out = np.zeros(len(target["labels"]), dtype=bool)
        for mark in ("difficult", "iscrowd"):
            left_out |= np.asarray(target.get(mark, left_out), dtype=bool)
        counted.append({"labels": np.asarray(target["labels"])[~left_out]})
    return dict(zip(test.classes, statistics.class_counts(counted, len(test.classes)), strict=True))


def frequent_classes(boxes: Mapping[str, int], least: int = LEAST_BOXES) -> list[str]:
    """Return the classes with so many boxes; none where that leaves no class out, or all that have a box."""
    frequent = [name for name, count in boxes.items() if count >= least]
    return frequent if len(frequent) < sum(count > 0 for count in boxes.values()) else []


def class_mean(scores: Mapping[str, float | None], names: Iterable[str]) -> float | None:
    """Return the mean over those of the classes that have a score."""
    values = [scores[name] for name in names if scores.get(name) is not None]
    return fmean(values) if values else None


def class_rows(run: Run, boxes: Mapping[str, int] | None) -> list[dict]:
    """Return a row for each class of each cycle that counts: its boxes in the test images, if known, and its score."""
    records, score = survey(run).records, score_name(run)
    return [
        {
            **{name: records[cell].metrics[name] for name in ("arm", "seed", "cycle", "images")},
            **{"class": name, "test_boxes": None if boxes is None else boxes.get(name), score: value},
        }
        for cell in run.arm_cells()
        if cell in records
        for name, value in records[cell].metrics["per_class"].items()
    ]


def per_class(run: Run, arms: Iterable[str]) -> dict[str, dict[str, float | None]]:
    """Return class -> arm -> AP at the arm's last budget that all its seeds have, mean over the seeds that have one."""
    table: dict[str, dict[str, float | None]] = {}
    records = survey(run).records
    for arm in arms:
        curves = [of_seed for seed in run.config.seeds if (of_seed := records_of(run, records, arm, seed))]
        of_seeds = [of_seed[min(map(len, curves)) - 1].metrics["per_class"] for of_seed in curves]
        for name in of_seeds[0]:
            values = [scores[name] for scores in of_seeds if scores.get(name) is not None]
            table.setdefault(name, {})[arm] = fmean(values) if values else None
    return table
