"""Losses are read some steps late on a GPU: none is lost, the right step is blamed, and no bad weights are stored."""

import numpy as np
import pytest
import torch
from pretended_gpu import GPU, PretendedGPU

from miaod_plugin import MIAOD, Supervised
from miaod_plugin.data import make_digit_scenes
from miaod_plugin.detectors.retinanet import retinanet_tiny
from miaod_plugin.errors import TrainingError
from miaod_plugin.tensor_file import read_tensors
from miaod_plugin.training import losses
from miaod_plugin.training.base import Stage
from miaod_plugin.training.batches import TrainingImages
from miaod_plugin.training.checkpoint import KIND, Checkpoint
from miaod_plugin.training.loop import Settings, train
from miaod_plugin.training.losses import StepLosses

DATA = make_digit_scenes(4, random_state=0)
READ_EVERY, STEPS = 3, 5
NOT_THE_CPU = torch.device("meta")


@pytest.fixture(autouse=True)
def few_steps(monkeypatch):
    monkeypatch.setattr(losses, "READ_EVERY", READ_EVERY)


def add(waiting, step, **values):
    values = {name: torch.tensor(value) for name, value in values.items()}
    waiting.add({"step": step, "total": 60}, sum(values.values()), values)


def test_losses_of_several_steps_are_read_together_in_order_each_under_its_names():
    waiting = StepLosses(NOT_THE_CPU)
    add(waiting, 1, a=1.0, b=2.0)
    add(waiting, 2, c=3.0)
    assert not waiting.full
    assert [event["losses"] for event in waiting.read()] == [{"a": 1.0, "b": 2.0}, {"c": 3.0}]
    for step in range(READ_EVERY):
        add(waiting, 3 + step, a=0.0)
    assert waiting.full and [event["step"] for event in waiting.read()] == list(range(3, 3 + READ_EVERY))


def test_the_first_step_whose_loss_is_not_finite_is_named_however_late_it_is_read():
    waiting = StepLosses(NOT_THE_CPU)
    for step, value in enumerate((1.0, float("inf"), float("nan")), start=7):
        add(waiting, step, a=value, b=1.0)
    with pytest.raises(TrainingError, match=r"not finite at step 8 of 60 \(a inf, b 1\); lower learning_rate"):
        waiting.read()


class Diverging(Supervised):
    """Supervised training whose loss is not finite from some step on."""

    def __init__(self, good_steps=1):
        self.good_steps = good_steps
        self.begun = 0

    def losses(self, network, images, targets, stage):
        self.begun += 1
        found = super().losses(network, images, targets, stage)
        return found | ({"broken": found["classification"] * torch.inf} if self.begun > self.good_steps else {})


def train_on_gpu(training, on_step=None, checkpoint=None, kind="label"):
    """Train for `STEPS` steps on a pretended GPU, and return how often it was waited for."""
    settings = Settings(2, "sgd", 1e-3, 0.9, 1e-4, 0, 0.9, None, "flip", 0.5, 0, on_step)
    images = TrainingImages(DATA.X, DATA.y, DATA.X)
    with PretendedGPU() as gpu:
        torch.default_generator.manual_seed(0)
        network = training.build(retinanet_tiny(5)).to(GPU)
        gpu.count()
        train(training, network, [Stage(kind, STEPS, kind != "label")], images, settings, 0, checkpoint)
        return gpu.count()


@pytest.mark.parametrize("kind", ["supervised", "label", "min", "max"])
def test_a_gpu_is_waited_for_once_a_step_and_every_step_is_reported(kind):
    events = []
    training = Supervised() if kind == "supervised" else MIAOD()
    waits = train_on_gpu(training, events.append, kind="label" if kind == "supervised" else kind)
    assert [event["step"] for event in events] == list(range(1, STEPS + 1))
    assert all(np.isfinite(list(event["losses"].values())).all() for event in events)
    # for positives or pseudo labels in each step, and for the losses when a few are there, and at the end
    assert waits <= STEPS + 2


def test_a_checkpoint_is_written_only_after_the_losses_before_it_were_found_finite(tmp_path):
    path = tmp_path / "half"
    checkpoint = Checkpoint(path, 0.0, {})
    with pytest.raises(TrainingError, match="not finite at step 2 of 5"):
        train_on_gpu(Diverging(), checkpoint=checkpoint)
    content, tensors = read_tensors(path, KIND, "a half-trained fit")
    assert content["step"] == 1 and all(tensor.isfinite().all() for tensor in tensors.values())


def test_a_late_reading_blames_the_step_that_diverged():
    events = []
    with pytest.raises(TrainingError, match="not finite at step 2 of 5"):
        train_on_gpu(Diverging(), events.append)
    assert events == []
