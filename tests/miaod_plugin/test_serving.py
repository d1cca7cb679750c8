"""A project as Label Studio's machine-learning backend, asked over HTTP."""

import json
import shutil
import threading
import urllib.error
import urllib.request
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from annotators import Annotator
from filelock import FileLock
from typer.testing import CliRunner

from miaod_plugin.cli.app import app
from miaod_plugin.errors import ConfigError
from miaod_plugin.loop import Project
from miaod_plugin.serving import Backend, serve


class Client:
    """Sends what Label Studio sends."""

    def __init__(self, address):
        self.address = f"http://{address[0]}:{address[1]}"

    def __call__(self, name, content=None, kind="application/json"):
        """Return the status and what is answered."""
        data = content if isinstance(content, bytes | None) else json.dumps(content).encode()
        request = urllib.request.Request(f"{self.address}/{name}", data, {"Content-Type": kind})
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)


@pytest.fixture(scope="module")
def annotator(tmp_path_factory):
    return Annotator(tmp_path_factory.mktemp("photographs"))


@pytest.fixture(scope="module")
def begun(annotator, tmp_path_factory):
    """A project whose first round is annotated and trained; not to be changed."""
    project = annotator.project(tmp_path_factory.mktemp("begun") / "project", "label-studio")
    paths = [one.path for one in project.query(8).asked()]
    project.import_annotations(annotator.answer("label-studio", paths, tmp_path_factory.mktemp("export")))
    project.train()
    return project


@pytest.fixture
def project(begun, tmp_path):
    """A copy of it, as far from the photographs."""
    return Project(shutil.copytree(begun.places.folder, tmp_path / "project"))


