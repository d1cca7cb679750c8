import logging
import os
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from data_files import save_image, save_voc

from miaod_plugin.data import VOC_CLASSES, load_voc, write_voc
from miaod_plugin.data.detection_data import DetectionData, make_targets
from miaod_plugin.errors import ConfigError, DataError


def one_line(error) -> str:
    message = str(error.value)
    assert "\n" not in message
    return message


def test_voc_boxes_become_zero_based_continuous(tmp_path):
    data = load_voc(save_voc(tmp_path, {"a": [("dog", (1, 1, 40, 30), 0), ("cat", (5, 6, 7.5, 8), 1)]}))
    np.testing.assert_array_equal(data.y[0]["boxes"], np.float32([[0, 0, 40, 30], [4, 5, 7.5, 8]]))
    assert data.y[0]["boxes"].dtype == np.float32 and data.y[0]["labels"].dtype == np.int64
    assert data.classes == ("cat", "dog") and data.y[0]["labels"].tolist() == [1, 0]
    assert data.y[0]["difficult"].tolist() == [False, True]


def test_zero_based_files_keep_their_numbers(tmp_path):
    data = load_voc(save_voc(tmp_path, {"a": [("dog", (0, 0, 40, 30), 0)]}), one_based=False)
    assert data.y[0]["boxes"].tolist() == [[0, 0, 40, 30]]


def test_order_is_that_of_the_split_file_and_images_without_objects_stay(tmp_path):
    data = load_voc(save_voc(tmp_path, {"b 2": [], "a": [("dog", (1, 1, 9, 9), 0)]}, suffix=".PNG"))
    assert data.ids.tolist() == ["b 2", "a"] and data.split == "trainval"
    assert data.X.tolist() == [str(tmp_path / "JPEGImages" / f"{name}.PNG") for name in ("b 2", "a")]
    assert data.y[0]["boxes"].shape == (0, 4) and len(data.y[1]["boxes"]) == 1


def test_class_specific_split_files_give_their_first_column(tmp_path):
    save_voc(tmp_path, {"a": [], "b": []})
    (tmp_path / "ImageSets" / "Main" / "dog_train.txt").write_text("b  1\r\na -1\r\n\r\n")
    assert load_voc(tmp_path, "dog_train").ids.tolist() == ["b", "a"]


def test_several_years_are_read_together_with_unique_ids(tmp_path):
    save_voc(tmp_path / "VOC2007", {"000001": [("dog", (1, 1, 9, 9), 0)]})
    save_voc(tmp_path / "VOC2012", {"000001": [("cat", (2, 2, 8, 8), 0)]})
    data = load_voc(tmp_path, years=(2007, "VOC2012"), classes=VOC_CLASSES)
    assert data.ids.tolist() == ["VOC2007/000001", "VOC2012/000001"]
    assert [VOC_CLASSES[target["labels"][0]] for target in data.y] == ["dog", "cat"]
    assert load_voc(tmp_path, years=[2012]).ids.tolist() == ["000001"]
    with pytest.raises(DataError, match=r"pass years=\['2007', '2012'\]"):
        load_voc(tmp_path)


@pytest.mark.parametrize(
    ("box", "problem"),
    [
        ((5, 6, 5, 9), "xmin=5, ymin=6, xmax=5, ymax=9 is degenerate"),
        ((5, 9, 8, 6), "ymax=6 is degenerate"),
        ((5, 6, 41, 9), "xmax=41, ymax=9 reaches outside its 40 x 30 image"),
        ((0, 6, 8, 9), "outside its 40 x 30 image; .*one_based=False"),
        ((5, "nan", 8, 9), "ymin=nan, xmax=8, ymax=9 is not four finite numbers"),
        (("five", 6, 8, 9), "xmin=five"),
        ((5, 6, "", 9), "xmax=missing"),
        ((5, 6, "inf", 9), "xmax=inf"),
    ],
)
def test_a_bad_box_is_named_or_skipped_by_choice(tmp_path, caplog, box, problem):
    root = save_voc(tmp_path, {"a": [("dog", (1, 1, 9, 9), 0), ("dog", box, 0), ("dog", (3, 3, 9, 9), 1)], "b": []})
    with pytest.raises(DataError, match=problem) as error:
        load_voc(root)
    message = one_line(error)
    assert "a.xml: object 2 (dog): " in message and "on_error='skip'" in message
    with caplog.at_level(logging.WARNING, logger="miaod_plugin"):
        data = load_voc(root, on_error="skip")
    assert data.y[0]["boxes"].tolist() == [[0, 0, 9, 9], [2, 2, 9, 9]] and data.y[0]["difficult"].tolist() == [
        False,
        True,
    ]
    assert len(data.skipped) == 1 and "object 2 (dog)" in data.skipped[0]
    assert [record.getMessage() for record in caplog.records] == [f"skipped annotation: {data.skipped[0]}"]


