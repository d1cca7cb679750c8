"""CVAT's, COCO's, VOC's and YOLO's files as tools write them, and what is in them that is no upright box."""

import json

import numpy as np
import pytest
from annotated_project import CLASSES, SIZES

from miaod_plugin.annotations import Coco, Cvat, Voc, Yolo
from miaod_plugin.errors import DataError

BOX = '<box label="cat" source="manual" occluded="0" xtl="1.50" ytl="2" xbr="20" ybr="29.99" z_order="0"/>'


def cvat(folder, shapes: str, head: str = "", image='id="0" name="a/b c.jpg" width="40" height="30"'):
    file = folder / "annotations.xml"
    file.write_text(f"<annotations><version>1.1</version>{head}<image {image}>{shapes}</image></annotations>")
    return Cvat().read(file, CLASSES, SIZES)


def coco(folder, entry: dict, **fields):
    content = {
        "images": [{"id": 5, "file_name": "a/b c.jpg", "width": 40, "height": 30}],
        "annotations": [{"id": 1, "image_id": 5, "category_id": 9, "bbox": [1, 2, 3, 4], **entry}],
        "categories": [{"id": 9, "name": "cat"}, {"id": 1, "name": "not ours and not used"}],
    }
    (folder / "instances.json").write_text(json.dumps(content | fields))
    return Coco().read(folder / "instances.json", CLASSES, SIZES)


def voc(folder, files: dict[str, str], **options):
    for name, text in files.items():
        (folder / "voc" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "voc" / name).write_text(f"<annotation>{text}</annotation>")
    return Voc(**options).read(folder / "voc", CLASSES, SIZES)


def yolo(folder, files: dict[str, str]):
    for name, text in files.items():
        (folder / "yolo" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "yolo" / name).write_text(text)
    return Yolo().read(folder / "yolo", CLASSES, SIZES)


def test_cvat_tells_the_assignee_and_which_images_are_of_no_use(tmp_path):
    head = "<meta><job><assignee><username>eve</username><email>e@x</email></assignee></job></meta>"
    (found,) = cvat(tmp_path, f'<tag label="night" source="manual"/>{BOX}', head)
    assert (found.annotator, found.state) == ("eve", "annotated")
    np.testing.assert_allclose(found.boxes, [[1.5, 2, 20, 29.99]], atol=1e-5)
    (found,) = cvat(tmp_path, f'{BOX}<tag label="unusable" source="manual"/>', head)
    assert (found.annotator, found.state, len(found.boxes)) == ("eve", "unusable", 0)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (BOX.replace("/>", ' rotation="12.5"/>'), "shape 1: is rotated by 12.5 degrees; draw it upright"),
        (BOX + '<polygon label="cat" points="1,2;3,4;5,6"/>', "shape 2: is a 'polygon', not a box; draw rectangles"),
        ('<mask label="cat" rle="1,2"/>', "shape 1: is a 'mask', not a box; draw rectangles"),
        ('<box label="cat" xtl="1" ytl="2" xbr="9"/>', "box 1: xtl=1, ytl=2, xbr=9, ybr=missing is not four finite"),
        ('</image></annotations><annotations>', "not well-formed XML"),
        ('</image><track id="0" label="cat"/><image>', "has tracks of 'CVAT for video'; export as 'CVAT for images"),
    ],
)  # fmt: skip
def test_what_is_no_upright_box_in_cvat_is_refused(tmp_path, shapes, message):
    with pytest.raises(DataError) as raised:
        cvat(tmp_path, shapes)
    assert message in str(raised.value)


def test_cvat_without_images_or_of_another_root_is_refused(tmp_path):
    (tmp_path / "a.xml").write_text("<annotations/>")
    with pytest.raises(DataError, match=r"has no images; expected annotations\.xml"):
        Cvat().read(tmp_path / "a.xml", CLASSES, SIZES)
    (tmp_path / "a.xml").write_text("<annotation/>")
    with pytest.raises(DataError, match=r"its root element is 'annotation', not 'annotations'; expected"):
        Cvat().read(tmp_path / "a.xml", CLASSES, SIZES)


