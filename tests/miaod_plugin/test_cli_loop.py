"""`miaod loop`, as somebody types it."""

import pytest
from annotators import Annotator, configure


@pytest.fixture
def annotator(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return Annotator(tmp_path / "photos", 12)


@pytest.fixture
def loop(miaod):
    return lambda *arguments: miaod("loop", *arguments)


def begin(annotator, loop, tmp_path):
    status, output, _ = loop("init", "photos/", "--classes", " , ".join(annotator.classes), "--tool", "coco")
    assert status == 0 and "12 photographs, 2 of them held out" in output
    configure(
        tmp_path,
        detector={"name": "retinanet_tiny", "options": {"width": 8, "fpn_channels": 16}},
        estimator={"max_steps": 2},
    )


def test_the_whole_loop(annotator, loop, tmp_path):
    begin(annotator, loop, tmp_path)
    status, output, errors = loop("query", "-n", 4)
    assert (status, errors) == (0, "") and "round 1, 4 photographs to annotate (2 by coverage, 2 held out)" in output
    asked = [line.split(",")[0] for line in (tmp_path / "rounds/001/asked.csv").read_text().splitlines()[1:]]
    (tmp_path / "from_tool").mkdir()
    export = annotator.answer("coco", asked, tmp_path / "from_tool")
    assert loop("import", export)[:2] == (0, "4 annotated, 0 unusable, 0 skipped; 0 are open\n")
    assert loop("import", export)[1] == "0 annotated, 0 unusable, 0 skipped; 4 as before; 0 are open\n"
    status, output, _ = loop("train")
    assert status == 0 and output.startswith("models/001.safetensors: 2 steps on 2 photographs")
    assert "on 2 held-out photographs" in output
    assert "model of round 1" in loop("query", "-n", 3)[1]
    (tmp_path / "photos" / asked[0]).unlink()
    status, output, errors = loop("status")
    assert status == 0 and "11 photographs: 3 annotated, 0 unusable, 0 skipped, 3 open" in output
    assert f"1 photographs are gone, what was said of them is kept: {asked[0]}" in errors
    assert "AP50" in output and "round" in output
    assert loop("report") == (0, "report.html\n", "")
    assert "1 photograph is gone" in (tmp_path / "report.html").read_text()


def test_a_second_query_says_that_photographs_are_open_and_export_writes_them_all(annotator, loop, tmp_path):
    begin(annotator, loop, tmp_path)
    loop("query", "-n", 4)
    status, output, errors = loop("query", "-n", 1000)
    assert status == 0 and errors == "4 photographs are open already; these are others\n"
    assert "round 2, 8 photographs" in output
    status, _, errors = loop("query", "-n", 1)
    assert status == 2 and "nothing is left to ask for" in errors
    assert loop("export", tmp_path / "again")[1] == f"{tmp_path / 'again' / 'coco.json'}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["status"], "no project is here"),
        (["init", "nowhere", "--classes", "a"], "nowhere: no such folder"),
        (["init", "photos", "--classes", "a,,b"], "classes"),
        (["init", "photos", "--classes", "a,a"], "listed twice"),
        (["init", "photos", "--classes", "a", "--tool", "labelstudio"], "did you mean 'label-studio'"),
        (["init", "photos", "--classes", "a", "--detector", "retinanet_tinny"], "did you mean 'retinanet_tiny'"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line_and_leaves_nothing(annotator, loop, tmp_path, arguments, message):
    status, _, errors = loop(*arguments)
    assert status == 2 and message in errors and errors.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


def test_a_project_is_made_once_and_what_is_no_export_changes_nothing(annotator, loop, tmp_path):
    begin(annotator, loop, tmp_path)
    assert "loop.yaml: is there already" in loop("init", "photos", "--classes", "a")[2]
    for source in ("nowhere.json", "photos", "loop.yaml"):
        status, _, errors = loop("import", source)
        assert status == 2 and errors.count("\n") == 1 and source in errors
    status, _, errors = loop("train")
    assert status == 2 and "no photograph to train on is annotated yet" in errors
    assert not (tmp_path / "annotations").exists()
