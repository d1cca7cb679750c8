import os
import shutil
import sys

import pytest
import yaml

from miaod_plugin.cli.app import main
from miaod_plugin.errors import ConfigError
from miaod_plugin.experiments.config.schema import load_config
from miaod_plugin.experiments.store.layout import Run
from miaod_plugin.experiments.store.listing import list_runs


@pytest.fixture
def runs(finished, tmp_path):
    """A folder with one run of every state, the last changed last."""
    for age, name in enumerate(["broken", "partly", "failed", "running", "finished"]):
        shutil.copytree(finished[0], tmp_path / name)
        cell = tmp_path / name / "arms" / "supervised+random" / "seed1" / "cycle2"
        if name not in ("finished", "broken"):
            (cell / "metrics.json").unlink()
        if name == "failed":
            (cell / "error.json").write_text("{}")
        if name == "broken":
            (tmp_path / name / "config.yaml").write_text("arms: [")
        for path in (tmp_path / name).glob("**/*"):
            os.utime(path, (10_000 + age, 10_000 + age))
    (tmp_path / "no_run").mkdir()
    return tmp_path


def test_every_run_is_listed_with_its_state_the_last_changed_first(runs):
    running = Run(load_config(runs / "running" / "config.yaml", ["name=running"]), runs)
    with running.locked():
        os.utime(running.root / "lock", (10_000, 10_000))
        states = {one.name: (one.state, one.done, one.total) for one in list_runs(runs)}
    assert states == {
        "finished": ("finished", 22, 22),
        "running": ("running", 21, 22),
        "failed": ("failed", 21, 22),
        "partly": ("partly", 21, 22),
        "broken": ("unreadable", 0, 0),
    }
    assert list(states) == ["finished", "running", "failed", "partly", "broken"]
    assert {one.name: one.state for one in list_runs(runs)}["running"] == "partly", "the process has ended"


def test_the_command_prints_them(runs, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["miaod", "runs", "--out", str(runs)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in ("finished", "partly", "failed", "unreadable", "21/22"))
    assert "1970-01-01" in printed


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigError, match="none: no such folder"):
        list_runs(tmp_path / "none")


def test_a_run_with_a_strategy_that_is_not_installed_is_unreadable_here(runs):
    path = runs / "finished" / "config.yaml"
    stored = yaml.safe_load(path.read_text())
    stored["arms"][0]["strategy"] = "gone"
    path.write_text(yaml.safe_dump(stored))
    assert {one.name: one.state for one in list_runs(runs)}["finished"] == "unreadable"
