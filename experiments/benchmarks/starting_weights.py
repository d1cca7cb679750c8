"""How many optimiser steps it saves to start from a detector of other images rather than from a backbone.

A detector is trained on the driving scenes of `carla.yaml`, and blood cells are then learned as `bccd.yaml` says, for
several numbers of steps, from its weights and from the backbone's: CSV with a row for each training.
"""

import argparse
import csv
import sys
from pathlib import Path

from ..config.schema import ExperimentConfig, load_config
from ..config.trainings import make_estimator
from ..store.datasets import load_data

FOLDER = Path(__file__).parents[1]
COLUMNS = ("start", "seed", "steps", "ap50")


def trained(config: ExperimentConfig, data, steps: int, seed: int):
    """Return a supervised detector, trained on all images."""
    estimator = make_estimator(config, "supervised", data.classes, steps, seed, None, None)
    return estimator.fit(data.X, data.y)


def main() -> None:
    """Train, and print the table; `experiments/results/starting_weights` has it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("checkpoint", type=Path, help="where to keep the detector of driving scenes")
    parser.add_argument("--driving-steps", type=int, default=600)
    parser.add_argument("--steps", type=int, nargs="+", default=[25, 50, 100, 200])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    given = parser.parse_args()
    if not given.checkpoint.is_file():
        driving = load_config(FOLDER / "carla.yaml")
        trained(driving, load_data(driving)[0], given.driving_steps, seed=0).save(given.checkpoint)
    starts = {
        "backbone": load_config(FOLDER / "bccd.yaml"),
        "detector": load_config(FOLDER / "bccd.yaml", [f"detector.options.weights={given.checkpoint}"]),
    }
    train, test = load_data(starts["backbone"])
    table = csv.writer(sys.stdout)
    table.writerow(COLUMNS)
    for seed in given.seeds:
        for steps in given.steps:
            for start, config in starts.items():
                score = trained(config, train, steps, seed).score(test.X, test.y)
                table.writerow([start, seed, steps, f"{score:.4f}"])
                sys.stdout.flush()


if __name__ == "__main__":
    main()
