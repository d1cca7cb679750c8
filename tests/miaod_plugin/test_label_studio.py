"""Label Studio's JSON as the tool itself writes it: several annotators, skipped tasks, rotation, its own file names."""

import json
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from annotated_project import CLASSES, SIZES, SUGGESTIONS, suggestion

from miaod_plugin.annotations import LabelStudio, label_config
from miaod_plugin.errors import DataError


def rectangle(name="cat", x=10.0, y=20.0, width=30.0, height=40.0, size=(40, 30), **value) -> dict:
    """Return one rectangle in percent, as the tool exports it."""
    return {
        "original_width": size[0],
        "original_height": size[1],
        "image_rotation": 0,
        "id": "tDq1UbLrpM",
        "from_name": "label",
        "to_name": "image",
        "type": "rectanglelabels",
        "origin": "manual",
        "value": {"x": x, "y": y, "width": width, "height": height, "rotation": 0, "rectanglelabels": [name], **value},
    }


def annotation(*result: dict, by=1, **fields) -> dict:
    times = {"created_at": "2026-03-01T10:00:00.5Z", "updated_at": "2026-03-02T10:00:00.5Z"}
    return {"id": 7, "completed_by": by, "result": [*result], "was_cancelled": False, **times, **fields}


def task(*annotations: dict, image: str = "/data/local-files/?d=photos/a/b%20c.jpg", **fields) -> dict:
    return {"id": 3, "data": {"image": image}, "annotations": [*annotations], "predictions": [], **fields}


def read(folder, *tasks, sizes=SIZES):
    file = folder / "export.json"
    file.write_text(json.dumps(tasks))
    return LabelStudio().read(file, CLASSES, sizes)


def refusal(folder, *tasks) -> str:
    with pytest.raises(DataError) as raised:
        read(folder, *tasks)
    return str(raised.value).partition("export.json: ")[2]


def test_an_export_is_read_with_annotator_time_and_boxes_in_pixels(tmp_path):
    (found,) = read(tmp_path, task(annotation(rectangle("traffic light"), rectangle(x=0, y=0, width=100, height=100))))
    assert (found.path, found.state, found.annotator) == ("a/b c.jpg", "annotated", "1")
    assert found.time == "2026-03-02T10:00:00.5Z"
    np.testing.assert_allclose(found.boxes, [[4, 6, 16, 18], [0, 0, 40, 30]], atol=1e-5)
    assert found.labels.tolist() == [1, 0] and found.labels.dtype == np.int64


def test_several_annotators_of_a_task_are_told_apart(tmp_path):
    by = {"id": 5, "email": "eve@example.org", "first_name": "Eve", "last_name": ""}
    found = read(tmp_path, task(annotation(rectangle()), annotation(by=by), annotation(by={"id": 6})))
    assert [(one.annotator, len(one.boxes)) for one in found] == [("1", 1), ("eve@example.org", 0), ("6", 0)]


def test_nothing_found_skipped_unusable_and_not_yet_annotated_are_told_apart(tmp_path):
    unusable = {"type": "choices", "from_name": "use", "to_name": "image", "value": {"choices": ["unusable"]}}
    other = {"type": "choices", "from_name": "weather", "to_name": "image", "value": {"choices": ["rain"]}}
    found = read(
        tmp_path,
        task(annotation(other)),
        task(annotation(rectangle(size=(1920, 1080)), was_cancelled=True), image="https://host/e.jpg"),
        task(annotation(rectangle(size=(33, 47)), unusable), image="s3://bucket/a/d.png"),
    )
    states = [(one.path, one.state, len(one.boxes)) for one in found]
    assert states == [("a/b c.jpg", "annotated", 0), ("e.jpg", "skipped", 0), ("a/d.png", "unusable", 0)]
    assert read(tmp_path, task(drafts=[annotation(rectangle())])) == []


def test_who_skipped_a_task_and_came_back_to_it_has_annotated_it(tmp_path):
    skipped = annotation(was_cancelled=True)
    found = read(tmp_path, task(skipped, annotation(rectangle()), annotation(by=2, was_cancelled=True)))
    assert [(one.annotator, one.state) for one in found] == [("1", "annotated"), ("2", "skipped")]


