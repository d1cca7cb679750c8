"""A project on one's own photographs, played by an annotator who knows the true boxes."""

import json
import shutil
import subprocess

import numpy as np
import pytest
from annotators import TOOLS, Annotator, configure, imported, paths_of
from filelock import FileLock

from miaod_plugin import DetectionLearner
from miaod_plugin.errors import ConfigError, DataError, MiaodError
from miaod_plugin.loop import Project
from miaod_plugin.registry import STRATEGIES, find, registered


@pytest.fixture
def own(tmp_path):
    """An annotator whose photographs a test may change."""
    return Annotator(tmp_path / "photographs", 12)


@pytest.mark.parametrize("tool", TOOLS)
def test_three_rounds_through_the_files_of_each_tool(annotator, tmp_path, tool):
    project = annotator.project(tmp_path / "project", tool, create={"held_out": 4})
    seen = []
    for number in (1, 2, 3):
        round_ = project.query(6)
        asked = paths_of(round_)
        assert round_.number == number and len(asked) == 6 and project.exported(round_).exists()
        seen += asked
        (tmp_path / str(number)).mkdir()
        project.import_annotations(annotator.answer(tool, asked, tmp_path / str(number)))
        learner = project.train()
    assert len(set(seen)) == len(seen), "nothing is asked twice"
    status = project.status()
    assert (status.annotated, status.open, status.held_out_annotated) == (18, 0, 4)
    assert [(one.images, one.held_out) for one in status.curve] == [(3, 4), (8, 4), (14, 4)]
    assert isinstance(learner, DetectionLearner) and len(learner.X_training) == 14
    names = [learner.X_training[k].removeprefix(f"{project.photos}/") for k in range(14)]
    assert not set(names) & set(project.state().held_out)
    for path, target in zip(names, learner.y_training, strict=True):
        order, truth = np.lexsort(target["boxes"].T), annotator.truth[path]
        true_order = np.lexsort(truth["boxes"].T)
        np.testing.assert_allclose(target["boxes"][order], truth["boxes"][true_order], atol=0.02)
        np.testing.assert_array_equal(target["labels"][order], truth["labels"][true_order])


@pytest.mark.slow
def test_average_precision_rises_with_the_rounds(tmp_path):
    annotator = Annotator(tmp_path / "photographs", 150, object_size=(20, 40))
    project = annotator.project(tmp_path / "project", create={"held_out": 30})
    recipe = {"learning_rate": 0.004, "weight_decay": 0.05, "warmup_steps": 20, "max_grad_norm": 1.0, "drop_at": 0.85}
    recipe |= {"max_steps": 100, "batch_size": 8, "optimizer": "adamw", "horizontal_flip": 0.0}
    configure(tmp_path / "project", estimator=recipe, detector={"name": "retinanet_tiny"})
    project = Project(tmp_path / "project")
    for count in (40, 20, 20):
        imported(project, annotator, paths_of(project.query(count)), tmp_path / "export")
        project.train()
    curve = project.status().curve
    assert [one.images for one in curve] == [20, 30, 50] and curve[2].held_out == 30
    assert curve[2].ap > curve[0].ap + 0.05


def test_the_first_round_covers_the_photographs_instead_of_drawing_at_random(annotator, project):
    picked = [one for one in project.query(8).asked() if one.why == "coverage"]
    assert [one.model for one in picked] == [None] * len(picked)
    embeddings = project.settings.make_estimator().untrained().transform(project.state().photos.X)
    rows = {path: row for row, path in enumerate(project.state().photos.ids.tolist())}
    chosen = embeddings[[rows[one.path] for one in picked]]
    for k, one in enumerate(picked[1:], start=1):
        nearest = np.linalg.norm(chosen[:k] - chosen[k], axis=1).min()
        assert one.utility == pytest.approx(nearest, rel=1e-3)
    assert picked[0].utility is None


def test_half_of_a_round_are_held_out_photographs_until_all_were_asked_for(project):
    held_out = project.state().held_out
    rounds = [project.query(3), project.query(4), project.query(4)]
    reasons = [[one.why for one in round_.asked()] for round_ in rounds]
    assert [reason.count("held-out") for reason in reasons] == [1, 2, 1] and len(held_out) == 4
    assert reasons[1] == ["coverage", "held-out"] * 2
    assert [one.path for round_ in rounds for one in round_.asked() if one.why == "held-out"] == list(held_out)


