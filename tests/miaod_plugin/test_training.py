"""The rounds of MI-AOD: what each one trains, how many steps it takes, and how an interrupted training goes on."""

import copy
from dataclasses import replace
from itertools import groupby

import numpy as np
import pytest
import torch
from tiny_detectors import TINY_OPTIONS

from miaod_plugin import MIAOD, MIAODDetector, ObjectDetector, Supervised
from miaod_plugin.data import make_digit_scenes
from miaod_plugin.detectors.network import DetectionNetwork
from miaod_plugin.detectors.retinanet import retinanet_tiny
from miaod_plugin.errors import TrainingError
from miaod_plugin.mil.objective import unlabeled_losses
from miaod_plugin.mil.options import miaod_options
from miaod_plugin.registry import DETECTORS, find
from miaod_plugin.training.base import Stage, in_steps
from miaod_plugin.training.batches import TrainingImages, load_batches
from miaod_plugin.training.loop import Settings, train

DATA = make_digit_scenes(10, random_state=1)
SETTINGS = Settings(
    batch_size=2,
    optimizer="sgd",
    learning_rate=0.01,
    momentum=0.9,
    weight_decay=1e-4,
    warmup_steps=0,
    drop_at=1.0,
    max_grad_norm=None,
    augmentation="flip",
    horizontal_flip=0.5,
    num_workers=0,
    on_step=None,
)


def stage_of(kind, steps):
    return Stage(kind, steps, alternates=kind != "label")


def run_round(kind, mode="improved", detector=retinanet_tiny, **options):
    torch.manual_seed(0)
    network = DetectionNetwork(detector(5, **options), adversarial=True, background=mode == "improved")
    before = copy.deepcopy(network.state_dict())
    images = TrainingImages(DATA.X[:4], DATA.y[:4], DATA.X[4:])
    train(MIAOD(mode=mode), network, [stage_of(kind, 4)], images, SETTINGS, seed=0)
    after = network.state_dict()
    return {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}


@pytest.mark.parametrize("mode", ["improved", "faithful"])
def test_each_round_moves_its_own_parts_and_leaves_the_rest_bit_identical(mode):
    assert run_round("label", mode) == {"detector", "classifiers", "mil_head"}
    assert run_round("min", mode) == {"detector", "mil_head"}
    assert run_round("max", mode) == {"classifiers"}


@pytest.mark.parametrize("kind", ["min", "max"])
def test_statistics_of_what_does_not_train_in_a_round_stand_still_too(kind):
    name = "ssdlite320_mobilenet_v3_large"  # its classifiers have BatchNorm
    moved = run_round(kind, detector=find(DETECTORS, name), **TINY_OPTIONS[name])
    assert moved == ({"detector", "mil_head"} if kind == "min" else {"classifiers"})


@pytest.mark.parametrize(("mode", "fresh"), [("improved", False), ("faithful", True)])
def test_every_round_begins_with_a_fresh_optimiser_unless_it_is_kept(mode, fresh):
    assert {stage.fresh_optimizer for stage in MIAOD(mode=mode).plan(8, 8, 2, None)} == {fresh}
    kept = MIAOD(mode=mode, options={"keep_optimizer": fresh}).plan(8, 8, 2, None)
    assert {stage.fresh_optimizer for stage in kept} == {not fresh}


def test_the_adversarial_losses_drive_the_classifiers_apart_and_together():
    torch.manual_seed(0)
    network = DetectionNetwork(retinanet_tiny(5), adversarial=True, background=True).eval()
    trainable = list(network.parameters())
    images, options = [torch.from_numpy(x).permute(2, 0, 1) / 255 for x in DATA.X[4:]], miaod_options()

    def disagreement():
        with torch.no_grad():
            return unlabeled_losses([network(images)], "min", options)["discrepancy"].item()

    def descend(kind, name):
        MIAOD().begin(network, stage_of(kind, 20), trainable)
        network.eval()  # BatchNorm would make states before and after incomparable
        optimizer = torch.optim.SGD(trainable, 2.0 * len(images))
        for _ in range(20):
            optimizer.zero_grad()
            unlabeled_losses([network(images)], kind, options)[name].backward()
            optimizer.step()
        return disagreement()

    start = disagreement()
    apart = descend("max", "agreement")
    together = descend("min", "discrepancy")
    assert apart > 1.5 * start and together < apart


@torch.no_grad()
def test_unlabelled_images_of_every_size_take_part_in_the_losses():
    torch.manual_seed(0)
    network = DetectionNetwork(retinanet_tiny(5), adversarial=True, background=True).eval()
    images, stage = [torch.rand(3, 64, 64), torch.rand(3, 64, 128)], stage_of("min", 1)
    both, first, second = (
        MIAOD().losses(network, some, None, stage)["discrepancy"].item() for some in (images, images[:1], images[1:])
    )
    assert both == pytest.approx((first + second) / 2) and first != pytest.approx(second, rel=1e-3)


