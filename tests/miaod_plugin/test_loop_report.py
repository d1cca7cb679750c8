"""The page of a project."""

import json
import re
import shutil

import numpy as np
import pytest
from annotators import Annotator, configure, paths_of
from page_reader import Page

from miaod_plugin.data.images import store_image
from miaod_plugin.loop import Project


@pytest.fixture(scope="module")
def played(annotator, tmp_path_factory):
    """A project with a model that finds boxes in anything, a second round half annotated, one unusable, one skipped."""
    folder = tmp_path_factory.mktemp("played")
    project = annotator.project(folder / "project")
    answer(project, annotator, paths_of(project.query(8)), folder)
    find_everywhere(project, project.train().estimator)
    picked = [one.path for one in project.query(6).asked() if one.why != "held-out"]
    answer(project, annotator, picked[:1], folder)
    say(project, picked[1], "unusable", folder)
    say(project, picked[2], "skipped", folder)
    return project


def answer(project, annotator, paths, out):
    project.import_annotations(annotator.answer("coco", paths, out))


def say(project, path, state, out):
    """Let somebody find a photograph unusable, or skip it."""
    result = [{"from_name": "use", "to_name": "image", "type": "choices", "value": {"choices": ["unusable"]}}]
    annotation = {"result": result * (state == "unusable"), "was_cancelled": state == "skipped", "completed_by": 1}
    (out / "one.json").write_text(
        json.dumps([{"data": {"image": f"/data/local-files/?d={path}"}, "annotations": [annotation]}])
    )
    project.import_annotations(out / "one.json", "label-studio")


def find_everywhere(project, model):
    for classifier in model.network_.classifiers:
        list(classifier.parameters())[-1].data += 4  # the last bias
    model.save(project.places.model(project.state().last_round))


def counts(page) -> dict[str, int]:
    found = re.findall(r"<dt>([a-z ]+)</dt><dd>([\d,]+)</dd>", page.source)
    return {name: int(number.replace(",", "")) for name, number in found}


def captions(page) -> list[str]:
    return re.findall(r"<figcaption>(.*?)</figcaption>", page.source)


def figures(page) -> dict[str, str]:
    """Return the pictures of what was asked for by the path of the photograph, the newest rounds' first."""
    found = re.findall(r'<figure><svg[^>]*aria-label="([^"]*)".*?</figure>', page.source, re.DOTALL)
    bodies = re.findall(r"<figure><svg.*?</figure>", page.source, re.DOTALL)
    return dict(reversed(list(zip(found, bodies, strict=True))))


def test_nothing_is_asked_yet(project):
    page = Page(project.report())
    assert project.report() == project.places.folder / "report.html"
    page.assert_holds_all_it_shows()
    assert "Nothing was asked for yet" in page.text and "No model is trained yet" in page.text
    assert "the detector before any training" in page.text, "there is a map all the same"
    assert page.row(0, "0") == ["0"] and counts(page)["to choose from"] == project.status().pool


def test_the_first_round_shows_reasons_and_pictures_without_boxes(project):
    asked = project.query(6).asked()
    page = Page(project.report())
    lines = captions(page)
    assert len(lines) == 6 and "3 by coverage, 3 held-out" in " ".join(page.text.split())
    for rank, (one, line) in enumerate(zip(asked, lines, strict=True), start=1):
        utility = "" if one.utility is None else f" {one.utility:.3g}"
        assert line == f"{rank}. {one.path.rpartition('/')[2]}: {one.why}{utility}, open"
    assert "<rect class=" not in page.source


def test_the_numbers_are_those_of_the_status(played):
    page, status = Page(played.report()), played.status()
    assert counts(page) == {
        "photographs": status.photos,
        "annotated": status.annotated,
        "open": status.open,
        "unusable": status.unusable,
        "skipped": status.skipped,
        "to choose from": status.pool,
    }
    assert (status.unusable, status.skipped) == (1, 1)
    measured = status.curve[0]
    row = [f"{100 * measured.ap:.1f}", f"{measured.held_out}", f"{measured.images}", f"{measured.boxes}"]
    assert page.row(0, "1") == row
    for name in played.settings.classes:
        value = measured.per_class.get(name)
        assert page.row(1, name) == [str(status.boxes[name]), "\N{EN DASH}" if value is None else f"{100 * value:.1f}"]
    text = " ".join(page.text.split())
    assert f"{status.held_out} photographs to measure on, {status.held_out_annotated} of them annotated" in text
    assert f"{status.outlook.images} photographs: about {status.outlook.hours:.1f} hours" in text
    assert "1 annotated photograph is new to the newest model" in text


