import csv
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml

from miaod_plugin.cli.app import main
from miaod_plugin.data import load_voc

EXPERIMENT = {
    "name": "small",
    "data": {"kind": "digits", "train": 12, "test": 4},
    "detector": {"name": "retinanet_tiny"},
    "arms": [{"training": "supervised", "strategy": "random"}],
    "budgets": [4, 6],
    "seeds": [0],
}


def test_the_module_runs_as_the_command():
    ended = subprocess.run(
        [sys.executable, "-m", "miaod_plugin", "--version"], capture_output=True, text=True, check=True
    )
    assert ended.stdout.strip() == f"miaod-plugin {version('miaod-plugin')}"


def test_help_comes_at_once():
    """By processor time, which other programs do not change; it takes a tenth of this."""
    code = """
import sys, time
from miaod_plugin.cli.app import main
sys.argv = ["miaod", "--help"]
try:
    main()
finally:
    print(time.process_time(), *{"torch", "sklearn", "pydantic"} & sys.modules.keys(), file=sys.stderr)
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    seconds, *slow = ended.stderr.split()
    assert "rank" in ended.stdout and slow == [] and float(seconds) < 1


@pytest.fixture
def command(monkeypatch, capsys):
    """Run the command in this process; gives its exit status and what it wrote to stderr."""

    def run(*arguments) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["miaod", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code, capsys.readouterr().err

    return run


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"budgets": [4, 13]}, "small.yaml: budgets: 13 is larger than the 12 images of data.train"),
        ({"trainning": {}}, "small.yaml: trainning: unknown key; did you mean 'training'?"),
        ({"arms": [{"training": "miaod", "strategy": "randum"}]}, "unknown strategy 'randum'; did you mean 'random'?"),
        ({"data": {"kind": "voc", "root": "no", "train": {"split": "a"}, "test": {"split": "b"}}}, "no"),
        ({"training": {"batch_size": 0}}, "batch_size: 0 is not allowed"),
        ({"device": "tpu"}, "device: 'tpu' is not a device; give 'auto', 'cpu'"),
    ],
)
def test_what_the_user_got_wrong_is_one_line_and_exit_status_2(tmp_path, command, changes, message):
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(EXPERIMENT | changes))
    status, errors = command("run", path, "--out", tmp_path / "runs")
    assert status == 2
    assert message in errors
    assert len(errors.strip().splitlines()) == 1


@pytest.mark.parametrize("out", ["small.yaml", "small.yaml/in a file", "x" * 300, "loop"])
def test_a_folder_that_cannot_be_made_is_one_line_and_exit_status_1(tmp_path, command, out):
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(EXPERIMENT))
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    status, errors = command("splits", tmp_path / "small.yaml", "--out", tmp_path / out)
    assert status == 1
    assert errors.startswith(f"miaod: {tmp_path / out}"[:200]) and len(errors.strip().splitlines()) == 1

    assert not (tmp_path / "runs").exists(), "nothing was started"


@pytest.mark.parametrize("part", ["train", "test"])
def test_an_image_that_does_not_decode_is_named_before_any_training(tmp_path, command, part):
    scenes = tmp_path / "scenes"
    command("data", "digits", scenes, "--train", 12, "--test", 4)
    data = load_voc(scenes, split=part)
    broken = Path(data.X[-1])
    broken.write_bytes(broken.read_bytes()[:-200])
    data = {"kind": "voc", "root": str(scenes), "train": {"split": "train"}, "test": {"split": "test"}}
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(EXPERIMENT | {"data": data}))
    status, errors = command("run", path, "--out", tmp_path / "runs")
    assert status == 2
    assert str(broken) in errors and "does not decode" in errors
    assert len(errors.strip().splitlines()) == 1
    assert not (tmp_path / "runs").exists()


def test_an_unknown_option_is_refused_with_the_one_that_was_meant(command):
    status, errors = command("run", "x.yaml", "--frsh")
    assert status == 2
    assert "--fresh" in errors


def test_digit_scenes_give_the_same_results_from_either_layout_on_disk(tmp_path, command, monkeypatch):
    monkeypatch.chdir(tmp_path)
    split = {"train": {"split": "train"}, "test": {"split": "test"}}
    files = {name: {"annotations": f"coco/instances_{name}.json", "images": f"coco/images/{name}"} for name in split}
    results = {}
    for layout, data in (("voc", {"root": "voc", **split}), ("coco", files)):
        assert command("data", "digits", layout, "--format", layout, "--train", 12, "--test", 4) == (0, "")
        experiment = EXPERIMENT | {"name": f"run_{layout}", "data": {"kind": layout, **data}}
        Path("small.yaml").write_text(yaml.safe_dump(experiment))
        assert command("run", "small.yaml", "training.max_steps=6", "training.batch_size=4") == (0, "")
        with open(f"runs/run_{layout}/results.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        results[layout] = [{key: row[key] for key in row if not key.endswith("_seconds")} for row in rows]
    assert results["voc"] == results["coco"]
    assert [row["steps"] for row in results["voc"]] == ["6", "6"]
