"""What may befall a project's photographs and files between two commands."""

import json
import shutil
import subprocess

import pytest
from annotators import TOOLS, Annotator, paths_of
from PIL import Image

from miaod_plugin.errors import DataError


@pytest.fixture
def annotator(tmp_path):
    return Annotator(tmp_path / "photographs", 12)


@pytest.fixture
def project(annotator, tmp_path):
    return annotator.project(tmp_path / "project", create={"held_out": 0})


def imported(project, annotator, paths, out):
    out.mkdir()
    return project.import_annotations(annotator.answer("coco", paths, out))


def test_a_name_that_cannot_name_a_file_of_the_project_is_refused_before_anything_is_asked(annotator, project):
    (annotator.folder / f"{'long' * 55}.png").write_bytes(
        (annotator.folder / annotator.take(1, random_state=1)[0]).read_bytes()
    )
    for ask in (project.status, project.query):
        with pytest.raises(DataError, match="too long to name a file"):
            ask()


def test_photographs_may_be_links_and_have_names_of_every_kind(tmp_path):
    own = Annotator(tmp_path / "photographs", 7)
    names = ["#1.png", "a:b.png", 'it\'s "q" <&>.png', "été 漢字.png", "models/m.png", "%20 a,b.png"]
    for path, name in zip(list(own.truth), names, strict=False):
        (own.folder / name).parent.mkdir(exist_ok=True)
        own.truth[name] = own.truth.pop(path)
        shutil.move(own.folder / path, own.folder / name)
    elsewhere = shutil.move(own.folder / (last := next(iter(own.truth))), tmp_path / "elsewhere.png")
    (own.folder / last).symlink_to(elsewhere)
    project = own.project(tmp_path / "project", create={"held_out": 0})
    project.places.held_out.write_text("# a comment\n#1.png\n#1.png\n")
    assert project.state().held_out == ("#1.png",)
    asked = paths_of(project.query(7))
    assert {*asked} == {*own.truth}
    assert imported(project, own, asked, tmp_path / "1").states == {"annotated": 7}
    assert len(project.train().X_training) == 6


@pytest.mark.skipif(shutil.which("git") is None, reason="asks git")
def test_git_keeps_what_was_said_of_photographs_in_folders_named_like_ours(tmp_path):
    own = Annotator(tmp_path / "photographs", 1)
    (path,) = own.truth
    shutil.copytree(own.folder, own.folder / "models")
    own.truth[f"models/{path}"] = own.truth[path]
    project = own.project(tmp_path / "project")
    imported(project, own, [f"models/{path}"], tmp_path / "1")
    for arguments in (["init", "--quiet"], ["add", "--all"]):
        subprocess.run(["git", *arguments], cwd=project.places.folder, check=True, capture_output=True)
    kept = subprocess.run(["git", "ls-files"], cwd=project.places.folder, check=True, capture_output=True, text=True)
    assert f"annotations/models/{path}.json" in kept.stdout.split()


@pytest.mark.parametrize("tool", TOOLS)
def test_what_query_wrote_is_no_answer_in_any_format(annotator, tmp_path, tool):
    project = annotator.project(tmp_path / "project", tool)
    round_ = project.query(4)
    for source in (project.exported(round_), round_.folder):
        with pytest.raises(DataError, match="is what `query` wrote for the tool"):
            project.import_annotations(source)
    assert not project.state().answers


def test_a_photograph_that_broke_after_it_was_asked_for_does_not_hinder_the_export_of_the_others(
    annotator, project, tmp_path
):
    imported(project, annotator, paths_of(project.query(4)), tmp_path / "1")
    project.train()
    first, *others = paths_of(project.query(3))
    (annotator.folder / first).write_bytes(b"")
    named = {}
    out = project.export(tmp_path / "again", named.update)
    assert [image["file_name"] for image in json.loads(out.read_text())["images"]] == others
    assert list(named) == [str(project.photos / first)]
    for path in others:
        (annotator.folder / path).write_bytes(b"")
    with pytest.raises(DataError, match="does not decode"):
        project.export(tmp_path / "none")


def test_a_photograph_that_was_replaced_by_a_smaller_one_is_not_trained_on(annotator, project, tmp_path):
    asked = paths_of(project.query(2))
    imported(project, annotator, asked, tmp_path / "1")
    Image.new("RGB", (20, 10)).save(annotator.folder / asked[0])
    with pytest.raises(DataError, match=r"reaches outside its 20 x 10 photograph; restore"):
        project.train()


def test_a_damaged_model_says_how_to_train_it_again(annotator, project, tmp_path):
    imported(project, annotator, paths_of(project.query(4)), tmp_path / "1")
    project.train()
    project.places.model(1).write_bytes(b"no model")
    for use in (project.train, project.learner):
        with pytest.raises(DataError, match="delete it and train it again: miaod loop train"):
            use()
    project.places.model(1).unlink()
    assert project.train()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a.png,inf,miaod,1", "'inf' is not a finite number"),
        ("a.png,much,miaod,1", "could not convert"),
        ("a.png,1", "2 columns, not 4"),
        ("a.png,1,miaod,1,2", "5 columns, not 4"),
    ],
)
def test_a_damaged_list_of_what_was_asked_is_named_with_its_line(project, line, message):
    file = project.query(1).folder / "asked.csv"
    file.write_text(f"path,utility,why,model\n{line}\n")
    with pytest.raises(DataError, match=f"asked.csv: line 2: .*{message}.*; restore the file"):
        project.status()
    file.write_text("path,why\n")
    with pytest.raises(DataError, match=r"asked.csv: line 1: .*in place of path,utility,why,model"):
        project.status()


def test_the_list_of_held_out_photographs_is_missed(project):
    project.places.held_out.unlink()
    with pytest.raises(DataError, match=r"held_out.txt: is not here; restore it"):
        project.status()
