"""The benchmark for GPUs measures what it says, tried on a CPU."""

import math

import pytest

from miaod_plugin.experiments.benchmarks.gpu import Setting, hours_of_a_seed, scoring, training
from miaod_plugin.experiments.benchmarks.training import write_photographs


def test_training_and_scoring_are_timed_beside_torchvision_s(tmp_path):
    setting = Setting("cpu", size=32, batch_size=2, steps=4, num_workers=0, images=4)
    X, y = write_photographs(tmp_path, setting.images, (48, 64))
    step, waiting = training(setting, X, y, tmp_path / "trace.json")
    assert math.isfinite(step.ours) and step.peer > 0 and 0 < waiting < 1  # so few steps of ours may seem to take none
    assert "enumerate(DataLoader)" in (tmp_path / "trace.json").read_text()
    scored = scoring(setting, X, y)
    assert scored.ours > 0 < scored.peer


def test_the_hours_of_a_seed_are_those_of_all_steps_of_the_paper_s_protocol():
    # (26 labelled + 8 unlabelled passes) x 7 budgets, two images a step
    passes = 34 * sum((827, 1240, 1653, 2066, 2479, 2892, 3305))
    assert hours_of_a_seed(0.36, 2) == pytest.approx(passes / 2 * 0.36 / 3600, rel=1e-3)
    assert hours_of_a_seed(0.36, 16) == pytest.approx(hours_of_a_seed(0.36, 2) / 8)