def test_the_paper_s_schedule_takes_26_labelled_and_8_unlabelled_passes():
    events = []
    detector = MIAODDetector("retinanet_tiny", classes=DATA.classes, on_step=events.append, random_state=0)
    detector.fit(DATA.X[:2], DATA.y[:2], unlabeled=DATA.X[2:])  # a pass is one batch of two
    assert [kind for kind, _ in groupby(event["round"] for event in events)] == [*("label", "min", "max") * 2, "label"]
    unlabelled = [bool({"discrepancy", "agreement"} & event["losses"].keys()) for event in events]
    assert (unlabelled.count(False), unlabelled.count(True)) == (26, 8)
    per_pass = 414  # batches of two
    assert detector.total_steps(827, 827) == (26 + 8) * per_pass
    assert ObjectDetector(training=Supervised(epochs=26)).total_steps(827) == 26 * per_pass


@pytest.mark.parametrize("max_steps", [1, 7, 100, 333])
def test_max_steps_squeezes_the_schedule_to_exactly_that_many(max_steps):
    schedule = [stage_of(kind, passes) for kind, passes in (("label", 3), ("min", 1), ("max", 1), ("label", 3))]
    rounds = in_steps(schedule, 10, 4, max_steps)
    assert sum(stage.steps for stage in rounds) == max_steps
    assert all(stage.steps > 0 for stage in rounds)


def batches_of(n_labelled, n_unlabelled, kind, steps, batch_size=3, seed=(0,)):
    """Return the indices of the images in each batch of a round; every pixel of an image is its index."""
    numbered = np.arange(n_labelled + n_unlabelled, dtype=np.uint8)[:, None, None, None] * np.ones(
        (1, 4, 4, 3), np.uint8
    )
    images = TrainingImages(numbered[:n_labelled], [DATA.y[0]] * n_labelled, numbered[n_labelled:])
    batches = load_batches(images, [stage_of(kind, steps)], 0, replace(SETTINGS, batch_size=batch_size), seed)
    return [[int(image[0, 0, 0]) for image in batch] for batch, _ in batches]


def test_every_image_is_seen_equally_often_and_never_twice_in_a_batch():
    batches = batches_of(7, 0, "label", 14)
    assert all(len(set(batch)) == 3 for batch in batches)
    assert np.bincount(np.concatenate(batches), minlength=7).tolist() == [6] * 7


def test_every_pass_is_shuffled_anew_and_by_the_seed():
    labelled, unlabelled = batches_of(6, 6, "min", 12)[::2], batches_of(6, 6, "min", 12)[1::2]
    for batches in (labelled, unlabelled):
        passes = [batches[k] + batches[k + 1] for k in (0, 2, 4)]
        assert len({tuple(order) for order in [*passes, sorted(passes[0])]}) == 4
    assert batches_of(6, 6, "min", 12, seed=(1,))[::2] != labelled


def test_the_seed_of_a_training_decides_which_images_a_step_sees():
    images, weights = TrainingImages(DATA.X[:4], DATA.y[:4], DATA.X[:0]), []
    for seed in (0, 0, 1):
        torch.manual_seed(0)
        network = DetectionNetwork(retinanet_tiny(5))
        train(Supervised(), network, [stage_of("label", 2)], images, replace(SETTINGS, horizontal_flip=0.0), seed)
        weights.append(torch.cat([tensor.flatten() for tensor in network.parameters()]))
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


def test_adversarial_rounds_alternate_labelled_and_unlabelled_batches():
    batches = batches_of(5, 4, "min", 6)
    assert [max(batch) < 5 for batch in batches] == [True, False] * 3
    assert all(min(batch) >= 5 for batch in batches[1::2])


def test_a_set_smaller_than_a_batch_gives_smaller_batches():
    assert [sorted(batch) for batch in batches_of(2, 1, "max", 4)] == [[0, 1], [2], [0, 1], [2]]


def test_a_loss_that_is_not_finite_names_the_step_and_the_mend():
    detector = ObjectDetector("retinanet_tiny", classes=DATA.classes, max_steps=60, learning_rate=1e4, random_state=0)
    with pytest.raises(TrainingError, match=r"not finite at step \d+ of 60 .*learning_rate"):
        detector.fit(DATA.X, DATA.y)


def test_difficult_objects_and_crowds_are_not_learned():
    y = DATA.y.copy()
    keep = next(k for k, target in enumerate(y) if len(target["labels"]) > 1)
    flags = np.zeros(len(y[keep]["labels"]), dtype=bool)
    flags[0] = True
    for flag in ("difficult", "iscrowd"):
        _, target = TrainingImages(DATA.X, [{**y[keep], flag: flags}], DATA.X[:0])[0]
        assert len(target["labels"]) == len(flags) - 1
