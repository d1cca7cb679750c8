"""What is drawn here leaves what others draw alone: torch's global state, that of GPUs included, and numpy's."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from miaod_plugin import MIAODDetector, ObjectDetector
from miaod_plugin.data import make_digit_scenes
from miaod_plugin.errors import ConfigError
from miaod_plugin.randomness import seed_of, seed_torch, seeded, unchanged_random_state
from miaod_plugin.strategies import MIAODSampling

DATA = make_digit_scenes(10, random_state=5)


def gpu_state():
    """Return the state of every GPU's random numbers, or what will seed them once CUDA starts."""
    if torch.cuda.is_initialized():
        return [state.tolist() for state in torch.cuda.get_rng_state_all()]
    return list(torch.cuda._lazy_seed_tracker.get_calls())


@pytest.fixture
def states():
    torch.manual_seed(9)
    np.random.seed(9)  # noqa: NPY002 (the global state is what is tested)
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), gpu_state()  # noqa: NPY002
    yield
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002
    assert gpu_state() == before[2]


@pytest.mark.parametrize("augmentation", ["flip", "ssd"])
def test_training_and_scoring_leave_global_random_states_alone(states, augmentation):
    detector = MIAODDetector("retinanet_tiny", max_steps=8, augmentation=augmentation, random_state=0)
    detector.fit(DATA.X[:4], DATA.y[:4], unlabeled=DATA.X[4:]).predict(DATA.X[:2])
    MIAODSampling().query(detector, DATA.X[4:])


def test_saving_and_loading_leave_global_random_states_alone(states, tmp_path):
    detector = ObjectDetector("retinanet_tiny", max_steps=1, random_state=0).fit(DATA.X[:2], DATA.y[:2])
    detector.save(tmp_path / "model.safetensors")
    ObjectDetector.load(tmp_path / "model.safetensors")


def test_a_seed_draws_what_torch_s_own_draws():
    with unchanged_random_state():
        torch.manual_seed(5)
        expected = torch.randn(3)
    with seeded(5):
        assert torch.equal(torch.randn(3), expected)
        seed_torch(6)
        assert not torch.equal(torch.randn(3), expected)


def test_the_state_is_restored_when_something_fails(states):
    with pytest.raises(RuntimeError, match="inside"), seeded(0):
        torch.rand(1)
        raise RuntimeError("inside")


@pytest.mark.parametrize("random_state", [-1, 1.5, True, "0", 2**32, 10**400, [1]])
def test_a_seed_that_is_none_is_one_short_line(random_state):
    with pytest.raises(ConfigError, match=r"random_state: .* is not allowed") as caught:
        seed_of(random_state)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 250


def test_seeds_are_numbers_generators_or_fresh():
    assert seed_of(np.int64(7)) == seed_of(7) == 7 and type(seed_of(np.int64(7))) is int
    for kind in (np.random.default_rng, np.random.RandomState):
        assert seed_of(kind(3)) == seed_of(kind(3))
    assert seed_of(None) != seed_of(None)


def test_a_seed_needs_no_torch():
    code = "import sys, miaod_plugin.randomness; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
