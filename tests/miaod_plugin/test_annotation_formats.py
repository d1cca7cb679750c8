"""Every format of a labelling tool: what is written is read again, and what is not usable is refused in one line."""

import os
import re
from pathlib import Path

import numpy as np
import pytest
from annotated_project import CLASSES, FORMATS, SIZES, SUGGESTIONS, exported, make, same, suggestion

from miaod_plugin.annotations import AnnotationFormat, Suggestion
from miaod_plugin.errors import ConfigError, DataError
from miaod_plugin.registry import ANNOTATION_FORMATS, find

every_format = pytest.mark.parametrize("name", FORMATS)


def edit(source: Path, *changes: tuple[str, str]) -> None:
    """Replace texts in the file, or in whichever files of the folder hold them; each must be there."""
    files = [source] if source.is_file() else [file for file in source.rglob("*") if file.is_file()]
    for old, new in changes:
        holding = [file for file in files if old in file.read_text()]
        assert holding, old
        for file in holding:
            file.write_text(file.read_text().replace(old, new))


def refusal(name: str, source: Path, classes=CLASSES, sizes=SIZES) -> str:
    with pytest.raises(DataError) as raised:
        make(name).read(source, classes, sizes)
    message = str(raised.value)
    assert str(source)[:40] in message and "\n" not in message
    return message


def test_all_formats_of_labelling_tools_are_found_by_name():
    assert {"coco", "cvat", "label-studio", "voc", "yolo"} <= set(FORMATS)
    assert all(find(ANNOTATION_FORMATS, name).name == name for name in FORMATS)
    with pytest.raises(ConfigError, match="unknown annotation format 'labelstudio'; did you mean 'label-studio'"):
        find(ANNOTATION_FORMATS, "labelstudio")


@every_format
def test_what_is_written_is_read_again_to_the_pixel(tmp_path, name):
    same(make(name).read(exported(name, tmp_path / "x"), CLASSES, SIZES), SUGGESTIONS)


@pytest.mark.parametrize("second", FORMATS)
@every_format
def test_boxes_go_from_any_format_to_any_other(tmp_path, name, second):
    found = make(name).read(exported(name, tmp_path / "1"), CLASSES, SIZES)
    again = [
        Suggestion(one.path, SIZES[one.path], None, one.boxes, one.labels, np.ones(len(one.boxes), np.float32))
        for one in found
    ]
    same(make(second).read(exported(second, tmp_path / "2", again), CLASSES, SIZES), SUGGESTIONS)


@every_format
def test_classes_may_be_numbered_otherwise_when_they_come_back(tmp_path, name):
    found = make(name).read(exported(name, tmp_path / "x"), CLASSES[::-1], SIZES)
    assert {one.path: one.labels.tolist() for one in found} == {"e.jpg": [2, 0, 1], "a/b c.jpg": [1], "a/d.png": []}


@every_format
def test_a_write_that_cannot_be_leaves_nothing(tmp_path, name):
    for bad, message in (
        ([suggestion("e.jpg"), suggestion("e.jpg")], "would share a file"),
        ([suggestion("e.jpg", [(0, 0, 9, 9)], [7])], "expected integers from 0 to 2"),
        ([suggestion("e.jpg", [(9, 9, 1, 1)], [0])], "x1 < x2"),
    ):
        with pytest.raises(DataError, match=message):
            make(name).write(tmp_path / "x", bad, CLASSES)
    with pytest.raises(DataError, match="listed twice"):
        make(name).write(tmp_path / "x", SUGGESTIONS, ["cat", "cat", "dog"])
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["voc", "yolo"])
def test_a_folder_that_is_there_is_not_replaced(tmp_path, name):
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "precious").touch()
    with pytest.raises(DataError, match="is there already"):
        make(name).write(tmp_path / "x", SUGGESTIONS, CLASSES)
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")] == ["x", "x/precious"]


@every_format
def test_a_class_that_is_not_known_is_refused_with_the_closest(tmp_path, name):
    source = exported(name, tmp_path / "x")
    message = refusal(name, source, ["cat", "traffic lights", CLASSES[2]])
    assert "unknown class 'traffic light'; mend it in the labelling tool" in message
    assert "did you mean 'traffic lights'?" in message


@every_format
def test_another_projects_export_is_refused_by_its_first_image(tmp_path, name):
    sizes = {f"other/{number}.jpg": (40, 30) for number in range(20)}
    message = refusal(name, exported(name, tmp_path / "x"), sizes=sizes)
    assert "is not among the 20 images of the project; is this another project's export?" in message


@every_format
def test_an_image_that_is_not_ours_is_refused_with_the_closest(tmp_path, name):
    source = exported(name, tmp_path / "x")
    message = refusal(name, source, sizes={path: size for path, size in SIZES.items() if path != "a/d.png"})
    assert "is not among the 2 images of the project" in message and "a/d" in message


