import json

import pytest
from tiny_experiment import TINY, write_experiment

from miaod_plugin.experiments.config.sampling import random_state
from miaod_plugin.experiments.config.schema import load_config
from miaod_plugin.experiments.config.trainings import load_estimator
from miaod_plugin.experiments.cycle.cycle import Experiment, average_precision, run_cycle
from miaod_plugin.experiments.store.datasets import load_data
from miaod_plugin.experiments.store.layout import Run
from miaod_plugin.metrics import coco_average_precision, voc_average_precision
from miaod_plugin.stopping import agreement, uncertainty


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """The first cycle of two arms, trained long enough to find something; its shared cell, and what was reported."""
    folder = tmp_path_factory.mktemp("begun")
    long = {"max_steps": 200, "batch_size": 4, "optimizer": "adamw", "learning_rate": 0.004}
    arms = TINY["arms"][1:]
    config = load_config(write_experiment(folder, arms=arms, budgets=[20, 22], seeds=[3], training=long, miaod=None))
    run = Run(config, folder / "runs")
    experiment, (shared,) = Experiment(config, run, *load_data(config)), run.shared_cells()
    stages = []
    for cell in (shared, *run.next_cells(shared)):
        run_cycle(experiment, cell, lambda stage, *_: stages.append(stage))
    return experiment, shared, stages


def metrics_of(run, cell) -> dict:
    return json.loads((run.folder(cell) / "metrics.json").read_text())


def test_the_model_that_arms_share_is_trained_and_scored_once(begun):
    experiment, shared, stages = begun
    metrics = [metrics_of(experiment.run, cell) for cell in (shared, *experiment.run.next_cells(shared))]
    assert len(metrics) == 3 and stages.count("scoring") == 1
    assert stages.count("training") == metrics[0]["steps"] == 200
    for name in ("ap50", "per_class"):
        assert metrics[0][name] == metrics[1][name] == metrics[2][name]


def test_the_score_of_a_cell_is_that_of_its_model_on_the_test_images(begun):
    experiment, shared, _ = begun
    model = load_estimator(experiment.config, experiment.run.folder(shared) / "model.safetensors")
    assert model.random_state == random_state(3, "training", 0)
    test, metrics = experiment.test, metrics_of(experiment.run, shared)
    expected = voc_average_precision(model.predict(test.X), test.y, 3, method="area")
    assert metrics["ap50"] == expected["map"] > 0.05
    assert metrics["per_class"] == dict(zip(test.classes, expected["per_class"], strict=True))


def test_every_metric_is_computed_its_own_way(begun):
    experiment, shared, _ = begun
    model = load_estimator(experiment.config, experiment.run.folder(shared) / "model.safetensors")
    test, found = experiment.test, {}
    predictions = model.predict(test.X)
    for metric in ("voc_area", "voc_11point", "coco"):
        found[metric] = average_precision(predictions, test, metric)
    for method in ("area", "11point"):
        expected = voc_average_precision(predictions, test.y, 3, method=method)
        per_class = dict(zip(test.classes, expected["per_class"], strict=True))
        assert found[f"voc_{method}"] == {"ap50": expected["map"], "per_class": per_class}
    expected = coco_average_precision(predictions, test.y, 3)
    assert found["coco"]["per_class"] == dict(zip(test.classes, expected["per_class"], strict=True))
    assert (found["coco"]["ap50"], found["coco"]["ap"]) == (expected["ap50"], expected["ap"])
    assert len({found[metric]["ap50"] for metric in found} | {found["coco"]["ap"]}) == 4


def test_a_cell_says_how_far_its_detections_agree_with_those_of_the_cycle_before(begun):
    experiment, shared, _ = begun
    run = experiment.run
    first = run.next_cells(shared)[0]
    (second,) = run.next_cells(first)
    run_cycle(experiment, second, lambda *_: None)
    models = [load_estimator(experiment.config, run.folder(cell) / "model.safetensors") for cell in (shared, second)]
    before, after = (model.predict(experiment.test.X) for model in models)
    assert metrics_of(run, shared)["agreement"] is None
    assert metrics_of(run, second)["agreement"] == agreement(after, before)
    assert metrics_of(run, second)["uncertainty"] == uncertainty(after) > 0
    assert metrics_of(run, first)["uncertainty"] == metrics_of(run, shared)["uncertainty"] == uncertainty(before)


def test_lost_detections_leave_out_the_agreement_alone(begun, caplog):
    experiment, shared, _ = begun
    run = experiment.run
    (second,) = run.next_cells(run.next_cells(shared)[1])
    path = run.folder(shared) / "detections.safetensors"
    whole = path.read_bytes()
    for content in (whole[:-9], None):
        path.unlink()
        if content is not None:
            path.write_bytes(content)
        run_cycle(experiment, second, lambda *_: None)
        assert metrics_of(run, second)["agreement"] is None and metrics_of(run, second)["uncertainty"] > 0
        path.write_bytes(whole)
    assert sum(str(path) in message for message in caplog.messages) == 1