def test_coco_may_number_categories_as_it_likes_and_have_more_of_them(tmp_path):
    (found,) = coco(tmp_path, {"attributes": {"occluded": False, "rotation": 0.0}})
    assert found.boxes.tolist() == [[1, 2, 4, 6]] and found.labels.tolist() == [0] and found.annotator is None


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"attributes": {"rotation": 30.0}}, "annotations[0]: is rotated by 30 degrees; draw it upright"),
        ({"iscrowd": 1}, "annotations[0]: is a crowd (iscrowd), not a box around one object"),
        ({"image_id": 6}, "annotations[0]: image_id 6 is not among the images; fix the file"),
        ({"category_id": 1}, "box 1: unknown class 'not ours and not used'"),
        ({"category_id": 2}, "box 1: unknown class 'category_id 2'"),
        ({"bbox": [1, 2, 3]}, "box 1: bbox [1, 2, 3] is not four finite numbers"),
        ({"bbox": [1, 2, 0, 4]}, "box 1: bbox [1, 2, 0, 4] is degenerate"),
    ],
)
def test_what_is_no_upright_box_in_coco_is_refused(tmp_path, entry, message):
    with pytest.raises(DataError) as raised:
        coco(tmp_path, entry)
    assert message in str(raised.value)


def test_an_image_that_coco_has_under_two_names_is_refused(tmp_path):
    images = [{"id": 5, "file_name": "a/b c.jpg"}, {"id": 6, "file_name": "photos/a/b c.jpg"}]
    with pytest.raises(DataError, match=r"images\[1\] .*: a/b c.jpg is annotated again, after .*images\[0\]"):
        coco(tmp_path, {}, images=images)


OBJECT = """<object><name>cat</name><bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox>
</object>"""


@pytest.mark.parametrize("folder", ["", "Annotations/"])
def test_voc_is_a_folder_of_xml_that_counts_pixels_from_0_or_from_1(tmp_path, folder):
    files = {f"{folder}a/b c.xml": OBJECT.format(0, 2, 40, 30), f"{folder}e.xml": ""}
    found = {one.path: one.boxes.tolist() for one in voc(tmp_path, files)}
    assert found == {"a/b c.jpg": [[0, 2, 40, 30]], "e.jpg": []}
    files[f"{folder}a/b c.xml"] = OBJECT.format(1, 3, 40, 30)
    found = voc(tmp_path, files, one_based=True)
    assert {one.path: one.boxes.tolist() for one in found}["a/b c.jpg"] == [[0, 2, 40, 30]]


def test_voc_finds_an_image_by_its_filename_where_the_files_own_name_is_not_enough(tmp_path):
    (found,) = voc(tmp_path, {"000017.xml": "<folder>x</folder><filename>b c.jpg</filename>"})
    assert found.path == "a/b c.jpg"
    with pytest.raises(DataError, match=r"000018\.xml: <filename>: 'f\.jpg' is not among the 3 images"):
        voc(tmp_path, {"000018.xml": "<filename>f.jpg</filename>"})
    with pytest.raises(DataError, match=r"000018\.xml: '000018' is not among the 3 images"):
        voc(tmp_path, {"000018.xml": ""})


def test_an_image_that_voc_lists_without_a_file_has_nothing_on_it(tmp_path):
    (tmp_path / "voc" / "ImageSets" / "Main").mkdir(parents=True)
    (tmp_path / "voc" / "ImageSets" / "Main" / "train.txt").write_text("a/b c\n000017\n")
    (tmp_path / "voc" / "ImageSets" / "Main" / "cat_train.txt").write_text("a/b c -1\ne\n")
    files = {
        "Annotations/a/b c.xml": OBJECT.format(1, 2, 3, 4),
        "Annotations/000017.xml": "<filename>d.png</filename>",
    }
    found = {one.path: len(one.boxes) for one in voc(tmp_path, files)}
    assert found == {"a/b c.jpg": 1, "a/d.png": 0, "e.jpg": 0}