@every_format
def test_a_box_beyond_its_image_is_refused_and_one_that_rounding_pushed_out_is_clipped(tmp_path, name):
    path = "a/b c.jpg"
    rounded = Suggestion(path, (40, 30), 0.0, np.array([[-0.3, 1, 40.4, 30.2]], np.float32), np.array([0]), np.ones(1))
    found = make(name).read(exported(name, tmp_path / "1", [rounded]), CLASSES, SIZES)
    np.testing.assert_allclose(found[0].boxes, [[0, 1, 40, 30]], atol=1e-5)
    beyond = Suggestion(path, (40, 30), 0.0, np.array([[2, 1, 44, 30]], np.float32), np.array([0]), np.ones(1))
    message = refusal(name, exported(name, tmp_path / "2", [beyond]))
    assert "reaches outside its 40 x 30 image; mend it in the labelling tool and export again" in message


@pytest.mark.parametrize("name", sorted({*FORMATS} - {"yolo"}))  # which tells no sizes
def test_images_of_another_size_are_refused_and_turned_ones_named(tmp_path, name):
    source = exported(name, tmp_path / "x")
    assert "is 1920 x 1080, but e.jpg is 960 x 540" in refusal(name, source, sizes={**SIZES, "e.jpg": (960, 540)})
    message = refusal(name, source, sizes={**SIZES, "e.jpg": (1080, 1920)})
    assert "is 1920 x 1080, but e.jpg is 1080 x 1920: one of them is turned as EXIF tells" in message


@every_format
def test_half_of_a_file_is_refused(tmp_path, name):
    source = exported(name, tmp_path / "x")
    files = {"voc": "Annotations/e.xml", "yolo": "labels/e.txt"}
    file = source / files[name] if name in files else source
    file.write_bytes(file.read_bytes()[:-15])
    problem = {"voc": "not well-formed XML", "cvat": "not well-formed XML", "yolo": "columns, not class, x, y"}
    assert problem.get(name, "not well-formed JSON") in refusal(name, source)


@every_format
def test_a_source_that_is_not_there_or_of_the_other_kind_is_refused(tmp_path, name):
    assert "no such" in refusal(name, tmp_path / "nowhere")
    other = tmp_path / "file" if name in ("voc", "yolo") else tmp_path
    (tmp_path / "file").touch()
    assert "a folder" in refusal(name, other)


@every_format
def test_a_zip_archive_is_refused_with_the_mend(tmp_path, name):
    import zipfile

    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("annotations.xml", "<annotations/>")
    message = refusal(name, tmp_path / "x.zip")
    assert "unpack it" in message or "a folder" in message


@pytest.mark.parametrize("name", ["coco", "cvat", "label-studio"])
def test_a_file_beyond_all_bounds_is_refused_unread(tmp_path, name):
    with open(tmp_path / "x", "wb") as file:
        file.truncate(1 << 40)  # a hole: it takes no space
    assert "has more than 268,435,456 bytes; give it in parts" in refusal(name, tmp_path / "x")


@every_format
def test_a_name_that_leaves_the_project_is_refused(tmp_path, name):
    source = exported(name, tmp_path / "x")
    if name in ("voc", "yolo"):
        folder = source / ("Annotations" if name == "voc" else "labels")
        (tmp_path / "outside").write_text("0 .5 .5 .1 .1\n")
        victim = next(folder.glob("e.*"))
        victim.unlink()
        victim.symlink_to(tmp_path / "outside")
        assert "is a link that leaves" in refusal(name, source)
    else:
        edit(source, ("e.jpg", "../e.jpg"))
        assert "is not a path inside the project" in refusal(name, source)


@pytest.mark.parametrize("name", ["cvat", "voc"])
def test_entities_are_refused_before_they_expand(tmp_path, name):
    source = exported(name, tmp_path / "x")
    file = source / "Annotations" / "e.xml" if name == "voc" else source
    laughs = "".join(f'<!ENTITY l{k + 1} "{f"&l{k};" * 10}">' for k in range(9))
    body = re.sub(r"^<\?xml[^>]*\?>", "", file.read_text()).replace("cat", "&l9;")
    file.write_text(f'<!DOCTYPE x [<!ENTITY l0 "ha">{laughs}]>{body}')
    assert "has a DOCTYPE" in refusal(name, source)


class Upside(AnnotationFormat):
    """The least that a format of somebody else's has to be."""

    name = "upside"

    def read(self, source, classes, sizes):
        return []


def test_a_format_must_be_able_to_do_both():
    with pytest.raises(TypeError, match="write"):
        Upside()


def test_files_name_images_utilities_and_scores_best_first(tmp_path):
    import json

    order = [one.path for one in SUGGESTIONS]
    coco = json.loads(exported("coco", tmp_path / "coco").read_text())
    assert [(image["file_name"], image.get("utility")) for image in coco["images"]] == [
        *zip(order, (2.5, None, 0.25), strict=True)
    ]
    assert [round(one["score"], 3) for one in coco["annotations"]] == [0.9, 0.5, 0.1, 0.9]
    cvat = exported("cvat", tmp_path / "cvat").read_text()
    assert re.findall(r'<image .*?name="(.*?)"', cvat) == order
    assert re.findall(r'name="score">(.*?)<', cvat) == ["0.9", "0.5", "0.1", "0.9"]
    voc = exported("voc", tmp_path / "voc") / "ImageSets" / "Main" / "default.txt"
    assert voc.read_text().splitlines() == [path.rpartition(".")[0] for path in order]
    yolo = exported("yolo", tmp_path / "yolo") / "train.txt"
    assert yolo.read_text().splitlines() == [f"./images/{path}" for path in order]
