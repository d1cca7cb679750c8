"""How an arm's detector is trained: for how many steps, and whether its queries train."""

import numpy as np
import pytest
from tiny_experiment import write_experiment

from miaod_plugin.experiments.config.schema import load_config
from miaod_plugin.experiments.config.trainings import make_strategy, optimiser_steps
from miaod_plugin.experiments.cycle.cycle import Experiment
from miaod_plugin.experiments.store.datasets import load_data
from miaod_plugin.experiments.store.layout import Cell, Run

ARMS = {
    "as-it-is": {"training": "label_set", "strategy": "miaod"},
    "told": {"training": "label_set", "strategy": "miaod", "options": {"adapt": True}},
    "miaod": {"training": "miaod", "strategy": "miaod"},
}
LONG, SHORT = {"kind": "supervised", "epochs": 20}, {"kind": "supervised", "epochs": 5}
MIAOD = {"kind": "miaod", "label_epochs": 1, "rounds": 1}  # 12 passes over the labelled images


def test_queries_train_only_where_the_training_sees_unlabelled_images_or_the_arm_says_so(tmp_path):
    config = load_config(write_experiment(tmp_path, arms=[{"name": name} | arm for name, arm in ARMS.items()]))
    adapts = {arm.name: make_strategy(config, arm, 7).adapt for arm in config.arms}
    assert adapts == {"as-it-is": False, "told": True, "miaod": True}
    asked_about_others = [make_strategy(config, arm, 7, "label_set").adapt for arm in config.arms]
    assert asked_about_others == [False, True, False], "the training of the model counts"
    assert {make_strategy(config, arm, 7).random_state for arm in config.arms} == {7}


@pytest.mark.parametrize(
    ("trainings", "passes"),
    [({"a": SHORT, "b": LONG}, 20), ({"a": LONG, "b": MIAOD}, 12), ({"a": SHORT, "b": MIAOD}, 12), ({"a": SHORT}, 5)],
)
def test_arms_train_as_long_as_the_longest_of_those_that_learn_from_unlabelled_images(tmp_path, trainings, passes):
    arms = [{"training": name, "strategy": "random"} for name in trainings]
    config = load_config(write_experiment(tmp_path, arms=arms, trainings=trainings))
    assert optimiser_steps(config, 9) == passes * 3  # three batches of up to four


def test_a_cell_trains_for_the_images_that_its_budget_buys_on_average(tmp_path):
    annotation = {"unit": "seconds", "per_image": 10, "per_box": 5}
    changes = {"budgets": [5, 200, 310], "budget": annotation, "full_supervision": True}
    config = load_config(write_experiment(tmp_path, **changes))
    experiment = Experiment(config, Run(config, tmp_path), *load_data(config))
    mean_cost = np.mean([10 + 5 * len(target["labels"]) for target in experiment.train.y])
    bought = [1, round(200 / mean_cost), round(310 / mean_cost)]  # at least one image
    assert 4 < bought[1] < bought[2] < 24
    steps = [experiment.steps(Cell(0, cycle, "supervised", "supervised+random")) for cycle in range(3)]
    assert steps == [12 * -(-n // 4) for n in bought]
    assert experiment.steps(Cell(0, 0, "full-supervision")) == 12 * 6
