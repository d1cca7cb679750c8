import csv
import json
import re
import shutil
from xml.etree import ElementTree

import numpy as np
import pytest
from page_reader import Page
from pages import ARMS, copy_run, csv_rows, scores
from PIL import Image
from scipy import stats
from typer.testing import CliRunner

from miaod_plugin.cli.app import app, main
from miaod_plugin.data import make_digit_scenes
from miaod_plugin.errors import ConfigError
from miaod_plugin.experiments.report.page import write_report


def test_the_page_refers_to_nothing_outside_itself(page):
    assert len(page.references) > 20
    page.assert_holds_all_it_shows()


def test_every_picture_is_a_jpeg_that_opens(page):
    pictures = page.pictures()
    # two queries of three arms, six picked images each at most, and three maps beside each of the heatmaps' images
    assert len(pictures) >= 2 * 3 * 2 + 4
    assert all(image.format == "JPEG" and 32 <= max(image.size) <= 256 for image in pictures)


def test_the_page_is_small(finished):
    assert (finished[0] / "report.html").stat().st_size < 1_000_000


def test_results_hold_the_mean_and_of_few_seeds_their_range_as_charts_do(scored):
    for arm, values in scores(scored).items():
        cycles = values.T
        expected = [f"{own.mean():.1f} {own.min():.1f} to {own.max():.1f}" for own in cycles]
        assert Page(scored / "report.html").row(0, arm)[:3] == expected
        expected = [f"{own.mean():.1f} ({own.min():.1f} to {own.max():.1f})" for own in cycles]
        assert f"| {arm} | {' | '.join(expected)} | " in (scored / "results.md").read_text(encoding="utf-8")


def numbers(cell: str) -> list[float]:
    return [float(n) for n in re.findall(r"[+-]?\d+\.\d+", cell.replace("\N{MINUS SIGN}", "-"))]


def test_differences_are_paired_and_their_p_values_corrected_over_the_budgets_and_arms_of_the_table(scored):
    values, page = scores(scored), Page(scored / "report.html")
    table = next(n for n, rows in enumerate(page.tables) if any("p =" in cell for row in rows for cell in row))
    arms = ("miaod+miaod", "supervised+entropy")
    tests = {arm: stats.ttest_rel(values[arm], values["supervised+random"]).pvalue[1:] for arm in arms}
    ordered = sorted(p for of_arm in tests.values() for p in of_arm)
    by_hand = {p: max((4 - k) * ordered[k] for k in range(place + 1)) for place, p in enumerate(ordered)}
    for arm in arms:
        differences = (values[arm] - values["supervised+random"]).T[1:]
        for own, p, cell in zip(differences, tests[arm], page.row(table, arm), strict=True):
            assert numbers(cell)[:3] == pytest.approx([own.mean(), own.min(), own.max()], abs=0.051)
            assert numbers(cell)[3] == pytest.approx(min(1, by_hand[p]), abs=0.0051)


def test_areas_differ_over_images_and_over_boxes_with_students_interval_and_a_corrected_p_value(scored):
    page, areas = Page(scored / "report.html"), {}
    rows = csv_rows(scored / "results.csv")
    for arm in ARMS:
        own = [[float(row["ap50"]) for row in rows if (row["arm"], row["seed"]) == (arm, seed)] for seed in "0123"]
        areas[arm] = 100 * np.trapezoid(own, [4, 7, 9], axis=1) / 5
    tests = [stats.ttest_rel(areas[arm], areas["supervised+random"]) for arm in ("miaod+miaod", "supervised+entropy")]
    corrected = max(2 * min(test.pvalue for test in tests), max(test.pvalue for test in tests))  # both, of two
    of_images = [row[1] for row in page.tables[page.table_of("over boxes")][1:]]
    assert numbers(of_images[1]) == pytest.approx([areas["supervised+random"].mean()], abs=0.051)
    for cell, test, arm in zip(of_images[::2], tests, ARMS[::2], strict=True):
        low, high = test.confidence_interval(0.95)
        difference = (areas[arm] - areas["supervised+random"]).mean()
        assert numbers(cell)[:4] == pytest.approx([areas[arm].mean(), difference, low, high], abs=0.051)
    smaller, larger = sorted(numbers(cell)[4] for cell in of_images[::2])
    assert (smaller, larger) == pytest.approx((min(1, 2 * min(t.pvalue for t in tests)), min(1, corrected)), abs=0.0051)


