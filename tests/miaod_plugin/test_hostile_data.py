"""Data files are hostile until checked: refused in one line, at once, whatever they hold."""

import json
import logging
import time
from contextlib import contextmanager

import pytest
from data_files import save_coco, save_voc

from miaod_plugin.data import load_coco, load_folder, load_voc
from miaod_plugin.errors import DataError

GOOD = {"image_id": 11, "category_id": 7, "bbox": [1, 2.5, 10, 20]}
DOG = ("dog", (1, 1, 9, 9), 0)


@contextmanager
def refused(match: str, seconds: float = 3.0):
    """Expect a DataError of one printable line, soon."""
    start = time.perf_counter()
    with pytest.raises(DataError, match=match) as error:
        yield
    assert str(error.value).isprintable() and len(str(error.value)) < 700
    assert time.perf_counter() - start < seconds


def test_very_many_categories_load_at_once(tmp_path):
    categories = [(7, "cat"), *((k, f"class {k}") for k in range(100, 60_000))]
    start = time.perf_counter()
    data = load_coco(*save_coco(tmp_path, [GOOD], categories=categories))
    assert len(data.classes) == 59_901 and data.y[1]["labels"].tolist() == [0]
    assert time.perf_counter() - start < 3
    with refused("no category for class 'clas 100'; known: cat, class 100, .* and 59871 more"):
        load_coco(*save_coco(tmp_path, [GOOD], categories=categories), classes=["clas 100"])


def test_very_many_bad_annotations_of_very_many_classes_are_skipped_at_once(tmp_path):
    logging.getLogger("miaod_plugin").disabled = True
    try:
        categories = [(k, f"class {k}") for k in range(4_000)]
        unknown = {"image_id": 11, "category_id": 5_000, "bbox": [1, 1, 5, 5]}
        start = time.perf_counter()
        data = load_coco(*save_coco(tmp_path, [unknown] * 3_000, categories=categories), on_error="skip")
        assert len(data.skipped) == 3_000 and time.perf_counter() - start < 3
    finally:
        logging.getLogger("miaod_plugin").disabled = False


LINES = {
    "blanks": " " * 60_000 + "b",
    "blanks inside": "a" + " " * 60_000 + "b",
    "tabs": "a\t" * 30_000,
    "id": "x" * 60_000,
}


@pytest.mark.parametrize("line", LINES.values(), ids=LINES)
def test_a_long_line_in_a_split_file_is_refused_at_once(tmp_path, line):
    save_voc(tmp_path, {"a": [DOG]})
    (tmp_path / "ImageSets" / "Main" / "trainval.txt").write_text(f"{line}\n")
    with refused("b.xml: no such file|no such file|not a path"):
        load_voc(tmp_path)


@pytest.mark.parametrize("name", ["x" * 300, "a\0", "a\x1b[2J", "a\x85b", "é" * 200])
def test_a_name_that_no_file_can_have_is_refused(tmp_path, name):
    save_voc(tmp_path / "voc", {"a": [DOG]})
    (tmp_path / "voc" / "ImageSets" / "Main" / "trainval.txt").write_text(f"{name}z\n", encoding="utf-8")
    with refused("no such file|not a path"):
        load_voc(tmp_path / "voc")
    with refused("no such image|not a path"):
        file, folder = save_coco(tmp_path, [])
        file.write_text(file.read_text().replace('"a.jpg"', json.dumps(f"{name}z")))
        load_coco(file, folder)
    for where in (tmp_path / name, tmp_path / "voc" / name / "x"):
        with refused("no such folder"):
            load_voc(where)
        with refused("no such folder"):
            load_folder(where)
        with refused("no such file"):
            load_coco(where, tmp_path)


@pytest.mark.parametrize("name", ["\ud800", "a\udcff"])
def test_half_a_character_in_a_name_is_refused(tmp_path, name):
    file, folder = save_coco(tmp_path, [])
    good = file.read_text()
    for old, new in (('"a.jpg"', json.dumps(name)), ('"cat"', json.dumps(name))):
        file.write_text(good.replace(old, new))
        with refused(r"\\ud"):
            load_coco(file, folder)


