"""Pictures of a page."""

import base64
import io

import numpy as np
import torch
from PIL import Image

from miaod_plugin.pages.pictures import place_boxes, thumbnail


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


def test_noise_which_jpeg_makes_no_smaller_is_a_picture_too():
    noise = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 256, 256), dtype=np.uint8))
    picture = thumbnail("noise", noise, 256)
    with Image.open(io.BytesIO(base64.b64decode(picture.uri.partition(",")[2]))) as image:
        image.load()
    assert image.size == (picture.width, picture.height) == (256, 256)
