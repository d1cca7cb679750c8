"""What a pass over images costs: nothing is computed that no reducer reads, and a pool is passed over once a query."""

from collections import Counter
from contextlib import ExitStack, contextmanager

import pytest
import torch
from tiny_detectors import ONE_OF_EACH_FAMILY, TINY_OPTIONS

from miaod_plugin import Committee, DetectionLearner, MIAODDetector
from miaod_plugin.data import make_digit_scenes, read_image
from miaod_plugin.registry import STRATEGIES, find, registered

DATA = make_digit_scenes(12, random_state=4)
START, POOL = DATA.X[:4], DATA.X[4:]


def new(name="retinanet_tiny", **options):
    options |= {"detector_options": TINY_OPTIONS[name], "max_steps": 2, "score_batch_size": 3, "random_state": 0}
    return MIAODDetector(name, DATA.classes, **options)


@contextmanager
def calls_of(estimator):
    """Count the calls of the network's parts, and the images that pass through it."""
    network, calls = estimator.network_, Counter()
    parts = {f"classifier {k}": classifier for k, classifier in enumerate(network.classifiers)}
    parts |= {"MIL head": network.mil_head}
    hooks = [part.register_forward_hook(lambda *_, name=name: calls.update([name])) for name, part in parts.items()]
    hooks.append(network.register_forward_pre_hook(lambda _, inputs: calls.update(images=len(inputs[0]))))
    box_outputs, detections = network.detector.box_outputs, network.detector.detections
    network.detector.box_outputs = lambda *args: calls.update(["boxes"]) or box_outputs(*args)
    network.detector.detections = lambda *args: calls.update(["detections"]) or detections(*args)
    yield calls
    del network.detector.box_outputs, network.detector.detections
    for hook in hooks:
        hook.remove()


@pytest.mark.parametrize("name", ONE_OF_EACH_FAMILY)
def test_a_pass_computes_what_is_read(name):
    estimator = new(name).fit(START, DATA.y[:4])
    with calls_of(estimator) as calls:
        estimator.transform(POOL)
    assert calls == {"images": 8}
    with calls_of(estimator) as calls:
        estimator.map_pool(POOL[:3], {"uncertain": lambda outputs: outputs.heads[1][0].mean(dim=(1, 2))})
    assert calls == {"images": 3, "classifier 0": 1, "classifier 1": 1}
    everything = {
        "found": lambda outputs: outputs.detections,
        "bags": lambda outputs: outputs.mil_logits[0].mean(dim=(1, 2)),
        "again": lambda outputs: outputs.heads[0][0].sum(dim=(1, 2)) + outputs.boxes.sum(dim=(1, 2)),
    }
    with calls_of(estimator) as calls:
        estimator.map_pool(POOL[:3], everything)
    parts = ("classifier 0", "classifier 1", "MIL head", "boxes", "detections")
    assert calls == {"images": 3, **dict.fromkeys(parts, 1)}


def test_outputs_that_are_read_after_the_pass_are_as_in_it():
    network = new().fit(START, DATA.y[:4]).network_
    images = [read_image(x).float() / 255 for x in START]
    for mode in (torch.inference_mode, torch.no_grad):
        with mode():
            during, after = network(images), network(images)
            expected = *during.heads[1], during.boxes
        for late, early in zip((*after.heads[1], after.boxes), expected, strict=True):
            assert torch.equal(late, early) and late.is_inference() == early.is_inference() and not late.requires_grad


def test_detections_of_the_first_classifier_do_without_the_second():
    estimator = new(options={"detect_with": "first"}).fit(START, DATA.y[:4])
    with calls_of(estimator) as calls:
        estimator.predict(POOL[:3])
    assert calls == {"images": 3, "classifier 0": 1, "boxes": 1, "detections": 1}


# Images that a query for three of the pool passes through the network, and batches that are made detections of.
COSTS = {
    "miaod": (len(POOL), 0),
    "random": (0, 0),
    "entropy": (len(POOL), 3),
    "coreset": (len(POOL) + len(START), 0),
    "max_herding": (len(POOL) + len(START), 0),
    "enms": (len(POOL), 3),
    "committee": (3 * len(POOL), 3 * 3),  # members
    "misses": (len(START) + len(POOL), 2 + 3),
    "cald": (5 * len(POOL), 5 * 3),  # views
    "cost_aware": (len(POOL), 3),
    "class_balanced": (len(POOL), 3),
    "ppal": (len(START) + 2 * len(POOL), 2 + 2 * 3),  # those kept are seen again, here all
}


@pytest.mark.parametrize("name", registered(STRATEGIES))
def test_a_query_costs_no_more_passes_than_its_strategy_is_said_to_take(name):
    strategy = find(STRATEGIES, name)(random_state=0)
    detectors = [new() for _ in range(strategy.n_detectors)]
    estimator = Committee(detectors) if len(detectors) > 1 else detectors[0]
    learner = DetectionLearner(estimator, strategy, START, DATA.y[:4], unlabeled=POOL)
    with ExitStack() as stack:
        of_each = [stack.enter_context(calls_of(detector)) for detector in detectors]
        learner.query(POOL, n_instances=3)
        calls = sum(of_each, Counter())
    assert (calls["images"], calls["detections"]) == COSTS[name]
