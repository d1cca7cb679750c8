"""The pictures of a report: what an arm picked, what its model saw, and MI-AOD's maps."""

import numpy as np
import pytest

from miaod_plugin.experiments.config.trainings import load_estimator
from miaod_plugin.experiments.report.page import open_run
from miaod_plugin.experiments.report.pictures import MOST, heatmaps, hint, selections
from miaod_plugin.experiments.store.datasets import load_data
from miaod_plugin.mil.heatmaps import miaod_maps
from miaod_plugin.strategies import MIAODSampling


@pytest.fixture(scope="module")
def seen(finished):
    run = open_run(finished[0])
    return run, load_data(run.config)[0]


def of_arm(seen, arm):
    return [one for _, cycle in selections(seen[0], [arm], seen[1]) for one in cycle]


def test_random_selection_shows_no_utility(seen):
    assert {picture.caption for one in of_arm(seen, "supervised+random") for picture in one.most + one.least} == {""}
    assert all(float(picture.caption) >= 0 for one in of_arm(seen, "supervised+entropy") for picture in one.most)


def test_an_arm_without_a_box_above_the_threshold_says_so(seen, page):
    hints = set()
    for one in of_arm(seen, "supervised+random"):
        assert bool(one.hint) != any(picture.boxes for picture in one.most + one.least)
        assert one.hint in page.text
        hints.add(one.hint)
    assert hints != {""}
    assert hint([{"scores": []}, {"scores": []}]) == "The model finds no box on these images."
    low, high = {"scores": [0.02]}, {"scores": [0.3, 0.1]}
    assert hint([low, low]) == "No box on these images has a score of 0.3 or more; the highest is 0.02."
    assert hint([low, high]) == ""


def test_heatmaps_of_one_kind_share_a_scale_and_name_their_image_and_its_uncertainty(seen, page):
    run, data = seen
    shown = heatmaps(run, ["miaod+miaod"], data)
    images = [data.X[data.ids.tolist().index(row.image.id)] for row in shown.rows]
    assert len(images) == min(MOST, 2)  # as many as the last query took
    estimator = load_estimator(run.config, run.folder(shown.cell) / "model.safetensors")
    reducers = {"maps": lambda outputs: miaod_maps(outputs, estimator.training_.options_)}
    maps = estimator.map_pool(np.array(images), reducers)["maps"]
    for kind, bar in shown.bars.items():
        peaks = [float(of_image[kind].max()) for of_image in maps]
        assert bar.id == f"0 to {max(peaks):.3g}" and min(peaks) < max(peaks)
        assert f'aria-label="{bar.id}"' in page.source
    uncertainties = MIAODSampling(adapt=False).utilities(estimator, np.array(images))
    for row, uncertainty in zip(shown.rows, uncertainties, strict=True):
        assert row.image.caption == f"{row.image.id}, uncertainty {uncertainty:.3g}"
        assert row.image.caption in page.text
