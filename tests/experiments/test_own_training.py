"""A training of one's own is one file and one entry point: registered, named in an experiment, resumed and saved."""

import importlib
import os
import shutil
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
from own_packages import register
from processes import descendants, start_until, wait_for_end
from tiny_experiment import TINY, bits, run_tiny, untimed, write_experiment

from miaod_plugin import ObjectDetector
from miaod_plugin.data import make_digit_scenes
from miaod_plugin.errors import ConfigError
from miaod_plugin.experiments.config.reference import option_parts
from miaod_plugin.experiments.config.schema import load_config
from miaod_plugin.registry import TRAININGS, find, registered

SMOOTHED = '''
import torch
from miaod_plugin import Supervised
from miaod_plugin.parameters import Probability


class Smoothed(Supervised):
    """Supervised training that also pulls every class score towards the middle.

    Parameters
    ----------
    smoothing : float
        Weight of the pull.
    """

    def __init__(self, epochs: int = 26, smoothing: Probability = 0.1):
        super().__init__(epochs)
        self.smoothing = smoothing

    def losses(self, network, images, targets, stage):
        outputs = network(images, targets)
        scores = torch.cat(outputs.logits, dim=1).sigmoid()
        return outputs.loss | {"smoothing": self.smoothing * (scores - 0.5).square().mean()}
'''
ARMS = [{"training": name, "strategy": "random"} for name in ("smoothed", "hard")]
CHANGES = {
    "arms": ARMS,
    "trainings": {"smoothed": {"smoothing": 0.5}, "hard": {"kind": "smoothed", "smoothing": 0.0}},
    "training": TINY["training"] | {"max_steps": 12, "checkpoint_seconds": 0},
    "seeds": [0],
    "budgets": [4, 6],
    "jobs": 1,
}


@pytest.fixture
def installed(tmp_path, monkeypatch) -> Path:
    """Install the module as pip would: the file, and a folder that says what it registers; workers find it too."""
    site = tmp_path / "site"
    register(site, TRAININGS, "smoothed = smoothing:Smoothed")
    (site / "smoothing.py").write_text(SMOOTHED)
    monkeypatch.syspath_prepend(site)
    monkeypatch.setenv("PYTHONPATH", str(site), prepend=os.pathsep)
    importlib.invalidate_caches()
    yield site
    sys.modules.pop("smoothing", None)


def test_it_is_registered_and_its_parameters_are_checked_and_shown_as_those_of_the_built_in_ones(installed, tmp_path):
    assert "smoothed" in registered(TRAININGS)
    config = load_config(write_experiment(tmp_path, **CHANGES))
    assert [arm.name for arm in config.arms] == ["smoothed+random", "hard+random"]
    with pytest.raises(ConfigError, match=r"tiny\.yaml: trainings\.hard\.smoothing: 2 is not allowed; give a number f"):
        load_config(tmp_path / "tiny.yaml", ["trainings.hard.smoothing=2"])
    (part,) = option_parts("smoothed")
    assert [entry.key for entry in part.entries] == ["trainings.smoothed.epochs", "trainings.smoothed.smoothing"]


def test_its_detectors_are_saved_and_loaded(installed, tmp_path):
    data = make_digit_scenes(4, random_state=0)
    detector = ObjectDetector("retinanet_tiny", data.classes, training=find(TRAININGS, "smoothed")(), max_steps=4)
    detector.set_params(training__smoothing=0.25, random_state=0).fit(data.X, data.y)
    assert detector.losses_["smoothing"] > 0
    detector.save(tmp_path / "model.safetensors")
    loaded = ObjectDetector.load(tmp_path / "model.safetensors")
    assert type(loaded.training) is find(TRAININGS, "smoothed") and loaded.training.smoothing == 0.25
    np.testing.assert_array_equal(loaded.transform(data.X), detector.transform(data.X))


@pytest.mark.skipif(not os.path.isdir("/proc"), reason="finds child processes in /proc")
def test_a_run_with_it_that_is_killed_in_training_ends_with_the_bits_of_one_that_is_not(installed, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir(), killed.mkdir()
    expected, _ = run_tiny(whole, **CHANGES)
    yaml, run = write_experiment(killed, **CHANGES), killed / "runs" / "tiny"
    half = "tiny/arms/smoothed+random/seed0/cycle1/half_trained.ckpt"
    process, workers = start_until(yaml, killed / "runs", half)
    workers |= descendants(process.pid)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    wait_for_end(workers)
    shutil.copy(killed / "runs" / half, tmp_path)  # it is there: the run was killed in this training
    run_tiny(killed, **CHANGES)
    assert untimed(run) == untimed(expected) and bits(run) == bits(expected)
    models = [run / "shared" / "seed0" / name / "model.safetensors" for name in ("smoothed", "hard")]
    assert models[0].read_bytes() != models[1].read_bytes()
