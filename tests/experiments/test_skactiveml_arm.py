"""A strategy of scikit-activeml as an arm of an experiment."""

import pytest
from tiny_experiment import TINY, run_tiny, write_experiment

from miaod_plugin.errors import ConfigError
from miaod_plugin.experiments.config.schema import load_config

pytest.importorskip("skactiveml", reason="scikit-activeml is not installed")
ARM = {"training": "supervised", "strategy": "skactiveml:TypiClust"}


def test_it_runs_with_its_options_and_picks_what_the_budget_buys(tmp_path):
    arms = [{**ARM, "options": {"k": 3}}]
    run, _ = run_tiny(tmp_path, arms=arms, budgets=[4, 7], seeds=[0], training={"max_steps": 2})
    (selected, *_) = sorted(run.rglob("*skactiveml-TypiClust*/**/selected.csv"))
    assert len(selected.read_text().splitlines()) == 1 + 3


@pytest.mark.parametrize(
    ("arm", "message"),
    [
        ({"options": {"kk": 3}}, "arms.0.options.kk: unknown option of strategy 'skactiveml:TypiClust'"),
        ({"options": {"missing_label": 0}}, "arms.0.options.missing_label: unknown option"),
        ({"strategy": "skactiveml:TypiClus"}, "arms.0.strategy: .*did you mean 'TypiClust'"),
        ({"strategy": "skactive:TypiClust"}, "arms.0.strategy: unknown strategy 'skactive:TypiClust'"),
    ],
)
def test_what_it_does_not_have_is_refused_where_it_stands(tmp_path, arm, message):
    path = write_experiment(tmp_path, **{**TINY, "arms": [ARM | arm]})
    with pytest.raises(ConfigError, match=message):
        load_config(path)