def test_reasons_to_stop_and_what_the_next_photographs_bring_are_said(annotator, project, tmp_path):
    configure(project.places.folder, stopping=[{"rule": "budget", "options": {"most": 0.001}}])
    project = Project(project.places.folder)
    for _ in range(3):
        answer(project, annotator, paths_of(project.query(6)), tmp_path)
        project.train()
    status, text = project.status(), " ".join(Page(project.report()).text.split())
    assert status.reasons and all(f"You may stop: {reason}." in text for reason in status.reasons)
    assert f"{100 * status.outlook.gain.mean:+.1f} points of AP50 expected" in text


def test_the_page_refers_to_nothing_outside_itself_and_its_pictures_open(played):
    page = Page(played.report())
    page.assert_holds_all_it_shows()
    assert all(image.format == "JPEG" for image in page.pictures()) and len(page.pictures()) > 14 + 8


def test_annotators_boxes_are_solid_the_models_dashed_and_none_where_it_is_measured(played):
    shown, state = figures(Page(played.report())), played.state()
    dashed = {path for path, figure in shown.items() if 'class="guessed"' in figure}
    not_held_out = {path for path in state.open_photos if path not in state.held_out}
    assert dashed == not_held_out != set()
    assert all(re.search(r"<title>[^<]+ 0\.\d\d</title>", shown[path]) for path in dashed), "boxes with scores"
    for path in shown.keys() & set(state.annotated):
        assert shown[path].count('<rect class="under"') == len(state.answers[path].boxes)
    assert {"unusable", "skipped"} <= {line.rpartition(", ")[2] for line in captions(Page(played.report()))}


def test_heat_maps_are_of_the_first_photographs_that_the_strategy_picked(played):
    heats = re.findall(r'aria-label="([^"]*), uncertainty"', Page(played.report()).source)
    picked = [one.path for one in played.state().rounds[-1].asked() if one.why != "held-out"]
    assert heats == picked[:4]


def test_there_are_heat_maps_of_models_with_two_classifiers_alone(annotator, tmp_path):
    project = annotator.project(tmp_path / "project", training={"name": "supervised"}, strategy={"name": "entropy"})
    answer(project, annotator, paths_of(project.query(6)), tmp_path)
    project.train()
    project.query(4)
    page = Page(project.report())
    assert "uncertainty" not in page.source and "model of round 1" in page.text


def test_photographs_that_are_gone_or_broken_are_named_and_have_no_picture(tmp_path):
    own = Annotator(tmp_path / "photographs", 12)
    project = own.project(tmp_path / "project")
    asked = paths_of(project.query(6))
    answer(project, own, asked, tmp_path)
    (own.folder / asked[0]).unlink()
    (own.folder / asked[1]).write_bytes(b"no image")
    told = []
    page = Page(project.report(on_broken=told.append))
    assert [list(errors) for errors in told] == [[str(project.photos / asked[1])]], "once"
    assert captions(page)[0].endswith(", gone") and captions(page)[1].endswith(", annotated, cannot be read")
    assert page.source.count('<div class="none">') == 2 and len(figures(page)) == 4
    assert f"1 photograph is gone, what was said of it is kept: {asked[0]}" in page.text


def test_hostile_names_are_escaped(tmp_path):
    own = Annotator(tmp_path / "photographs", 8)
    own.classes = ["<script>alert(1)</script>", "\"&'"]
    project = own.project(tmp_path / "project")
    hostile = "<img src=x onerror=alert(1)>.png"
    path = next(path for path in project.state().photos.ids.tolist() if "/" not in path)
    shutil.move(own.folder / path, own.folder / hostile)
    own.truth[hostile] = own.truth.pop(path)
    answer(project, own, paths_of(project.query(8)), tmp_path)
    project.train()
    page = Page(project.report())
    assert page.tags.count("script") == 1 and "img" not in page.tags
    assert own.classes[0] in page.text and page.row(1, own.classes[1])


def test_without_the_model_all_else_is_shown(played, tmp_path):
    project = Project(shutil.copytree(played.places.folder, tmp_path / "copy"))
    configure(tmp_path / "copy", photos=str(played.photos.resolve()))
    project = Project(tmp_path / "copy")
    shutil.rmtree(tmp_path / "copy" / "models")
    page = Page(project.report())
    assert "001.safetensors: is not here" in page.text and "Coverage" not in page.text
    assert 'class="guessed"' not in page.source and len(captions(page)) == 14


