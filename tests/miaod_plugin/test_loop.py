"""What a training is given in each step, and how the optimiser goes: seen by one that minimises the sum of a layer."""

from dataclasses import replace
from itertools import chain, pairwise
from multiprocessing import active_children

import numpy as np
import pytest
import torch

from miaod_plugin import Training
from miaod_plugin.training.base import Stage
from miaod_plugin.training.batches import TrainingImages
from miaod_plugin.training.checkpoint import Checkpoint
from miaod_plugin.training.loop import Settings, train

SETTINGS = Settings(
    batch_size=2,
    optimizer="sgd",
    learning_rate=0.1,
    momentum=0.0,
    weight_decay=0.0,
    warmup_steps=0,
    drop_at=1.0,
    max_grad_norm=None,
    augmentation="flip",
    horizontal_flip=0.0,
    num_workers=0,
    on_step=None,
)
STAGES = [Stage("label", 6), Stage("label", 6)]


class Watched(Training):
    """The gradient of its loss is 1 for each of the layer's four weights."""

    def __init__(self):
        self.batches, self.drawn, self.weights = [], [], []

    def losses(self, network, images, targets, stage):
        self.batches.append([image.mul(255).round().int() for image in images])
        self.drawn.append(torch.rand(()).item())
        self.weights.append(network.weight.detach().clone())
        return {"sum": network.weight.sum()}


def watch(stages=STAGES, seed=0, n_images=6, checkpoint=None, **settings) -> tuple[Watched, dict]:
    """Train; return what was seen, and the losses. Of image k all is k, but for 255 in its first column."""
    X = np.arange(n_images, dtype=np.uint8)[:, None, None, None] * np.ones((1, 8, 8, 3), np.uint8)
    X[:, :, 0] = 255
    target = {"boxes": np.array([[1.0, 1, 6, 6]], np.float32), "labels": np.array([0])}
    torch.manual_seed(7)
    training = Watched()
    images = TrainingImages(X, [target] * n_images, X[:0])
    layer, settings = torch.nn.Linear(4, 1, bias=False), replace(SETTINGS, **settings)
    return training, train(training, layer, stages, images, settings, seed, checkpoint)


def test_a_step_sees_its_batch_some_images_at_a_time_in_the_same_order():
    whole, at_once = watch(batch_size=5)
    parts, losses = watch(batch_size=5, micro_batch_size=2)
    assert [len(batch) for batch in parts.batches[:6]] == [2, 2, 1, 2, 2, 1] and len(parts.batches) == 36
    for step, batch in enumerate(whole.batches):
        seen = [image for part in parts.batches[3 * step : 3 * step + 3] for image in part]
        assert all(torch.equal(*pair) for pair in zip(seen, batch, strict=True))
    # the layer moves once a step, by the mean over the images
    assert all(torch.allclose(a, b) for a, b in zip(parts.weights[::3], whole.weights, strict=True))
    assert losses == pytest.approx(at_once)


def steps_of(training: Watched) -> list[float]:
    """Return how far each step but the last went, as a multiple of the learning rate."""
    return [(before - after).mean().item() / 0.1 for before, after in pairwise(training.weights)]


def test_random_numbers_of_a_step_follow_from_the_seed_and_its_number_alone():
    first, again, other = (watch(seed=seed)[0].drawn for seed in (0, 0, 1))
    assert first == again and len({*first, *other}) == 24


def test_a_stage_is_shuffled_otherwise_than_the_one_before():
    batches = watch()[0].batches
    first, second = ([int(image[0, 0, 1]) for image in chain(*batches[k : k + 6])] for k in (0, 6))
    assert sorted(first) == sorted(second) and first != second


def test_processes_that_read_images_go_on_from_stage_to_stage_and_end_with_the_training():
    readers = []
    alone, _ = watch()
    training, _ = watch(num_workers=1, on_step=lambda event: readers.append(tuple(active_children())))
    assert len(set(readers)) == 1 and len(readers[0]) == 1
    assert not readers[0][0].is_alive()
    assert all(torch.equal(*pair) for pair in zip(chain(*alone.batches), chain(*training.batches), strict=True))


def test_images_are_mirrored_by_the_seed_and_otherwise_in_every_step():
    def mirrored(seed):
        batches = watch(seed=seed, horizontal_flip=0.5)[0].batches
        return [tuple(bool(image[0, 0, 0] != 255) for image in batch) for batch in batches]

    first, other = mirrored(0), mirrored(1)
    assert first == mirrored(0) != other
    assert len(set(first)) > 2


def test_ssd_changes_an_image_otherwise_in_every_step_and_by_the_seed():
    def shapes(seed):
        return [tuple(batch[0].shape) for batch in watch(seed=seed, n_images=1, augmentation="ssd")[0].batches]

    first = shapes(0)
    assert first == shapes(0) != shapes(1)
    assert first[:6] != first[6:] and len(set(first)) > 4


def test_the_learning_rate_rises_and_drops_to_a_tenth_at_its_share_of_all_steps():
    training, _ = watch([Stage("label", 5), Stage("label", 6)], warmup_steps=3, drop_at=8 / 11)
    assert steps_of(training) == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1, 1, 1, 0.1, 0.1], rel=1e-4)


@pytest.mark.parametrize("fresh, steps", [(False, [0.5, 1.5, 1.75, 1.875]), (True, [0.5, 1.5, 0.5, 1.5])])
def test_a_fresh_optimiser_has_no_momentum_and_warms_up_again(fresh, steps):
    # velocities are 1, 1 + 1/2, 1 + 3/4, ..., and the rate of the first step of a warm-up is half
    stage = Stage("label", 2, fresh_optimizer=fresh)
    training, _ = watch([stage, stage, Stage("label", 1)], momentum=0.5, warmup_steps=1)
    assert steps_of(training) == pytest.approx(steps, rel=1e-4)


def test_a_stage_that_was_cut_off_goes_on_where_its_warm_up_was(tmp_path):
    def stop(event):
        if event["step"] == 4:
            raise InterruptedError

    stages = [Stage("label", 2, fresh_optimizer=True), Stage("label", 4, fresh_optimizer=True)]
    whole, _ = watch(stages, warmup_steps=3)
    with pytest.raises(InterruptedError):
        watch(stages, warmup_steps=3, checkpoint=Checkpoint(tmp_path / "half", 0.0, {}), on_step=stop)
    resumed, _ = watch(stages, warmup_steps=3, checkpoint=Checkpoint(tmp_path / "half", 0.0, {}))
    assert len(resumed.weights) == 2 and all(map(torch.equal, resumed.weights, whole.weights[4:]))


def test_gradients_are_scaled_down_to_their_largest_norm():
    training, _ = watch(max_grad_norm=0.5)  # from (1, 1, 1, 1), whose norm is 2
    assert steps_of(training) == pytest.approx([0.25] * 11, rel=1e-4)


def test_the_losses_are_the_means_over_the_last_stage():
    training, losses = watch()
    assert losses == {"sum": pytest.approx(np.mean([weight.sum() for weight in training.weights[6:]]), rel=1e-5)}
