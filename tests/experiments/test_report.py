import csv
import json
import re
import shutil
from xml.etree import ElementTree

import pytest
from page_reader import Page
from pages import ARMS, copy_run, scores
from PIL import Image
from scipy import stats
from typer.testing import CliRunner

from miaod_plugin.cli.app import app
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


def test_results_hold_the_mean_and_the_student_interval(scored):
    for arm, values in scores(scored).items():
        low, high = stats.t.interval(0.95, 1, values.mean(axis=0), stats.sem(values, axis=0))
        expected = [f"{m:.1f} ± {(h - lo) / 2:.1f}" for m, lo, h in zip(values.mean(axis=0), low, high, strict=True)]
        assert Page(scored / "report.html").row(0, arm)[:3] == expected
        assert f"| {arm} | {' | '.join(expected)} | " in (scored / "results.md").read_text(encoding="utf-8")


def test_differences_and_p_values_equal_scipy(scored):
    values, page = scores(scored), Page(scored / "report.html")
    table = next(n for n, rows in enumerate(page.tables) if any("p =" in cell for row in rows for cell in row))
    for arm in ("miaod+miaod", "supervised+entropy"):
        test = stats.ttest_rel(values[arm], values["supervised+random"])
        difference = (values[arm] - values["supervised+random"]).mean(axis=0)
        for cycle, cell in enumerate(page.row(table, arm)[:3]):
            if arm == "supervised+entropy" and cycle == 0:  # the same model
                assert cell == "0.0 0.0 to 0.0 no test"
                continue
            low, high = (bound[cycle] for bound in test.confidence_interval(0.95))
            assert low < high
            numbers = [float(n) for n in re.findall(r"[+-]?\d+\.\d+", cell.replace("\N{MINUS SIGN}", "-"))]
            assert numbers[:3] == pytest.approx([difference[cycle], low, high], abs=0.051)
            assert numbers[3] == pytest.approx(test.pvalue[cycle], abs=0.0051)


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


def test_few_seeds_are_said_to_be_few(page):
    assert "Only 2 seeds: read intervals and p-values with care." in page.text


def test_one_seed_is_said_once_and_has_no_interval(finished, tmp_path):
    run = copy_run(finished, tmp_path, seeds=[0])
    one = Page(write_report([run]))
    assert "1 seed: no standard deviation, interval or test." in one.text
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
    assert full.row(0, "Full supervision")[0].startswith("50.0 ± ")
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
    from miaod_plugin.cli.app import main

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
