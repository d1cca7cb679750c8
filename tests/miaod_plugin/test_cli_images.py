"""The commands for a single detector, run as a user runs them, on images that belong to no data set."""

import pytest
import torch
import yaml

from miaod_plugin import ObjectDetector
from miaod_plugin.data import make_digit_scenes

EXPERIMENT = {
    "name": "one",
    "data": {"kind": "digits", "train": 8, "test": 4, "n_classes": 2},
    "detector": {"name": "retinanet_tiny"},
    "training": {"max_steps": 6, "batch_size": 2},
    "arms": [{"training": "miaod", "strategy": "miaod"}],
    "budgets": [2],
    "seeds": [0],
}


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["predict", "a.png"], "no such file"),  # the checkpoint
        (["predict", "missing.png"], "missing.png"),
        (["rank", ".", "--device", "tpu"], "device: 'tpu'"),
        (["predict", "a.png", "--device", "tpu"], "device: 'tpu'"),
        (["rank", "nowhere"], "nowhere"),
        (["rank", ".", "--strategy", "miao"], "did you mean 'miaod'"),
        (["rank", ".", "--strategy", "coreset"], "--labelled"),
    ],
)
def test_wrong_input_is_one_line_and_leaves_nothing(
    checkpoints, folder, tmp_path, monkeypatch, miaod, arguments, message
):
    monkeypatch.chdir(folder)
    model = "none.safetensors" if message == "no such file" else checkpoints / "miaod.safetensors"
    out = tmp_path / "out"
    status, _, errors = miaod(*arguments, "-c", model, "--out", out)
    assert status == 2 and errors.count("\n") == 1 and message in errors
    assert not out.exists()


def test_train_and_evaluate_need_no_loop(tmp_path, miaod):
    (tmp_path / "one.yaml").write_text(yaml.safe_dump(EXPERIMENT))
    model = tmp_path / "model.safetensors"
    for training, unlabelled in (("miaod", 4), ("supervised", 0)):
        arguments = [tmp_path / "one.yaml", "-c", model, "--training", training, "--labelled", 4, "--device", "cpu"]
        status, output, _ = miaod("train", *arguments)
        assert status == 0 and f"6 steps on 4 annotated images, {unlabelled} unlabelled" in output
        status, output, _ = miaod("evaluate", tmp_path / "one.yaml", "-c", model, "--device", "cpu")
        assert status == 0 and "AP50" in output and " overlooked\n" in output
    assert miaod("train", tmp_path / "one.yaml", "-c", model, "--labelled", 9)[0] == 2
    for command in ("train", "evaluate"):
        status, _, errors = miaod(command, tmp_path / "one.yaml", "-c", model, "--device", "tpu")
        assert status == 2 and "device: 'tpu' is not a device" in errors
    status, _, errors = miaod("evaluate", tmp_path / "one.yaml", "data.n_classes=3", "-c", model)
    assert status == 2 and errors.count("\n") == 1
    assert "the detector knows no 2" in errors and "the data has no" not in errors


def test_train_and_evaluate_use_the_threads_of_the_experiment(tmp_path, miaod):
    experiment = EXPERIMENT | {"training": {"max_steps": 1, "batch_size": 2}, "threads": 1}
    yaml_file, model = tmp_path / "one.yaml", tmp_path / "model.safetensors"
    yaml_file.write_text(yaml.safe_dump(experiment))
    before = torch.get_num_threads()
    try:
        for command in (["train", yaml_file, "--training", "supervised"], ["evaluate", yaml_file]):
            torch.set_num_threads(2)
            assert miaod(*command, "-c", model)[0] == 0
            assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def test_classes_of_another_data_set_are_told_apart_in_one_short_line(tmp_path, miaod):
    (tmp_path / "one.yaml").write_text(yaml.safe_dump(EXPERIMENT))
    names, data = [f"class {k} {'x' * 200}" for k in range(300)], make_digit_scenes(2, n_classes=2, random_state=0)
    detector = ObjectDetector("retinanet_tiny", names, detector_options={"width": 8}, max_steps=1, random_state=0)
    detector.fit(data.X, data.y).save(tmp_path / "model.safetensors")
    status, _, errors = miaod("evaluate", tmp_path / "one.yaml", "-c", tmp_path / "model.safetensors")
    assert status == 2 and errors.count("\n") == 1 and len(errors) < 700
    assert "class 0 xx" in errors and "295 more" in errors and "the detector knows no 0, 1" in errors
    ObjectDetector("retinanet_tiny", ["1", "0"], max_steps=1).fit(data.X, data.y).save(tmp_path / "model.safetensors")
    status, _, errors = miaod("evaluate", tmp_path / "one.yaml", "-c", tmp_path / "model.safetensors")
    assert status == 2 and "they have another order" in errors
