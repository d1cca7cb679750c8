"""The benchmark of scheduling, with few cells."""

from miaod_plugin.experiments.benchmarks.cells import OF_A_SEED, StubProcesses, schedule
from miaod_plugin.experiments.store.layout import open_run
from miaod_plugin.experiments.store.records import survey


def test_cells_that_learn_nothing_are_whole_cells_and_timed_without_the_start_of_their_worker(tmp_path):
    took = schedule(StubProcesses, 2 * OF_A_SEED, tmp_path, jobs=1)
    assert (took.cells, took.workers) == (2 * OF_A_SEED, 1)
    found = survey(open_run(tmp_path / "stub"))
    assert len(found.records) == took.cells and not found.damage
    assert 0 < took.inside < took.each and took.start > 0
