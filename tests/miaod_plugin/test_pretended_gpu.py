"""Every detector on a GPU, without one: nothing mixes devices, and the numbers are the CPU's."""

import copy
from collections import defaultdict

import numpy as np
import pytest
import torch
from pretended_gpu import GPU, OnGPU, PretendedGPU
from tiny_detectors import ONE_OF_EACH_FAMILY, TINY_OPTIONS, show_everything

from miaod_plugin import MIAOD, MeanTeacher, MIAODDetector, ObjectDetector, Supervised
from miaod_plugin.baselines.k_center import k_center_greedy
from miaod_plugin.data import make_digit_scenes
from miaod_plugin.metrics import coco_average_precision, voc_average_precision
from miaod_plugin.mil.adapting import adapted_to
from miaod_plugin.mil.heatmaps import miaod_maps
from miaod_plugin.registry import DETECTORS, STRATEGIES, find, registered
from miaod_plugin.training.average import with_average
from miaod_plugin.training.base import Stage
from miaod_plugin.training.batches import TrainingImages
from miaod_plugin.training.loop import Settings, train

DATA = make_digit_scenes(8, random_state=3)
NAMES = registered(DETECTORS)
ADVERSARIAL = [Stage(kind, 2, alternates=True) for kind in ("min", "max")]
STAGES = {
    "supervised": [Stage("label", 2)],
    "miaod": [Stage("label", 2), *ADVERSARIAL],
    "mean_teacher": [Stage("label", 2), Stage("teach", 2, mixes=True)],
}
MIAOD_ON_ALL = [*(("miaod", name) for name in NAMES), *(("supervised", name) for name in ONE_OF_EACH_FAMILY)]
TAUGHT = [("mean_teacher", name) for name in ONE_OF_EACH_FAMILY]
TRAININGS = {"supervised": Supervised, "miaod": MIAOD, "mean_teacher": MeanTeacher}
CLASSES = {"miaod": MIAODDetector, "supervised": ObjectDetector}


@pytest.fixture
def gpu():
    with PretendedGPU() as gpu:
        yield gpu


def fitted(name, cls):
    """Return a detector trained for a step on the CPU."""
    estimator = cls(
        name,
        DATA.classes,
        detector_options=TINY_OPTIONS[name],
        max_steps=1,
        score_batch_size=4,
        device="cpu",
        random_state=0,
    )
    return estimator.fit(DATA.X[:4], DATA.y[:4])


def apart(estimator):
    """Change the classifiers so that few scores are equal, or the hundred best would not be the same on each device."""
    torch.default_generator.manual_seed(0)
    with torch.no_grad():
        for parameter in estimator.network_.classifiers.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return estimator


def in_order(found):
    """Return detections with those of equal scores in an order of their own; torchvision's follows the device."""
    keys = [np.lexsort((*one["boxes"].T, one["labels"], -one["scores"])) for one in found]
    return [{name: value[key] for name, value in one.items()} for one, key in zip(found, keys, strict=True)]


def train_two_at_a_time(network, training, stages, on_step):
    settings = Settings(2, "sgd", 1e-3, 0.9, 1e-4, 0, 0.9, 1.0, "flip", 0.5, 0, on_step)
    images = TrainingImages(DATA.X[:4], DATA.y[:4], DATA.X[4:])
    return train(training, network, stages, images, settings, 0)


def counting(training, gpu, waits):
    """Return a training that notes in `waits`, by the kind of batch, how often each step waits for the GPU."""

    class Counting(training):
        def losses(self, network, images, targets, stage):
            self.kind = "an unlabelled" if targets is None else "a labelled"
            return super().losses(network, images, targets, stage)

        def after_step(self, network):
            waits[self.kind].append(gpu.count())

    return Counting()


@pytest.mark.parametrize(("training", "name"), MIAOD_ON_ALL + TAUGHT)
def test_every_training_takes_the_cpu_s_steps_on_a_gpu(name, training, gpu, capsys):
    torch.default_generator.manual_seed(0)
    on_cpu = TRAININGS[training]().build(find(DETECTORS, name)(5, **TINY_OPTIONS[name]))
    on_cpu = with_average(on_cpu) if TRAININGS[training]().average else on_cpu
    start = copy.deepcopy(on_cpu)
    expected, losses, waits = [], [], defaultdict(list)
    stages = STAGES[training]
    train_two_at_a_time(on_cpu, TRAININGS[training](), stages, lambda event: expected.append(event["losses"]))
    network = start.to(GPU)
    assert all(parameter.device == GPU for parameter in network.parameters())
    gpu.count()

    counted = counting(TRAININGS[training], gpu, waits)
    train_two_at_a_time(network, counted, stages, lambda event: losses.append(event["losses"]))
    for step, expected_step in zip(losses, expected, strict=True):
        assert step == pytest.approx(expected_step, rel=1e-4, abs=1e-6)
    weights = on_cpu.state_dict()
    for key, tensor in network.cpu().state_dict().items():
        assert type(tensor) is torch.Tensor and torch.isclose(tensor, weights[key], rtol=1e-3, atol=1e-5).all(), key
    # for positives, in the last step for losses, and for the clipping of gradients, where the pretence shows;
    # Faster R-CNN needs no list of positives, but which proposals are suppressed and how many each map has
    assert max(waits["a labelled"]) <= (4 if name.startswith("fasterrcnn") else 3)
    with capsys.disabled():
        shown = " and ".join(f"{max(count)} times in {kind} step" for kind, count in sorted(waits.items()))
        print(f"\n  {name}, {training}: the host waits {shown} of two images", end="")


