"""A student that learns from its teacher: what they see, what they learn, and that it resumes, saves and repeats."""

import copy
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_detectors import ONE_OF_EACH_FAMILY, TINY_OPTIONS, show_everything

from miaod_plugin import MeanTeacher, ObjectDetector, Supervised
from miaod_plugin.data import make_digit_scenes, make_targets
from miaod_plugin.errors import ConfigError
from miaod_plugin.registry import DETECTORS, find, registered
from miaod_plugin.training.average import with_average
from miaod_plugin.training.base import Stage
from miaod_plugin.training.batches import TrainingImages, load_batches
from miaod_plugin.training.mean_teacher import sharpened

DATA = make_digit_scenes(10, random_state=1)
KNOWN, UNKNOWN = dict(X=DATA.X[:4], y=DATA.y[:4]), DATA.X[4:]


def detector_of(training, name="retinanet_tiny", **parameters):
    common = dict(classes=DATA.classes, max_steps=6, random_state=3, detector_options=TINY_OPTIONS[name])
    return ObjectDetector(name, training=training, **common | parameters)


def same(first, second):
    ours, theirs = first.network_.state_dict(), second.network_.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.fixture(scope="module")
def taught():
    return detector_of(MeanTeacher()).fit(**KNOWN, unlabeled=UNKNOWN)


def network_of(training, name="retinanet_tiny"):
    """Return a student and its teacher as they begin."""
    torch.manual_seed(0)
    return with_average(training.build(find(DETECTORS, name)(5, **TINY_OPTIONS[name])))


def images_of(X):
    return [torch.from_numpy(x).permute(2, 0, 1) / 255 for x in X]


TEACH = Stage("teach", 1, mixes=True)


@pytest.mark.parametrize("name", registered(DETECTORS))
def test_every_detector_learns_from_what_its_teacher_sees(name):
    training = MeanTeacher()
    network = network_of(training, name)
    training.begin(network, TEACH, [parameter for parameter in network.parameters() if parameter.requires_grad])
    network.average.eval()
    (loss,) = training.losses(network, images_of(UNKNOWN[:2]), None, TEACH).values()
    loss.backward()
    reached = {name for name, parameter in network.named_parameters() if parameter.grad is not None}
    assert {"detector", "classifiers"} == {name.split(".")[0] for name in reached}
    assert all(network.get_parameter(name).grad.isfinite().all() for name in reached)


@pytest.mark.parametrize("name", ONE_OF_EACH_FAMILY)
def test_a_taught_detector_is_its_teacher_alone_and_the_same_after_save_and_load(name, tmp_path):
    events = []
    detector = detector_of(MeanTeacher(burn_in=0.4), name, max_steps=3, on_step=events.append)
    detector.fit(**KNOWN, unlabeled=UNKNOWN)
    assert [event["round"] for event in events] == ["label", "teach", "teach"]
    assert ["consistency" in event["losses"] for event in events] == [False, True, True]
    assert all(np.isfinite(list(event["losses"].values())).all() for event in events)
    plain = Supervised().build(find(DETECTORS, name)(5, **TINY_OPTIONS[name]))
    assert detector.network_.state_dict().keys() == plain.state_dict().keys()
    flags = [{key: one.requires_grad for key, one in net.named_parameters()} for net in (detector.network_, plain)]
    assert flags[0] == flags[1]
    detector.save(tmp_path / "model.safetensors")
    loaded = ObjectDetector.load(tmp_path / "model.safetensors")
    assert same(loaded, detector) and loaded.training.get_params() == detector.training.get_params()


@pytest.mark.parametrize("name", ONE_OF_EACH_FAMILY)
def test_the_student_is_drawn_to_its_teacher_on_the_very_same_instances(name):
    """A student that is its teacher and sees what it sees has nothing to learn; a changed one has."""
    network = network_of(MeanTeacher(), name).eval()
    images = [torch.rand(3, 64, 64), torch.rand(3, 64, 48)]
    with torch.no_grad():
        for parameter in network.average.classifiers.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
        network.classifiers.load_state_dict(network.average.classifiers.state_dict())
        seen = network.average(images)
        again = network(images, seen=seen.features)
        assert torch.equal(torch.cat(again.logits, dim=1), torch.cat(seen.logits, dim=1))
        other = network([1 - image for image in images], seen=seen.features)
    assert torch.equal(other.features.anchors, seen.features.anchors)
    assert not torch.equal(torch.cat(other.logits, dim=1), torch.cat(seen.logits, dim=1))


def test_the_student_comes_nearer_to_a_teacher_that_stays_where_it_is():
    training = MeanTeacher()
    network = network_of(training)
    trainable = [parameter for parameter in network.parameters() if parameter.requires_grad]
    training.begin(network, TEACH, trainable)
    network.eval()  # BatchNorm would make losses before and after incomparable
    with torch.no_grad():
        network.average.classifiers[0].class_logits.bias.add_(3)
    teacher = copy.deepcopy(network.average.state_dict())
    optimizer, losses = torch.optim.Adam(network.classifiers.parameters(), 0.002), []
    for _ in range(30):
        torch.manual_seed(1)  # the same views
        loss = training.losses(network, images_of(UNKNOWN[:2]), None, TEACH)["consistency"]
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < 0.5 * losses[0]
    assert all(torch.equal(teacher[name], tensor) for name, tensor in network.average.state_dict().items())


