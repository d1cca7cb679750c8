"""What training does to its images before a step."""

import sys

import numpy as np
import pytest
import torch

from miaod_plugin import ObjectDetector
from miaod_plugin.data import make_digit_scenes
from miaod_plugin.errors import ConfigError
from miaod_plugin.training.batches import augment, ssd_augmented


def white_square():
    """Return a black image with a white square, and its target."""
    image = torch.zeros(3, 80, 120, dtype=torch.uint8)
    image[:, 30:50, 40:70] = 255
    return image, {"boxes": torch.tensor([[40.0, 30.0, 70.0, 50.0]]), "labels": torch.tensor([2])}


def test_boxes_stay_on_their_objects():
    for seed in range(40):
        image, target = ssd_augmented(*white_square(), (seed,))
        assert image.dtype == torch.uint8 and type(target["boxes"]) is torch.Tensor
        assert target["labels"].tolist() == [2]
        x1, y1, x2, y2 = target["boxes"][0].round().int().tolist()
        height, width = image.shape[1:]
        assert 0 <= x1 < x2 <= width and 0 <= y1 < y2 <= height
        assert image[:, y1 + 1 : y2 - 1, x1 + 1 : x2 - 1].min() > 50  # white, perhaps darker
        around = image[:, max(y1 - 4, 0) : y2 + 4, max(x1 - 4, 0) : x2 + 4]
        assert (around < 25).any() or around.shape[1:] == (y2 - y1, x2 - x1)  # black, unless cropped to the square


def test_ssd_changes_colours_canvas_and_crop():
    changed = [ssd_augmented(*white_square(), (seed,))[0] for seed in range(20)]
    areas = [image.shape[1] * image.shape[2] for image in changed]
    assert max(areas) > 80 * 120 > min(areas)
    assert len({int(image.max()) for image in changed}) > 3


def test_flipping_mirrors_an_image_and_its_boxes():
    original, target = white_square()
    (image,), (mirrored,) = augment([original], [target], np.array([True]), torch.device("cpu"))
    assert torch.equal(image, original.flip(2).float() / 255)
    assert mirrored["boxes"].tolist() == [[50.0, 30.0, 80.0, 50.0]]


def test_unlabelled_images_are_changed_but_not_cropped():
    changed = [ssd_augmented(white_square()[0], None, (seed,)) for seed in range(20)]
    assert {target for _, target in changed} == {None}
    assert all(image.shape[1] >= 80 and image.shape[2] >= 120 for image, _ in changed)
    assert len({image.shape for image, _ in changed}) > 3


@pytest.mark.parametrize("target", [None, {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}])
def test_no_crop_is_sought_in_an_image_without_boxes(target):
    called = set()
    sys.setprofile(lambda frame, event, argument: called.add(frame.f_code.co_qualname))
    try:
        changed = ssd_augmented(white_square()[0], target, (0,))[1]
    finally:
        sys.setprofile(None)
    assert "RandomPhotometricDistort.transform" in called and "RandomIoUCrop.make_params" not in called
    assert (changed is None) == (target is None)
    if target is not None:
        assert changed["boxes"].shape == (0, 4) and changed["labels"].shape == (0,)


def test_training_with_ssd_augmentation_repeats_bit_for_bit_and_leaves_the_global_state():
    data = make_digit_scenes(4, random_state=0)
    state = torch.random.get_rng_state()
    first, again, flipped = (
        ObjectDetector("retinanet_tiny", data.classes, max_steps=4, random_state=0, device="cpu", **parameters)
        .fit(data.X, data.y)
        .transform(data.X)
        for parameters in ({"augmentation": "ssd"}, {"augmentation": "ssd", "num_workers": 2}, {})
    )
    assert np.array_equal(first, again) and not np.array_equal(first, flipped)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_an_unknown_augmentation_is_refused():
    data = make_digit_scenes(2, random_state=0)
    with pytest.raises(ConfigError, match="augmentation: 'sdd' is not allowed; give 'flip' or 'ssd'"):
        ObjectDetector("retinanet_tiny", data.classes, augmentation="sdd").fit(data.X, data.y)
