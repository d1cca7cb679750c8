"""A strategy inside another one, as an experiment names it."""

import pytest
from tiny_experiment import run_tiny, write_experiment

from miaod_plugin.errors import ConfigError
from miaod_plugin.experiments.config.schema import load_config
from miaod_plugin.experiments.config.trainings import make_strategy


def arm(strategy, training="supervised"):
    return {"training": training, "strategy": "cost_aware", "options": {"strategy": strategy, "per_image": 1.0}}


def test_an_arm_runs_with_a_strategy_that_is_named_inside_another(tmp_path):
    options = {"name": "entropy", "options": {"aggregate": "sum"}}
    run_tiny(tmp_path, arms=[arm(options)], seeds=[0], budgets=[4, 6])
    config = load_config(tmp_path / "tiny.yaml")
    strategy = make_strategy(config, config.arms[0], 7)
    assert (strategy.strategy.aggregate, strategy.per_image, strategy.inner.random_state) == ("sum", 1.0, 7)
    picked = [path.read_text().splitlines() for path in (tmp_path / "runs").rglob("selected.csv")]
    assert [len(rows) for rows in picked] == [3]


@pytest.mark.parametrize(("options", "adapts"), [({}, False), ({"adapt": True}, True)])
def test_selection_does_not_train_unless_the_arm_says_so_inside(tmp_path, options, adapts):
    arms = [arm({"name": "miaod", "options": options}, "label_set")]
    config = load_config(write_experiment(tmp_path, arms=arms))
    assert make_strategy(config, config.arms[0], 0).strategy.adapt is adapts


@pytest.mark.parametrize(
    ("strategy", "message"),
    [
        ("entrop", r"arms.0.options.strategy: unknown strategy 'entrop'; did you mean 'entropy'"),
        ({"name": "entropy", "options": {"agregate": "sum"}}, r"options.strategy.options.agregate: unknown option"),
        ({"name": "entropy", "options": {"aggregate": 3}}, r"options.strategy.options.aggregate: 3 is not allowed"),
        ({"name": "entropy", "option": {}}, r"options.strategy.option: unknown key of a strategy"),
        ({"name": "entropy", "options": [3]}, r"options.strategy.options: \[3\] is no mapping"),
        (3, r"options.strategy: 3 is no strategy; give its name, or \{name, options\}"),
        ("miaod", r"arms.0.training: 'supervised' does not train what strategy 'cost_aware' reads"),
    ],
)
def test_what_is_wrong_inside_is_named(tmp_path, strategy, message):
    with pytest.raises(ConfigError, match=message):
        load_config(write_experiment(tmp_path, arms=[arm(strategy)]))