def test_a_rotated_box_in_voc_is_refused(tmp_path):
    rotated = (
        "<object><name>cat</name><robndbox><cx>9</cx><cy>9</cy><w>4</w><h>3</h><angle>1</angle></robndbox></object>"
    )
    with pytest.raises(DataError, match=r"e\.xml, box 1: xmin=missing, ymin=missing, .* is not four finite numbers"):
        voc(tmp_path, {"e.xml": rotated})


LINE = "0 0.5 0.5 0.25 0.2\n"


@pytest.mark.parametrize("labels", ["labels/", "labels/train/", "train/labels/"])
def test_yolo_finds_labels_wherever_tools_put_them(tmp_path, labels):
    names = "train: images\nnc: 2\nnames: ['cat', 'dog']\n"
    files = {"data.yaml": names, f"{labels}a/b c.txt": LINE, f"{labels}e.txt": "\n", "train.txt": "images/e.jpg\n"}
    found = {one.path: one.boxes.tolist() for one in yolo(tmp_path, files)}
    assert found == {"a/b c.jpg": [[15, 12, 25, 18]], "e.jpg": []}


def test_yolo_has_its_classes_from_classes_txt_as_label_studio_writes_it(tmp_path):
    found = yolo(tmp_path, {"classes.txt": "Ä & <b>\ntraffic light\n", "labels/1a2b3c4d-e.txt": "1" + LINE[1:]})
    assert (found[0].path, found[0].labels.tolist()) == ("e.jpg", [1])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0 0.5 0.5 0.2", "line 2 has 4 columns, not class, x, y, width, height"),
        (
            "0 .1 .1 .2 .1 .2 .2 .1 .2",
            "line 2 has 9 columns, .*; outlines and rotated boxes are not read, draw rect",
        ),
        ("1 0.5 0.5 0.2 0.2", "box 2: unknown class 'dog'"),
        ("7 0.5 0.5 0.2 0.2", "box 2: unknown class 'number 7'"),
        ("-1 0.5 0.5 0.2 0.2", "box 2: unknown class 'number -1'"),
        ("cat 0.5 0.5 0.2 0.2", "box 2: unknown class 'number cat'"),
        ("0 0.5 0.5 1.2 0.2", "box 2: line 2 '0 0.5 0.5 1.2 0.2' reaches outside its 1920 x 1080 image"),
        ("0 nan 0.5 0.2 0.2", "box 2: line 2 '0 nan 0.5 0.2 0.2' is not four finite numbers"),
    ],
)
def test_what_is_no_box_in_yolo_is_refused_with_its_line(tmp_path, line, message):
    with pytest.raises(DataError, match=message):
        yolo(tmp_path, {"data.yaml": "names: {0: cat, 1: dog}", "labels/e.txt": LINE + line})


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"labels/e.txt": LINE}, r"data\.yaml: cannot be read"),
        ({"data.yaml": "names: [cat"}, "not well-formed YAML"),
        ({"data.yaml": "names: cat"}, "names is 'cat'; expected the names of the classes by their numbers"),
        ({"data.yaml": "a: &a [x, x]\nnames: [*a, *a]"}, r"it has an alias \(\*\); write its value out"),
        ({"data.yaml": "names: !!python/object/apply:os.system ['touch x']"}, "not well-formed YAML"),
        ({"data.yaml": "names: [cat]"}, "has no text files in a folder labels"),
    ],
)
def test_a_yolo_folder_without_sound_classes_or_labels_is_refused(tmp_path, files, message):
    with pytest.raises(DataError, match=message):
        yolo(tmp_path, files)