def test_before_any_selection_trainings_are_compared_and_not_arms(scored):
    values, page = scores(scored), Page(scored / "report.html")
    rows = {row[0].strip(): row[1:] for row in page.tables[page.table_of("Training")][1:]}
    assert rows.keys() == {"miaod", "supervised"} and rows["supervised"][1] == "reference"
    test = stats.ttest_rel(values["miaod+miaod"][:, 0], values["supervised+random"][:, 0])
    low, high = test.confidence_interval(0.95)
    difference = (values["miaod+miaod"] - values["supervised+random"])[:, 0].mean()
    assert numbers(rows["miaod"][1]) == pytest.approx([difference, low, high, test.pvalue], abs=0.051)


def test_selection_is_compared_with_the_random_arm_of_the_same_training(finished, tmp_path):
    page = tmp_path / "page.html"
    write_report([finished[0]], page, reference="miaod+miaod")
    told = Page(page)
    assert "Selection alone: differences to supervised+random" in told.text
    arms = [row[0].strip() for row in told.tables[told.table_of("over boxes") + 2][1:]]
    assert arms == ["supervised+random", "supervised+entropy"]


def test_a_second_mean_leaves_classes_with_few_test_boxes_out(scored, tmp_path):
    run = copy_run((scored.parent, ""), tmp_path)
    for model in run.glob("**/model.safetensors"):
        model.unlink()  # no pictures
    for path in run.glob("arms/**/metrics.json"):
        metrics = json.loads(path.read_text())
        path.write_text(json.dumps(metrics | {"per_class": {"0": 0.3, "1": 0.5, "2": 0.1 * metrics["cycle"]}}))
    test = make_digit_scenes(8, split="test", n_classes=3)
    boxes = np.bincount(np.concatenate([target["labels"] for target in test.y]), minlength=3)
    least = sorted(boxes.tolist())[1]
    told = Page(write_report([run], least_boxes=least))
    table = told.table_of("Test boxes")
    assert [told.row(table, name)[0] for name in "012"] == [str(count) for count in boxes]
    frequent = [[0.3, 0.5, 0.2][label] for label in range(3) if boxes[label] >= least]
    assert 0 < len(frequent) < 3, "a class is left out, or this test tests nothing"
    assert told.row(table, "Mean")[1:] == ["33.3"] * 3
    expected = f"{100 * np.mean(frequent):.1f}"
    assert told.row(table, f"Mean of classes with {least} test boxes or more")[1:] == [expected] * 3
    areas = told.tables[told.table_of("over boxes")]
    assert len(areas[0]) == 1 + 4 and f"over images classes with {least} test boxes or more" in " ".join(
        areas[0][3].split()
    )
    of_cycles = [[[0.3, 0.5, 0.1 * cycle][label] for label in range(3) if boxes[label] >= least] for cycle in range(3)]
    assert numbers(areas[1][3])[0] == pytest.approx(100 * np.trapezoid(np.mean(of_cycles, 1), [4, 7, 9]) / 5, abs=0.051)


def test_boxes_in_a_selected_image_stand_beside_those_of_the_pool(finished, page):
    train = make_digit_scenes(24, split="train", n_classes=3)
    counts = dict(zip(train.ids.tolist(), (len(target["labels"]) for target in train.y), strict=True))
    for arm in ARMS:
        for cycle, cell in enumerate(page.row(page.table_of("after 4"), arm)):
            means = []
            for path in (finished[0] / "arms" / arm).glob(f"seed*/cycle{cycle}/selected.csv"):
                with open(path, newline="") as file:
                    means.append(np.mean([counts[row["id"]] for row in csv.DictReader(file)]))
            assert cell == f"{np.mean(means):.1f}"
    assert f"All images to select from have {np.mean(list(counts.values())):.1f}." in page.text


