"""Every registered detector goes through MI-AOD's cycle from its one line in an experiment."""

import json
from pathlib import Path

import pytest
import yaml
from tiny_experiment import TINY

from miaod_plugin.experiments.config.schema import load_config
from miaod_plugin.experiments.cycle.cycle import Experiment, run_cycle
from miaod_plugin.experiments.store.datasets import load_data
from miaod_plugin.experiments.store.layout import Cell, Run
from miaod_plugin.registry import DETECTORS, registered

# Options that need no download and little time, the default settings of training otherwise.
_SMALL = "weights: null, min_size: 64, max_size: 96"
_PYRAMID = f"{_SMALL}, fpn_channels: 64, head_convs: 1"
_PROPOSALS = f"{_SMALL}, fpn_channels: 16, head_features: 32, proposals: 30"
_MOBILE_FASTER_RCNN = "fasterrcnn_mobilenet_v3_large_320_fpn"
LINES = {
    "retinanet_tiny": "{name: retinanet_tiny}",
    "retinanet_mobilenet_v2_fpn": f"{{name: retinanet_mobilenet_v2_fpn, options: {{{_PYRAMID}}}}}",
    "retinanet_resnet50_fpn": f"{{name: retinanet_resnet50_fpn, options: {{{_PYRAMID}}}}}",
    "retinanet_resnet50_fpn_v2": f"{{name: retinanet_resnet50_fpn_v2, options: {{{_PYRAMID}}}}}",
    "fcos_resnet50_fpn": f"{{name: fcos_resnet50_fpn, options: {{{_PYRAMID}}}}}",
    "ssd300_vgg16": "{name: ssd300_vgg16, options: {weights: null, size: 64}}",
    "ssdlite320_mobilenet_v3_large": "{name: ssdlite320_mobilenet_v3_large, options: {weights: null, size: 64}}",
    "fasterrcnn_resnet50_fpn": f"{{name: fasterrcnn_resnet50_fpn, options: {{{_PROPOSALS}}}}}",
    _MOBILE_FASTER_RCNN: f"{{name: {_MOBILE_FASTER_RCNN}, options: {{{_PROPOSALS}}}}}",
}
ONE_OF_EACH_FAMILY = ["retinanet_tiny", "ssdlite320_mobilenet_v3_large", "fcos_resnet50_fpn", _MOBILE_FASTER_RCNN]
BCCD = {
    "kind": "voc",
    "root": str(Path(__file__).parents[1] / "data" / "bccd"),
    "train": {"split": "trainval"},
    "test": {"split": "test"},
}
ONE_CLASS = {"kind": "digits", "train": 8, "test": 4, "n_classes": 1}


def test_every_registered_detector_has_a_line():
    assert sorted(LINES) == registered(DETECTORS)


@pytest.mark.parametrize(
    ("detector", "data"),
    [
        *(pytest.param(detector, BCCD, id=f"{detector}-bccd") for detector in sorted(LINES)),
        *(pytest.param(detector, ONE_CLASS, id=f"{detector}-one-class-of-digits") for detector in ONE_OF_EACH_FAMILY),
    ],
)
def test_miaod_trains_and_queries_with_finite_losses_from_the_first_step(tmp_path, detector, data):
    content = TINY | {"data": data, "training": {"max_steps": 6}, "budgets": [2, 4], "seeds": [0]}
    content |= {"detector": yaml.safe_load(LINES[detector]), "arms": [{"training": "miaod", "strategy": "miaod"}]}
    (tmp_path / "one.yaml").write_text(yaml.safe_dump(content))
    config = load_config(tmp_path / "one.yaml")
    run = Run(config, tmp_path)
    experiment = Experiment(config, run, *load_data(config))
    cells = [Cell(0, 0, "miaod"), *run.arm_cells()]
    for cell in cells:
        run_cycle(experiment, cell, report=lambda *_: None)

    first, last = (run.folder(cell) for cell in cells[1:])
    steps = [json.loads(line) for line in (first / "losses.jsonl").read_text().splitlines()]
    assert [step["round"] for step in steps] == ["label", "min", "min", "max", "max", "label"]
    assert {"discrepancy", "agreement"} <= {name for step in steps for name in step["losses"]}
    assert all(0 <= value < float("inf") for step in steps for value in step["losses"].values())
    picked = (first / "selected.csv").read_text().splitlines()[1:]
    assert {line.split(",")[1] for line in picked} <= set((last / "labelled.txt").read_text().split())
    assert len(picked) == 2 and all(float(line.split(",")[2]) >= 0 for line in picked)
    assert json.loads((last / "metrics.json").read_text())["images"] == 4
