"""The smallest experiment that goes through every stage, and how tests run it and read it."""

import copy
import csv
import io
from pathlib import Path

import yaml
from rich.console import Console
from safetensors.numpy import load_file

from miaod_plugin.experiments.config.schema import load_config
from miaod_plugin.experiments.runner.run import run_experiment

# Seconds on two cores: enough to go through every stage, far too little to learn anything.
TINY = {
    "name": "tiny",
    "data": {"kind": "digits", "train": 24, "test": 8, "n_classes": 3},
    "detector": {"name": "retinanet_tiny"},
    "training": {"batch_size": 4, "learning_rate": 0.01},
    "trainings": {  # each takes 12 passes over the labelled images
        "miaod": {"label_epochs": 1, "rounds": 1},
        "supervised": {"epochs": 12},
        "label_set": {"label_epochs": 1, "min_epochs": 0, "max_epochs": 0, "rounds": 5},
    },
    "arms": [
        {"training": "miaod", "strategy": "miaod"},
        {"training": "supervised", "strategy": "random"},
        {"training": "supervised", "strategy": "entropy"},
    ],
    "budgets": [4, 7, 9],
    "seeds": [0, 1],
    "evaluation": {"metric": "voc_area"},
    "jobs": 1,  # a worker's start takes more of the processor than all that it has to do
    "threads": 1,
}


def write_experiment(folder: Path, **changes) -> Path:
    """Write the tiny experiment with some top-level keys replaced (None: left out), and return its path."""
    experiment = copy.deepcopy(TINY) | changes
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump({key: value for key, value in experiment.items() if value is not None}))
    return path


def run_tiny(folder: Path, **changes) -> tuple[Path, str]:
    """Run the tiny experiment in `folder`; return the run's folder and what was printed."""
    console = Console(file=io.StringIO(), width=200)
    config = load_config(write_experiment(folder, **changes))
    failures = run_experiment(config, folder / "runs", console=console)
    assert failures == []
    return folder / "runs" / config.name, console.file.getvalue()


def untimed(run: Path) -> list[dict]:
    """Return the rows of results.csv without the timings."""
    with open(run / "results.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    return [{key: value for key, value in row.items() if not key.endswith("_seconds")} for row in rows]


def bits(run: Path) -> dict[str, bytes]:
    """Return every selection and every weight of a run by its place: it must not depend on interruptions."""
    content = {path: path.read_bytes() for path in run.glob("arms/**/selected.csv")}
    for path in run.glob("arms/**/model.safetensors"):
        content |= {path / name: tensor.tobytes() for name, tensor in load_file(path).items()}
    return {str(path.relative_to(run)): value for path, value in content.items()}
