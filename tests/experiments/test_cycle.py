import json

from tiny_experiment import TINY, write_experiment

from miaod_plugin.experiments.config.schema import load_config
from miaod_plugin.experiments.cycle.cycle import Experiment, run_cycle
from miaod_plugin.experiments.store.datasets import load_data
from miaod_plugin.experiments.store.layout import Run


def test_the_model_that_arms_share_is_trained_and_scored_once(tmp_path):
    config = load_config(write_experiment(tmp_path, arms=TINY["arms"][1:], seeds=[0]))
    run = Run(config, tmp_path / "runs")
    experiment, (shared,) = Experiment(config, run, *load_data(config)), run.shared_cells()
    metrics, stages = [], []
    for cell in (shared, *run.next_cells(shared)):
        run_cycle(experiment, cell, lambda stage, *_: stages.append(stage))
        metrics.append(json.loads((run.folder(cell) / "metrics.json").read_text()))
    assert len(metrics) == 3 and stages.count("scoring") == 1
    assert stages.count("training") == metrics[0]["steps"]
    for name in ("ap50", "per_class"):
        assert metrics[0][name] == metrics[1][name] == metrics[2][name]
