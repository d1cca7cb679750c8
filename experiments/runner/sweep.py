"""One experiment with several values of some keys: a run for each combination, and a report that compares them."""

import json
import re
from collections.abc import Iterable, Sequence
from itertools import product
from math import prod
from pathlib import Path
from typing import Any

from miaod_plugin.errors import ConfigError, shown
from miaod_plugin.settings.yaml_files import parse_yaml

from ..config.schema import ExperimentConfig, load_config
from ..executors.base import Failure
from ..report.page import write_report
from ..report.results import collect
from ..store.layout import Run
from .run import run_experiment

MOST_RUNS = 1000


def sweep_configs(yaml: str | Path, assignments: Sequence[str]) -> list[ExperimentConfig]:
    """Return an experiment for each combination of values, named after the file's and the values that differ.

    Parameters
    ----------
    yaml : path
        The experiment file.
    assignments : sequence of str
        ``key=value`` or ``key=value,value,...``, each value in YAML: a list in brackets is one, as is text in quotes.

    Raises
    ------
    ConfigError
        If there is nothing to compare, a combination is no experiment, or two would have the same name.
    """
    several, overrides = {}, []
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        values = parse_yaml(f"[{text}]", f"command line: {shown(assignment)}") if equals else []
        if len(values) > 1:
            several[key] = values
        else:
            overrides.append(assignment)
    if not several:
        raise ConfigError("command line: nothing to compare; give several values, training.learning_rate=1e-3,3e-3")
    if (count := prod(map(len, several.values()))) > MOST_RUNS:
        raise ConfigError(f"command line: the values make {count:,} experiments; {MOST_RUNS:,} are the most")
    words = _short(several)
    configs = []
    for values in product(*several.values()):
        chosen = dict(zip(several, values, strict=True))
        changes = [*overrides, *(f"{key}={json.dumps(value)}" for key, value in chosen.items())]
        name = ".".join([load_config(yaml, changes).name, *(f"{words[key]}-{_text(chosen[key])}" for key in chosen)])
        configs.append(load_config(yaml, [*changes, f"name={json.dumps(_folder(name))}"]))
    _refuse_alike(config.name for config in configs)
    return configs


def run_sweep(
    configs: Sequence[ExperimentConfig], page: str | Path, out: str | Path = "runs", fresh: bool = False
) -> list[Failure]:
    """Run experiments one after the other, as `run_experiment` does, and write a report of those with results.

    Parameters
    ----------
    configs : sequence of ExperimentConfig
    page : path
        The report, beside which its tables and curves are written.
    out, fresh
        As of `run_experiment`.

    Returns
    -------
    list of Failure
        What stopped cells of any of them.
    """
    failures = [failure for config in configs for failure in run_experiment(config, out, fresh)]
    runs = [Run(config, out) for config in configs]
    if roots := [run.root for run in runs if collect(run)]:
        print(write_report(roots, page))
    return failures


def _short(keys: Iterable[str]) -> dict[str, str]:
    """Return the last part of each key, or all of it where two keys end alike."""
    last = [key.rpartition(".")[2] for key in keys]
    return {key: word if last.count(word) == 1 else key for key, word in zip(keys, last, strict=True)}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value).strip("[]{}")


def _folder(name: str) -> str:
    """Return a name as a folder may be called."""
    return re.sub(r"[^A-Za-z0-9+_.-]+", "-", name).strip("-.")


def _refuse_alike(names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name.lower() in seen:
            raise ConfigError(f"command line: two experiments would be called {shown(name)}; give other values")
        seen.add(name.lower())
