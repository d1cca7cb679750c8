"""The reference of experiment files, and the page that shows it."""

from pathlib import Path

import pytest
import yaml
from tiny_experiment import write_experiment
from typer.testing import CliRunner

from miaod_plugin.cli.app import app
from miaod_plugin.errors import ConfigError
from miaod_plugin.experiments.config.reference import as_markdown, key_parts, option_parts
from miaod_plugin.experiments.config.schema import load_config
from miaod_plugin.registry import DETECTORS, STRATEGIES, TRAININGS, registered

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"


def shown_by(*arguments):
    result = CliRunner().invoke(app, ["config", *arguments])
    assert result.exit_code == 0
    return result.output


def test_the_page_is_what_the_schema_says():
    assert PAGE.read_text(encoding="utf-8") == as_markdown(), "write it anew: miaod config --markdown"


@pytest.mark.parametrize(
    "name", [None, *(name for group in (DETECTORS, STRATEGIES, TRAININGS) for name in registered(group))]
)
def test_every_key_says_what_it_may_be_and_what_it_means(name):
    for part in key_parts() if name is None else option_parts(name):
        for entry in part.entries:
            assert len(entry.meaning) > 8 and entry.allowed, entry
            assert not entry.meaning.startswith("As in"), entry


def test_every_key_that_a_run_stores_is_in_the_reference(tmp_path):
    stored = yaml.safe_load(yaml.safe_dump(load_config(write_experiment(tmp_path)).model_dump(mode="json")))
    trainings = [part for name in registered(TRAININGS) for part in option_parts(name)]
    known = {entry.key for part in key_parts() + trainings for entry in part.entries}
    known |= {f"trainings.{name}" for name in registered(TRAININGS)}

    def keys(value, prefix):
        if isinstance(value, dict):
            return {
                key for name, inner in value.items() for key in {f"{prefix}{name}"} | keys(inner, f"{prefix}{name}.")
            }
        return keys(value[0], f"{prefix}0.") if isinstance(value, list) and value else set()

    assert keys(stored, "") - known == set()


def test_the_command_shows_keys_and_options():
    assert "training.batch_size (default 2)\n    Images in a step;" in shown_by()
    assert "options.width (default 16)" in shown_by("retinanet_tiny")
    of_both = shown_by("miaod")
    assert "May be 'top_k' or 'weights'." in of_both and "trainings.miaod.rounds (default 2)" in of_both
    assert "It has no options." in shown_by("random")
    assert shown_by("--markdown") == as_markdown()


def test_a_name_that_is_neither_a_detector_nor_a_strategy_is_refused():
    known = "no detector, strategy, training, stopping rule or executor"
    with pytest.raises(ConfigError, match=f"'retinanet_tinny' is {known}; did you mean 'retinanet_tiny'"):
        option_parts("retinanet_tinny")
