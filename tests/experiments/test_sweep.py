"""``miaod sweep``: one experiment with several values, each a run, and one report."""

import csv
import sys

import pytest
from tiny_experiment import TINY, write_experiment

from miaod_plugin.cli.app import main
from miaod_plugin.errors import ConfigError
from miaod_plugin.experiments.runner.sweep import sweep_configs


def test_every_combination_is_an_experiment_named_after_the_values_that_differ(tmp_path):
    yaml = write_experiment(tmp_path)
    values = ["training.learning_rate=1e-3,0.03", "budgets=[4, 7],[4]", "jobs=2", 'arms.1.strategy=random,"entropy"']
    configs = sweep_configs(yaml, [*values[:3], "detector.name=retinanet_tiny,torchvision:fcos_resnet50_fpn"])
    assert [config.name for config in configs[:3]] == [
        "tiny.learning_rate-0.001.budgets-4-7.name-retinanet_tiny",
        "tiny.learning_rate-0.001.budgets-4-7.name-torchvision-fcos_resnet50_fpn",
        "tiny.learning_rate-0.001.budgets-4.name-retinanet_tiny",
    ]
    assert len(configs) == len({config.name for config in configs}) == 8
    assert {config.jobs for config in configs} == {2}
    assert [(config.training["learning_rate"], config.budgets) for config in configs[::2]] == [
        (0.001, [4, 7]), (0.001, [4]), (0.03, [4, 7]), (0.03, [4])
    ]  # fmt: skip
    only = [{"training": "supervised", "strategy": name} for name in ("miaod", "random")]
    two = sweep_configs(write_experiment(tmp_path, arms=only), ["arms.0.strategy=random,coreset", "arms.1.name=x,y"])
    assert [config.name for config in two][:2] == ["tiny.strategy-random.name-x", "tiny.strategy-random.name-y"]


@pytest.mark.parametrize(
    "values, said",
    [
        (["jobs=2"], "nothing to compare"),
        (["jobs=1,2", "sedes=[1]"], "sedes: unknown key"),
        (["training.batch_size=4,none"], "training.batch_size: 'none' is not allowed"),
        (["jobs=1,1"], "two experiments would be called 'tiny.jobs-1'"),
        (["data.train=" + ",".join(map(str, range(24, 64))), "jobs=" + ",".join("1" * 40)], "1,600 experiments"),
        (["jobs=1,[2"], "not valid YAML"),
        (["jobs"], "nothing to compare"),
    ],
)
def test_what_cannot_be_compared_is_one_line(tmp_path, values, said):
    with pytest.raises(ConfigError, match=said) as refused:
        sweep_configs(write_experiment(tmp_path), values)
    assert "\n" not in str(refused.value)


def test_the_command_runs_each_reports_them_together_and_goes_on_where_it_was(tmp_path, monkeypatch, capsys):
    short = {
        "seeds": [0],
        "budgets": [4, 6],
        "arms": TINY["arms"][1:2],
        "training": TINY["training"] | {"max_steps": 2},
    }
    yaml, runs = write_experiment(tmp_path, **short), tmp_path / "runs"
    command = ["miaod", "sweep", str(yaml), "training.learning_rate=0.001,0.01", "--out", str(runs)]
    monkeypatch.setattr(sys, "argv", [*command, "--dry-run"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0 and not runs.exists()
    assert [name in capsys.readouterr().out for name in ["tiny.learning_rate-0.001: 24 training"]] == [True]
    monkeypatch.setattr(sys, "argv", command)
    for _ in range(2):
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 0
    assert "going on: 3 of 3 cells are finished" in capsys.readouterr().out
    with open(runs / "tiny.sweep" / "results.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["run"] for row in rows] == ["tiny.learning_rate-0.001"] * 2 + ["tiny.learning_rate-0.01"] * 2
    page = (runs / "tiny.sweep" / "report.html").read_text()
    assert all(f"tiny.learning_rate-{value}" in page for value in ("0.001", "0.01"))
