import json
import logging
import os

import numpy as np
import pytest
from data_files import save_coco, save_voc

from miaod_plugin.data import load_coco, load_voc, write_coco, write_voc
from miaod_plugin.errors import DataError

GOOD = {"image_id": 11, "category_id": 7, "bbox": [1, 2.5, 10, 20]}


def test_boxes_become_corners_and_categories_contiguous_labels(tmp_path):
    crowd = {"image_id": 11, "category_id": 3, "bbox": [0, 0, 40, 30], "iscrowd": 1, "segmentation": {"counts": [1]}}
    data = load_coco(*save_coco(tmp_path, [GOOD, crowd]))
    assert data.ids.tolist() == ["b", "a"] and data.split == "val"
    assert data.classes == ("dog", "cat") and data.category_ids == (3, 7)
    assert data.y[1]["boxes"].tolist() == [[1, 2.5, 11, 22.5], [0, 0, 40, 30]]
    assert data.y[1]["boxes"].dtype == np.float32 and data.y[1]["labels"].dtype == np.int64
    assert [data.category_ids[label] for label in data.y[1]["labels"]] == [7, 3]
    assert data.y[1]["iscrowd"].tolist() == [False, True]
    assert data.y[0]["boxes"].shape == (0, 4) and data.y[0]["iscrowd"].dtype == bool


def test_given_classes_set_the_label_order(tmp_path):
    data = load_coco(*save_coco(tmp_path, [GOOD]), classes=("cat", "dog"), split="mine")
    assert data.category_ids == (7, 3) and data.y[1]["labels"].tolist() == [0] and data.split == "mine"
    with pytest.raises(DataError, match=r"no category for class 'catt'; did you mean 'cat'"):
        load_coco(*save_coco(tmp_path, [GOOD]), classes=("catt",))


def test_an_image_of_another_size_than_the_file_tells_is_refused_or_left_out_with_its_boxes(tmp_path):
    other = {**GOOD, "image_id": 10}
    file, folder = save_coco(tmp_path, [GOOD, other, {**other, "bbox": [0, 0, 70, 9]}])
    file.write_text(file.read_text().replace('"width": 40', '"width": 80', 1))
    with pytest.raises(DataError, match=r"images\[0\] \('b.jpg'\): is 80 x 30, but the image is 40 x 30"):
        load_coco(file, folder)
    data = load_coco(file, folder, on_error="skip")
    assert data.ids.tolist() == ["a"] and data.y[0]["boxes"].tolist() == [[1, 2.5, 11, 22.5]] and len(data.skipped) == 1


def test_ids_are_file_names_without_suffix_unless_two_images_share_one(tmp_path):
    assert load_coco(*save_coco(tmp_path, [], images=("x/a.jpg", "y/a.b.png"))).ids.tolist() == ["x/a", "y/a.b"]
    assert load_coco(*save_coco(tmp_path, [], images=("a.jpg", "a.png"))).ids.tolist() == ["a.jpg", "a.png"]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"bbox": [1, 2, 0, 5]}, r"bbox \[1, 2, 0, 5\] is degenerate"),
        ({"bbox": [1, 2, 5, -5]}, "is degenerate"),
        ({"bbox": [1, 2, 1e-9, 5]}, "is degenerate"),
        ({"bbox": [-1, 2, 5, 5]}, "outside its 40 x 30 image"),
        ({"bbox": [1, 2, 5, 28.6]}, r"\[1, 2, 5, 28.6\] reaches outside"),
        ({"bbox": [1, 2, 5]}, "not four finite numbers"),
        ({"bbox": None}, "bbox None is not four finite numbers"),
        ({"bbox": [1, 2, 5, float("nan")]}, "not four finite numbers"),
        ({"bbox": [1, 2, float("inf"), 3]}, "not four finite numbers"),
        ({"bbox": [1, 2, 10**400, 3]}, "not four finite numbers"),
        ({"category_id": 5}, "unknown class 'category_id 5'"),
        ({"category_id": [5]}, "unknown class"),
        ({"image_id": 99}, "image_id 99 is not among the images"),
        ({"image_id": None}, "image_id None is not among the images"),
    ],
)
def test_a_bad_annotation_is_named_or_skipped_by_choice(tmp_path, caplog, change, problem):
    arguments = save_coco(tmp_path, [GOOD, {**GOOD, **change}])
    with pytest.raises(DataError, match=f"instances_val.json: annotation 1 .*{problem}.*on_error='skip'") as error:
        load_coco(*arguments)
    assert "\n" not in str(error.value)
    with caplog.at_level(logging.WARNING, logger="miaod_plugin"):
        data = load_coco(*arguments, on_error="skip")
    assert len(data.y[1]["boxes"]) == 1 and len(data.skipped) == 1
    assert [record.getMessage() for record in caplog.records] == [f"skipped annotation: {data.skipped[0]}"]