def test_without_weight_and_strong_views_its_steps_are_those_of_supervised_training():
    alone = MeanTeacher(burn_in=0, weight=0, strong_share=0)
    taught = detector_of(alone, max_steps=8).fit(**KNOWN, unlabeled=UNKNOWN)
    averaged = detector_of(Supervised(average=alone.average), max_steps=8).fit(**KNOWN)
    assert same(taught, averaged) and taught.losses_ == averaged.losses_


def test_unlabelled_images_leave_the_running_statistics_of_batchnorm_alone():
    training = MeanTeacher()
    network = network_of(training)
    training.begin(network, TEACH, [])
    network.average.eval()
    before = {name: tensor.clone() for name, tensor in network.named_buffers() if "running" in name}
    training.losses(network, images_of(UNKNOWN[:2]), None, TEACH)
    after = dict(network.named_buffers())
    assert before and all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    known = [{name: torch.from_numpy(value) for name, value in target.items()} for target in KNOWN["y"][:2]]
    training.losses(network, images_of(KNOWN["X"][:2]), known, TEACH)
    assert any(not torch.equal(tensor, after[name]) for name, tensor in before.items())


def test_a_step_sees_a_labelled_batch_and_then_one_of_the_whole_pool_in_passes():
    numbered = np.arange(10, dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 4, 3), np.uint8)
    images = TrainingImages(numbered[:3], [DATA.y[0]] * 3, numbered[3:])
    settings = type(
        "Settings", (), {"batch_size": 2, "augmentation": "flip", "num_workers": 0, "group_by_aspect": False}
    )
    batches = list(load_batches(images, [Stage("teach", 7, mixes=True)], 0, settings, (0,)))
    seen = [[int(image[0, 0, 0]) for image in batch] for batch, _ in batches]
    assert [[target is None for target in targets] for _, targets in batches] == [[False, False, True, True]] * 7
    assert all(max(batch[:2]) < 3 <= min(batch[2:]) for batch in seen)
    assert np.bincount(np.concatenate([batch[2:] for batch in seen]))[3:].tolist() == [2] * 7


def test_it_learns_from_the_whole_pool_in_as_many_steps_as_supervised_training_takes(taught):
    assert taught.n_unlabeled_ == len(UNKNOWN) > len(KNOWN["X"])
    detector = ObjectDetector("retinanet_tiny", training=MeanTeacher(epochs=5), batch_size=4)
    assert detector.total_steps(10, 1000) == 5 * 3 == detector.total_steps(10)
    stages = MeanTeacher(epochs=5, burn_in=0.2).plan(10, 1000, 4, 100)
    assert [(stage.kind, stage.steps, stage.mixes) for stage in stages] == [("label", 20, False), ("teach", 80, True)]


@pytest.mark.parametrize(
    ("at_most", "parts"), [(None, [(2, False), (2, True)]), (1, [(1, False)] * 2 + [(1, True)] * 2)]
)
def test_a_step_adds_up_the_losses_of_parts_with_labelled_images_apart_from_unlabelled_ones(at_most, parts):
    seen = []

    class Watched(MeanTeacher):
        def losses(self, network, images, targets, stage):
            seen.append((len(images), targets is None))
            return super().losses(network, images, targets, stage)

    detector = detector_of(Watched(burn_in=0), max_steps=1, batch_size=2, micro_batch_size=at_most)
    detector.fit(**KNOWN, unlabeled=UNKNOWN)
    assert seen == parts and {"classification", "consistency"} <= detector.losses_.keys()


@pytest.mark.parametrize("unlabeled", [None, UNKNOWN[:0]], ids=["none", "empty"])
def test_without_unlabelled_images_it_is_trained_on_annotated_ones(unlabeled):
    detector = detector_of(MeanTeacher()).fit(**KNOWN, unlabeled=unlabeled)
    assert detector.n_unlabeled_ == 0 and "consistency" not in detector.losses_ and detector.n_steps_ == 6


def test_one_class_and_images_without_boxes_are_learned_from():
    y = make_targets([{"boxes": t["boxes"], "labels": t["labels"] * 0} for t in DATA.y[:4]])
    y[1] = {"boxes": np.zeros((0, 4), np.float32), "labels": np.zeros(0, np.int64)}
    for known in (y, make_targets([y[1]] * 4)):
        detector = detector_of(MeanTeacher(), classes=("digit",)).fit(DATA.X[:4], known, unlabeled=UNKNOWN)
        assert np.isfinite(list(detector.losses_.values())).all() and "consistency" in detector.losses_
    assert (show_everything(detector).predict(DATA.X[:1])[0]["labels"] == 0).all()


