"""How costs grow, at tiny sizes."""

import pytest
from PIL import Image

from miaod_plugin.experiments.benchmarks import loading, scaling
from miaod_plugin.experiments.benchmarks.growth import Growth, draw, show


def test_slopes_tell_linear_from_quadratic_costs():
    assert Growth("linear", [10, 100, 1000], [5.0, 1.0, 10.0]).slope == pytest.approx(1)
    assert Growth("quadratic", [10, 100], [1.0, 100.0]).slope == pytest.approx(2)


def test_everything_is_timed_at_every_size_and_drawn(tmp_path, capsys):
    grown = [scaling.scoring([4, 8]), scaling.coreset([8, 16], dimensions=4, picks=4), scaling.training([8, 16])]
    grown += [loading.voc(tmp_path, [2, 4]), loading.coco(tmp_path, [2, 4])]
    assert all(len(one.seconds) == len(one.sizes) == 2 for one in grown)
    show(grown)
    lines = capsys.readouterr().out.splitlines()
    assert sum("one pass of training" in line for line in lines) == 2
    draw(grown, tmp_path / "growth.png")
    assert Image.open(tmp_path / "growth.png").size == (960, 780)
