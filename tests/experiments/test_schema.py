from pathlib import Path

import pytest
import yaml
from tiny_experiment import TINY, write_experiment

from miaod_plugin import experiments
from miaod_plugin.errors import ConfigError
from miaod_plugin.experiments.config.schema import load_config

VOC = {"kind": "voc", "root": "x", "train": {"split": "a"}, "test": {"split": "b"}}
SHIPPED = sorted(Path(experiments.__file__).parent.glob("*.yaml"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_the_shipped_experiments_are_valid(path):
    config = load_config(path)
    assert config.name == path.stem


def test_arms_are_named_after_training_and_strategy(tmp_path):
    config = load_config(write_experiment(tmp_path))
    assert [arm.name for arm in config.arms] == ["miaod+miaod", "supervised+random", "supervised+entropy"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"trainning": {}}, "trainning: unknown key; did you mean 'training'?"),
        ({"training": {"bath_size": 2}}, "training.bath_size: unknown key; did you mean 'batch_size'?"),
        (
            {"training": {"rounds": 2}},
            "training.rounds: is a parameter of label_set and miaod alone; write it under 'trainings.miaod'",
        ),
        (
            {"training": {"epochs": 2}},
            "training.epochs: is a parameter of mean_teacher and supervised alone; write it under 'trainings.s",
        ),
        (
            {"trainings": {"miaod": {"batch_size": 2}}},
            "trainings.miaod.batch_size: is common to all trainings; write it under 'training'",
        ),
        (
            {"trainings": {"miaod": {"label_epoch": 2}}},
            "trainings.miaod.label_epoch: unknown key; did you mean 'label_epochs'?",
        ),
        ({"training": {"random_state": 2}}, "training.random_state: unknown key; known: "),
        ({"data": {**TINY["data"], "n_clases": 3}}, "data.n_clases: unknown key; did you mean 'n_classes'?"),
        (
            {"data": {**TINY["data"], "n_classes": 11}},
            "data.n_classes: 11 is not allowed; give a whole number from 1 to 10",
        ),
        ({"data": {"kind": "voc", "root": "x", "train": {"splitt": "a"}, "test": {"split": "b"}}}, "data.train.split"),
        ({"data": {"kind": "imagenet"}}, "data.kind: 'imagenet' is not known; give 'coco', 'digits', 'voc'"),
        ({"detector": {"name": "retinanet_tinny"}}, "detector.name: unknown detector 'retinanet_tinny'; did you mean"),
        (
            {"arms": [{"training": "supervised", "strategy": "entropie"}]},
            "arms.0.strategy: unknown strategy 'entropie'; did you mean 'entropy'?",
        ),
        (
            {"arms": [{"training": "supervised", "strategy": "entropy", "options": {"ofer": "instances"}}]},
            "arms.0.options.ofer: unknown option of strategy 'entropy'; did you mean 'over'?",
        ),
        (
            {"arms": [{"training": "supervized", "strategy": "random"}]},
            "arms.0.training: unknown training 'supervized'; did you mean 'supervised'?",
        ),
        (
            {"trainings": {"miaod": {"mode": "faithfull"}}},
            "trainings.miaod.mode: 'faithfull' is not allowed; give 'improved' or 'faithful'",
        ),
        ({"miaod": {"rounds": 1}}, "miaod: unknown key"),
        (
            {"arms": [{"training": "supervised", "strategy": "miaod"}]},
            "arms.0.training: 'supervised' does not train what strategy 'miaod' reads; give label_set or miaod",
        ),
        (
            {"trainings": {"miaod": {"kind": "supervised"}}},
            "trainings.miaod.kind: 'miaod' is itself a training; give another name to one of another kind",
        ),
        ({"trainings": {"x": {"kind": "miaod", "round": 1}}}, "trainings.x.round: unknown key; did you mean 'rounds'?"),
        (
            {"trainings": {"x": {"kind": "miaod", "batch_size": 1}}},
            "trainings.x.batch_size: is common to all trainings",
        ),
        ({"trainings": {"x": {"kind": "miaud"}}}, "trainings.x.kind: unknown training 'miaud'; did you mean 'miaod'?"),
        ({"trainings": {"x": {"kind": "miaod"}, "miaod": {"round": 1}}}, "trainings.miaod.round: unknown key; did you"),
        ({"trainings": {"x": {"kind": [1]}}}, "trainings.x.kind: unknown training [1]"),
        (
            {"trainings": {"miaud": {}}},
            "trainings.miaud: no training of this name is registered; did you mean 'miaod'?",
        ),
        ({"trainings": {"Full-Supervision": {"kind": "miaod"}}}, "trainings.Full-Supervision: this name is taken"),
        (
            {"trainings": {"x": {"kind": "miaod", "options": {"attention": "levels"}}}},
            "trainings.x.options.attention: 'levels' is not allowed; give 'level' or 'image'",
        ),
        ({"trainings": {"../x": {"kind": "miaod"}}}, "trainings."),
        ({"arms": [{"training": "supervised"}]}, "arms.0.strategy: this key is missing"),
        (
            {"arms": [{"training": "supervised", "strategy": "random", "name": "../x"}]},
            "arms.0.name: '../x' is not allowed; give 1 to 200 letters, digits and",
        ),
        ({"arms": [{"training": "miaod", "strategy": "random"}] * 2}, "arms: arm name 'miaod+random' appears twice"),
        ({"budgets": [4, 4]}, "budgets: 4 follows 4; budgets must increase"),
        ({"budgets": [0, 4]}, "budgets.0: 0 is not allowed; give a whole number from 1 to 1,000,000,000"),
        ({"budgets": []}, "budgets: got []"),
        ({"budget": {"unit": "box"}}, "budget.unit: got 'box'; input should be 'images', 'boxes' or 'seconds'"),
        ({"budget": {"unit": "boxes", "per_box": 3.0}}, "budget: per_image and per_box belong to 'unit: seconds'"),
        (
            {"budget": {"unit": "seconds", "per_box": -3.0}},
            "budget.per_box: -3.0 is not allowed; give a number from 0 on",
        ),
        ({"full_supervision_steps": 9}, "full_supervision_steps: is for experiments with full_supervision: true"),
        ({"full_supervision_steps": 0, "full_supervision": True}, "full_supervision_steps: 0 is not allowed; give a"),
        ({"seeds": [1, 1]}, "seeds: seed 1 appears twice"),
        ({"seeds": 3}, "seeds: got 3; input should be a valid list"),
        (
            {"evaluation": {"metric": "voc"}},
            "evaluation.metric: got 'voc'; input should be 'voc_11point', 'voc_area' or",
        ),
        ({"jobs": True}, "jobs: True is not allowed; give a whole number from 1 to 1,024"),
        ({"name": None}, "name: this key is missing"),
        ({"name": "x" * 201}, "name: 'xxx"),
        (
            {"name": "x."},
            "name: 'x.' is not allowed; give 1 to 200 letters, digits and + _ . -, a letter or digit first",
        ),
        ({"name": ".."}, "name: '..' is not allowed"),
        ({"name": "NUL.txt"}, "name: 'NUL.txt' is not allowed"),
        ({"name": 2}, "name: 2 is not allowed"),
        (
            {"arms": [{"training": "miaod", "strategy": "random", "name": name} for name in ("One", "one")]},
            "arms: arm names 'One' and 'one' differ in case only",
        ),
        (
            {"trainings": {"X": {"kind": "miaod"}, "x": {"kind": "miaod"}}},
            "trainings: trainings 'X' and 'x' differ in case only",
        ),
        ({"trainings": {"Supervised": {"kind": "supervised"}}}, "trainings.Supervised: this name is taken"),
        ({"trainings": {"con": {"kind": "miaod"}}}, "trainings.con: 'con' is not allowed"),
        (
            {"training": {"learning_rate": "fast"}},
            "training.learning_rate: 'fast' is not allowed; give a number from 0",
        ),
        ({"training": {"max_steps": 1.5}}, "training.max_steps: 1.5 is not allowed; give a whole number from 1 to"),
        ({"training": {"optimizer": "adam"}}, "training.optimizer: 'adam' is not allowed; give 'sgd' or 'adamw'"),
        ({"training": {"num_workers": 10**6}}, "training.num_workers: 1000000 is not allowed"),
        ({"training": ["batch_size"]}, "training: got ['batch_size']; input should be a valid dictionary"),
        (
            {"trainings": {"miaod": {"rounds": None}}},
            "trainings.miaod.rounds: None is not allowed; give a whole number from 0 to",
        ),
        (
            {"trainings": {"miaod": {"options": {"top_k": 5.5}}}},
            "trainings.miaod.options.top_k: 5.5 is not allowed; give a whole number from 1",
        ),
        (
            {"trainings": {"miaod": {"options": {"topk": 5}}}},
            "trainings.miaod.options: 'topk' is not an option of MI-AOD; did you mean 'top_k'?",
        ),
        (
            {"trainings": {"miaod": {"options": [1]}}},
            "trainings.miaod.options: [1] is not allowed; give a mapping of names to values or None",
        ),
        ({"trainings": {"x": {"kind": "miaod", "mode": 3}}}, "trainings.x.mode: 3 is not allowed"),
        (
            {"detector": {"name": "retinanet_tiny", "options": {"width": 10**9}}},
            "detector.options.width: 1000000000 is not allowed; give a whole number from 1 to 512",
        ),
        (
            {"detector": {"name": "retinanet_tiny", "options": {"num_classes": 3}}},
            "detector.options.num_classes: unknown option of detector 'retinanet_tiny'",
        ),
        (
            {"detector": {"name": "retinanet_resnet50_fpn", "options": {"image_mean": [0.5]}}},
            "detector.options.image_mean: [0.5] is not allowed; give 3 values, each a finite number",
        ),
        (
            {"arms": [{"training": "miaod", "strategy": "miaod", "options": {"top_k": "all"}}]},
            "arms.0.options.top_k: 'all' is not allowed",
        ),
        ({"data": {**TINY["data"], "object_size": [16, 63]}}, "data: object_size: (16, 63) must rise"),
        (
            {"data": {**TINY["data"], "train": 10**8}},
            "data: n_images: 100000000 images of 64 pixels are more than 16 GiB",
        ),
        ({"data": {**TINY["data"], "imbalance": "high"}}, "data.imbalance: 'high' is not allowed"),
        ({"data": {"train": 1}}, "data: the key 'kind' is missing"),
        ({"data": {**VOC, "root": "x" * 300}}, "data.root: 'xxx"),
        (
            {"data": {**VOC, "train": {"split": "a", "years": 2007}}},
            "data.train.years: got 2007; input should be a valid",
        ),
        ({"data": {**VOC, "classes": ["a", "a"]}}, "data.classes: ['a', 'a'] is not allowed; give a sequence of 1 to"),
        ({"data": {**VOC, "classes": [1]}}, "data.classes: [1] is not allowed"),
        ({"initial": "x/" * 2_001}, "initial: 'x/x/"),
        ({"device": "meta"}, "device: 'meta' is not a device"),
        ({"device": "mps"}, "device: 'mps' is not a device"),
        ({"seeds": [2**32]}, "seeds.0: 4294967296 is not allowed; give a whole number from 0 to 4,294,967,295"),
        ({"seeds": list(range(200)), "budgets": list(range(1, 201))}, "arms x seeds x budgets are 120,000 cells"),
    ],
)
def test_a_wrong_experiment_is_refused_in_one_line_with_file_and_key(tmp_path, changes, message):
    path = write_experiment(tmp_path, **changes)
    with pytest.raises(ConfigError) as refused:
        load_config(path)
    assert str(refused.value).startswith(f"{path}: {message}")
    assert "\n" not in str(refused.value)