def test_of_many_classes_those_with_the_most_boxes_are_listed_and_have_a_colour(tmp_path):
    own = Annotator(tmp_path / "photographs", 8)
    drawn = own.classes
    own.classes = [f"{k}th" for k in range(60)] + drawn
    for target in own.truth.values():
        target["labels"] = target["labels"] + 60
    project = own.project(tmp_path / "project")
    answer(project, own, paths_of(project.query(8)), tmp_path)
    page, boxes = Page(project.report()), project.status().boxes
    listed = [row[0] for row in page.tables[0][1:]]
    assert len(listed) == 40 and listed[:2] == sorted(drawn, key=lambda name: -boxes[name])
    assert "The 40 of 62 classes with the most boxes" in page.text and "other classes" in page.text
    colours = set(re.findall(r'<rect x="[^>]*style="stroke:(#\w+)"', page.source))
    assert len(colours) == 2, "one for each class that has boxes"


def test_the_map_counts_every_kind_of_photograph(played):
    source, state = Page(played.report()).source, played.state()
    wide = re.search(r'<figure class="map"><div class="wide">(.*?)</svg></div>', source, re.DOTALL)[1]
    titles = re.findall(
        r"<title>[^<]*, ([a-z ]+)</title>", re.sub(r'<g class="thumbnail">.*', "", wide, flags=re.DOTALL)
    )
    held_out = [path for path in state.held_out if path in state.there]
    expected = {"annotated": len(state.annotated), "held out": len(held_out), "set aside": 2}
    expected |= {"open": len(state.open_to_train), "to choose from": len(state.pool)}
    assert {kind: titles.count(kind) for kind in set(titles)} == {kind: n for kind, n in expected.items() if n}
    assert 'class="thumbnail"' in wide and "All photographs" in " ".join(re.sub("<[^>]+>", " ", source).split())


def test_a_pass_over_the_photographs_is_kept(played):
    seen = []
    played.report(on_progress=lambda done, total: seen.append((done, total)))
    assert seen[-1][0] == seen[-1][1] == played.status().photos
    again = []
    played.report(on_progress=lambda done, total: again.append(done))
    assert again == [played.status().photos], "all were there before"


def test_the_same_project_gives_the_same_bytes(played):
    assert played.report().read_bytes() == played.report().read_bytes()


def test_of_many_photographs_some_are_drawn_the_same_ones_every_time(annotator, project, tmp_path, monkeypatch):
    monkeypatch.setattr("miaod_plugin.loop.coverage.MOST_POINTS", 8)
    answer(project, annotator, project.state().pool[:12], tmp_path)
    seen = []
    page = Page(project.report(on_progress=lambda done, total: seen.append((done, total))))
    assert seen[-1] == (8, 8), "no other photograph is looked at"
    text = " ".join(page.text.split())
    assert "8 of 24 photographs, drawn at random" in text
    drawn = re.findall(r"(annotated|held out|to choose from) \((\d+) of (\d+)\)", text)
    assert sum(int(count) for _, count, _ in drawn) == 8 and sum(int(of) for *_, of in drawn) == 24
    assert dict((kind, int(count)) for kind, count, _ in drawn)["to choose from"] == 4
    before = project.places.report.read_bytes()
    assert project.report().read_bytes() == before


def test_pictures_stop_where_the_page_would_grow_large(annotator, project, monkeypatch):
    project.query(8)
    project.query(8)
    whole = len(captions(Page(project.report())))
    assert whole == 16
    monkeypatch.setattr("miaod_plugin.loop.album.MOST_BYTES", 20_000)
    page = Page(project.report())
    left_out = [int(count) for count in re.findall(r"(\d+) more (?:are|is) not shown", page.text)]
    assert 0 < len(captions(page)) == whole - sum(left_out) < whole and left_out[-1] == 8


def test_many_large_photographs_stay_below_three_megabytes(tmp_path):
    folder, chance = tmp_path / "photographs", np.random.default_rng(0)
    for number in range(60):  # noise, which JPEG cannot make small
        store_image(chance.integers(0, 256, (256, 256, 3), dtype=np.uint8), folder / f"{number:03}")
    project = Project.create(folder, ["a"], folder=tmp_path / "project", detector="retinanet_tiny")
    for _ in range(3):
        project.query(20)
    page = project.report()
    assert 1_000_000 < page.stat().st_size < 3_000_000
    assert "more are not shown" in page.read_text()