def test_stops_are_numbers_on_the_curves_and_what_they_lose_is_in_a_table(finished, tmp_path):
    rules = [{"rule": "uncertainty", "options": {"share": 0.01}}, {"rule": "budget", "options": {"most": 7}}]
    run = copy_run(finished, tmp_path, stopping=rules)
    for path in run.glob("arms/supervised+random/**/metrics.json"):
        metrics = json.loads(path.read_text())
        path.write_text(json.dumps(metrics | {"ap50": 0.1 * (1 + metrics["cycle"]), "uncertainty": 0.5}))
    told = Page(write_report([run]))
    table = next(n for n, rows in enumerate(told.tables) if any("budget" in cell for cell in rows[0]))
    assert told.row(table, "supervised+random") == ["goes on", "10.0 lost 22.2 % of images saved"]
    assert told.source.count("budget stops supervised+random at 7 images") == 2  # in the chart for each width
    assert "uncertainty stops" not in told.source


def test_few_seeds_are_said_to_be_few(scored):
    assert "Only 4 seeds: read intervals and p-values with care." in Page(scored / "report.html").text


def test_two_seeds_have_ranges_and_nowhere_an_interval_or_a_test(page):
    assert "2 seeds: no interval or test." in page.text
    cells = " ".join(cell for rows in page.tables for row in rows for cell in row)
    assert " to " in cells and not re.search("±|p =|no test", cells)


def test_one_seed_is_said_once_and_has_no_interval(finished, tmp_path):
    run = copy_run(finished, tmp_path, seeds=[0])
    one = Page(write_report([run]))
    assert "1 seed: no interval or test." in one.text
    cells = " ".join(cell for rows in one.tables for row in rows for cell in row)
    assert not re.search("±|1 seed|interval|no test|p =", cells)
    assert 'class="interval"' not in one.source and "mean over seeds" not in one.text
    table = (run / "results.md").read_text(encoding="utf-8")
    assert "labelled images; 1 seed." in table and "±" not in table


def test_seeds_that_are_missing_are_counted_where_they_are_missing(finished, tmp_path):
    run = copy_run(finished, tmp_path)
    shutil.rmtree(run / "arms" / "miaod+miaod" / "seed1" / "cycle2")
    page = Page(write_report([run]))
    assert ["1 seed" in cell for cell in page.row(0, "miaod+miaod")] == [False, False, True, True]
    assert not any("seed" in cell for cell in page.row(0, "supervised+random"))


def test_full_supervision_is_a_row_and_a_share(scored, tmp_path):
    run = copy_run((scored.parent, ""), tmp_path, full_supervision=True)
    for seed, score in ((0, 0.4), (1, 0.6)):
        folder = run / "shared" / f"seed{seed}" / "full-supervision"
        shutil.copytree(folder.with_name("supervised"), folder)
        metrics = json.loads((folder / "metrics.json").read_text())
        metrics |= {"ap50": score, "training": "full-supervision", "budget": None}
        (folder / "metrics.json").write_text(json.dumps(metrics))
    mean = scores(scored)["supervised+random"].mean(axis=0)
    full = Page(write_report([run]))
    assert full.row(0, "Full supervision")[0].startswith("50.0 (40.0 to 60.0) with all 24 images")
    for cell, value in zip(full.row(0, "supervised+random"), mean, strict=False):
        assert cell.endswith(f" {value / 0.5:.1f} %")
    assert "full supervision 50.0" in full.text


def test_published_curves_are_drawn_beside(finished, tmp_path):
    curve = {"label": "Somebody 2021", "images": [4, 9], "ap": [20.0, 43.21]}
    with_curve = Page(write_report([copy_run(finished, tmp_path, published=[curve])]))
    assert "Somebody 2021: 9 images, 43.21 %" in with_curve.text
    assert "Somebody 2021" in (tmp_path / "copied" / "curves.svg").read_text(encoding="utf-8")


def test_hostile_names_are_escaped(finished, tmp_path):
    hostile = '<script>alert("x")</script>'
    curve = {"label": f"</svg>{hostile}", "images": [4], "ap": [20.0]}
    run = copy_run(finished, tmp_path, published=[curve])
    for path in run.glob("arms/**/metrics.json"):
        metrics = json.loads(path.read_text())
        metrics["per_class"] = {f"{hostile}{name}": value for name, value in metrics["per_class"].items()}
        path.write_text(json.dumps(metrics))
    escaped = Page(write_report([run]))
    assert escaped.tags.count("script") == 1  # the page's own
    assert escaped.text.count(hostile) >= 3 + 1
    assert hostile not in escaped.source


