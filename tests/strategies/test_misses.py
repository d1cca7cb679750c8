"""Selection by what is overlooked against independent computations in numpy and scipy."""

import numpy as np
import pytest
import torch
from by_hand import iou, trained
from double_precision import in_double
from scipy.optimize import minimize
from scipy.stats import entropy as shannon_entropy

from miaod_plugin import ObjectDetector
from miaod_plugin.data import make_digit_scenes, make_targets
from miaod_plugin.errors import ConfigError
from miaod_plugin.strategies import MissesSampling
from miaod_plugin.strategies.misses import signs

DATA = make_digit_scenes(36, n_classes=3, random_state=6)
START, POOL = DATA.X[:12], DATA.X[12:]


@pytest.fixture(scope="module")
def detector():
    return in_double(trained(DATA, 12, steps=150))


def signs_by_hand(boxes, detections):
    mass = sum(box[5] for box in boxes if all(iou(box, found) < 0.5 for found in detections))
    unsure = 0.0
    for found in detections:
        around = [box for box in boxes if box[4] == found[4] and iou(box, found) >= 0.5]
        spread = np.average([1 - iou(box, found) for box in around], weights=[box[5] for box in around])
        unsure += shannon_entropy([found[5], 1 - found[5]], base=2) + spread
    return mass, unsure


def random_boxes(rng, count):
    corners, sides = rng.uniform(0, 60, (count, 2)), rng.uniform(10, 40, (count, 2))
    return np.column_stack([corners, corners + sides, rng.integers(0, 2, count), rng.uniform(0.05, 0.95, count)])


@pytest.mark.parametrize(("n_boxes", "n_detections"), [(200, 8), (5, 5), (3, 0), (0, 0)])
def test_signs_are_the_mass_that_nothing_covers_and_how_unsure_detections_are(n_boxes, n_detections):
    boxes = random_boxes(np.random.default_rng(n_boxes), n_boxes)
    detections = boxes[:n_detections]  # as they are chosen from them
    got = signs(torch.from_numpy(boxes), torch.from_numpy(detections)).numpy()
    np.testing.assert_allclose(got, signs_by_hand(boxes, detections), rtol=1e-6)


def test_boxes_without_an_area_overlap_nothing():
    flat = torch.tensor([[3.0, 5, 3, 9, 0, 0.6], [3, 5, 3, 9, 0, 0.9]])
    assert signs(flat, flat[:1]).tolist() == pytest.approx([1.5, shannon_entropy([0.6, 0.4], base=2)])


def missed_by_hand(detector, X, y):
    counts = []
    for found, target in zip(detector.predict(X), y, strict=True):
        sure = [k for k in range(len(found["scores"])) if found["scores"][k] >= 0.3]
        hit = [
            any(found["labels"][k] == label and iou(found["boxes"][k].astype(float), box) >= 0.5 for k in sure)
            for box, label in zip(target["boxes"].astype(float), target["labels"], strict=True)
        ]
        counts.append(hit.count(False))
    return np.array(counts)


def test_utilities_are_a_poisson_regression_s_misses_and_how_unsure_detections_are(detector):
    reducers = {"boxes": lambda out: out.candidate_rows, "rows": lambda out: out.detection_rows}
    learned, asked = (
        np.array([
            signs_by_hand(boxes.astype(float), rows[rows[:, 5] >= 0.3].astype(float))
            for boxes, rows in zip(*detector.map_pool(X, reducers).values(), strict=True)
        ])
        for X in (START, POOL)
    )  # fmt: skip
    missed, x = missed_by_hand(detector, START, DATA.y[:12]), np.log1p(learned[:, 0])
    assert missed.sum() > 2

    def objective(parameters):
        slope, intercept = parameters
        line = slope * x + intercept
        return (np.exp(line) - missed * line).mean() + 0.01 / 2 * slope**2

    slope, intercept = minimize(objective, [0.0, 0.0], method="BFGS", options={"gtol": 1e-10}).x
    expected = np.exp(slope * np.log1p(asked[:, 0]) + intercept)
    got = MissesSampling().utilities(detector, POOL)
    np.testing.assert_allclose(got, expected, rtol=1e-6)
    unsure = MissesSampling(uncertainty=1).utilities(detector, POOL) - got
    np.testing.assert_allclose(unsure, asked[:, 1], rtol=1e-6)


def test_where_nothing_annotated_is_overlooked_nothing_is_expected_to_be(detector):
    empty = {"boxes": np.zeros((0, 4), np.float32), "labels": np.zeros(0, np.int64)}
    for labeled in ((START[:2], make_targets([empty, empty])), (START[:0], make_targets([]))):
        assert (MissesSampling().utilities(detector, POOL, labeled=labeled) == 0).all()


def test_candidates_are_what_detections_are_chosen_from(detector):
    reducers = {"boxes": lambda out: out.candidate_rows, "rows": lambda out: out.detection_rows}
    boxes, rows = detector.map_pool(POOL[:6], reducers).values()
    for before, after in zip(boxes, rows, strict=True):
        assert len(before) >= len(after) > 0
        assert {tuple(row) for row in after.tolist()} <= {tuple(row) for row in before.tolist()}


def test_a_detector_that_hides_its_boxes_is_refused_in_one_line():
    options = {"weights": None, "min_size": 64, "max_size": 64}
    name = "torchvision:fasterrcnn_mobilenet_v3_large_320_fpn"
    hidden = ObjectDetector(name, DATA.classes, detector_options=options, max_steps=1, random_state=0)
    with pytest.raises(ConfigError, match="TorchvisionDetector has no `candidates`"):
        MissesSampling().query(hidden.fit(START[:2], DATA.y[:2]), POOL[:2], 1)
