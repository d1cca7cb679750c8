"""Some images of a batch at a time: the step of the whole batch, as far as losses are sums or means over images."""

import pytest
import torch
from tiny_detectors import TINY_OPTIONS

from miaod_plugin import MIAOD, ObjectDetector, Supervised
from miaod_plugin.data import make_digit_scenes

DATA = make_digit_scenes(8, random_state=3)


def trained(training, **parameters):
    """Return the weights after a training of a few steps of three images, and the losses of each step."""
    told = []
    detector = ObjectDetector(
        "retinanet_mobilenet_v2_fpn",
        DATA.classes,
        detector_options=TINY_OPTIONS["retinanet_mobilenet_v2_fpn"],
        training=training,
        batch_size=3,
        learning_rate=0.01,
        device="cpu",
        random_state=0,
        on_step=lambda event: told.append(event["losses"]),
        **parameters,
    )
    detector.fit(DATA.X[:4], DATA.y[:4], unlabeled=DATA.X[4:])
    return detector.network_.state_dict(), told


@pytest.mark.parametrize(
    "training",
    [Supervised(epochs=2), MIAOD(1, 1, 1, 1, 1, mode="improved"), MIAOD(1, 1, 1, 1, 1, mode="faithful")],
    ids=["supervised", "improved", "faithful"],
)
@pytest.mark.parametrize("at_most", [1, 2])
def test_the_steps_are_those_of_whole_batches(training, at_most):
    weights, losses = trained(training)
    of_parts, losses_of_parts = trained(training, micro_batch_size=at_most)
    assert len(losses) > 3
    for step, whole in zip(losses_of_parts, losses, strict=True):
        assert step == pytest.approx(whole, rel=1e-4, abs=1e-6)
    for name, tensor in of_parts.items():
        torch.testing.assert_close(tensor, weights[name], rtol=1e-4, atol=1e-6)


def test_as_many_images_as_a_batch_has_are_that_batch_to_the_bit():
    weights, losses = trained(Supervised(epochs=1))
    same, again = trained(Supervised(epochs=1), micro_batch_size=3)
    assert losses == again and all(torch.equal(tensor, same[name]) for name, tensor in weights.items())


def test_losses_divided_by_a_batch_s_positives_are_means_over_the_parts():
    """SSD's, whose step is then not that of the whole batch."""
    seen = []

    class Watching(Supervised):
        def losses(self, network, images, targets, stage):
            losses = super().losses(network, images, targets, stage)
            seen.append({name: value.item() for name, value in losses.items()})
            return losses

    told = []
    detector = ObjectDetector(
        "ssdlite320_mobilenet_v3_large",
        DATA.classes,
        detector_options=TINY_OPTIONS["ssdlite320_mobilenet_v3_large"],
        training=Watching(),
        batch_size=3,
        micro_batch_size=2,
        max_steps=1,
        device="cpu",
        random_state=0,
        on_step=lambda event: told.append(event["losses"]),
    )
    detector.fit(DATA.X[:3], DATA.y[:3])
    two, one = seen
    assert told == [pytest.approx({name: two[name] * 2 / 3 + one[name] / 3 for name in two})]


def test_a_training_of_one_s_own_says_which_losses_are_sums():
    class Sums(Supervised):
        def losses(self, network, images, targets, stage):
            return {
                "sum": sum(
                    super(Sums, self).losses(network, [x], [y], stage)["classification"]
                    for x, y in zip(images, targets, strict=True)
                )
            }

        def share(self, loss, n_images, n_batch):
            return 1.0

    whole, at_once = trained(Sums(epochs=1))
    parts, losses = trained(Sums(epochs=1), micro_batch_size=1)
    assert [step["sum"] for step in losses] == pytest.approx([step["sum"] for step in at_once], rel=1e-4)
    for name, tensor in parts.items():
        torch.testing.assert_close(tensor, whole[name], rtol=1e-4, atol=1e-6)
