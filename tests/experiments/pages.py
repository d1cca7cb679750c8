"""Runs to report on."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import yaml

from miaod_plugin.experiments.report.page import write_report

ARMS = ["miaod+miaod", "supervised+random", "supervised+entropy"]


def copy_run(finished, folder: Path, **config) -> Path:
    """Copy the finished run, with changes to its stored experiment."""
    run = folder / "copied"
    shutil.copytree(finished[0], run)
    stored = yaml.safe_load((run / "config.yaml").read_text())
    (run / "config.yaml").write_text(yaml.safe_dump(stored | config))
    for checksums in run.glob("**/SHA256SUMS"):
        checksums.unlink()  # its files may be changed, as in a run of an earlier version
    return run


def write_scored(finished, folder: Path) -> Path:
    """Write a report on four seeds with scores as a real run would have them; the tiny one learns nothing."""
    run = copy_run(finished, folder, seeds=[0, 1, 2, 3])
    for place in [path for pattern in ("shared/seed?", "arms/*/seed?") for path in run.glob(pattern)]:
        seed = int(place.name.removeprefix("seed")) + 2
        shutil.copytree(place, place.with_name(f"seed{seed}"))
        for path in place.with_name(f"seed{seed}").glob("**/metrics.json"):
            path.write_text(json.dumps(json.loads(path.read_text()) | {"seed": seed}))
    chance = np.random.default_rng(0)
    shared = {}  # the model before the first query is the same for all arms of a training and seed
    for path in sorted(run.glob("arms/**/metrics.json")):
        metrics, score = json.loads(path.read_text()), float(chance.uniform(0.2, 0.6))
        if metrics["cycle"] == 0:
            score = shared.setdefault((metrics["training"], metrics["seed"]), score)
        path.write_text(json.dumps(metrics | {"ap50": score}))
    write_report([run], run / "page" / "report.html")
    return run / "page"


def csv_rows(path: Path) -> list[dict]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def scores(run: Path) -> dict[str, np.ndarray]:
    """Return for each arm its AP50 in percent, (seeds, cycles)."""
    rows = csv_rows(run / "results.csv")
    of_arm = {arm: [float(row["ap50"]) for row in rows if row["arm"] == arm] for arm in ARMS}
    return {arm: 100 * np.array(values).reshape(4, 3) for arm, values in of_arm.items()}
