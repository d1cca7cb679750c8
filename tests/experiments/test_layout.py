import pytest
import yaml
from tiny_experiment import TINY, write_experiment

from miaod_plugin.errors import ConfigError, DataError
from miaod_plugin.experiments.config.schema import load_config
from miaod_plugin.experiments.config.trainings import load_estimator
from miaod_plugin.experiments.store.layout import Run

ARMS = [*TINY["arms"], {"training": "short", "strategy": "random"}]
SHORT = TINY["trainings"] | {"short": {"kind": "miaod", "rounds": 0}}
LONG = {"kind": "miaod", "rounds": 2}
DATA = {"train": {"images": 24, "boxes": 70, "sha256": "a"}, "test": {"images": 8, "boxes": 20, "sha256": "b"}}


def claim(folder, fresh=False, **changes):
    run = Run(load_config(write_experiment(folder, **changes)), folder / "runs")
    with run.locked():
        run.claim(DATA, fresh)
    return run


def test_arms_seeds_and_later_budgets_may_be_added(tmp_path):
    claim(tmp_path)
    more = {
        "arms": [{"training": "supervised", "strategy": "coreset"}, *TINY["arms"]],
        "seeds": [0, 1, 2],
        "budgets": [4, 7, 9, 12],
        "full_supervision": True,
        "full_supervision_steps": 90,
        "trainings": TINY["trainings"] | {"no-attention": {"kind": "miaod", "options": {"attention": "level"}}},
        "jobs": 1,
    }
    run = claim(tmp_path, **more)
    stored = yaml.safe_load((run.root / "config.yaml").read_text())
    assert stored["budgets"] == [4, 7, 9, 12]
    assert len(stored["arms"]) == 4


def test_how_a_run_works_may_change_where_its_results_do_not(tmp_path):
    claim(tmp_path)
    how = {"num_workers": 2, "score_batch_size": 1, "checkpoint_seconds": 600.0, "cache_bytes": 10**6}
    run = claim(tmp_path, training=TINY["training"] | how)
    assert yaml.safe_load((run.root / "config.yaml").read_text())["training"] == TINY["training"] | how
    with pytest.raises(ConfigError, match=r"training\.batch_size: 4 -> 2 \("):
        claim(tmp_path, training=TINY["training"] | {"batch_size": 2})


def test_a_model_of_a_run_is_loaded_to_work_as_the_run_now_says(finished, tmp_path):
    training = TINY["training"] | {"score_batch_size": 1, "checkpoint_seconds": 600.0}
    config = load_config(write_experiment(tmp_path, training=training))
    folder = finished[0] / "arms" / "supervised+random" / "seed0" / "cycle0"
    estimator = load_estimator(config, folder / "model.safetensors")
    assert (estimator.score_batch_size, estimator.checkpoint_seconds, estimator.batch_size) == (1, 600.0, 4)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"training": {"batch_size": 2, "learning_rate": 0.01}}, "training.batch_size: 4 -> 2"),
        ({"trainings": SHORT | {"miaod": {"label_epochs": 1}}}, "trainings.miaod.rounds: 1 -> None"),
        ({"trainings": SHORT | {"miaod": {"rounds": 1}}}, "trainings.short.label_epochs: 1 -> None"),
        ({"data": {**TINY["data"], "n_classes": 4}}, "data.n_classes: 3 -> 4"),
        ({"budgets": [4, 8, 9]}, "budgets: [4, 7, 9] -> [4, 8, 9]"),
        ({"budgets": [4, 7]}, "budgets: [4, 7, 9] -> [4, 7]"),
        ({"budget": {"unit": "boxes"}}, "budget.unit: 'images' -> 'boxes'"),
        ({"full_supervision": False}, "full_supervision: the reference is gone"),
        ({"full_supervision_steps": 90}, "full_supervision_steps: None -> 90"),
        ({"seeds": [1]}, "seeds: 0 is gone"),
        ({"trainings": SHORT | {"short": {"kind": "miaod", "rounds": 2}}}, "trainings.short.rounds: 0 -> 2"),
        (
            {"arms": [*ARMS, {"training": "long", "strategy": "random"}], "trainings": SHORT | {"long": LONG}},
            "optimiser steps of every arm: 36 -> 66 with 9 images",
        ),
        ({"arms": TINY["arms"][:2]}, "arms: supervised+entropy is gone"),
        (
            {"arms": [*TINY["arms"][:2], {**TINY["arms"][2], "options": {"aggregate": "max"}}]},
            "arms.supervised+entropy.options.aggregate: None -> 'max'",
        ),
    ],
)
def test_any_other_change_of_a_run_is_refused_with_what_changed(tmp_path, changes, named):
    had = {"full_supervision": True, "trainings": SHORT, "arms": ARMS}
    run = claim(tmp_path, **had)
    before = (run.root / "config.yaml").read_text()
    with pytest.raises(ConfigError) as refused:
        claim(tmp_path, **had | changes)
    assert named in str(refused.value)
    assert "\n" not in str(refused.value)
    assert (run.root / "config.yaml").read_text() == before


def test_a_run_of_an_earlier_version_goes_on_with_the_defaults_of_new_keys(tmp_path):
    run = claim(tmp_path)
    stored = yaml.safe_load((run.root / "config.yaml").read_text())
    del stored["full_supervision"], stored["budget"]
    (run.root / "config.yaml").write_text(yaml.safe_dump(stored))
    (run.root / "SHA256SUMS").unlink()
    claim(tmp_path)
    with pytest.raises(ConfigError, match="'images' -> 'boxes'"):
        claim(tmp_path, budget={"unit": "boxes"})


def test_a_data_set_that_is_not_the_one_of_the_run_is_refused(tmp_path):
    run = claim(tmp_path)
    grown = {**DATA, "train": {"images": 25, "boxes": 71, "sha256": "c"}}
    with pytest.raises(DataError, match=r"data\.train: .*\(24 images with 70 boxes then, 25 with 71 now"), run.locked():
        run.claim(grown)
    with run.locked():
        run.claim(grown, fresh=True)


def test_fresh_deletes_the_run_and_nothing_else(tmp_path):
    run = claim(tmp_path)
    (run.root / "arms" / "x").mkdir(parents=True)
    (run.root / "results.csv").write_text("")
    other = tmp_path / "runs" / "other"
    other.mkdir()
    claim(tmp_path, fresh=True, budgets=[5, 6])
    assert sorted(path.name for path in run.root.iterdir()) == ["SHA256SUMS", "config.yaml", "data.json", "lock"]
    assert other.exists()


def test_a_second_process_is_refused_until_the_first_ends(tmp_path):
    run = Run(load_config(write_experiment(tmp_path)), tmp_path / "runs")
    with run.locked():
        second = Run(run.config, tmp_path / "runs")
        with pytest.raises(ConfigError, match="another process is working on this run"), second.locked():
            pass
    with second.locked():
        assert (run.root / "lock").exists()
