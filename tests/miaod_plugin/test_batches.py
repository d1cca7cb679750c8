"""What training does to its images before a step."""

import numpy as np
import pytest
import torch

from miaod_plugin import ObjectDetector
from miaod_plugin.batches import AUGMENTATIONS, augment
from miaod_plugin.data import make_digit_scenes
from miaod_plugin.errors import ConfigError

CPU = torch.device("cpu")


def white_square():
    """Return a black image with a white square, and its target."""
    image = torch.zeros(3, 80, 120, dtype=torch.uint8)
    image[:, 30:50, 40:70] = 255
    return image, {"boxes": torch.tensor([[40.0, 30.0, 70.0, 50.0]]), "labels": torch.tensor([2])}


def changed(seed, augmentation, flip_probability=0.5):
    torch.manual_seed(seed)
    image, target = white_square()
    images, targets = augment([image], [target], augmentation, flip_probability, (seed,), CPU)
    return images[0], targets[0]


@pytest.mark.parametrize("augmentation", AUGMENTATIONS)
def test_boxes_stay_on_their_objects(augmentation):
    for seed in range(40):
        image, target = changed(seed, augmentation)
        assert image.dtype == torch.float32 and float(image.min()) >= 0 and float(image.max()) <= 1
        assert target["labels"].tolist() == [2] and type(target["boxes"]) is torch.Tensor
        x1, y1, x2, y2 = target["boxes"][0].round().int().tolist()
        height, width = image.shape[1:]
        assert 0 <= x1 < x2 <= width and 0 <= y1 < y2 <= height
        assert image[:, y1 + 1 : y2 - 1, x1 + 1 : x2 - 1].min() > 0.2  # white, perhaps darker
        around = image[:, max(y1 - 4, 0) : y2 + 4, max(x1 - 4, 0) : x2 + 4]
        assert (around < 0.1).any() or around.shape[1:] == (y2 - y1, x2 - x1)  # black, unless cropped to the square


def test_ssd_changes_colours_canvas_and_crop_and_flip_mirrors_alone():
    shapes = {changed(seed, "ssd")[0].shape[1:] for seed in range(20)}
    assert any(h * w > 80 * 120 for h, w in shapes) and any(h * w < 80 * 120 for h, w in shapes)
    assert len({round(float(changed(seed, "ssd")[0].max()), 3) for seed in range(20)}) > 3
    image, target = changed(0, "flip", flip_probability=1.0)
    original, _ = white_square()
    assert torch.equal(image, original.flip(2).float() / 255)
    assert target["boxes"].tolist() == [[50.0, 30.0, 80.0, 50.0]]


def test_unlabelled_images_are_changed_but_not_cropped():
    torch.manual_seed(0)
    images, targets = augment([white_square()[0]] * 20, None, "ssd", 0.5, (0,), CPU)
    assert targets is None
    assert {image.shape[1] >= 80 and image.shape[2] >= 120 for image in images} == {True}
    assert len({image.shape for image in images}) > 3


def test_training_with_ssd_augmentation_repeats_bit_for_bit_and_leaves_the_global_state():
    data = make_digit_scenes(4, random_state=0)
    state = torch.random.get_rng_state()
    first, again, flipped = (
        ObjectDetector(
            "retinanet_tiny", data.classes, augmentation=augmentation, max_steps=4, random_state=0, device="cpu"
        )
        .fit(data.X, data.y)
        .transform(data.X)
        for augmentation in ("ssd", "ssd", "flip")
    )
    assert np.array_equal(first, again) and not np.array_equal(first, flipped)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_an_unknown_augmentation_is_refused():
    data = make_digit_scenes(2, random_state=0)
    with pytest.raises(ConfigError, match="augmentation: 'sdd' is not known; choose flip or ssd"):
        ObjectDetector("retinanet_tiny", data.classes, augmentation="sdd").fit(data.X, data.y)
