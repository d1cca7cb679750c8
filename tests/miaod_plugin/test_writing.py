"""The writers of data sets replace nothing, lose nothing and stay in their folder: they refuse before they begin."""

import os
from dataclasses import replace

import numpy as np
import pytest
from data_files import save_image

from miaod_plugin.data import DetectionData, load_coco, load_voc, make_targets, read_image, write_coco, write_voc
from miaod_plugin.errors import DataError

both_writers = pytest.mark.parametrize("write", [write_voc, write_coco])


def two_images(ids=("a", "b"), split="train", classes=("dog",), X=None) -> DetectionData:
    X = np.zeros((2, 8, 9, 3), np.uint8) if X is None else np.array(X)
    X = X + np.arange(2, dtype=np.uint8)[:, None, None, None] if X.ndim == 4 else X
    target = {"boxes": np.float32([[1, 1, 5, 5]]), "labels": np.array([0])}
    return DetectionData(X, make_targets([target] * 2), classes, np.array(ids), split)


def load(write, folder, split="train"):
    if write is write_voc:
        return load_voc(folder, split)
    return load_coco(folder / f"instances_{split}.json", folder / "images" / split)


def content(folder) -> dict:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@both_writers
def test_a_data_set_that_is_there_is_not_replaced(tmp_path, write):
    write(two_images(), tmp_path)
    before = content(tmp_path)
    with pytest.raises(DataError, match=r": is there already and would be replaced; remove it or write to another"):
        write(two_images(), tmp_path)
    assert content(tmp_path) == before


@both_writers
def test_splits_of_other_ids_share_a_folder(tmp_path, write):
    write(two_images(), tmp_path)
    write(two_images(("c", "d"), "train2"), tmp_path)
    for split, ids in (("train", ["a", "b"]), ("train2", ["c", "d"])):
        assert load(write, tmp_path, split).ids.tolist() == ids


def test_an_image_that_would_be_read_in_place_of_the_written_one_is_in_the_way(tmp_path):
    save_image(tmp_path / "JPEGImages" / "b.jpg")  # `load_voc` looks for it before b.png
    with pytest.raises(DataError, match=r"b.jpg: is there already"):
        write_voc(two_images(), tmp_path)
    assert not (tmp_path / "Annotations").exists()


@both_writers
@pytest.mark.parametrize("place", [".", "in", "in/a.png"])
def test_a_file_where_a_folder_is_needed_is_refused_and_nothing_is_written(tmp_path, write, place):
    pictures = "JPEGImages" if write is write_voc else "images/train"
    path = tmp_path / "out" / place.replace("in", pictures)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("mine")
    ids = ("a.png/x", "b") if place == "in/a.png" else ("a", "b")
    with pytest.raises(DataError, match="is a file where a folder is needed"):
        write(two_images(ids), tmp_path / "out")
    assert list(content(tmp_path).values()) == [b"mine"]


@both_writers
@pytest.mark.parametrize("ids", [("a", "a"), ("a", "A"), ("é", "e\u0301"), ("stra\u00dfe", "STRASSE")])
def test_ids_that_would_share_a_file_are_refused_and_nothing_is_written(tmp_path, write, ids):
    with pytest.raises(DataError, match=r"ids: .* and .* would share a file"):
        write(two_images(ids), tmp_path)
    assert content(tmp_path) == {}


@both_writers
@pytest.mark.parametrize(
    "name", ["", " ", "b ", "\tb", "b\nc", "b\x00", "\ud800", "/b", "../b", "x/../../b", "x" * 300]
)
def test_an_id_that_would_not_come_back_is_refused_and_nothing_is_written(tmp_path, write, name):
    data = replace(two_images(), ids=np.array(["a", name], dtype=object))  # numpy's own str drops NUL
    with pytest.raises(DataError, match="ids: ") as error:
        write(data, tmp_path)
    assert "\n" not in str(error.value) and content(tmp_path) == {}


@both_writers
@pytest.mark.parametrize("ids", [("photo 1", "photo 2"), ("a", "b -1"), ("x y/a", "x y/b.c")])
def test_ids_with_blanks_dots_and_folders_come_back(tmp_path, write, ids):
    write(two_images(ids), tmp_path)
    read = load(write, tmp_path)
    assert read.ids.tolist() == list(ids)
    assert [int(read_image(x).max()) for x in read.X] == [0, 1]


@both_writers
@pytest.mark.parametrize("split", ["", " ", "a\nb", "../train", "\ud800"])
def test_a_split_that_cannot_name_a_file_is_refused_and_nothing_is_written(tmp_path, write, split):
    with pytest.raises(DataError, match="split: "):
        write(two_images(split=split), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@both_writers
def test_a_link_that_leads_out_of_the_folder_is_not_followed(tmp_path, write):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").mkdir()
    os.symlink(tmp_path / "elsewhere", tmp_path / "out" / ("JPEGImages" if write is write_voc else "images"))
    with pytest.raises(DataError, match="is a link that leaves"):
        write(two_images(), tmp_path / "out")
    assert content(tmp_path) == {}


def test_names_that_voc_would_read_back_otherwise_are_refused(tmp_path):
    with pytest.raises(DataError, match="classes: VOC cannot tell the blanks in 'big  dog'"):
        write_voc(two_images(classes=("big  dog",)), tmp_path)
    save_image(tmp_path / "a.gif")
    with pytest.raises(DataError, match=r"a.gif: VOC images end in .jpg, .jpeg, .png, .webp; convert the file"):
        write_voc(two_images(X=[str(tmp_path / "a.gif")] * 2), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_id_that_coco_would_read_back_otherwise_is_refused(tmp_path):
    save_image(tmp_path / "a.png")
    (tmp_path / "a.png").rename(tmp_path / "a")
    with pytest.raises(DataError, match=r"ids: 'b.c' would be read back as 'b'"):
        write_coco(two_images(("a", "b.c"), X=[str(tmp_path / "a")] * 2), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_box_too_thin_for_voc_is_refused_before_anything_is_written(tmp_path):
    data = two_images()
    data.y[1] = {"boxes": np.float32([[1, 1, 2, 5]]), "labels": np.array([0])}
    with pytest.raises(DataError, match=r"image 'b': box \[1.0, 1.0, 2.0, 5.0\] is too thin for VOC"):
        write_voc(data, tmp_path)
    assert content(tmp_path) == {}