def test_a_class_that_was_not_asked_for_is_an_unknown_one(tmp_path):
    with pytest.raises(DataError, match=r"annotation 0 .*unknown class 'cat'"):
        load_coco(*save_coco(tmp_path, [GOOD]), classes=("dog",))


@pytest.mark.parametrize("name", ["../a.jpg", "/etc/hosts", "x/../../a.jpg", "..\\a.jpg", "link.jpg", ""])
def test_file_names_that_leave_the_folder_are_refused(tmp_path, name):
    file, folder = save_coco(tmp_path, [])
    os.symlink("/etc/hosts", folder / "link.jpg")
    content = json.loads(file.read_text())
    content["images"][0]["file_name"] = name
    file.write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"instances_val.json: .*(inside|leaves)"):
        load_coco(file, folder)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "not well-formed JSON"),
        ("[" * 100_000, "not well-formed JSON"),
        ("[]", "no list 'images'"),
        ('{"images": [], "annotations": {}}', "no list 'annotations'"),
        ('{"images": [3], "annotations": [], "categories": []}', r"images\[0\] is 3, not"),
        ('{"images": [], "annotations": [], "categories": []}', "'images' list is empty"),
        ('{"images": [{"id": 1}], "annotations": [], "categories": []}', r"images\[0\] needs .* None"),
    ],
)
def test_a_malformed_file_is_named(tmp_path, text, problem):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(DataError, match=f"a.json: .*{problem}") as error:
        load_coco(tmp_path / "a.json", tmp_path)
    assert "\n" not in str(error.value)


def test_missing_and_repeated_things_are_named(tmp_path):
    file, folder = save_coco(tmp_path, [])
    with pytest.raises(DataError, match=r"none.json: no such file; expected an annotations file"):
        load_coco(tmp_path / "none.json", folder)
    with pytest.raises(DataError, match=r"none: no such folder; expected an annotations file"):
        load_coco(file, tmp_path / "none")
    (folder / "a.jpg").unlink()
    with pytest.raises(DataError, match=r"a.jpg: no such image file"):
        load_coco(file, folder)
    with pytest.raises(DataError, match=r"images\[1\] has the file_name 'a.jpg' of an earlier image"):
        load_coco(*save_coco(tmp_path, [], images=("a.jpg", "a.jpg")))
    with pytest.raises(DataError, match=r"categories\[1\] repeats"):
        load_coco(*save_coco(tmp_path, [], categories=((1, "cat"), (2, "cat"))))


def test_voc_and_coco_of_the_same_data_are_equal(tmp_path):
    save_voc(tmp_path, {"b": [("dog", (1, 1, 40, 30), 0), ("cat", (5, 6, 7.5, 8), 1)], "a": []})
    voc = load_voc(tmp_path)
    write_coco(voc, tmp_path / "coco")
    coco = load_coco(tmp_path / "coco" / "instances_trainval.json", tmp_path / "coco" / "images" / "trainval")
    assert coco.ids.tolist() == voc.ids.tolist() and coco.classes == voc.classes and coco.split == voc.split
    for left, right in zip(voc.y, coco.y, strict=True):
        np.testing.assert_array_equal(left["boxes"], right["boxes"])
        np.testing.assert_array_equal(left["labels"], right["labels"])
        np.testing.assert_array_equal(left["difficult"], right["iscrowd"])
    write_voc(coco, tmp_path / "again")
    again = load_voc(tmp_path / "again")
    np.testing.assert_array_equal(again.y[0]["difficult"], voc.y[0]["difficult"])


def test_writing_keeps_the_category_ids(tmp_path):
    data = load_coco(*save_coco(tmp_path, [GOOD]))
    write_coco(data, tmp_path / "out")
    again = load_coco(tmp_path / "out" / "instances_val.json", tmp_path / "out" / "images" / "val")
    assert again.category_ids == (3, 7) and again.y[1]["boxes"].tolist() == data.y[1]["boxes"].tolist()
