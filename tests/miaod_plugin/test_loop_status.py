"""What a project's status says of the next round: what it brings, what it costs, whether to stop."""

import json

import pytest
from annotators import Annotator, configure, paths_of

from miaod_plugin.loop import Project
from miaod_plugin.stopping import LearningCurve

SECONDS = {"per_image": 100, "per_box": 10}


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    """A project after four rounds, and its annotator."""
    annotator = Annotator(tmp_path_factory.mktemp("photographs"), 30)
    create = {"held_out": 6}
    project = annotator.project(tmp_path_factory.mktemp("played") / "project", create=create, annotation_time=SECONDS)
    out = tmp_path_factory.mktemp("export")
    for count in (8, 6, 6, 4):
        project.import_annotations(annotator.answer("coco", paths_of(project.query(count)), out))
        project.train()
    return annotator, project


def with_rule(project, **rule):
    configure(project.places.folder, stopping=[rule])
    return Project(project.places.folder).status()


def write_found(project, number, found):
    (project.places.round(number) / "held_out.json").write_text(json.dumps(found))


def test_hours_are_those_of_all_that_is_annotated(played):
    annotator, project = played
    boxes = sum(len(annotator.truth[path]["boxes"]) for path in project.state().answers)
    assert project.status().hours == pytest.approx((100 * 24 + 10 * boxes) / 3600)


def test_the_next_photographs_bring_what_the_curve_expects_and_cost_like_those_so_far(played):
    _, project = played
    now = project.status()
    assert now.outlook.images == now.pool == 6  # no more than are left
    images = [one.images for one in now.curve]
    assert len(set(images)) == 4
    assert now.outlook.gain == LearningCurve(images, [one.ap for one in now.curve]).gain(6)
    assert now.outlook.hours == pytest.approx(now.hours * 6 / 24)


def test_a_spent_budget_of_hours_is_a_reason_to_stop(played):
    _, project = played
    spent = project.status().hours
    assert with_rule(project, rule="budget", options={"most": spent + 0.01}).reasons == []
    (reason,) = with_rule(project, rule="budget", options={"most": spent - 0.01}).reasons
    assert reason.startswith("the budget of ")


def test_models_agree_on_the_held_out_photographs_that_both_looked_at(played):
    _, project = played
    box = [project.settings.classes[0], 0.9, 0.0, 0.0, 20.0, 20.0]
    paths = project.state().held_out
    for number in (2, 4):
        write_found(project, number, {path: [box] for path in paths})
    write_found(project, 3, {path: [box] for path in paths[1:]})
    stable = {"rule": "stable", "options": {"rounds": 1, "rise": 0.01}}
    (reason,) = with_rule(project, **stable).reasons
    assert "agree by 1.00 with those of the round before, and 1 rounds ago they did by 1.00" in reason
    write_found(project, 2, {path: [box] * (path != paths[2]) for path in paths})
    assert with_rule(project, **stable).reasons == []


def test_before_three_rounds_nothing_is_expected_and_before_one_nothing_is_known(tmp_path):
    annotator = Annotator(tmp_path / "photographs", 12)
    project = annotator.project(tmp_path / "project")
    assert project.status().outlook is None and project.status().reasons == []
    project.import_annotations(annotator.answer("coco", paths_of(project.query(4)), tmp_path))
    project.train()
    outlook = project.status().outlook
    assert (outlook.gain, outlook.images) == (None, 8) and outlook.hours > 0
