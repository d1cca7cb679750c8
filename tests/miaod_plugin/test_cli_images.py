"""The commands for a single detector, run as a user runs them, on images that belong to no data set."""

import csv
import sys

import numpy as np
import pytest
import yaml
from PIL import Image

from miaod_plugin import MIAODDetector, ObjectDetector
from miaod_plugin.cli import main
from miaod_plugin.data import make_digit_scenes
from miaod_plugin.data.images import store_image

DATA = make_digit_scenes(6, random_state=11)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoints")
    for cls, name in ((MIAODDetector, "miaod"), (ObjectDetector, "supervised")):
        detector = cls("retinanet_tiny", classes=DATA.classes, max_steps=12, optimizer="adamw", random_state=0)
        detector.fit(DATA.X[:3], DATA.y[:3], unlabeled=DATA.X[3:]).save(folder / f"{name}.safetensors")
    return folder


@pytest.fixture
def folder(tmp_path):
    """Three photographs of unequal size, one of them in a folder of its own."""
    for name, height, width in (("a", 64, 64), ("b", 40, 90), ("sub/c", 100, 70)):
        pixels = np.random.default_rng(len(name)).integers(0, 256, (height, width, 3), dtype=np.uint8)
        store_image(pixels, tmp_path / "images" / name)
    return tmp_path / "images"


def miaod(monkeypatch, capsys, *arguments):
    """Run the command line; return its exit status, output and errors."""
    monkeypatch.setattr(sys, "argv", ["miaod", *map(str, arguments)])
    with pytest.raises(SystemExit) as status:
        main()
    return status.value.code, *capsys.readouterr()


def test_predict_draws_every_image_and_prints_its_uncertainty(checkpoints, folder, tmp_path, monkeypatch, capsys):
    images = [folder / "a.png", folder / "b.png"]
    model = ["-c", checkpoints / "miaod.safetensors", "--out", tmp_path / "out"]
    status, output, _ = miaod(monkeypatch, capsys, "predict", *images, *model, "--heatmap", "--threshold", 0)
    assert status == 0 and output.count("uncertainty") == 2
    for name, (width, height) in (("a", (64, 64)), ("b", (90, 40))):
        picture = Image.open(tmp_path / "out" / f"{name}.png")
        scale = -(-384 // min(width, height))
        assert picture.width > 4 * scale * width and picture.height > scale * height


def test_heatmaps_need_a_mi_aod_detector(checkpoints, folder, tmp_path, monkeypatch, capsys):
    arguments = [folder / "a.png", "-c", checkpoints / "supervised.safetensors", "--out", tmp_path / "out"]
    status, output, _ = miaod(monkeypatch, capsys, "predict", *arguments)
    assert status == 0 and "boxes" in output and "uncertainty" not in output
    status, _, errors = miaod(monkeypatch, capsys, "predict", *arguments, "--heatmap")
    assert status == 2 and errors.count("\n") == 1 and "--training miaod" in errors


@pytest.mark.parametrize("strategy", ["miaod", "random", "entropy", "coreset"])
def test_rank_writes_the_most_informative_images_first(checkpoints, folder, tmp_path, monkeypatch, capsys, strategy):
    arguments = [folder, "-c", checkpoints / "miaod.safetensors", "--out", tmp_path / "rank.csv"]
    arguments += ["--strategy", strategy, "--labelled", folder / "sub"]
    assert miaod(monkeypatch, capsys, "rank", *arguments)[0] == 0
    with open(tmp_path / "rank.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["path"] for row in rows} == {"a.png", "b.png", "sub/c.png"}
    assert [row["rank"] for row in rows] == ["1", "2", "3"]
    assert np.all(np.diff([float(row["uncertainty"]) for row in rows]) <= 0)
    assert all(float(row["expected_boxes"]) >= 0 for row in rows)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["predict", "a.png"], "no such file"),  # the checkpoint
        (["predict", "missing.png"], "missing.png"),
        (["predict", "a.png", "sub/../a.png"], "same name"),
        (["rank", "nowhere"], "nowhere"),
        (["rank", ".", "--strategy", "miao"], "did you mean 'miaod'"),
        (["rank", ".", "--strategy", "coreset"], "--labelled"),
    ],
)
def test_wrong_input_is_one_line_and_leaves_nothing(
    checkpoints, folder, tmp_path, monkeypatch, capsys, arguments, message
):
    monkeypatch.chdir(folder)
    model = "none.safetensors" if message == "no such file" else checkpoints / "miaod.safetensors"
    out = tmp_path / "out"
    status, _, errors = miaod(monkeypatch, capsys, *arguments, "-c", model, "--out", out)
    assert status == 2 and errors.count("\n") == 1 and message in errors
    assert not out.exists()


def test_train_and_evaluate_need_no_loop(tmp_path, monkeypatch, capsys):
    experiment = {
        "name": "one",
        "data": {"kind": "digits", "train": 8, "test": 4, "n_classes": 2},
        "detector": {"name": "retinanet_tiny"},
        "training": {"max_steps": 6, "batch_size": 2},
        "arms": [{"training": "miaod", "strategy": "miaod"}],
        "budgets": [2],
        "seeds": [0],
    }
    (tmp_path / "one.yaml").write_text(yaml.safe_dump(experiment))
    model = tmp_path / "model.safetensors"
    for training, unlabelled in (("miaod", 4), ("supervised", 0)):
        arguments = [tmp_path / "one.yaml", "-c", model, "--training", training, "--labelled", 4]
        status, output, _ = miaod(monkeypatch, capsys, "train", *arguments)
        assert status == 0 and f"6 steps on 4 annotated images, {unlabelled} unlabelled" in output
        status, output, _ = miaod(monkeypatch, capsys, "evaluate", tmp_path / "one.yaml", "-c", model)
        assert status == 0 and "AP50" in output
    assert miaod(monkeypatch, capsys, "train", tmp_path / "one.yaml", "-c", model, "--labelled", 9)[0] == 2
    status, _, errors = miaod(monkeypatch, capsys, "evaluate", tmp_path / "one.yaml", "data.n_classes=3", "-c", model)
    assert status == 2 and "knows 0, 1; the data has 0, 1, 2" in errors
