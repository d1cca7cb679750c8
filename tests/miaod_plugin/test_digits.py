import random

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from miaod_plugin.data import load_coco, load_voc, make_digit_scenes, read_image, write_coco, write_voc
from miaod_plugin.data.digits import INK, MAX_COVERED, _digits_by_class, _draw_objects
from miaod_plugin.errors import ConfigError


def assert_equal(left, right):
    np.testing.assert_array_equal(left.ids, right.ids)
    assert left.classes == right.classes and left.split == right.split
    for mine, other in zip(left.X, right.X, strict=True):
        assert torch.equal(read_image(mine), read_image(other))
    for mine, other in zip(left.y, right.y, strict=True):
        for field in ("boxes", "labels"):
            assert mine[field].dtype == other[field].dtype
            np.testing.assert_array_equal(mine[field], other[field])


@pytest.mark.parametrize("split", ["train", "test"])
def test_memory_voc_and_coco_hold_the_same_scenes(tmp_path, split):
    data = make_digit_scenes(12, split)
    write_voc(data, tmp_path)
    write_coco(data, tmp_path)
    assert_equal(data, load_voc(tmp_path, split, classes=data.classes))
    assert_equal(data, load_coco(tmp_path / f"instances_{split}.json", tmp_path / "images" / split))


def test_a_seed_gives_the_same_scenes_and_leaves_global_random_state_alone():
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()  # noqa: NPY002
    first, again, other = (make_digit_scenes(300, random_state=seed) for seed in (3, 3, 4))
    assert_equal(first, again)
    assert not np.array_equal(first.X, other.X) and not np.array_equal(first.X, make_digit_scenes(300, "test").X)
    assert states[0] == random.getstate() and states[1] == np.random.get_state()[1].tolist()  # noqa: NPY002
    assert torch.equal(states[2], torch.get_rng_state())


def test_train_and_test_share_no_digit():
    train, test = (_digits_by_class(split) for split in ("train", "test"))
    assert sum(map(len, train)) + sum(map(len, test)) == len(load_digits().data)
    seen = {digit.tobytes() for digits in train for digit in digits}
    assert not any(digit.tobytes() in seen for digits in test for digit in digits)
    assert min(map(len, train)) > 100 and min(map(len, test)) > 30


def test_boxes_lie_inside_and_have_the_asked_size_and_room():
    data = make_digit_scenes(400, n_classes=10, image_size=96, object_size=(20, 50), max_objects=6)
    assert data.X.shape == (400, 96, 96, 3) and data.X.dtype == np.uint8
    counts = [len(target["boxes"]) for target in data.y]
    assert min(counts) == 0 and max(counts) == 6
    boxes = np.concatenate([target["boxes"] for target in data.y])
    assert boxes.dtype == np.float32 and boxes.min() >= 0 and boxes.max() <= 96
    longest = (boxes[:, 2:] - boxes[:, :2]).max(axis=1)
    assert longest.min() >= 19 and longest.max() <= 51 and len(np.unique(longest)) >= 30
    for target in data.y:
        for k, box in enumerate(target["boxes"]):
            for other in target["boxes"][:k]:
                common = np.prod(np.clip(np.minimum(box[2:], other[2:]) - np.maximum(box[:2], other[:2]), 0, None))
                assert common <= MAX_COVERED * min(np.prod(box[2:] - box[:2]), np.prod(other[2:] - other[:2]))


def test_boxes_are_tight_around_clearly_visible_ink():
    images = np.full((300, 64, 64, 3), 0.3, dtype=np.float32)
    labels = np.arange(300) % 10
    digits = _digits_by_class("train")
    targets = _draw_objects(np.random.default_rng(0), images, np.arange(300), labels, digits, (16, 40))
    for image, target in zip(images, targets, strict=True):
        change = np.abs(image - 0.3).max(axis=2)
        assert change.max() > 0.2
        opacity = change / change.max()
        soft = ((opacity > 0) & (opacity < 1)).sum() / (opacity == 1).sum()
        assert 0.05 < soft < 3  # antialiased, yet solid
        rows, columns = np.nonzero(opacity > INK - 1e-4)
        assert target["boxes"].tolist() == [[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]]


def test_imbalance_is_the_ratio_between_the_first_and_the_last_class():
    labels = np.concatenate([target["labels"] for target in make_digit_scenes(1500, imbalance=8.0).y])
    counts = np.bincount(labels, minlength=5)
    assert (np.diff(counts) < 0).all() and 6 < counts[0] / counts[4] < 11
    even = np.bincount(np.concatenate([target["labels"] for target in make_digit_scenes(1500).y]))
    assert even.max() / even.min() < 1.2


def test_a_single_class_and_no_objects_work():
    assert make_digit_scenes(3, n_classes=1).classes == ("0",)
    assert [len(target["boxes"]) for target in make_digit_scenes(3, max_objects=0).y] == [0, 0, 0]


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"split": "trian"}, "split: 'trian' is not allowed; give 'train' or 'test'"),
        ({"split": ["train"]}, r"split: \['train'\]"),
        ({"n_classes": 11}, "n_classes: 11 is not allowed; give a whole number from 1 to 10"),
        ({"n_classes": "5"}, "n_classes: '5'"),
        ({"n_images": 0}, "n_images: 0"),
        ({"n_images": 2.0}, "n_images: 2.0"),
        ({"n_images": 10**30}, "n_images: 1000000000000000000000000000000 is not allowed"),
        ({"n_images": 10**8}, "n_images: 100000000 images of 64 pixels are more than 16 GiB; make fewer"),
        ({"image_size": 10**6}, "image_size: 1000000"),
        ({"object_size": (16, 63)}, r"object_size: \(16, 63\) must rise, to image_size - 2 = 62 at most"),
        ({"object_size": (20, 10)}, r"object_size: \(20, 10\)"),
        ({"object_size": 16}, "object_size: 16 is not allowed; give 2 values, each a whole number from 8 to 1,024"),
        ({"object_size": (16, None)}, r"object_size: \(16, None\)"),
        ({"object_size": (16, [20, 30])}, r"object_size: \(16, \[20, 30\]\)"),
        ({"max_objects": True}, "max_objects: True"),
        ({"imbalance": 0.5}, "imbalance: 0.5"),
        ({"imbalance": float("nan")}, "imbalance: nan"),
        ({"random_state": "a\n"}, r"random_state: 'a\\n'"),
        ({"random_state": -1}, "random_state: -1"),
    ],
)
def test_parameters_out_of_range_are_named(options, problem):
    with pytest.raises(ConfigError, match=problem):
        make_digit_scenes(**{"n_images": 2, **options})