def test_the_model_proposes_boxes_but_not_where_it_is_measured(annotator, project, tmp_path):
    imported(project, annotator, paths_of(project.query(4)), tmp_path / "1")
    model = project.train().estimator
    for classifier in model.network_.classifiers:
        list(classifier.parameters())[-1].data += 4  # the last bias: boxes are found in anything
    model.save(project.places.model(1))
    round_ = project.query(4)
    written = json.loads(project.exported(round_).read_text())
    boxes = {image["file_name"]: 0 for image in written["images"]}
    names = {image["id"]: image["file_name"] for image in written["images"]}
    for one in written["annotations"]:
        boxes[names[one["image_id"]]] += 1
    for one in round_.asked():
        assert (boxes[one.path] == 0) == (one.why == "held-out"), one
        assert one.model == (None if one.why == "held-out" else 1)


@pytest.mark.parametrize(
    "strategy", [name for name in registered(STRATEGIES) if find(STRATEGIES, name)().n_detectors == 1]
)
def test_every_strategy_picks_a_round_while_another_one_is_open(annotator, tmp_path, strategy):
    project = annotator.project(tmp_path / "project", create={"held_out": 0}, strategy={"name": strategy})
    first, second = paths_of(project.query(4)), paths_of(project.query(2))
    imported(project, annotator, first, tmp_path / "1")
    project.train()
    asked = project.query(3).asked()
    assert {(one.why, one.model) for one in asked} == {(strategy, 2)}
    assert len({one.path for one in asked} - {*first, *second}) == 3


def test_a_second_query_asks_for_others_and_an_export_brings_all_that_is_open(annotator, project, tmp_path):
    first, second = paths_of(project.query(5)), paths_of(project.query(5))
    assert not set(first) & set(second)
    imported(project, annotator, first[:2], tmp_path / "1")
    out = project.export(tmp_path / "again")
    assert [image["file_name"] for image in json.loads(out.read_text())["images"]] != []
    assert {image["file_name"] for image in json.loads(out.read_text())["images"]} == {*first[2:], *second}
    with pytest.raises(DataError, match="nothing is left"):
        for _ in range(9):
            project.query(5)
    assert project.status().pool == 0


def test_photographs_come_and_go(own, tmp_path):
    project = own.project(tmp_path / "project", create={"held_out": 2})
    asked = paths_of(project.query(12))
    assert project.status().pool == 0
    new = own.take(3, random_state=1)
    assert set(paths_of(project.query(5))) == set(new)
    imported(project, own, asked, tmp_path / "1")
    trained_on = project.state().annotated
    (own.folder / trained_on[0]).unlink()
    status = project.status()
    assert status.gone == [trained_on[0]] and status.photos == 14 and status.annotated == 11
    assert len(project.train().X_training) == len(trained_on) - 1
    assert trained_on[0] in project.state().answers, "what was said of it is kept"


def test_broken_photographs_are_named_and_left_out(own, tmp_path):
    project = own.project(tmp_path / "project")
    broken = [project.state().pool[0], project.state().held_out[0]]
    for path in broken:
        (own.folder / path).write_bytes(b"no image")
    named = {}
    asked = paths_of(project.query(12, on_broken=named.update))
    assert {str(project.photos / path) for path in broken} == named.keys()
    assert len(asked) == 10 and not set(asked) & set(broken)
    assert imported(project, own, asked, tmp_path / "1").states == {"annotated": 10}, "which do not hinder the others"
    assert len(project.train().X_training) == 9


@pytest.mark.skipif(shutil.which("git") is None, reason="asks git")
def test_git_leaves_out_models_and_exports_alone(annotator, project, tmp_path):
    asked = paths_of(project.query(4))
    imported(project, annotator, asked, tmp_path / "1")
    project.train()
    project.report()
    for arguments in (["init", "--quiet"], ["add", "--all"]):
        subprocess.run(["git", *arguments], cwd=project.places.folder, check=True, capture_output=True)
    kept = subprocess.run(["git", "ls-files"], cwd=project.places.folder, check=True, capture_output=True, text=True)
    rounds = {f"rounds/001/{name}" for name in ("asked.csv", "trained.json", "held_out.json")}
    answers = {f"annotations/{path}.json" for path in asked}
    assert set(kept.stdout.split()) == {".gitignore", "loop.yaml", "held_out.txt", *rounds, *answers}


