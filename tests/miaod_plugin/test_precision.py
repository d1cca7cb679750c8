"""Half precision, where it pays: what decides stays in float32, and results are those of float32 but for rounding."""

import numpy as np
import pytest
import torch
from tiny_detectors import TINY_OPTIONS, show_everything

from miaod_plugin import MIAODDetector, ObjectDetector
from miaod_plugin.data import make_digit_scenes
from miaod_plugin.detectors.network import DetectionNetwork
from miaod_plugin.detectors.precision import computing_in, set_precision
from miaod_plugin.errors import ConfigError
from miaod_plugin.registry import DETECTORS, find, registered
from miaod_plugin.strategies import MIAODSampling

DATA = make_digit_scenes(8, random_state=4)
IMAGES = [torch.from_numpy(image).permute(2, 0, 1).float() / 255 for image in DATA.X[:2]]
TARGETS = [{name: torch.from_numpy(value) for name, value in target.items()} for target in DATA.y[:2]]


def network_of(name):
    torch.default_generator.manual_seed(0)
    return DetectionNetwork(find(DETECTORS, name)(5, **TINY_OPTIONS[name]), adversarial=True, background=True)


def estimator(precision, **parameters):
    defaults = {"max_steps": 8, "batch_size": 2, "device": "cpu", "random_state": 0}
    return MIAODDetector("retinanet_tiny", DATA.classes, precision=precision, **defaults | parameters)


@pytest.mark.parametrize("name", registered(DETECTORS))
def test_what_decides_is_float32_and_close_to_what_float32_gives(name):
    network = network_of(name).eval()
    seen = {}
    for precision in ("float32", "bf16"):
        set_precision(network, precision)
        with torch.inference_mode():
            outputs = network(IMAGES)
            heads = [torch.cat(levels, dim=1) for levels in (*outputs.heads, outputs.mil_logits)]
        seen[precision] = [*heads, outputs.boxes, outputs.embeddings], outputs.features.anchors
    (exact, anchors), (rounded, same) = seen["float32"], seen["bf16"]
    assert all(x.dtype == torch.float32 for x in (*rounded, same))
    assert not all(torch.equal(x, y) for x, y in zip(rounded, exact, strict=True)), "nothing was computed in bfloat16"
    finer = [(x.bfloat16().float() != x).float().mean() > 0.5 for x in rounded[:3]]
    assert all(finer), "logits are no finer than bfloat16"
    if network.detector.background and "rcnn" in name:
        return  # proposals are others
    assert torch.equal(same, anchors)
    for x, y in zip(rounded, exact, strict=True):
        assert (x - y).square().mean() <= 0.02**2 * y.square().mean()


@pytest.mark.parametrize("name", registered(DETECTORS))
def test_gradients_reach_float32_parameters(name):
    network = network_of(name).train()
    set_precision(network, "bf16")
    outputs = network(IMAGES, TARGETS)
    losses = outputs.loss
    assert all(loss.dtype == torch.float32 and loss.isfinite() for loss in losses.values())
    sum(losses.values()).backward()
    trained = [parameter for parameter in network.detector.parameters() if parameter.grad is not None]
    assert trained and all(parameter.grad.dtype == torch.float32 for parameter in trained)


def test_losses_and_utilities_are_near_those_of_float32():
    losses, utilities = {}, {}
    for precision in ("float32", "bf16"):
        losses[precision] = []
        detector = estimator(precision, on_step=lambda event, told=losses[precision]: told.append(event["losses"]))
        detector.fit(DATA.X[:4], DATA.y[:4], unlabeled=DATA.X[4:])
        utilities[precision] = MIAODSampling().utilities(detector, DATA.X)
    assert losses["bf16"] != losses["float32"]
    for step, exact in zip(losses["bf16"], losses["float32"], strict=True):
        assert step == pytest.approx(exact, rel=0.03, abs=1e-3)
    np.testing.assert_allclose(utilities["bf16"], utilities["float32"], rtol=0.1)


def test_a_training_in_bf16_goes_on_to_the_same_bits_and_finds_the_same_when_it_is_loaded(tmp_path):
    def fit(**parameters):
        return estimator("bf16", **parameters).fit(DATA.X[:4], DATA.y[:4], unlabeled=DATA.X[4:])

    def stop(event):
        if event["step"] == 5:
            raise KeyboardInterrupt

    half = {"checkpoint": str(tmp_path / "half"), "checkpoint_seconds": 0.0}
    with pytest.raises(KeyboardInterrupt):
        fit(on_step=stop, **half)
    whole, resumed = fit(), fit(**half)
    weights = resumed.network_.state_dict()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in whole.network_.state_dict().items())

    whole.save(tmp_path / "model.safetensors")
    loaded = ObjectDetector.load(tmp_path / "model.safetensors", device="cpu")
    assert loaded.precision == "bf16"
    for found, again in zip(*(show_everything(one).predict(DATA.X[:2]) for one in (whole, loaded)), strict=True):
        assert len(found["scores"]) and all(np.array_equal(found[key], again[key]) for key in found)


def test_a_detector_without_a_part_for_it_is_refused():
    detector = ObjectDetector("torchvision:fcos_resnet50_fpn", DATA.classes, precision="bf16", max_steps=1)
    detector.set_params(detector_options={"weights": None})
    with pytest.raises(ConfigError, match=r"precision: no part of this detector computes in bf16; leave it out"):
        detector.fit(DATA.X[:2], DATA.y[:2])


def settings():
    return torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.conv.fp32_precision


def test_tf32_is_set_while_fit_and_passes_go_on_alone():
    before, seen = settings(), []
    detector = estimator("tf32", on_step=lambda event: seen.append(settings()))
    detector.fit(DATA.X[:4], DATA.y[:4])
    for indices, _ in detector.map_batches(
        DATA.X, {"set": lambda outputs: [seen.append(settings())] * len(outputs.heads[0][0])}
    ):
        assert len(indices) and settings() == before  # between batches all is as elsewhere
    assert set(seen) == {("tf32", "tf32")} and settings() == before and before != ("tf32", "tf32")

    def stop(event):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        detector.set_params(on_step=stop).fit(DATA.X[:4], DATA.y[:4])
    assert settings() == before


@pytest.mark.parametrize("precision", ["highest", "high"])
def test_what_torch_was_set_to_is_so_again_after_tf32(precision):
    torch.set_float32_matmul_precision(precision)
    try:
        before = settings()
        with computing_in("tf32"):
            assert settings() == ("tf32", "tf32")
        assert settings() == before and torch.get_float32_matmul_precision() == precision
    finally:
        torch.set_float32_matmul_precision("highest")


def test_tf32_on_a_cpu_is_float32():
    found = [estimator(precision).fit(DATA.X[:4], DATA.y[:4]).losses_ for precision in ("float32", "tf32")]
    assert found[0] == found[1]
    detector = ObjectDetector(
        "torchvision:fcos_resnet50_fpn", DATA.classes, precision="tf32", max_steps=1, device="cpu"
    )
    detector.set_params(detector_options={"weights": None, "min_size": 64, "max_size": 64})
    detector.fit(DATA.X[:2], DATA.y[:2])  # needs no part for it