def test_a_file_that_is_no_experiment_is_refused(tmp_path):
    path = tmp_path / "x.yaml"
    for content, message in [
        ("a: [1", "not valid YAML"),
        ("- 1", "must be a mapping of keys to values"),
        ("seeds: [0]\nseeds: [1]", "the key 'seeds' appears twice"),
        ("name: !!python/object/apply:os.getcwd []", "not valid YAML"),
    ]:
        path.write_text(content)
        with pytest.raises(ConfigError, match=message):
            load_config(path)
    with pytest.raises(ConfigError, match=r"missing\.yaml: cannot be read: No such file"):
        load_config(tmp_path / "missing.yaml")


def test_numbers_in_scientific_notation_are_numbers(tmp_path):
    path = write_experiment(tmp_path)
    path.write_text(path.read_text().replace("learning_rate: 0.01", "learning_rate: 1e-3"))
    assert load_config(path).training["learning_rate"] == 0.001


def test_overrides_reach_every_place(tmp_path):
    path = write_experiment(tmp_path)
    config = load_config(
        path, ["training.batch_size=8", "seeds=[5]", "arms.0.strategy=random", "trainings.miaod.rounds=2"]
    )
    assert (config.training["batch_size"], config.seeds, config.trainings["miaod"]["rounds"]) == (8, [5], 2)
    assert config.arms[0].name == "miaod+random"
    for wrong in ("seeds", "arms.9.strategy=random", "name.x=1", "seeds=[1"):
        with pytest.raises(ConfigError, match="command line: "):
            load_config(path, [wrong])


def test_a_data_path_is_looked_up_here_and_then_beside_the_experiment(tmp_path, monkeypatch):
    here, beside = tmp_path / "here", tmp_path / "beside"
    (beside / "scenes").mkdir(parents=True)
    here.mkdir()
    voc = {"kind": "voc", "root": "scenes", "train": {"split": "train"}, "test": {"split": "test"}}
    path = write_experiment(beside, data=voc)
    monkeypatch.chdir(here)
    assert load_config(path).data.root == str(beside / "scenes")
    (here / "scenes").mkdir()
    assert load_config(path).data.root == "scenes"


def test_the_stored_form_of_an_experiment_is_an_experiment(tmp_path):
    config = load_config(write_experiment(tmp_path))
    stored = tmp_path / "stored.yaml"
    stored.write_text(yaml.safe_dump(config.model_dump(mode="json")))
    assert load_config(stored).model_dump() == config.model_dump()
