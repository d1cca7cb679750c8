"""What the README shows works as it is written."""

import re
from pathlib import Path

import pytest
import yaml

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("number", range(len(blocks("python"))))
def test_python_blocks_run(number, capsys):
    names = {}
    exec(compile(blocks("python")[number], f"README.md, python block {number + 1}", "exec"), names)
    if number == 0:
        learner, test = names["learner"], names["test"]
        assert len(learner.X_training) == 30 and len(names["pool"]) == 30
        assert float(capsys.readouterr().out) == learner.score(test.X, test.y)


def test_the_experiment_loads_alone_and_with_every_addition(tmp_path):
    from miaod_plugin.experiments.config.schema import load_config

    experiment, *additions = map(yaml.safe_load, blocks("yaml"))
    assert len(additions) == 2
    for addition in ({}, *additions):
        path = tmp_path / "experiment.yaml"
        path.write_text(yaml.safe_dump(experiment | addition))
        config = load_config(path)
        assert config.name == experiment["name"] and len(config.arms) == 2


def test_every_file_that_it_names_exists():
    named = re.findall(r"(?:experiments|docs)/[\w.]+\.(?:yaml|png|md)", README)
    assert named and all((Path(__file__).parents[2] / name).is_file() for name in named)
