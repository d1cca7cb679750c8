"""The data sets that an experiment names."""

import numpy as np
import pytest
from PIL import Image
from tiny_experiment import write_experiment

from miaod_plugin.data import make_digit_scenes, read_image, write_coco, write_voc
from miaod_plugin.errors import ConfigError, DataError
from miaod_plugin.experiments.config.schema import load_config
from miaod_plugin.experiments.store.datasets import load_data

SCENES = {split: make_digit_scenes(12, split=split, n_classes=3, random_state=0) for split in ("train", "test")}


def usual_layout(root):
    """Write both parts as COCO's own data sets lie: annotations/instances_SPLIT.json and SPLIT/."""
    (root / "annotations").mkdir(parents=True)
    for split, scenes in SCENES.items():
        write_coco(scenes, root)
        (root / f"instances_{split}.json").rename(root / "annotations" / f"instances_{split}.json")
        (root / "images" / split).rename(root / split)
    return root


def load(folder, data: dict):
    return load_data(load_config(write_experiment(folder, data=data)))


def test_coco_in_its_usual_layout_is_named_by_root_and_splits(tmp_path):
    usual_layout(tmp_path / "coco")
    parts = load(tmp_path, {"kind": "coco", "root": "coco", "train": {"split": "train"}, "test": {"split": "test"}})
    for part, scenes in zip(parts, SCENES.values(), strict=True):
        assert part.ids.tolist() == scenes.ids.tolist() and part.classes == SCENES["train"].classes
        assert [target["boxes"].tolist() for target in part.y] == [target["boxes"].tolist() for target in scenes.y]


def test_coco_elsewhere_is_named_by_files_and_folders_beside_the_experiment_or_in_a_root(tmp_path):
    usual_layout(tmp_path / "coco")
    named = {"annotations": "annotations/instances_{}.json", "images": "{}"}
    for root in ("coco", None):
        prefix = "" if root else "coco/"
        parts = {
            split: {key: prefix + place.format(split) for key, place in named.items()} for split in ("train", "test")
        }
        train, test = load(tmp_path, {"kind": "coco", **({"root": root} if root else {}), **parts})
        assert len(train) == len(test) == 12


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (
            {"train": {"split": "a"}, "test": {"split": "b"}},
            "train.split: 'a' is looked for in data.root",
        ),
        ({"root": ".", "train": {"split": "a", "images": "b"}, "test": {"split": "b"}}, "data.train.*give split, or"),
        ({"root": ".", "train": {"annotations": "a"}, "test": {"split": "b"}}, "give split, or annotations and images"),
        ({"root": ".", "train": {}, "test": {"split": "b"}}, "data.train.*give split, or annotations and images"),
        (
            {"root": ".", "train": {"split": "a"}, "test": {"split": "b"}, "orientation": "up"},
            "data.orientation: got 'up'; input should be 'stored' or 'upright'",
        ),
    ],
)
def test_a_part_that_is_named_in_no_way_or_in_two_is_refused(tmp_path, data, problem):
    with pytest.raises(ConfigError, match=problem) as error:
        load(tmp_path, {"kind": "coco", **data})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", ["voc", "coco"])
def test_the_orientation_that_boxes_count_on_is_the_experiments_choice(tmp_path, kind):
    root = tmp_path / kind
    usual_layout(root) if kind == "coco" else [write_voc(scenes, root) for scenes in SCENES.values()]
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down: no size tells of it
    for path in root.rglob("*.png"):
        with Image.open(path) as image:
            image.save(path, exif=exif)
    parts = {"kind": kind, "root": kind, "train": {"split": "train"}, "test": {"split": "test"}}
    stored, upright = (load(tmp_path, {**parts, **chosen})[0] for chosen in ({}, {"orientation": "upright"}))
    scenes = SCENES["train"]
    np.testing.assert_array_equal(read_image(stored.X[0]).permute(1, 2, 0).numpy(), scenes.X[0][::-1, ::-1])
    for turned, drawn, scene in zip(stored.y, upright.y, scenes.y, strict=True):
        np.testing.assert_array_equal(turned["boxes"], 64 - scene["boxes"][:, [2, 3, 0, 1]])
        np.testing.assert_array_equal(drawn["boxes"], scene["boxes"])


def test_a_missing_part_is_named(tmp_path):
    usual_layout(tmp_path / "coco")
    with pytest.raises(DataError, match=r"coco/val: no such folder; expected an annotations file"):
        load(tmp_path, {"kind": "coco", "root": "coco", "train": {"split": "train"}, "test": {"split": "val"}})
