"""What a report gives beside its page: tables and curves to keep, and what an arm saves in money."""

import json

import pytest
from page_reader import Page
from pages import copy_run, csv_rows, scores
from scipy import stats
from typer.testing import CliRunner

from miaod_plugin.cli.app import app, main
from miaod_plugin.experiments.report.export import export_results
from miaod_plugin.experiments.report.page import write_report


def test_what_is_worth_keeping_is_exported_without_times_and_alike_every_time(scored, tmp_path):
    run, page = scored.parent, tmp_path / "page.html"
    result = CliRunner().invoke(app, ["report", str(run), "--out", str(page), "--export", str(tmp_path / "a")])
    assert result.exit_code == 0 and result.stdout.split() == [str(page), str(tmp_path / "a")]
    export_results(run, tmp_path / "b")
    files = ["curves.png", "differences.csv", "environment.json", "per_class.csv", "results.csv"]
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == files
    assert all((tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in files)
    results, classes, differences = (
        csv_rows(tmp_path / "a" / f"{name}.csv") for name in ("results", "per_class", "differences")
    )
    assert [row["ap50"] for row in results] == [row["ap50"] for row in csv_rows(scored / "results.csv")]
    assert "train_seconds" not in results[0] and "query_seconds" not in results[0]
    assert len(classes) == 3 * len(results) and {row["class"] for row in classes} == set("012")
    assert (
        sum(int(row["test_boxes"]) for row in classes[:3])
        == json.loads((run / "data.json").read_text())["test"]["boxes"]
    )
    key = {"reference": "supervised+random", "arm": "miaod+miaod", "over": "images", "cycle": "2"}
    (one,) = [row for row in differences if key.items() <= row.items()]
    test = stats.ttest_rel(scores(scored)["miaod+miaod"][:, 2], scores(scored)["supervised+random"][:, 2])
    assert float(one["p_value"]) == pytest.approx(test.pvalue) and float(one["p_holm"]) >= float(one["p_value"])
    assert {row["over"] for row in differences if row["cycle"] == "area"} == {"images", "boxes"}


def test_several_runs_are_not_exported_to_one_folder(finished, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["miaod", "report", str(finished[0]), str(finished[0]), "--export", str(tmp_path)])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2
    assert capsys.readouterr().err == "miaod: --export: takes one run, not 2; export each to a folder of its own\n"


def test_prices_of_images_and_boxes_tell_what_an_arm_saves(scored, tmp_path):
    run = copy_run((scored.parent, ""), tmp_path, seeds=[0])
    for model in run.glob("**/model.safetensors"):
        model.unlink()  # no pictures
    costs = {}
    for path in run.glob("arms/supervised*/seed0/cycle*/metrics.json"):
        metrics = json.loads(path.read_text())
        slope = 0.2 if metrics["arm"] == "supervised+entropy" else 0.1
        path.write_text(json.dumps(metrics | {"ap50": slope * (metrics["cycle"] + 1)}))
        costs[metrics["arm"], metrics["cycle"]] = 2 * metrics["images"] + 0.5 * metrics["boxes"]
    page = Page(write_report([run], prices=(2, 0.5)))
    random = costs["supervised+random", 2]
    entropy = (costs["supervised+entropy", 0] + costs["supervised+entropy", 1]) / 2  # has 0.3 halfway from 0.2 to 0.4
    table = page.table_of("Cost")
    assert page.row(table, "supervised+random") == [f"{random:,.0f}", "reference"]
    assert page.row(table, "supervised+entropy") == [f"{entropy:,.0f}", f"{100 * (1 - entropy / random):.0f} %"]


@pytest.mark.parametrize("prices", [("nan", "1"), ("-1", "0"), ("inf", "0")])
def test_prices_that_are_none_are_refused(finished, tmp_path, monkeypatch, capsys, prices):
    command = ["miaod", "report", str(finished[0]), "--out", str(tmp_path / "page.html"), "--prices", *prices]
    monkeypatch.setattr("sys.argv", command)
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2 and "--prices" in capsys.readouterr().err
    assert not (tmp_path / "page.html").exists()
