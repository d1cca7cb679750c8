"""Pictures of detections and heatmaps that can be read and compared."""

import numpy as np
import pytest
import torch
from PIL import Image

from miaod_plugin.drawing import COLOURS, colour_bar, draw_detections, free_place, overlay, side_by_side

GREY = torch.full((3, 48, 80), 128, dtype=torch.uint8)


def crowded(n: int, canvas=(640, 384)) -> np.ndarray:
    corners = np.random.default_rng(0).uniform(0, 1, (n, 2, 2)) * canvas
    return np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)


def test_no_label_covers_another_or_leaves_the_picture():
    taken = []
    for box in [*crowded(60), *[[0, 0, 640, 384]] * 3, *[[630, 370, 640, 384]] * 3]:
        place = free_place(box, (90, 16), (640, 384), taken)
        if place is not None:
            left, top, right, bottom = place
            assert left >= 0 and top >= 0 and right <= 640 and bottom <= 384
            assert all(left >= r or l >= right or top >= b or t >= bottom for l, t, r, b in taken)  # noqa: E741
            taken.append(place)
    assert len(taken) > 40


def test_a_label_without_any_room_is_left_out():
    assert free_place((0, 0, 100, 30), (100, 30), (100, 30), [(0, 0, 100, 30)]) is None
    assert free_place((0, 0, 10, 10), (200, 10), (100, 30), []) is None


def test_long_class_names_are_cut_to_the_picture():
    found = {"boxes": np.array([[0.0, 0, 70, 40]]), "labels": np.array([0]), "scores": np.array([0.9])}
    picture = np.asarray(draw_detections(GREY, found, ["a name that never ends " * 9]))
    label = (picture == np.array([int(COLOURS[0][k : k + 2], 16) for k in (1, 3, 5)])).all(axis=2)
    rows = label.sum(axis=1)
    assert picture.shape == (384, 640, 3) and rows[2:8].min() > 100, "the label lies along the upper edge"


def test_one_colour_means_one_value_where_pictures_share_their_top():
    low, high = np.zeros((48, 80), np.float32), np.zeros((48, 80), np.float32)
    low[10:30, 10:30], high[10:30, 40:70], high[10:30, 10:30] = 0.2, 0.8, 0.2
    one, other = (np.asarray(overlay(GREY, heat, 0.8)).astype(int) for heat in (low, high))
    assert (one[160, 160] == other[160, 160]).all()
    assert one.sum(axis=2).max() < other.sum(axis=2).max()
    assert (np.asarray(overlay(GREY, 0 * low, 0.0)) == np.asarray(overlay(GREY, 0 * low, 1.0))).all()


def test_the_bar_shows_the_colours_from_zero_to_the_top():
    bar = np.asarray(colour_bar(0.25, 400)).astype(int)
    assert bar.shape[1] == 400
    assert (np.diff(bar[0].sum(axis=1)) >= 0).all() and bar[0, 0].sum() < 30 < 500 < bar[0, -1].sum()
    assert (bar[-10:, 360:] < 100).any(), "the number stands at the right"


@pytest.mark.parametrize("title", ["", "a name " * 100])
def test_a_sheet_has_room_for_its_title_and_bars(title):
    picture = Image.new("RGB", (384, 200), "red")
    plain = side_by_side({"a": picture, "b": picture}, title)
    sheet = side_by_side({"a": picture, "b": picture}, title, {"b": 0.5})
    assert sheet.width == plain.width > 2 * 384 and sheet.height > plain.height + colour_bar(0.5, 384).height
    colours = np.asarray(sheet)
    assert (colours == [255, 0, 0]).all(axis=2).sum() == 2 * 384 * 200, "nothing is drawn over the pictures"
