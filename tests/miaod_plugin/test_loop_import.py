"""What comes back from a labelling tool into a project: corrections, several annotators, bad exports."""

import json
import shutil

import numpy as np
import pytest
from annotators import configure, content, imported, paths_of

from miaod_plugin.errors import DataError
from miaod_plugin.loop import Project


def test_corrections_replace_what_was_annotated_and_are_counted(annotator, project, tmp_path):
    asked = paths_of(project.query(6))
    assert imported(project, annotator, asked, tmp_path / "1").states == {"annotated": 6}
    again = imported(project, annotator, asked, tmp_path / "2")
    assert (again.states.total(), again.as_before) == (0, 6)
    truth = annotator.truth[asked[0]]
    corrected = {asked[0]: {"boxes": truth["boxes"][:1] / 2, "labels": truth["labels"][:1]}}
    third = imported(project, annotator, asked, tmp_path / "3", truth=corrected)
    assert (third.states, third.changed, third.as_before) == ({"annotated": 1}, 1, 5)
    boxes = project.state().answers[asked[0]].boxes
    np.testing.assert_allclose([box.corners for box in boxes], corrected[asked[0]]["boxes"], atol=0.01)


def label_studio(project, path, out, *, state="annotated", time="2026-01-01T10:00:00Z", who=1):
    """Return an export in which one photograph is annotated without a box, skipped or unusable."""
    result = []
    if state == "unusable":
        result = [{"from_name": "use", "to_name": "image", "type": "choices", "value": {"choices": ["unusable"]}}]
    annotation = {"result": result, "was_cancelled": state == "skipped", "completed_by": who, "updated_at": time}
    out.write_text(json.dumps([{"data": {"image": f"/data/local-files/?d={path}"}, "annotations": [annotation]}]))
    return project.import_annotations(out, "label-studio")


def test_an_older_answer_does_not_replace_a_newer_one_nor_does_a_skip(project, tmp_path):
    path = paths_of(project.query(1))[0]
    label_studio(project, path, tmp_path / "a.json", state="unusable", time="2026-01-02T00:00:00Z")
    for state, time in (("annotated", "2026-01-02T00:30:00+02:00"), ("skipped", "2026-01-03T00:00:00Z")):
        assert label_studio(project, path, tmp_path / "b.json", state=state, time=time).older == 1
        assert project.state().answers[path].state == "unusable"
    assert label_studio(project, path, tmp_path / "b.json", time="2026-01-03T00:00:00Z").changed == 1
    assert project.state().answers[path].state == "annotated"


def test_unusable_photographs_are_never_asked_again_and_skipped_ones_not_in_the_next_round(annotator, tmp_path):
    project = annotator.project(tmp_path / "project", create={"held_out": 0})
    first = paths_of(project.query(3))
    label_studio(project, first[0], tmp_path / "a.json", state="unusable")
    label_studio(project, first[1], tmp_path / "b.json", state="skipped")
    assert project.status().open == 1
    everything = project.status().photos
    second = paths_of(project.query(everything))
    assert len(second) == everything - 3 and not set(first) & set(second)
    assert paths_of(project.query(everything)) == [first[1]], "what was skipped, and nothing else"
    assert first[1] in project.state().open_photos


def test_annotations_of_photographs_that_nobody_asked_for_are_welcome(annotator, project, tmp_path):
    path = project.state().pool[0]
    assert imported(project, annotator, [path], tmp_path / "1").states == {"annotated": 1}
    assert project.state().answers[path].round is None and path not in project.state().pool
    assert len(project.train().X_training) == 1
    assert path not in paths_of(project.query(100))


def damaged(kind, annotator, paths, out):
    """Return an export of COCO's with one thing wrong."""
    file = annotator.answer("coco", paths, out)
    if kind == "half written":
        file.write_text(file.read_text()[:-50])
        return file
    written = json.loads(file.read_text())
    if kind == "another project's":
        written["images"][-1]["file_name"] = "somewhere/else.jpg"
    elif kind == "unknown class":
        written["categories"][0]["name"] = "unheard of"
    elif kind == "outside":
        written["annotations"][-1]["bbox"] = [0, 0, 1000, 10]
    file.write_text(json.dumps(written))
    return file


@pytest.mark.parametrize("kind", ["half written", "another project's", "unknown class", "outside"])
def test_a_bad_export_changes_nothing(annotator, project, tmp_path, kind):
    asked = paths_of(project.query(4))
    imported(project, annotator, asked[:1], tmp_path / "1")
    before = content(project)
    with pytest.raises(DataError) as refused:
        project.import_annotations(damaged(kind, annotator, asked, tmp_path))
    assert "\n" not in str(refused.value)
    assert content(project) == before


def test_annotators_who_disagree_change_nothing_until_one_is_chosen(project, tmp_path):
    path, file = paths_of(project.query(1))[0], tmp_path / "export.json"
    label_studio(project, path, file)
    task = json.loads(file.read_text())[0]
    other = {**task["annotations"][0], "completed_by": 2, "updated_at": "2026-01-05T00:00:00Z"}
    other["result"] = [{"from_name": "use", "to_name": "image", "type": "choices", "value": {"choices": ["unusable"]}}]
    file.write_text(json.dumps([{**task, "annotations": [*task["annotations"], other]}]))
    before = content(project)
    with pytest.raises(DataError, match="annotator"):
        project.import_annotations(file, "label-studio")
    assert content(project) == before
    project.import_annotations(file, "label-studio", annotator="2")
    assert project.state().answers[path].state == "unusable"


def test_what_query_wrote_is_not_mistaken_for_annotations(project):
    with pytest.raises(DataError, match="wrote for the tool"):
        project.import_annotations(project.exported(project.query(2)))
    assert project.status().annotated == 0


def test_work_of_two_people_merges_by_copying_files(annotator, project, tmp_path):
    asked = paths_of(project.query(8))
    other = Project(shutil.copytree(project.places.folder, tmp_path / "other", dirs_exist_ok=True))
    configure(other.places.folder, photos=str(annotator.folder))
    other = Project(other.places.folder)
    imported(project, annotator, asked[:5], tmp_path / "1")
    imported(other, annotator, asked[5:], tmp_path / "2")
    mine, theirs = (
        {path.relative_to(one.places.answers) for path in one.places.answers.rglob("*.json")}
        for one in (project, other)
    )
    assert not mine & theirs
    shutil.copytree(other.places.answers, project.places.answers, dirs_exist_ok=True)
    assert project.status().open == 0 and project.status().annotated == 8
