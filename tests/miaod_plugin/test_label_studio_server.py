"""What a real Label Studio makes of our files, and we of its."""

import json
import shutil
import threading
import time

import numpy as np
import pytest
import yaml
from label_studio_server import EMAIL, label_studio
from PIL import Image

from miaod_plugin.annotations import LabelStudio, Suggestion
from miaod_plugin.annotations.label_studio import regions
from miaod_plugin.data import make_digit_scenes
from miaod_plugin.loop import Project
from miaod_plugin.serving import Backend, serve

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("label-studio") is None, reason="Label Studio is not installed; see the Makefile"),
]
NAMES = ["a b.png", "more/c.png", "more/d%é.png", "e.png"]


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder of photographs and what is suggested for them."""
    folder, data = tmp_path_factory.mktemp("files") / "photos", make_digit_scenes(4, image_size=128, random_state=1)
    (folder / "more").mkdir(parents=True)
    suggestions = []
    for name, image, target in zip(NAMES, data.X, data.y, strict=True):
        Image.fromarray(image).save(folder / name)
        boxes, labels = target["boxes"], target["labels"]
        scores = np.linspace(0.9, 0.4, len(labels), dtype=np.float32)
        suggestions.append(Suggestion(name, (128, 128), 2.5 - len(suggestions), boxes, labels, scores))
    return folder, suggestions, list(data.classes)


@pytest.fixture(scope="module")
def server(photos, tmp_path_factory):
    with label_studio(tmp_path_factory.mktemp("label_studio"), photos[0].parent) as running:
        yield running


@pytest.fixture
def project(server, photos, tmp_path):
    """The number of a project into which our export was imported."""
    folder, suggestions, classes = photos
    LabelStudio(prefix="/data/local-files/?d=photos/").write(tmp_path / "tasks.json", suggestions, classes)
    number = server.new_project((tmp_path / "label_config.xml").read_text(), folder)
    made = server.post(f"/api/projects/{number}/import", json.loads((tmp_path / "tasks.json").read_text()))
    assert made["task_count"] == len(NAMES)
    return number


def test_the_tool_shows_the_photographs_best_first_with_boxes_to_start_from(server, photos, project):
    tasks = server.tasks(project)
    assert [task["data"]["path"] for task in tasks] == NAMES
    assert [task["data"]["utility"] for task in tasks] == [2.5, 1.5, 0.5, -0.5]
    for task, suggestion in zip(tasks, photos[1], strict=True):
        assert server.call("GET", task["data"]["image"]) == (photos[0] / suggestion.path).read_bytes()
        shown = [region for prediction in task["predictions"] for region in prediction["result"]]
        assert [region["score"] for region in shown] == pytest.approx(suggestion.scores.tolist())
        assert [region["value"]["rectanglelabels"] for region in shown] == [[photos[2][k]] for k in suggestion.labels]


def test_what_is_annotated_in_the_tool_comes_back(server, photos, project, tmp_path):
    _, suggestions, classes = photos
    accepted, moved, unusable, skipped = server.tasks(project)
    as_shown = accepted["predictions"][0]["result"]
    server.post(f"/api/tasks/{accepted['id']}/annotations", {"result": as_shown})
    value = {"x": 25, "y": 50, "width": 12.5, "height": 25, "rotation": 0, "rectanglelabels": [classes[1]]}
    drawn = {"type": "rectanglelabels", "from_name": "boxes", "to_name": "image", "value": value}
    drawn |= {"original_width": 128, "original_height": 128, "image_rotation": 0}
    server.post(f"/api/tasks/{moved['id']}/annotations", {"result": [drawn]})
    choice = {"type": "choices", "from_name": "use", "to_name": "image", "value": {"choices": ["unusable"]}}
    server.post(f"/api/tasks/{unusable['id']}/annotations", {"result": [choice]})
    server.post(f"/api/tasks/{skipped['id']}/annotations", {"result": [], "was_cancelled": True})

    export = tmp_path / "export.json"
    export.write_bytes(server.call("GET", f"/api/projects/{project}/export?exportType=JSON"))
    found = {one.path: one for one in LabelStudio().read(export, classes, dict.fromkeys(NAMES, (128, 128)))}
    assert [found[name].state for name in NAMES[:3]] == ["annotated", "annotated", "unusable"]
    assert NAMES[3] not in found or found[NAMES[3]].state == "skipped"
    np.testing.assert_allclose(found[NAMES[0]].boxes, suggestions[0].boxes, atol=1e-4)
    np.testing.assert_array_equal(found[NAMES[0]].labels, suggestions[0].labels)
    np.testing.assert_allclose(found[NAMES[1]].boxes, [[32, 64, 48, 96]], atol=1e-4)
    assert found[NAMES[1]].labels.tolist() == [1] and found[NAMES[1]].time.startswith("20")
    assert {one.annotator for one in found.values()} <= {EMAIL, "1"}


def test_the_tool_asks_a_project_for_boxes_and_lets_it_learn(server, photos, tmp_path):
    folder, suggestions, classes = photos
    project = Project.create(folder, classes, folder=tmp_path, detector="retinanet_tiny", held_out=0)
    settings = yaml.safe_load((tmp_path / "loop.yaml").read_text())
    settings["tool"]["options"] = {"prefix": "/data/local-files/?d=photos/"}
    settings["estimator"] = {"max_steps": 3}
    (tmp_path / "loop.yaml").write_text(yaml.safe_dump(settings))
    project = Project(tmp_path)
    exported = project.exported(project.query(len(NAMES)))
    number = server.new_project((exported.parent / "label_config.xml").read_text(), folder)
    server.post(f"/api/projects/{number}/import", json.loads(exported.read_text()))

    backend = Backend(project, train_after=3)
    with serve(backend, port=0) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        address = "http://{}:{}".format(*http.server_address)
        server.post("/api/ml", {"project": number, "url": address, "title": "ours"})
        for task in server.tasks(number)[:3]:
            (truth,) = (one for one in suggestions if one.path == task["data"]["path"])
            server.post(f"/api/tasks/{task['id']}/annotations", {"result": regions(truth, classes)})
        end = time.monotonic() + 60
        while not project.status().curve and time.monotonic() < end:
            time.sleep(0.2)
        backend.wait()
        assert project.status().annotated == 3 and project.status().curve[0].images == 3
        for path, answer in project.state().answers.items():
            (truth,) = (one for one in suggestions if one.path == path)
            drawn = [box.corners for box in answer.boxes]
            np.testing.assert_allclose(np.reshape(drawn, (-1, 4)), truth.boxes, atol=0.01)
        server.post(f"/api/dm/actions?id=retrieve_tasks_predictions&project={number}", {"selectedItems": {"all": True}})
        versions = [one["model_version"] for task in server.tasks(number) for one in task["predictions"]]
        assert versions == ["round 1"] * len(NAMES)
        http.shutdown()
