import subprocess
import sys
from importlib.metadata import version

import pytest
import yaml

EXPERIMENT = {
    "name": "small",
    "data": {"kind": "digits", "train": 12, "test": 4},
    "detector": {"name": "retinanet_tiny"},
    "arms": [{"training": "supervised", "strategy": "random"}],
    "budgets": [4, 6],
    "seeds": [0],
}


def miaod(*arguments, cwd=None) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "miaod_plugin", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd)


def test_version_and_help():
    assert miaod("--version").stdout.strip() == f"miaod-plugin {version('miaod-plugin')}"
    shown = miaod("run", "--help")
    assert shown.returncode == 0
    assert "--fresh" in shown.stdout


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"budgets": [4, 13]}, "small.yaml: budgets: 13 is larger than the 12 images of data.train"),
        ({"trainning": {}}, "small.yaml: trainning: unknown key; did you mean 'training'?"),
        (
            {"arms": [{"training": "supervised", "strategy": "randum"}]},
            "unknown strategy 'randum'; did you mean 'random'",
        ),
        ({"data": {"kind": "voc", "root": "no", "train": {"split": "a"}, "test": {"split": "b"}}}, "no"),
        ({"training": {"batch_size": 0}}, "batch_size"),
    ],
)
def test_what_the_user_got_wrong_is_one_line_and_exit_status_2(tmp_path, changes, message):
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(EXPERIMENT | changes))
    ended = miaod("run", path, "--out", tmp_path / "runs", cwd=tmp_path)
    assert ended.returncode == 2
    assert message in ended.stderr
    assert len(ended.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "runs").exists(), "nothing was started"


def test_an_unknown_option_is_refused_without_a_traceback():
    ended = miaod("run", "x.yaml", "--frsh")
    assert ended.returncode == 2
    assert "--fresh" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("layout", ["voc", "coco"])
def test_digit_scenes_on_disk_run_as_an_experiment(tmp_path, layout):
    made = miaod("data", "digits", "scenes", "--format", layout, "--train", 12, "--test", 4, cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    data = {
        "voc": {"root": "scenes", "train": {"split": "train"}, "test": {"split": "test"}},
        "coco": {
            part: {"annotations": f"scenes/instances_{part}.json", "images": f"scenes/images/{part}"}
            for part in ("train", "test")
        },
    }[layout]
    path = tmp_path / "small.yaml"
    training = {"batch_size": 4}
    path.write_text(yaml.safe_dump(EXPERIMENT | {"data": {"kind": layout, **data}, "training": training}))
    ended = miaod("run", path, "miaod.label_epochs=1", "miaod.rounds=1", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert (tmp_path / "runs" / "small" / "results.csv").read_text().count("\n") == 3
