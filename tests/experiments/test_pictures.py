"""The pictures of a report: what an arm picked, what its model saw, and MI-AOD's maps."""

import numpy as np
import pytest

from miaod_plugin.experiments.config.trainings import load_estimator
from miaod_plugin.experiments.report.page import open_run
from miaod_plugin.experiments.report.pictures import MOST, heatmaps, hint, place_boxes, selections
from miaod_plugin.experiments.store.datasets import load_data
from miaod_plugin.mil.heatmaps import miaod_maps
from miaod_plugin.strategies import MIAODSampling


@pytest.fixture(scope="module")
def seen(finished):
    run = open_run(finished[0])
    return run, load_data(run.config)[0]


def of_arm(seen, arm):
    return [one for _, cycle in selections(seen[0], [arm], seen[1]) for one in cycle]


def test_labels_of_boxes_neither_overlap_nor_leave_the_picture():
    chance = np.random.default_rng(0)
    for canvas in ((256, 256), (256, 100), (60, 256)):
        corners = np.sort(chance.uniform(0, 1, (12, 2, 2)), axis=1).reshape(12, 4) * [*canvas, *canvas]
        boxes = place_boxes(corners, ["car", "a rather long name"] * 6, [0.9] * 12, canvas)
        placed = [(box.place[0], box.place[1] - 14, 16 * 0.6 * len(box.label)) for box in boxes if box.place]
        assert placed
        for x, y, width in placed:
            assert x >= 0 and y >= -1 and x + width <= canvas[0] and y + 16 <= canvas[1]
        for i, (x, y, width) in enumerate(placed):
            for x2, y2, width2 in placed[:i]:
                assert x + width <= x2 or x2 + width2 <= x or abs(y - y2) >= 16


def test_boxes_at_one_place_have_labels_at_different_ones():
    boxes = place_boxes(np.array([[10, 10, 60, 60]] * 3, dtype=float), ["one", "two", "three"], [0.9] * 3, (256, 256))
    assert len({box.place for box in boxes}) == 3


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
