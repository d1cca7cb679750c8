"""The commands for a single detector, run as a user runs them, on images that belong to no data set."""

import pytest
import torch
import yaml


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
        status, output, _ = miaod("train", *arguments)
        assert status == 0 and f"6 steps on 4 annotated images, {unlabelled} unlabelled" in output
        status, output, _ = miaod("evaluate", tmp_path / "one.yaml", "-c", model)
        assert status == 0 and "AP50" in output
    assert miaod("train", tmp_path / "one.yaml", "-c", model, "--labelled", 9)[0] == 2
    status, _, errors = miaod("evaluate", tmp_path / "one.yaml", "data.n_classes=3", "-c", model)
    assert status == 2 and errors.count("\n") == 1
    assert "the detector knows no 2" in errors and "the data has no" not in errors


def test_train_and_evaluate_use_the_threads_of_the_experiment(tmp_path, miaod):
    experiment = {
        "name": "one",
        "data": {"kind": "digits", "train": 4, "test": 2, "n_classes": 2},
        "detector": {"name": "retinanet_tiny"},
        "training": {"max_steps": 1, "batch_size": 2},
        "arms": [{"training": "supervised", "strategy": "random"}],
        "budgets": [2],
        "seeds": [0],
        "threads": 1,
    }
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
