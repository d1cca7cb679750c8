"""In which order cells are started, and what starting them costs."""

import heapq
import importlib
import io

import pytest
from own_packages import register
from rich.console import Console
from stub_executor import Stub
from tiny_experiment import run_tiny, untimed, write_experiment

from miaod_plugin.errors import ConfigError
from miaod_plugin.experiments.config.reference import option_parts
from miaod_plugin.experiments.config.schema import load_config
from miaod_plugin.experiments.cycle.cycle import Experiment
from miaod_plugin.experiments.runner.order import steps_ahead
from miaod_plugin.experiments.runner.run import run_experiment, steps_of_cells
from miaod_plugin.experiments.store.datasets import load_data
from miaod_plugin.experiments.store.layout import Run
from miaod_plugin.registry import EXECUTORS

# One arm, three budgets, three seeds, and a reference that takes as long as nine tenths of a chain.
REFERENCE = {
    "arms": [{"training": "supervised", "strategy": "random"}],
    "trainings": {},
    "training": {"batch_size": 4, "max_steps": 100},
    "full_supervision": True,
    "full_supervision_steps": 270,
    "seeds": [0, 1, 2],
}


@pytest.fixture
def stub(tmp_path, monkeypatch) -> dict:
    """Install the stub as pip would, and return what makes an experiment use it."""
    register(tmp_path / "site", EXECUTORS, "stub = stub_executor:Stub")
    monkeypatch.syspath_prepend(tmp_path / "site")
    importlib.invalidate_caches()
    return {"executor": {"name": "stub", "options": {"room": 2}}}


def makespan(run: Run, steps: dict, first, workers: int) -> int:
    """Return when the last cell ends, in steps, if idle workers take the ready cell for which `first` is least."""
    ready, busy, now = [(first(cell), cell) for cell in run.shared_cells()], [], 0
    heapq.heapify(ready)
    while ready or busy:
        while ready and len(busy) < workers:
            _, cell = heapq.heappop(ready)
            heapq.heappush(busy, (now + steps.get(cell, 0), cell))
        now, ended = heapq.heappop(busy)
        for cell in run.next_cells(ended):
            heapq.heappush(ready, (first(cell), cell))
    return now


def test_the_longest_chains_start_first_so_that_all_workers_end_together(tmp_path):
    config = load_config(write_experiment(tmp_path, **REFERENCE))
    run = Run(config, tmp_path)
    steps = steps_of_cells(Experiment(config, run, *load_data(config)))
    ahead = steps_ahead(run, steps)
    assert sorted({ahead[cell] for cell in run.shared_cells()}) == [270, 300]
    assert [ahead[cell] for cell in run.chains()[0]] == [200, 200, 100]
    assert sum(steps.values()) == 3 * 300 + 3 * 270
    assert makespan(run, steps, lambda cell: cell, workers=3) == 600, "seed after seed"
    assert makespan(run, steps, lambda cell: (-ahead[cell], cell), workers=3) == 570, "as short as three workers can"


def test_cells_are_started_in_that_order_by_an_executor_of_a_package_of_one_s_own(stub, tmp_path):
    run, _ = run_tiny(tmp_path, **stub, **REFERENCE)
    assert [(cell.training, cell.seed) for cell in Stub.started[:6]] == [
        (training, seed) for training in ("supervised", "full-supervision") for seed in range(3)
    ]
    assert len(Stub.started) == len(set(Stub.started)) == 3 + 3 + 9
    assert [row["ap50"] for row in untimed(run)] == ["0.5"] * 9
    (part,) = option_parts("stub")
    assert [entry.key for entry in part.entries] == ["executor.options.room"]


def test_options_of_an_executor_are_checked_before_anything_runs(stub, tmp_path):
    path = write_experiment(tmp_path, **stub)
    with pytest.raises(ConfigError, match=r"executor\.options\.room: 0 is not allowed; give a whole number from 1"):
        load_config(path, ["executor.options.room=0"])
    with pytest.raises(ConfigError, match=r"unknown executor 'rai'; did you mean 'ray'"):
        load_config(path, ["executor.name=rai"])


@pytest.mark.slow
def test_1000_cells_are_scheduled_with_little_overhead_each(stub, tmp_path, capsys):
    arms = [{"training": "supervised", "strategy": name} for name in ("random", "entropy")]
    many = {"seeds": list(range(91)), "budgets": [4, 7, 9, 11, 13], "trainings": {}, "arms": arms}
    config = load_config(write_experiment(tmp_path, **stub, **many))
    assert run_experiment(config, tmp_path / "runs", console=Console(file=io.StringIO())) == []
    assert len(Stub.started) == 1001
    each = Stub.overhead / len(Stub.started)
    with capsys.disabled():
        print(f"\n{1000 * each:.1f} ms of overhead a cell")
    assert each < 0.06, "0.02 on an idle machine"