def test_relations_and_texts_beside_the_rectangles_are_left_alone(tmp_path):
    others = [{"type": "relation", "from_id": "a", "to_id": "b"}, {"type": "textarea", "value": {"text": ["x"]}}]
    assert len(read(tmp_path, task(annotation(*others, rectangle())))[0].boxes) == 1


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (rectangle(rotation=12.5), "result 1: the rectangle is rotated by 12.5 degrees; draw it upright"),
        ({**rectangle(), "image_rotation": 90}, "the image is rotated by 90 degrees; draw it upright"),
        (rectangle(rectanglelabels=["cat", "dog"]), "rectanglelabels is ['cat', 'dog']; give each rectangle one class"),
        (rectangle(rectanglelabels=[]), "rectanglelabels is []; give each rectangle one class"),
        (
            rectangle("cats"),
            "box 1: unknown class 'cats'; mend it in the labelling tool and export again; did",
        ),
        (rectangle(x=90), "box 1: x=90%, y=20.0%, width=30.0%, height=40.0% reaches outside its 40 x 30 image"),
        (rectangle(width=0), "box 1: x=10.0%, y=20.0%, width=0%, height=40.0% is degenerate: it has no area"),
        (rectangle(x=None), "box 1: x=None%, y=20.0%, width=30.0%, height=40.0% is not four finite numbers"),
        (
            {"type": "polygonlabels", "value": {"points": []}},
            "is of type 'polygonlabels', not rectanglelabels; draw",
        ),
        ({"type": "rectangle", "value": {}}, "is of type 'rectangle', not rectanglelabels; draw rectangles that have"),
        (rectangle(size=(41, 30)), "result 1: is 41 x 30, but a/b c.jpg is 40 x 30; give the export of these images"),
        ("x", "result is ['x'], not a list of objects; Label Studio's export as JSON expected"),
    ],
)
def test_what_is_no_upright_rectangle_of_one_class_is_refused_where_it_stands(tmp_path, result, message):
    told = refusal(tmp_path, task(annotation(result)))
    assert told.startswith("task 3, annotation 7") and message in told


@pytest.mark.parametrize("angle", [0, 360, -360.0, None])
def test_no_rotation_and_a_full_turn_are_none(tmp_path, angle):
    assert len(read(tmp_path, task(annotation(rectangle(rotation=angle))))[0].boxes) == 1


def test_an_image_that_one_annotator_annotated_twice_is_refused(tmp_path):
    told = refusal(tmp_path, task(annotation(rectangle())), task(annotation(), id=4))
    assert "task 4, annotation 7: a/b c.jpg is annotated again by '1', after " in told and "keep one of them" in told


def test_what_is_no_list_of_tasks_is_refused_with_the_mend(tmp_path):
    minimal = {"image": "/data/upload/1/b.jpg", "id": 1, "label": [{"x": 1, "rectanglelabels": ["cat"]}]}
    assert "not an object with 'data'; export as JSON, not as JSON-MIN" in refusal(tmp_path, minimal)
    assert "has no 'image'; create the project with label_config.xml" in refusal(
        tmp_path, {"id": 1, "data": {"img": "x"}}
    )
    assert "is [], not a list of tasks; export as JSON" in refusal(tmp_path)


def test_tasks_name_images_for_the_tools_file_server_with_utility_and_scores(tmp_path):
    LabelStudio(prefix="/data/local-files/?d=photos/").write(tmp_path / "out" / "tasks.json", SUGGESTIONS, CLASSES)
    first, second, third = json.loads((tmp_path / "out" / "tasks.json").read_text())
    assert second["data"]["image"] == "/data/local-files/?d=photos/a/b%20c.jpg"
    assert [one["data"]["utility"] for one in (first, second, third)] == [2.5, None, 0.25]
    assert [one["data"]["header"] for one in (first, second, third)] == [f"Utility: {u}" for u in (2.5, "none", 0.25)]
    (prediction,) = first["predictions"]
    assert prediction["score"] == pytest.approx(0.5)
    assert [region["score"] for region in prediction["result"]] == pytest.approx([0.9, 0.5, 0.1])
    assert len({region["id"] for region in prediction["result"]}) == 3
    assert "predictions" not in third


def test_the_labelling_configuration_has_the_names_that_predictions_refer_to(tmp_path):
    LabelStudio().write(tmp_path / "tasks.json", SUGGESTIONS, CLASSES)
    text = (tmp_path / "label_config.xml").read_text()
    assert text == label_config(CLASSES)
    view = ET.fromstring(text)
    labels = view.find("RectangleLabels")
    assert [label.get("value") for label in labels] == CLASSES and labels.get("canRotate") == "false"
    for region in json.loads((tmp_path / "tasks.json").read_text())[0]["predictions"][0]["result"]:
        assert labels.get("name") == region["from_name"]
        assert view.find("Image").get("name") == labels.get("toName") == region["to_name"]
    assert view.find("Image").get("value") == "$image"


@pytest.mark.parametrize("prefix", ["/data/local-files/?d=", "/data/local-files/?d=photos/", "https://host:80/x/", ""])
def test_images_are_found_again_behind_any_prefix(tmp_path, prefix):
    LabelStudio(prefix).write(tmp_path / "tasks.json", [suggestion(path) for path in SIZES], CLASSES)
    tasks = json.loads((tmp_path / "tasks.json").read_text())
    assert [task["data"].pop("path") for task in tasks] == [*SIZES]
    found = read(tmp_path, *({**task, "annotations": [annotation()]} for task in tasks))
    assert [one.path for one in found] == [*SIZES]