def test_several_runs_share_one_page(finished, tmp_path):
    other = copy_run(finished, tmp_path, name="other")
    out = tmp_path / "both" / "page.html"
    assert write_report([finished[0], other], out) == out
    both = Page(out)
    assert both.source.count("<article") == 2
    assert [" ".join(cell.split()) for cell in both.tables[0][0]] == ["Arm", "tiny", "other"]  # do orders transfer?
    assert "other: supervised+random" in both.text  # in the curves of both together: they have the same data
    assert [ref for ref in both.references if not ref.startswith(("data:", "#"))] == []
    with open(out.parent / "results.csv", newline="") as file:
        assert {row["run"] for row in csv.DictReader(file)} == {"tiny", "other"}
    identifiers = re.findall(r'\bid="([^"]+)"', both.source)
    assert len(identifiers) == len(set(identifiers))


def test_without_models_all_else_is_reported(finished, tmp_path):
    run = copy_run(finished, tmp_path)
    for model in run.glob("**/model.safetensors"):
        model.unlink()
    bare = Page(write_report([run]))
    assert "Images or models are not at hand" in bare.text and "model.safetensors" in bare.text
    assert bare.row(0, ARMS[0]) == Page(finished[0] / "report.html").row(0, ARMS[0])


def test_a_run_half_done_is_reported_as_such(finished, tmp_path):
    run = copy_run(finished, tmp_path)
    shutil.rmtree(run / "arms" / "miaod+miaod" / "seed1" / "cycle2")
    assert "1 of 22 cells are not finished" in Page(write_report([run])).text


def test_files_for_a_paper_lie_beside(finished):
    run = finished[0]
    assert ElementTree.parse(run / "curves.svg").getroot().tag.endswith("svg")
    with Image.open(run / "curves.png") as image:
        assert image.width >= 1200
    lines = (run / "results.md").read_text(encoding="utf-8").splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert len(table) == 2 + len(ARMS) and len({line.count("|") for line in table}) == 1


def test_the_same_run_gives_the_same_bytes(finished, tmp_path):
    for name in ("a", "b"):
        write_report([finished[0]], tmp_path / name / "report.html")
    for name in ("report.html", "curves.svg", "curves.png", "results.md", "results.csv"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name


def test_versions_and_hardware_are_recorded_once_and_shown(finished, page):
    recorded = json.loads((finished[0] / "environment.json").read_text())
    assert len(recorded) == 1 and recorded[0]["jobs"] == 2 and recorded[0]["packages"]["torch"]
    assert f"torch {recorded[0]['packages']['torch']}" in " ".join(page.text.split())


def test_a_missing_run_is_one_line_and_status_2(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["miaod", "report", str(tmp_path / "nothing")])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2
    assert capsys.readouterr().err == (
        f"miaod: {tmp_path / 'nothing'}: not the folder of a run (no config.yaml); give one such as runs/digits\n"
    )


def test_the_command_prints_the_path_of_the_page(finished, tmp_path):
    out = tmp_path / "page.html"
    result = CliRunner().invoke(app, ["report", str(finished[0]), "--out", str(out), "--reference", "miaod+miaod"])
    assert result.exit_code == 0 and result.stdout.strip() == str(out)
    assert "Differences to miaod+miaod" in Page(out).text


def test_an_unknown_reference_is_refused_with_a_suggestion(finished):
    with pytest.raises(ConfigError, match=r"no arm 'supervised\+randon'.*supervised\+random"):
        write_report([finished[0]], reference="supervised+randon")


def test_a_run_without_results_is_refused(finished, tmp_path):
    run = tmp_path / "empty"
    run.mkdir()
    shutil.copy(finished[0] / "config.yaml", run)
    with pytest.raises(ConfigError, match="no cycle is finished yet"):
        write_report([run])


def test_every_table_can_scroll_under_its_first_column_and_shows_that_it_goes_on(page):
    assert page.source.count("<table") == page.source.count('<div class="scroll"><table') == len(page.tables)
    assert re.search(r"\.scroll th:first-child \{ position: sticky; left: 0;", page.source)
    assert re.search(r"\.scroll::after \{[^}]*position: sticky; right: 0;[^}]*linear-gradient", page.source)
    assert '.scroll.more::after { content: "\\203A"' in page.source and 'classList.toggle("more"' in page.source
