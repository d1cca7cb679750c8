"""KEY=VALUE on the command line, on top of a good experiment file."""

from pathlib import Path
from random import Random

import yaml
from cases import Case
from tiny_experiment import TINY

from miaod_plugin.experiments.config.schema import ExperimentConfig, load_config

from .experiment_files import BEHIND, TRICKS, VALUES

KEYS = (
    *("name", "data", "data.train", "data.kind", "detector.name", "detector.options.min_size", "training.batch_size"),
    *(
        "training.learning_rate",
        "trainings.miaod.rounds",
        "trainings.miaod.options.top_k",
        "arms",
        "arms.0",
        "arms.0.strategy",
        "budgets.0",
    ),
    *("arms.0.options.adapt", "arms.7.strategy", "arms.-1", "arms.x", "seeds", "seeds.00", "jobs", "threads", "device"),
    *(
        "",
        ".",
        "..",
        "a",
        "name.x",
        "training.",
        ".training",
        "data..kind",
        "x" * 500,
        "a." * 500,
        "é",
        "\ud800",
        "a\nb",
    ),
    *(
        "evaluation.metric",
        "budget.unit",
        "published",
        "trainings.x.rounds",
        "initial",
        "__class__",
        "budgets.9999999999",
    ),
)
PLAIN = (
    "",
    "1",
    "4",
    "-1",
    "0",
    "2.5",
    "null",
    "true",
    "[]",
    "{}",
    "[1, 2]",
    "abc",
    "a=b",
    "=",
    "cpu",
    "'1'",
    " 5 ",
    "é",
)


class Family:
    def __init__(self, folder: Path):
        folder.mkdir()
        self.path = folder / "good.yaml"
        self.path.write_text(yaml.safe_dump(TINY))

    def case(self, rng: Random, folder: Path) -> Case:
        overrides = []
        for _ in range(rng.choice((1, 1, 1, 2, 3))):
            value = rng.choice(rng.choice((PLAIN, VALUES, BEHIND, tuple(map(repr, TRICKS)))))
            overrides.append(rng.choice(KEYS) + rng.choice(("=", "=", "=", "=", "", ": ", "==")) + value)
        said = f"{[text[:60] for text in overrides]}"
        return Case(said, lambda: self._load(overrides), ("command line", self.path.name))

    def _load(self, overrides: list[str]) -> None:
        config = load_config(self.path, overrides)
        assert isinstance(config, ExperimentConfig)