@pytest.fixture
def served(project):
    """The project's backend and a client of it."""
    backend = Backend(project, train_after=2)
    with serve(backend, port=0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield backend, Client(server.server_address)
        server.shutdown()
        backend.wait()


def task(path, number=1):
    return {"id": number, "data": {"image": f"/data/local-files/?d={path}", "path": path}}


def event(annotator, path, number, action="ANNOTATION_CREATED", **changes):
    """Return what Label Studio sends when a photograph is annotated as it should be."""
    with TemporaryDirectory() as folder:
        (exported,) = json.loads(annotator.answer("label-studio", [path], Path(folder)).read_text())
    (annotation,) = exported["annotations"]
    return {"action": action, "task": task(path), "annotation": annotation | {"id": number} | changes}


def unasked(project, count):
    return project.state().pool[:count]


def test_it_is_up_and_names_its_newest_model(served):
    _, client = served
    assert client("health") == (200, {"status": "UP", "model_class": "miaod"})
    assert client("setup", {"project": "1.17", "schema": "<View/>"}) == (200, {"model_version": "round 1"})
    assert client("versions") == (200, {"versions": ["round 1"]})


def test_tasks_get_the_boxes_of_the_model_and_scores_that_fall_with_their_utility(served, project):
    _, client = served
    model = project.learner()
    for classifier in model.estimator.network_.classifiers:
        list(classifier.parameters())[-1].data += 4  # the last bias: boxes are found in anything
    model.estimator.save(project.places.model(1))
    paths = unasked(project, 5)
    status, answer = client("predict", {"tasks": [task(path, n) for n, path in enumerate(paths)], "project": "1.17"})
    assert status == 200 and len(answer["results"]) == 5
    model, photos = project.learner(), project.state().photos_of(paths)
    for result, found in zip(answer["results"], model.estimator.predict(photos.X), strict=True):
        kept = found["scores"] >= project.settings.suggest_from
        assert result["model_version"] == "round 1" and len(result["result"]) == kept.sum() > 0
        corner = [result["result"][0]["value"][side] for side in ("x", "y")]
        np.testing.assert_allclose(corner, 100 * found["boxes"][0, :2].clip(min=0) / 64, atol=0.01)
    strategy = model.query_strategy.set_params(adapt=False)
    rows, _ = strategy(model, photos.X, n_instances=5)
    assert np.argsort([result["score"] for result in answer["results"]]).tolist() == rows.tolist()


def test_a_held_out_photograph_gets_no_boxes_and_no_score(served, project):
    held_out = project.state().held_out[0]
    _, answer = served[1]("predict", {"tasks": [task(held_out)]})
    assert answer["results"] == [{"result": [], "model_version": "round 1"}]


def test_without_a_model_tasks_get_no_boxes(annotator, tmp_path):
    backend = Backend(annotator.project(tmp_path / "new", "label-studio"))
    path = unasked(backend.project, 1)[0]
    assert backend.answer("predict", {"tasks": [task(path)]}) == {
        "results": [{"result": [], "model_version": "no model yet"}]
    }
    assert backend.answer("setup", {}) == {"model_version": "no model yet"}


def test_annotations_that_arrive_are_taken_over_and_trained_on_once_enough_are_new(served, annotator, project):
    backend, client = served
    first, second = unasked(project, 2)
    trained_on = project.status().curve[-1].images
    assert client("webhook", event(annotator, first, 7)) == (200, {"status": "taken over", "training": "not yet"})
    answer = project.state().answers[first]
    assert [box.name for box in answer.boxes] == [annotator.classes[k] for k in annotator.truth[first]["labels"]]
    assert client("webhook", event(annotator, second, 8))[1] == {"status": "taken over", "training": "started"}
    backend.wait()
    assert project.status().curve[-1].images == trained_on + 2
    assert list((project.places.folder / "arrived").iterdir()) == []


def test_what_arrives_while_another_works_on_the_project_waits_on_disk(served, annotator, project):
    _, client = served
    first, second = unasked(project, 2)
    with FileLock(project.places.scratch("lock")):
        status, answer = client("webhook", event(annotator, first, 7))
        assert status == 200 and answer["status"].startswith("waits: ")
    assert first not in project.state().answers
    client("webhook", event(annotator, second, 8))
    assert {first, second} <= project.state().answers.keys()


def test_what_waited_when_it_was_killed_is_taken_over_at_the_next_start(annotator, project):
    (path,) = unasked(project, 1)
    with FileLock(project.places.scratch("lock")):
        Backend(project).answer("webhook", event(annotator, path, 7))
    Backend(project)
    assert project.state().answers[path].state == "annotated"


def test_an_update_corrects_and_a_deletion_changes_nothing(served, annotator, project):
    _, client = served
    (path,) = unasked(project, 1)
    client("webhook", event(annotator, path, 7))
    emptied = event(annotator, path, 7, "ANNOTATION_UPDATED", result=[], updated_at="2099-01-01T00:00:00Z")
    assert client("webhook", emptied)[0] == 200
    assert project.state().answers[path].boxes == []
    assert client("webhook", {"action": "ANNOTATIONS_DELETED", "annotations": [{"id": 7}]})[1] == {"status": "ignored"}
    assert path in project.state().answers


def test_training_starts_when_it_is_told_to(served):
    backend, client = served
    assert client("webhook", {"action": "START_TRAINING"})[1] == {"status": "started"}
    backend.wait()
    assert client("train", {})[1] == {"status": "started"}


@pytest.mark.parametrize(
    ("name", "content", "status", "words"),
    [
        ("predict", {"tasks": [{"data": {"image": "other.jpg"}}]}, 400, "is not among the"),
        ("predict", {"tasks": 3}, 400, "tasks: 3 is not a list"),
        ("predict", {"tasks": [{"id": 1}]}, 400, "is not an object with 'data'"),
        ("predict", {"tasks": [{"data": {"image": "../../etc/passwd"}}]}, 400, "'..'"),
        ("webhook", {"action": "ANNOTATION_CREATED"}, 400, "let the webhook send its payload"),
        ("predict", b"{", 400, "not well-formed JSON"),
        ("predict", b"[" * 100_000, 400, "not well-formed JSON"),
        ("predict", [], 400, "send a JSON object"),
        ("delete", {"project": "1.17"}, 404, "no such call"),
    ],
)
def test_what_cannot_be_answered_is_refused_in_one_line(served, name, content, status, words):
    found, answer = served[1](name, content)
    assert found == status and words in answer["error"] and "\n" not in answer["error"]


def test_an_annotation_that_is_refused_is_not_kept(served, annotator, project):
    (path,) = unasked(project, 1)
    wrong = event(annotator, path, 7)
    wrong["annotation"]["result"][0]["value"]["rectanglelabels"] = ["zebra"]
    status, answer = served[1]("webhook", wrong)
    assert status == 400 and "zebra" in answer["error"]
    assert path not in project.state().answers and list((project.places.folder / "arrived").iterdir()) == []


@pytest.mark.parametrize("number", [None, True, -1, "1/../2", 10**300])
def test_an_annotation_without_a_number_is_not_kept(served, annotator, project, number):
    (path,) = unasked(project, 1)
    status, answer = served[1]("webhook", event(annotator, path, number))
    assert status == 400 and "is not the number of an annotation" in answer["error"]
    assert not (project.places.folder / "arrived").exists()


def test_a_disk_that_takes_nothing_is_told_in_one_line(served, annotator, project):
    (path,) = unasked(project, 1)
    (project.places.folder / "arrived").write_text("")
    status, answer = served[1]("webhook", event(annotator, path, 7))
    assert status == 500 and answer["error"].endswith("arrived: File exists")


def test_a_page_in_a_browser_cannot_annotate(served):
    status, answer = served[1]("webhook", {"action": "START_TRAINING"}, kind="text/plain")
    assert (status, answer["error"]) == (415, "send application/json")


def test_a_port_that_is_taken_is_refused_in_one_line(served, project):
    taken = served[1].address.rpartition(":")[2]
    done = CliRunner().invoke(app, ["serve", "--project", str(project.places.folder), "--port", taken])
    assert isinstance(done.exception, ConfigError)
    assert str(done.exception).startswith(f"127.0.0.1:{taken}: cannot be listened on: Address already in use")


def test_a_project_of_another_tool_is_refused(annotator, tmp_path):
    project = annotator.project(tmp_path / "project", "voc")
    with pytest.raises(ConfigError, match=r"loop.yaml: tool.name: 'voc' asks no server; only label-studio does"):
        Backend(Project(project.places.folder))
