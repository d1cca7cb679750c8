"""What stopping rules lose and save in the committed studies.

``python -m miaod_plugin.experiments.benchmarks.stopping`` prints the table of ``experiments/results/README.md``. Costs
are hours by the default `AnnotationTime`. Rules that compare detections are left out where a study did not record them.
"""

import csv
from pathlib import Path

import numpy as np

from miaod_plugin.settings.annotation_time import AnnotationTime
from miaod_plugin.stopping import OverallUncertainty, PredictedGain, SpentBudget, StabilisedPredictions

from ..report.stops import stops_of

RESULTS = Path(__file__).parents[1] / "results"
STUDIES = ("digits_2x2", "digits_stopping", "bccd", "carla")
RULES = (PredictedGain(), PredictedGain(least=0.02), StabilisedPredictions(), OverallUncertainty(), SpentBudget(4))
NEED = {StabilisedPredictions: "agreement", OverallUncertainty: "uncertainty"}


def study_rows(study: str) -> list[dict]:
    """Return the rows of a study as `results.collect` does."""
    with open(RESULTS / study / "results.csv", newline="") as file:
        return [_row(row) for row in csv.DictReader(file)]


def _row(row: dict[str, str]) -> dict:
    images, boxes = int(row["images"]), int(row["boxes"])
    known = {name: float(row[name]) if row.get(name) else None for name in ("agreement", "uncertainty")}
    numbers = {"images": images, "boxes": boxes, "spent": AnnotationTime().hours(images, boxes)}
    return {"arm": row["arm"], "seed": row["seed"], "ap50": float(row["ap50"]), **numbers, **known}


def main() -> None:
    """Print a row for each study and rule, over all arms and seeds."""
    print("| study | rule | stops | points lost | images saved |", "| --- | --- | ---: | ---: | ---: |", sep="\n")
    for study in STUDIES:
        rows = study_rows(study)
        for rule in RULES:
            if (need := NEED.get(type(rule))) and all(row[need] is None for row in rows):
                continue
            arms = stops_of(rule, rows)
            weights = [arm.n for arm in arms]
            stopped = sum(len(arm.rows) for arm in arms)
            lost, saved = (
                np.average([getattr(arm, of)["mean"] for arm in arms], weights=weights) for of in ("lost", "saved")
            )
            print(f"| {study} | `{rule}` | {stopped} of {sum(weights)} | {100 * lost:.1f} | {100 * saved:.0f} % |")


if __name__ == "__main__":
    main()
