"""Boxes follow their object into every view."""

import pytest
import torch

from miaod_plugin.views import AsItIs, CutOut, Mirrored, Rotated, Scaled


def bright_box(image):
    """Return the box of what is bright in an image."""
    rows, columns = (image.amax(dim=0) > 150).nonzero().unbind(1)
    return torch.stack([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]).float()


@pytest.mark.parametrize(
    "view", [AsItIs(), Mirrored(), CutOut(0.1), Scaled(0.8), Scaled(1.5), Rotated(5), Rotated(-30)]
)
@pytest.mark.parametrize("box", [(40, 30, 70, 50), (60, 58, 90, 80), (50, 10, 58, 70)])
def test_a_box_lies_where_its_object_is_seen(view, box):
    image = torch.zeros(3, 90, 140, dtype=torch.uint8)
    x1, y1, x2, y2 = box
    image[:, y1:y2, x1:x2] = 255
    seen = view(image)
    assert seen.dtype == torch.uint8
    moved = view.boxes(torch.tensor([box], dtype=torch.float32), (90, 140))[0]
    torch.testing.assert_close(moved, bright_box(seen), atol=1.5, rtol=0)


def test_what_is_cut_out_is_grey_and_the_image_itself_stays():
    image = torch.full((3, 30, 60), 7, dtype=torch.uint8)
    seen = CutOut(0.2)(image)
    assert (image == 7).all() and (seen == 128).sum() == 2 * 3 * 6 * 6


def test_boxes_that_turn_out_of_view_end_at_its_edge():
    moved = Rotated(45).boxes(torch.tensor([[0.0, 0.0, 20.0, 10.0]]), (60, 60))
    assert moved.min() >= 0 and moved.max() <= 60