def test_the_same_seed_gives_the_same_bits_and_leaves_global_random_numbers_alone(taught):
    torch.manual_seed(5)
    state = torch.get_rng_state()
    again = detector_of(MeanTeacher()).fit(**KNOWN, unlabeled=UNKNOWN)
    assert torch.equal(torch.get_rng_state(), state)
    assert same(again, taught) and again.losses_ == taught.losses_
    assert not same(detector_of(MeanTeacher(), random_state=4).fit(**KNOWN, unlabeled=UNKNOWN), taught)
    assert not same(detector_of(MeanTeacher()).fit(**KNOWN, unlabeled=UNKNOWN[::-1].copy()), taught)


class Stop(Exception):
    """Ends a training after a step."""


@pytest.mark.parametrize("step", [1, 2, 4])
def test_a_training_that_was_cut_off_goes_on_to_the_same_bits(tmp_path, step):
    common = dict(optimizer="adamw", max_steps=6)
    training = MeanTeacher(burn_in=0.3)  # two steps
    whole = detector_of(training, **common).fit(**KNOWN, unlabeled=UNKNOWN)

    def stop(report):
        if report["step"] == step:
            raise Stop

    cut = detector_of(training, checkpoint=tmp_path / "fit.half", checkpoint_seconds=0.0, **common)
    with pytest.raises(Stop):
        cut.set_params(on_step=stop).fit(**KNOWN, unlabeled=UNKNOWN)
    steps = []
    cut.set_params(on_step=lambda report: steps.append(report["step"])).fit(**KNOWN, unlabeled=UNKNOWN)
    assert steps == list(range(step + 1, 7)) and not os.listdir(tmp_path)
    assert same(whole, cut) and whole.losses_ == cut.losses_


TRAIN = """
import sys
from test_mean_teacher import KNOWN, UNKNOWN, MeanTeacher, detector_of
detector_of(MeanTeacher(), max_steps=30, checkpoint=sys.argv[1], checkpoint_seconds=0.0).fit(**KNOWN, unlabeled=UNKNOWN)
"""


def test_a_training_that_was_killed_goes_on_to_the_same_bits(tmp_path):
    half = tmp_path / "fit.half"
    process = subprocess.Popen([sys.executable, "-c", TRAIN, str(half)], cwd=Path(__file__).parent)
    while not half.exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL and half.exists()
    steps = []
    resumed = detector_of(MeanTeacher(), max_steps=30, checkpoint=half, on_step=lambda report: steps.append(report))
    resumed.fit(**KNOWN, unlabeled=UNKNOWN)
    whole = detector_of(MeanTeacher(), max_steps=30).fit(**KNOWN, unlabeled=UNKNOWN)
    assert 0 < len(steps) < 30 and same(resumed, whole) and resumed.losses_ == whole.losses_


def test_it_detects_with_the_teacher_and_not_with_the_student():
    students = []

    class Watched(MeanTeacher):
        def after_step(self, network):
            students.append(network)

    detector = detector_of(Watched(average=1.0)).fit(**KNOWN, unlabeled=UNKNOWN)
    assert detector.network_ is students[-1].average
    found = show_everything(detector).predict(DATA.X[:1])[0]
    detector.network_ = students[-1]
    assert not np.array_equal(show_everything(detector).predict(DATA.X[:1])[0]["scores"], found["scores"])


def test_a_detector_that_keeps_its_instances_to_itself_is_refused_in_one_line():
    options = {"weights": None, "min_size": 64, "max_size": 64}
    name = "torchvision:fasterrcnn_mobilenet_v3_large_320_fpn"
    detector = ObjectDetector(name, DATA.classes, detector_options=options, training=MeanTeacher())
    with pytest.raises(ConfigError, match=r"can be trained supervised only; .* for a teacher choose one of [^\n]*$"):
        detector.fit(**KNOWN)


@pytest.mark.parametrize(
    "parameter",
    [{"temperature": 0}, {"temperature": 1.5}, {"average": 0}, {"burn_in": 1.1}, {"weight": -1}, {"strong_share": 2}],
)
def test_parameters_that_mean_nothing_are_refused(parameter):
    (name,) = parameter
    with pytest.raises(ConfigError, match=rf"{name}: .* is not allowed; give"):
        detector_of(MeanTeacher(**parameter)).fit(**KNOWN)


def test_sharpened_classes_compete_for_the_sum():
    given = torch.tensor([[[0.4, 0.2, 0.0], [0.9, 0.3, 0.3], [0.3, 0.0, 0.0]]], dtype=torch.float64)
    squares = np.array([[0.16, 0.04, 0.0], [0.81, 0.09, 0.09], [0.09, 0.0, 0.0]])
    totals = np.array([[0.6], [1.0], [0.3]])  # at most 1
    expected = totals * squares / squares.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(sharpened(given, 0.5)[0].numpy(), expected, atol=1e-9)
    np.testing.assert_allclose(sharpened(given[:, ::2], 1.0).numpy(), given[:, ::2].numpy(), atol=1e-9)
    single = torch.rand(2, 5, 1)
    assert torch.allclose(sharpened(single, 0.5), single)
