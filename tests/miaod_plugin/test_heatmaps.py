import numpy as np
import pytest
import torch

from miaod_plugin import MIAODDetector
from miaod_plugin.data import make_digit_scenes
from miaod_plugin.detectors.base import Features
from miaod_plugin.errors import MiaodError
from miaod_plugin.mil.heatmaps import image_maps, miaod_maps
from miaod_plugin.mil.objective import mil_instances


def two_levels(original_size=(32, 64), image_size=(32, 64)) -> Features:
    """Features of a 4 x 8 grid and a 2 x 4 grid, two anchors a cell, centred in the middle of their cells."""
    anchors = []
    for height, width, stride in ((4, 8, 8), (2, 4, 16)):
        for row in range(height):
            for column in range(width):
                x, y = (column + 0.5) * stride, (row + 0.5) * stride
                anchors += [[x - size, y - size, x + size, y + size] for size in (6.0, 10.0)]
    maps = [torch.zeros(1, 3, 4, 8), torch.zeros(1, 3, 2, 4)]
    return Features(maps, torch.tensor(anchors), [image_size], [original_size], image_size)


def test_the_map_peaks_where_the_largest_instance_is_centred():
    values = torch.zeros(1, 80)
    values[0, 2 * (1 * 8 + 5) + 1] = 3.0  # level 0, row 1, column 5, second anchor: centred at (44, 12)
    heat = image_maps(values, two_levels())[0]
    assert heat.shape == (32, 64)
    peak = np.unravel_index(int(heat.argmax()), heat.shape)
    assert abs(peak[0] + 0.5 - 12) <= 0.5 and abs(peak[1] + 0.5 - 44) <= 0.5
    assert heat.max() == pytest.approx(3.0, rel=0.15)  # 12 and 44 lie between pixel centres
    assert heat[:, :24].abs().max() == 0


def test_levels_are_merged_by_their_maximum():
    values = torch.full((1, 80), 1.0)
    values[:, 64:] = 2.0
    assert torch.equal(image_maps(values, two_levels())[0], torch.full((32, 64), 2.0))


def test_the_map_has_the_pixels_of_the_image_as_it_was_given():
    values = torch.zeros(1, 80)
    values[0, 2 * (1 * 8 + 5)] = 1.0
    heat = image_maps(values, two_levels(original_size=(64, 128)))[0]
    peak = np.unravel_index(int(heat.argmax()), heat.shape)
    assert heat.shape == (64, 128) and abs(peak[0] - 24) <= 1 and abs(peak[1] - 88) <= 1


def test_levels_may_differ_in_their_anchors_per_cell():
    features = two_levels()
    features.anchors = torch.cat([features.anchors[:64:2], features.anchors[64:]])  # one a cell, then two
    features.anchors_per_cell = [1, 2]
    values = torch.zeros(1, 48)
    values[0, 1 * 8 + 5] = 1.0
    values[0, 32 + 2 * 4 :] = 2.0  # the coarse level's second row
    heat = image_maps(values, features)[0]
    assert heat[12, 44] > 0.8 and heat[24, 32] == 2.0 and heat[0, 0] == 0


def test_proposals_fill_their_boxes_with_the_largest_value():
    boxes = torch.tensor([[[0.0, 0, 16, 8], [8, 4, 32, 16]]])
    features = Features([torch.zeros(1, 2, 5)], boxes, [(16, 32)], [(32, 64)], (16, 32))
    heat = image_maps(torch.tensor([[1.0, 2.0]]), features)[0]
    expected = torch.zeros(32, 64)
    expected[:16, :32] = 1
    expected[8:, 16:] = 2
    assert torch.equal(heat, expected)


def test_instances_that_are_no_grid_are_refused():
    with pytest.raises(MiaodError, match="same number of anchors in every cell"):
        image_maps(torch.zeros(1, 79), two_levels())


@pytest.mark.parametrize("mode", ["improved", "faithful"])
def test_miaod_maps_come_from_one_pass_over_the_pool(mode):
    data = make_digit_scenes(4, random_state=0)
    detector = MIAODDetector("retinanet_tiny", classes=data.classes, mode=mode, max_steps=5, random_state=0)
    detector.fit(data.X[:2], data.y[:2])
    maps = detector.map_pool(data.X, {"maps": lambda outputs: miaod_maps(outputs, detector.training_.options_)})["maps"]
    assert len(maps) == 4
    for of_image in maps:
        assert list(of_image) == ["discrepancy", "weight", "product"]
        for heat in of_image.values():
            assert heat.shape == (64, 64) and np.isfinite(heat).all() and (heat >= 0).all() and heat.max() > 0


def test_the_product_of_a_softmax_detector_is_what_its_adversarial_rounds_compare():
    data = make_digit_scenes(2, random_state=0)
    options = {"weights": None, "size": 64}
    detector = MIAODDetector(
        "ssd300_vgg16", classes=data.classes, detector_options=options, mode="faithful", max_steps=5, random_state=0
    ).fit(data.X, data.y)

    def expected(outputs):
        f1, f2 = (torch.cat(levels, dim=1).softmax(dim=2) for levels in outputs.heads)
        weights = torch.cat(mil_instances(outputs, detector.training_.options_).weights, dim=1)
        return image_maps(((f1 - f2).abs() * weights).mean(dim=2), outputs.features)

    reducers = {"maps": lambda outputs: miaod_maps(outputs, detector.training_.options_), "expected": expected}
    found = detector.map_pool(data.X, reducers)
    for maps, heat in zip(found["maps"], found["expected"], strict=True):
        np.testing.assert_allclose(maps["product"], heat, rtol=1e-5)