def test_training_again_does_nothing_until_an_annotation_changes(annotator, project, tmp_path):
    asked = paths_of(project.query(6))
    imported(project, annotator, asked[:4], tmp_path / "1")
    steps = []
    project.train(steps.append)
    assert len(steps) == 3
    project.train(steps.append)
    assert len(steps) == 3
    imported(project, annotator, asked[4:], tmp_path / "2")
    assert project.status().new == 1
    project.train(steps.append)
    assert len(steps) == 6


def test_rounds_compare_on_what_is_annotated_of_the_held_out_photographs_now(annotator, project, tmp_path):
    imported(project, annotator, paths_of(project.query(4)), tmp_path / "1")
    project.train()
    assert project.status().curve[0].held_out == 2
    imported(project, annotator, list(project.state().held_out), tmp_path / "2")
    assert project.status().curve[0].held_out == 4


def test_a_model_that_is_not_here_is_trained_again(annotator, project, tmp_path):
    imported(project, annotator, paths_of(project.query(4)), tmp_path / "1")
    project.train()
    shutil.rmtree(project.places.model(1).parent)
    with pytest.raises(DataError, match="miaod loop train"):
        project.query(1)
    project.train()
    assert paths_of(project.query(1))


def test_a_class_may_be_added_later(annotator, project, tmp_path):
    imported(project, annotator, paths_of(project.query(8)), tmp_path / "1")
    project.train()
    configure(project.places.folder, classes=["new", *annotator.classes])
    project = Project(project.places.folder)
    assert project.learner().estimator.classes_.tolist() == annotator.classes
    before = project.learner().y_training
    assert project.train().estimator.classes_.tolist() == ["new", *annotator.classes]
    assert set(np.concatenate([target["labels"] for target in before])) == {1, 2}
    configure(project.places.folder, classes=annotator.classes[:1])
    with pytest.raises(DataError, match="class '1' is not among the settings' classes"):
        Project(project.places.folder).train()


@pytest.mark.parametrize(
    "text", ['{"state": "annot', '{"state": "annotated"}\n<<<<<<< ours', '{"state": "lost"}', "[]"]
)
def test_a_damaged_annotation_is_named(project, text):
    file = project.places.answers / "a.png.json"
    file.parent.mkdir()
    file.write_text(text)
    with pytest.raises(DataError, match=r"annotations/a\.png\.json"):
        project.status()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"classes": ["a", "a"]}, "classes: .*listed twice"),
        ({"clases": ["a"]}, "clases: unknown key; did you mean 'classes'"),
        ({"tool": {"name": "labelstudio"}}, "tool.name: .*did you mean 'label-studio'"),
        ({"strategy": {"name": "miaod"}, "training": {"name": "supervised"}}, "strategy.name: .*needs a detector"),
        ({"strategy": {"name": "committee"}}, "strategy.name: 'committee' compares detectors; a project trains one"),
        ({"estimator": {"rounds": 2}}, "estimator.rounds: .*training.options"),
        ({"estimator": {"batch_size": 0}}, "estimator.batch_size: 0 is not allowed"),
        ({"training": {"name": "label_set", "options": {"batch_size": 2}}}, "training.options.batch_size: .*estimator"),
        ({"orientation": "left"}, "orientation: "),
    ],
)
def test_settings_are_checked_in_one_line(project, settings, message):
    configure(project.places.folder, **settings)
    with pytest.raises(ConfigError, match=message):
        Project(project.places.folder)


@pytest.mark.parametrize("classes", [[], ["a", "a"], [""], ["a\nb"]])
def test_a_project_that_cannot_be_made_leaves_nothing(annotator, tmp_path, classes):
    with pytest.raises(MiaodError):
        Project.create(annotator.folder, classes, folder=tmp_path / "project", detector="retinanet_tiny")
    assert not (tmp_path / "project").exists()
    with pytest.raises(ConfigError, match="no project is here"):
        Project(tmp_path / "project")


@pytest.mark.parametrize("name", ["no", "a, b", "x: y", "#1", "été", "it's", '"', "007"])
def test_class_names_of_every_kind_are_written_and_read(annotator, tmp_path, name):
    project = Project.create(annotator.folder, [name, "other"], folder=tmp_path, detector="retinanet_tiny")
    assert project.settings.classes == [name, "other"]


def test_one_process_at_a_time_changes_a_project_while_others_may_look(project):
    project.query(1)
    with FileLock(project.places.scratch("lock")):
        with pytest.raises(ConfigError, match="another process works on this project"):
            project.query(1)
        assert project.status().open == 1