def test_a_folder_where_a_file_belongs_and_a_file_where_a_folder_does_are_told_apart(tmp_path):
    root = save_voc(tmp_path / "voc", {"a": [DOG]})
    for path in (root / "Annotations" / "a.xml", root / "ImageSets" / "Main" / "trainval.txt"):
        path.unlink()
        path.mkdir()
        with refused("a folder, not a file; expected ROOT/ImageSets"):
            load_voc(root)
    file, folder = save_coco(tmp_path, [])
    with refused("images: a folder, not a file; expected an annotations file"):
        load_coco(folder, folder)
    with refused("instances_val.json: a file, not a folder"):
        load_coco(file, file)
    with refused("instances_val.json: a file, not a folder"):
        load_folder(file)


@pytest.mark.parametrize("years", [2007, "2007", "VOC2007", ("2007",)])
def test_one_year_needs_no_list(tmp_path, years):
    save_voc(tmp_path / "VOC2007", {"a": [DOG]})
    assert load_voc(tmp_path, years=years).ids.tolist() == ["a"]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"id": True}, r"images\[0\] needs an 'id' .* True"),
        ({"id": float("nan")}, r"images\[0\] needs an 'id' .* nan"),
        ({"id": [[[[]]]]}, r"images\[0\] needs an 'id'"),
        ({"file_name": ["a.jpg"]}, r"needs an 'id' and a 'file_name'.*\['a.jpg'\]"),
        ({"file_name": "x" * 10**6}, "no such image"),
    ],
    ids=["bool", "nan", "lists", "list", "long"],
)
def test_images_of_other_types_are_refused(tmp_path, change, problem):
    file, folder = save_coco(tmp_path, [GOOD])
    content = json.loads(file.read_text())
    content["images"][0] |= change
    file.write_text(json.dumps(content))
    with refused(problem):
        load_coco(file, folder)


@pytest.mark.parametrize(
    "change",
    [
        {"bbox": "1234"},
        {"bbox": {"1": 0, "2": 0, "3": 0, "4": 0}},
        {"bbox": ["1", "2", "3", "4"]},
        {"bbox": [True, True, True, True]},
        {"bbox": [[1], [2], [3], [4]]},
        {"bbox": [10**4000, 1, 1, 1]},
        {"category_id": True},
        {"category_id": 7.0},
        {"image_id": float("nan")},
        {"image_id": {"a": [1] * 10**5}},
    ],
)
def test_annotations_of_other_types_are_not_usable(tmp_path, change):
    arguments = save_coco(tmp_path, [GOOD, {**GOOD, **change}])
    with refused("annotation 1 .*on_error='skip'"):
        load_coco(*arguments)
    assert len(load_coco(*arguments, on_error="skip").skipped) == 1


DEEP = {
    "lists": '{"images": ' + "[" * 10**6,
    "objects": '{"a": ' * 10**5,
    "numbers": '{"images": [1e400, ' + "9" * 5000 + "]}",
}


@pytest.mark.parametrize("text", DEEP.values(), ids=DEEP)
def test_deep_or_huge_json_is_refused(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    with refused("a.json: "):
        load_coco(tmp_path / "a.json", tmp_path)


def test_deep_or_huge_xml_is_refused_or_read(tmp_path):
    root = save_voc(tmp_path, {"a": [DOG]})
    file = root / "Annotations" / "a.xml"
    good = file.read_text()
    file.write_text("<annotation>" * 10**5)
    with refused("not well-formed XML"):
        load_voc(root)
    file.write_text(good.replace("<object>", "<x>" * 10**5 + "</x>" * 10**5 + "<object>"))
    assert len(load_voc(root).y[0]["boxes"]) == 1
    file.write_text(good.replace("dog", "d" * 10**6).replace("<xmax>9", "<xmax>0"))
    with refused("object 1 .*degenerate|class 0"):
        load_voc(root)
    file.write_text(f'<?xml version="1.0" encoding="utf-7"?>{good}')
    with refused("not well-formed XML"):
        load_voc(root)


def test_an_object_without_a_name_is_named_by_its_file_or_skipped(tmp_path):
    root = save_voc(tmp_path, {"a": [DOG, ("", (1, 1, 9, 9), 0)]})
    with refused("a.xml: object 2 .*unknown class ''.*on_error='skip'"):
        load_voc(root)
    data = load_voc(root, on_error="skip")
    assert data.classes == ("dog",) and len(data.skipped) == 1
