"""An arm with a teacher: it learns from the whole pool, for as many steps as the others, and never from its boxes."""

from dataclasses import replace

import numpy as np
from safetensors.numpy import load_file
from tiny_experiment import write_experiment

from miaod_plugin.experiments.config.schema import load_config
from miaod_plugin.experiments.cycle.cycle import Experiment, annotate, teach
from miaod_plugin.experiments.store.datasets import load_data
from miaod_plugin.experiments.store.layout import Run

ARMS = [{"training": name, "strategy": "random"} for name in ("mean_teacher", "supervised")]


def begun(folder, change=lambda targets, labelled: targets):
    """Train both arms on four images, after a change of the targets; return folders, what was done, and the images."""
    folder.mkdir()
    config = load_config(write_experiment(folder, arms=ARMS, budgets=[4], seeds=[0]))
    run, (train, test) = Run(config, folder / "runs"), load_data(config)
    folders, done = {}, {}
    for cell in run.shared_cells():
        labelled = annotate(Experiment(config, run, train, test), cell)
        experiment = Experiment(config, run, replace(train, y=change(train.y.copy(), labelled)), test)
        done[cell.training] = teach(experiment, cell, labelled, lambda *_: None)
        folders[cell.training] = run.folder(cell)
    return folders, done, train.ids[labelled]


def poisoned(targets, labelled):
    """Give every image that is not labelled a box that is not there, of the wrong class."""
    for row in np.setdiff1d(np.arange(len(targets)), labelled):
        targets[row] = {"boxes": np.array([[1, 1, 60, 60]], np.float32), "labels": np.array([row % 3])}
    return targets


def test_it_learns_from_all_other_images_in_as_many_steps_and_from_none_of_their_boxes(tmp_path):
    folders, done, labelled = begun(tmp_path / "whole")
    seen = {training: (folder / "unlabelled.txt").read_text().split() for training, folder in folders.items()}
    assert seen["supervised"] == [] and len(seen["mean_teacher"]) == 20
    assert not set(seen["mean_teacher"]) & set(labelled)
    assert done["mean_teacher"]["steps"] == done["supervised"]["steps"]
    again, _, _ = begun(tmp_path / "poisoned", poisoned)
    for training, folder in folders.items():
        weights, other = (load_file(one / "model.safetensors") for one in (folder, again[training]))
        assert all(np.array_equal(weights[name], other[name]) for name in weights), training