def test_an_unknown_class_is_named_with_the_closest_known_one(tmp_path):
    root = save_voc(tmp_path, {"a": [("persn", (1, 1, 9, 9), 0), ("dog", (1, 1, 9, 9), 0)]})
    with pytest.raises(DataError, match=r"a.xml: object 1 .*unknown class 'persn'.*did you mean 'person'") as error:
        load_voc(root, classes=VOC_CLASSES)
    one_line(error)
    data = load_voc(root, classes=("dog",), on_error="skip")
    assert data.y[0]["labels"].tolist() == [0] and len(data.skipped) == 1


def test_a_box_that_rounding_pushed_over_the_edge_is_clipped(tmp_path):
    data = load_voc(save_voc(tmp_path, {"a": [("dog", (1, 1, 40.3, 30), 0)]}))
    assert data.y[0]["boxes"].tolist() == [[0, 0, 40, 30]]


def test_an_image_of_another_size_than_its_annotation_tells_is_refused_or_left_out(tmp_path, caplog):
    root = save_voc(tmp_path, {"a": [("dog", (1, 1, 9, 9), 0)], "b": [("dog", (2, 2, 9, 9), 0)]})
    file = root / "Annotations" / "a.xml"
    file.write_text(file.read_text().replace("<width>40<", "<width>80<"))
    with pytest.raises(DataError, match=r"a.xml: <size>: is 80 x 30, but the image is 40 x 30; .* on_error='skip'"):
        load_voc(root)
    with caplog.at_level(logging.WARNING, logger="miaod_plugin"):
        data = load_voc(root, on_error="skip")
    assert data.ids.tolist() == ["b"] and data.y[0]["boxes"].tolist() == [[1, 1, 9, 9]]
    assert len(data.skipped) == len(caplog.records) == 1 and data.skipped[0].endswith("left out the image")


def test_classes_that_come_from_a_test_split_alone_are_warned_of(tmp_path):
    save_voc(tmp_path, {"a": [("cat", (1, 1, 9, 9), 0), ("dog", (1, 1, 9, 9), 0)]}, split="train")
    save_voc(tmp_path, {"b": [("dog", (1, 1, 9, 9), 0)]}, split="test")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train = load_voc(tmp_path, "train")
        assert load_voc(tmp_path, "test", classes=train.classes).y[0]["labels"].tolist() == [1]
    with pytest.warns(UserWarning, match="classes are those of split 'test' alone.*pass classes=data.classes"):
        load_voc(tmp_path, "test")


@pytest.mark.parametrize("name", ["../a", "/etc/hosts", "x/../../a", "..\\a", "C:\\a", "link"])
def test_ids_that_leave_the_folder_are_refused(tmp_path, name):
    save_voc(tmp_path, {"a": []})
    save_image(tmp_path / "a.jpg")
    (tmp_path / "a.xml").write_text("<annotation/>")
    os.symlink(tmp_path / "a.xml", tmp_path / "Annotations" / "link.xml")
    (tmp_path / "ImageSets" / "Main" / "trainval.txt").write_text(f"{name}\n")
    with pytest.raises(DataError, match=r"trainval.txt: .*(inside|leaves)") as error:
        load_voc(tmp_path)
    one_line(error)


def test_a_linked_image_outside_is_refused(tmp_path):
    save_voc(tmp_path / "voc", {"a": []})
    save_image(tmp_path / "secret.jpg")
    (tmp_path / "voc" / "JPEGImages" / "a.jpg").unlink()
    os.symlink(tmp_path / "secret.jpg", tmp_path / "voc" / "JPEGImages" / "a.jpg")
    with pytest.raises(DataError, match=r"'a.jpg' is a link that leaves"):
        load_voc(tmp_path / "voc")


LAUGHS = "".join(f'<!ENTITY l{k} "{f"&l{k - 1};" * 10}">' for k in range(1, 12))