@pytest.mark.parametrize(("training", "name"), MIAOD_ON_ALL)
def test_scoring_and_metrics_are_the_cpu_s_on_a_gpu(name, training, gpu, capsys):
    cls = CLASSES[training]
    estimator = apart(show_everything(fitted(name, cls)))
    strategies = [find(STRATEGIES, strategy)(random_state=0) for strategy in registered(STRATEGIES)]
    strategies = [one for one in strategies if one.n_detectors == 1 and one.reads(type(estimator.training_))]
    for strategy in strategies:
        if "adapt" in strategy.get_params():
            strategy.set_params(adapt=False)

    def everything():
        found = in_order(estimator.predict(DATA.X))
        scores = {
            "embeddings": estimator.transform(DATA.X),
            "voc": voc_average_precision(found, DATA.y, 5)["map"],
            "coco": coco_average_precision(found, DATA.y, 5)["ap"],
            **{type(one).__name__: one.query(estimator, DATA.X[4:], 3)[1] for one in strategies},
        }
        if cls is MIAODDetector:
            reducers = {"maps": lambda outputs: miaod_maps(outputs, estimator.training_.options_)}
            maps = estimator.map_pool(DATA.X[:2], reducers)
            scores |= {kind: np.stack([image[kind] for image in maps["maps"]]) for kind in maps["maps"][0]}
        return scores

    on_cpu = everything()
    estimator.network_.to(GPU)
    gpu.count()
    estimator.predict(DATA.X[:4])
    waits = gpu.count()
    for what, value in everything().items():
        np.testing.assert_allclose(value, on_cpu[what], rtol=1e-3, atol=1e-5, err_msg=what)
    with capsys.disabled():
        print(f"\n  {name}, {cls.__name__}: the host waits {waits} times for the detections of 4 images", end="")


def test_adapting_to_a_pool_stays_on_the_gpu(gpu):
    estimator = fitted("retinanet_tiny", MIAODDetector).set_params(max_steps=14)
    expected = adapted_to(estimator, DATA.X[4:]).losses_
    estimator.network_.to(GPU)
    adapted = adapted_to(estimator, DATA.X[4:])
    assert all(parameter.device == GPU for parameter in adapted.network_.parameters())
    assert adapted.losses_ == pytest.approx(expected, rel=1e-3)


def test_a_model_saved_from_a_gpu_is_the_one_saved_from_the_cpu(gpu, tmp_path):
    estimator = fitted("retinanet_tiny", MIAODDetector)
    estimator.save(tmp_path / "cpu.safetensors")
    estimator.network_.to(GPU)
    estimator.save(tmp_path / "gpu.safetensors")
    assert (tmp_path / "gpu.safetensors").read_bytes() == (tmp_path / "cpu.safetensors").read_bytes()


def test_the_pretended_gpu_refuses_to_mix_and_counts_what_a_gpu_would_wait_for(gpu):
    x = torch.arange(6.0).to("cuda:0")
    assert isinstance(x, OnGPU) and x.device == GPU and x.is_cuda and torch.zeros(2, device="cuda").device == GPU
    with pytest.raises(RuntimeError, match="same device"):
        x + torch.arange(6.0)
    with pytest.raises(RuntimeError, match="same device"):
        torch.cat([x, torch.zeros(1)])
    assert (2 * x + torch.tensor(1.0)).device == GPU and type(x.cpu()) is torch.Tensor
    gpu.count()
    for wait in (
        lambda: x.sum().item(),
        lambda: bool(x.any()),
        lambda: x[x > 2],
        lambda: x.nonzero(),
        lambda: x.to("cpu"),
        lambda: x.tolist(),
        lambda: torch.tensor([1.0, 2.0], device=x.device),
    ):
        wait()
        assert gpu.count() == 1
    x[x > 2] = 0.0
    assert x.topk(2).values.shape == (2,) and gpu.count() == 0


class FullGPU(PretendedGPU):
    """One that has room for some tensors of a thousand numbers, and for no larger one."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is torch.Tensor.to and args[1] == "cuda:0" and args[0].numel() > 1000:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().__torch_function__(func, types, args, kwargs)


@pytest.mark.parametrize(("kind", "waits"), [(PretendedGPU, 20), (FullGPU, 0)])
def test_a_core_set_is_chosen_on_a_gpu_if_the_embeddings_fit_there(kind, waits):
    pool = np.random.default_rng(0).normal(size=(300, 8)).astype(np.float32)
    expected = k_center_greedy(pool, pool[:2], 20)
    with kind() as gpu:
        found = k_center_greedy(pool, pool[:2], 20, device="cuda:0")
    np.testing.assert_array_equal(found, expected)
    assert gpu.waits.get("__int__", 0) >= waits and bool(gpu.waits) == bool(waits)
