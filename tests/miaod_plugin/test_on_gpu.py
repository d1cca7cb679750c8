"""What only a GPU can show: `make test-gpu`. `MIAOD_GPU_TESTS_ON=cpu` tries the tests themselves without one."""

import os

import numpy as np
import pytest
import torch
from tiny_detectors import TINY_OPTIONS, show_everything

from miaod_plugin import MIAODDetector, ObjectDetector
from miaod_plugin.baselines.k_center import k_center_greedy
from miaod_plugin.data import make_digit_scenes
from miaod_plugin.registry import DETECTORS, STRATEGIES, find, registered

pytestmark = pytest.mark.gpu
DEVICE = os.environ.get("MIAOD_GPU_TESTS_ON", "cuda")
DATA = make_digit_scenes(12, random_state=3)
CLASSES = {"supervised": ObjectDetector, "miaod": MIAODDetector}
EVERY = [(name, training) for name in registered(DETECTORS) for training in CLASSES]


@pytest.fixture(autouse=True)
def gpu():
    """Compute in float32, as the CPU does: by default cuDNN rounds to TF32."""
    if DEVICE == "cuda" and not torch.cuda.is_available():
        pytest.skip("there is no GPU")
    allowed = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = allowed


def estimator(name, training, device, **parameters):
    defaults = {"max_steps": 14, "batch_size": 2, "score_batch_size": 4, "learning_rate": 1e-4, "random_state": 0}
    options = TINY_OPTIONS[name]
    return CLASSES[training](name, DATA.classes, detector_options=options, device=device, **defaults | parameters)


def fit(detector):
    """Fit a detector and return the losses of every step."""
    losses = []
    detector.set_params(on_step=lambda event: losses.append(event["losses"]))
    detector.fit(DATA.X[:6], DATA.y[:6], unlabeled=DATA.X[6:])
    return losses


@pytest.mark.parametrize(("name", "training"), EVERY)
def test_training_takes_the_steps_of_the_cpu(name, training):
    expected = fit(estimator(name, training, "cpu"))
    detector = estimator(name, training, DEVICE)
    losses = fit(detector)
    assert {parameter.device.type for parameter in detector.network_.parameters()} == {DEVICE}
    assert len(losses) == len(expected) == 14
    for step, expected_step in zip(losses, expected, strict=True):
        assert step == pytest.approx(expected_step, rel=1e-2, abs=1e-4)


@pytest.mark.parametrize(("name", "training"), EVERY)
def test_what_a_model_finds_and_every_utility_are_those_of_the_cpu(name, training, tmp_path):
    path = tmp_path / "model.safetensors"
    detector = estimator(name, training, DEVICE, max_steps=2)
    fit(detector)
    with torch.no_grad():  # scores that differ: NMS takes equal ones in the order of the device
        for parameter in detector.network_.classifiers.parameters():
            parameter.add_(
                torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)).to(DEVICE), alpha=0.1
            )
    detector.save(path)
    seen = []
    for device in (DEVICE, "cpu"):
        loaded = show_everything(ObjectDetector.load(path, device=device))
        strategies = [find(STRATEGIES, strategy)(random_state=0) for strategy in registered(STRATEGIES)]
        strategies = [one for one in strategies if one.n_detectors == 1 and one.reads(type(loaded.training_))]
        utilities = {
            type(one).__name__: one.utilities(loaded, DATA.X[6:], labeled=(DATA.X[:6], DATA.y[:6]))
            for one in strategies
        }
        scores = np.concatenate([found["scores"] for found in loaded.predict(DATA.X)])
        seen.append({**utilities, "scores": scores, "embeddings": loaded.transform(DATA.X)})
    for what, value in seen[0].items():
        np.testing.assert_allclose(value, seen[1][what], rtol=1e-2, atol=1e-4, err_msg=what)


@pytest.mark.parametrize("training", CLASSES)
def test_a_training_that_was_cut_off_goes_on_to_nearly_the_same_weights(training, tmp_path):
    whole = estimator("retinanet_tiny", training, DEVICE)
    whole.fit(DATA.X[:6], DATA.y[:6], unlabeled=DATA.X[6:])

    def stop(event):
        if event["step"] == 8:
            raise KeyboardInterrupt

    checkpoint = {"checkpoint": str(tmp_path / "half"), "checkpoint_seconds": 0}
    half = estimator("retinanet_tiny", training, DEVICE, on_step=stop, **checkpoint)
    with pytest.raises(KeyboardInterrupt):
        half.fit(DATA.X[:6], DATA.y[:6], unlabeled=DATA.X[6:])
    resumed = estimator("retinanet_tiny", training, DEVICE, **checkpoint)
    resumed.fit(DATA.X[:6], DATA.y[:6], unlabeled=DATA.X[6:])
    expected = whole.network_.state_dict()
    for key, tensor in resumed.network_.state_dict().items():
        torch.testing.assert_close(tensor, expected[key], rtol=1e-3, atol=1e-5, msg=key)


def test_the_random_numbers_of_the_gpu_stay_as_they_were():
    state = torch.cuda.get_rng_state if DEVICE == "cuda" else torch.get_rng_state
    before = state()
    fit(estimator("ssdlite320_mobilenet_v3_large", "miaod", DEVICE, max_steps=4))
    assert torch.equal(before, state())


def test_the_same_core_set_is_chosen_as_on_the_cpu():
    rng = np.random.default_rng(0)
    pool, labeled = (rng.standard_normal((rows, 64), dtype=np.float32) for rows in (5000, 50))
    np.testing.assert_array_equal(
        k_center_greedy(pool, labeled, 500, DEVICE)[0], k_center_greedy(pool, labeled, 500)[0]
    )