@pytest.mark.parametrize(
    ("xml", "problem"),
    [
        (f'<!DOCTYPE a [<!ENTITY l0 "ha">{LAUGHS}]><annotation>&l11;</annotation>', "DOCTYPE"),
        ('<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><annotation>&x;</annotation>', "DOCTYPE"),
        ("<annotation><object></annotation>", "not well-formed XML"),
        ("", "not well-formed XML"),
        ("<html/>", "root element is 'html'"),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_hostile_or_malformed_xml_is_refused_at_once(tmp_path, xml, problem, encoding):
    save_voc(tmp_path, {"a": []})
    (tmp_path / "Annotations" / "a.xml").write_bytes(xml.encode(encoding))
    start = time.monotonic()
    with pytest.raises(DataError, match=f"a.xml: .*{problem}") as error:
        load_voc(tmp_path)
    one_line(error)
    assert time.monotonic() - start < 1


def test_missing_parts_are_named_with_the_expected_layout(tmp_path):
    with pytest.raises(DataError, match=r"nowhere: no such folder; expected ROOT/ImageSets/Main"):
        load_voc(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"no such folder; expected ROOT"):
        load_voc(tmp_path)
    root = save_voc(tmp_path, {"a": [], "b": []})
    with pytest.raises(DataError, match=r"trainvl.txt: no such split; did you mean 'trainval'"):
        load_voc(root, "trainvl")
    (root / "JPEGImages" / "b.jpg").unlink()
    with pytest.raises(DataError, match=r"b.jpg: no such image"):
        load_voc(root)
    (root / "Annotations" / "a.xml").unlink()
    with pytest.raises(DataError, match=r"a.xml: no such file; expected ROOT"):
        load_voc(root)


def test_repeated_ids_wrong_images_and_wrong_options_are_refused(tmp_path):
    root = save_voc(tmp_path, {"a": []})
    listed = root / "ImageSets" / "Main" / "trainval.txt"
    listed.write_text("a\na\n")
    with pytest.raises(DataError, match=r"trainval.txt: image id 'a' is listed twice"):
        load_voc(root)
    listed.write_text("\n")
    with pytest.raises(DataError, match="lists no image ids"):
        load_voc(root)
    listed.write_text("a\n")
    with pytest.raises(DataError, match="'dog' is listed twice"):
        load_voc(root, classes=("dog", "dog"))
    with pytest.raises(ConfigError, match=r"on_error='skp' is not allowed; did you mean 'skip'"):
        load_voc(root, on_error="skp")
    (root / "JPEGImages" / "a.jpg").write_text("not an image")
    with pytest.raises(DataError, match=r"a.jpg: the image does not decode"):
        load_voc(root)


def test_written_boxes_read_back_exactly(tmp_path):
    boxes = np.float32([[0, 0, 40, 30], [3, 4, 5, 6], [1.25, 2.1, 30.7, 9.3]])
    y = make_targets([{"boxes": boxes, "labels": np.array([1, 0, 1]), "iscrowd": np.array([False, True, False])}])
    images = np.arange(30 * 40 * 3, dtype=np.uint16).astype(np.uint8).reshape(1, 30, 40, 3)
    written = DetectionData(images, y, ("dog", "a & b"), np.array(["deep/a"]), "train")
    write_voc(written, tmp_path)
    read = load_voc(tmp_path, "train", classes=("dog", "a & b"))
    np.testing.assert_array_equal(read.y[0]["boxes"], boxes)
    assert read.y[0]["labels"].tolist() == [1, 0, 1] and read.y[0]["difficult"].tolist() == [False, True, False]
    assert read.ids.tolist() == ["deep/a"]
    # What was read from files is copied as files, with the very bytes.
    write_voc(read, tmp_path / "copy")
    copied = load_voc(tmp_path / "copy", "train", classes=read.classes)
    assert Path(copied.X[0]).read_bytes() == Path(read.X[0]).read_bytes()


@pytest.mark.parametrize(
    ("target", "name", "problem"),
    [
        ({"boxes": np.float32([[3, 3, 4, 9]]), "labels": np.array([0])}, "a", "too thin for VOC"),
        ({"boxes": np.zeros((0, 4)), "labels": np.zeros(0, int)}, "../a", "not a path inside"),
        (None, "a", "'a' has no target"),
    ],
)
def test_what_voc_cannot_hold_is_not_written(tmp_path, target, name, problem):
    images = np.zeros((1, 30, 40, 3), dtype=np.uint8)
    with pytest.raises(DataError, match=problem):
        write_voc(DetectionData(images, make_targets([target]), ("dog",), np.array([name]), "train"), tmp_path / "out")
