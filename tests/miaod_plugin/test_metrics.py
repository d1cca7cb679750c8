"""Average precision against reference vectors, against pycocotools, by hand, and on wrong input."""

import json
import time
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from miaod_plugin.errors import MiaodError
from miaod_plugin.metrics import coco_average_precision, voc_average_precision

VECTORS = sorted((Path(__file__).parents[1] / "data" / "average_precision").glob("*.json"))


def target(*boxes, labels=None, **flags):
    labels = np.zeros(len(boxes), np.int64) if labels is None else np.array(labels)
    flags = {key: np.array(value) for key, value in flags.items()}
    return {"boxes": np.array(boxes, np.float32).reshape(-1, 4), "labels": labels, **flags}


def detections(*boxes, scores, labels=None):
    return target(*boxes, labels=labels) | {"scores": np.array(scores, np.float32)}


def random_scenes(rng, n_images, n_classes, n_boxes, n_detections):
    """Ground truth with crowds and empty images, and detections that are jittered ground truth or noise."""
    targets, predictions = [], []
    for i in range(n_images):
        m = 0 if i % 7 == 0 else int(rng.integers(1, n_boxes + 1))
        corner = rng.uniform(0, 300, (m, 2))
        boxes = np.concatenate([corner, corner + rng.uniform(5, 150, (m, 2))], axis=1).astype(np.float32)
        labels = rng.integers(0, n_classes, m)
        targets.append({"boxes": boxes, "labels": labels, "iscrowd": rng.random(m) < 0.2})
        k = 0 if i % 5 == 0 else n_detections
        corner = rng.uniform(0, 300, (k, 2))
        guesses = np.concatenate([corner, corner + rng.uniform(5, 150, (k, 2))], axis=1)
        guess_labels = rng.integers(0, n_classes, k)
        near = np.flatnonzero(rng.random(k) < 0.7) if m else np.zeros(0, int)
        source = rng.integers(0, max(m, 1), len(near))
        guesses[near] = boxes[source] + rng.normal(0, 6, (len(near), 4))
        guesses[:, 2:] = np.maximum(guesses[:, 2:], guesses[:, :2] + 1)
        guess_labels[near] = labels[source]
        scores = rng.random(k).astype(np.float32)
        predictions.append({"boxes": guesses.astype(np.float32), "labels": guess_labels, "scores": scores})
    return predictions, targets


@pytest.mark.parametrize("path", VECTORS, ids=lambda path: path.stem)
@pytest.mark.parametrize("method", ["11point", "area"])
def test_voc_agrees_with_reference_vectors(path, method):
    case = json.loads(path.read_text())
    result = voc_average_precision(case["detections"], case["ground_truth"], case["num_classes"], method=method)
    assert result["map"] == pytest.approx(case["expected"][f"ap50_{method}"], abs=1e-6)
    assert result["per_class"] == pytest.approx(case["expected"][f"ap50_{method}_per_class"], abs=1e-6)


def test_reference_vectors_are_there():
    assert len(VECTORS) == 6


def test_voc_by_hand_right_wrong_right():
    targets = [target([0, 0, 10, 10], [20, 20, 30, 30])]
    predictions = [detections([0, 0, 10, 10], [50, 50, 60, 60], [20, 20, 30, 30], scores=[0.9, 0.8, 0.7])]
    # precision 1 up to recall 1/2 (6 of the 11 points), then 2/3
    assert voc_average_precision(predictions, targets, 1)["map"] == pytest.approx((6 * 1 + 5 * 2 / 3) / 11)
    assert voc_average_precision(predictions, targets, 1, method="area")["map"] == pytest.approx((1 + 2 / 3) / 2)


def test_voc_recall_points_are_the_floats_of_the_published_code():
    targets = [target(*([20 * i, 0, 20 * i + 10, 10] for i in range(10)))]
    predictions = [detections(*([20 * i, 0, 20 * i + 10, 10] for i in range(3)), scores=[0.9, 0.8, 0.7])]
    # recall 3 / 10 reaches 0, 0.1 and 0.2, but not 3 * 0.1 = 0.30000000000000004
    assert voc_average_precision(predictions, targets, 1)["map"] == pytest.approx(3 / 11)


def test_voc_second_detection_of_a_box_is_wrong_and_the_better_one_wins():
    targets = [target([0, 0, 10, 10], [40, 40, 50, 50])]
    predictions = [detections([0, 0, 10, 9], [0, 0, 10, 10], [40, 40, 50, 50], scores=[0.5, 0.9, 0.1])]
    assert voc_average_precision(predictions, targets, 1, method="area")["map"] == pytest.approx((1 + 2 / 3) / 2)


def test_voc_equal_scores_rank_in_the_order_given():
    targets = [target([0, 0, 10, 10])]
    hit, miss = [0, 0, 10, 10], [50, 50, 60, 60]
    assert voc_average_precision([detections(hit, miss, scores=[0.5, 0.5])], targets, 1)["map"] == 1.0
    assert voc_average_precision([detections(miss, hit, scores=[0.5, 0.5])], targets, 1)["map"] == 0.5


@pytest.mark.parametrize("flag", ["difficult", "iscrowd"])
def test_voc_detections_of_ignored_boxes_count_neither_way(flag):
    ignored, plain = [0, 0, 10, 10], [40, 40, 50, 50]
    predictions = [detections(ignored, ignored, plain, scores=[0.9, 0.8, 0.7])]
    flags = {flag: [True, False]}
    assert voc_average_precision(predictions, [target(ignored, plain, **flags)], 1)["map"] == 1.0
    missed = [detections(plain, scores=[0.7])]
    assert voc_average_precision(missed, [target(ignored, plain, **flags)], 1)["map"] == 1.0
    assert voc_average_precision(predictions, [target(plain)], 1)["map"] == pytest.approx(1 / 3)


def test_voc_detection_matches_only_its_image_and_class():
    box = [0, 0, 10, 10]
    targets = [target(box), target(box, labels=[1])]
    swapped = [detections(box, labels=[1], scores=[0.9]), detections(box, labels=[0], scores=[0.9])]
    assert voc_average_precision(swapped, targets, 2)["per_class"] == [0.0, 0.0]


def test_voc_leaves_classes_without_ground_truth_out():
    targets = [target([0, 0, 10, 10], [20, 20, 30, 30], labels=[0, 2], difficult=[False, True]), target()]
    predictions = [detections([0, 0, 10, 10], scores=[0.9]), detections([0, 0, 10, 10], labels=[1], scores=[1.0])]
    result = voc_average_precision(predictions, targets, 3)
    assert result == {"map": 1.0, "per_class": [1.0, None, None]}


def test_voc_without_any_box_is_nan():
    empty = detections(scores=[])
    result = voc_average_precision([empty], [target()], 2)
    assert np.isnan(result["map"])
    assert result["per_class"] == [None, None]
    assert voc_average_precision([empty], [target([0, 0, 5, 5])], 1) == {"map": 0.0, "per_class": [0.0]}


def test_voc_an_overlap_of_exactly_the_threshold_is_enough():
    detected = {"boxes": [[0.0, 0, 10, 10]], "labels": [0], "scores": [0.9]}
    truth = {"boxes": [[0.0, 0, 10, 20]], "labels": [0]}
    assert voc_average_precision([detected], [truth], 1)["map"] == 1


def test_voc_of_boxes_that_are_overlapped_alike_the_first_is_meant():
    detected = {"boxes": [[0.0, 0, 10, 10]], "labels": [0], "scores": [0.9]}
    truth = {"boxes": [[0.0, 0, 10, 10]] * 2, "labels": [0, 0]}
    assert voc_average_precision([detected], [truth | {"difficult": [True, False]}], 1)["map"] == 0
    assert voc_average_precision([detected], [truth | {"difficult": [False, True]}], 1)["map"] == 1


def test_voc_many_equal_scores_rank_in_the_order_given():
    right, wrong = [0.0, 0, 10, 10], [20.0, 20, 30, 30]
    detected = {"boxes": [right, *[wrong] * 99], "labels": [0] * 100, "scores": [0.5, 0.9] * 50}
    found = voc_average_precision([detected], [{"boxes": [right], "labels": [0]}], 1, method="area")
    assert found["map"] == pytest.approx(1 / 51)  # the first of the lower scores comes after the 50 higher ones


def test_coco_counts_more_than_ten_detections_of_an_image():
    boxes = [*([[20.0, 20, 30, 30]] * 10), [0.0, 0, 10, 10]]
    detected = {"boxes": boxes, "labels": [0] * 11, "scores": np.linspace(0.9, 0.1, 11)}
    found = coco_average_precision([detected], [{"boxes": boxes[-1:], "labels": [0]}], 1)
    assert found["ap50"] == pytest.approx(1 / 11)


def test_voc_zero_area_boxes_do_not_match():
    point = [5, 5, 5, 5]
    assert voc_average_precision([detections(point, scores=[0.9])], [target(point)], 1)["map"] == 0.0


def test_voc_is_fast_and_does_not_touch_its_input():
    predictions, targets = random_scenes(np.random.default_rng(0), 5000, 20, n_boxes=5, n_detections=100)
    before = predictions[3]["boxes"].copy()
    start = time.perf_counter()
    result = voc_average_precision(predictions, targets, 20)
    assert time.perf_counter() - start < 10
    assert 0 < result["map"] < 1
    assert np.array_equal(predictions[3]["boxes"], before)


def pycocotools_from_files(predictions, targets, num_classes, folder):
    """The independent way: JSON files with their own ids, loadRes and summarize."""
    images, annotations, results = [], [], []
    for i, (found, truth) in enumerate(zip(predictions, targets, strict=True)):
        images.append({"id": 100 + i, "file_name": f"{i}.jpg", "width": 500, "height": 500})
        for j, (x1, y1, x2, y2) in enumerate(truth["boxes"].tolist()):
            box = {"image_id": 100 + i, "category_id": int(truth["labels"][j]) + 1, "bbox": [x1, y1, x2 - x1, y2 - y1]}
            crowd = int(truth["iscrowd"][j])
            annotations.append(box | {"id": len(annotations) + 1, "area": (x2 - x1) * (y2 - y1), "iscrowd": crowd})
        for j, (x1, y1, x2, y2) in enumerate(found["boxes"].tolist()):
            box = {"image_id": 100 + i, "category_id": int(found["labels"][j]) + 1, "bbox": [x1, y1, x2 - x1, y2 - y1]}
            results.append(box | {"score": float(found["scores"][j])})
    categories = [{"id": label + 1, "name": str(label)} for label in range(num_classes)]
    truth_file, result_file = folder / "instances.json", folder / "results.json"
    truth_file.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    result_file.write_text(json.dumps(results))
    truth = COCO(str(truth_file))
    evaluation = COCOeval(truth, truth.loadRes(str(result_file)), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return evaluation


def test_coco_equals_pycocotools_with_crowds_and_empty_images(tmp_path):
    predictions, targets = random_scenes(np.random.default_rng(1), 40, 3, n_boxes=6, n_detections=12)
    assert any(scene["iscrowd"].any() for scene in targets)
    assert any(len(scene["boxes"]) == 0 for scene in targets)
    expected = pycocotools_from_files(predictions, targets, 4, tmp_path)  # class 3 never occurs
    result = coco_average_precision(predictions, targets, 4)
    names = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")
    assert [result[name] for name in names] == pytest.approx(expected.stats[:6].tolist(), abs=1e-12)
    assert 0.05 < result["ap"] < result["ap50"] < 1
    per_class = expected.eval["precision"][:, :, :, 0, 2].mean(axis=(0, 1)).tolist()
    assert result["per_class"][:3] == pytest.approx(per_class[:3], abs=1e-12)
    assert (result["per_class"][3], per_class[3]) == (None, -1)


def test_coco_is_silent(capfd):
    coco_average_precision([detections([0, 0, 10, 10], scores=[0.9])], [target([0, 0, 10, 10])], 1)
    assert capfd.readouterr() == ("", "")


def test_coco_detections_of_crowds_and_difficult_boxes_count_neither_way():
    ignored, plain = [0, 0, 100, 100], [200, 200, 250, 250]
    predictions = [detections([10, 10, 60, 60], ignored, plain, scores=[0.9, 0.8, 0.7])]
    for flag in ("iscrowd", "difficult"):
        result = coco_average_precision(predictions, [target(ignored, plain, **{flag: [True, False]})], 1)
        assert result["ap"] == pytest.approx(1.0)


def test_coco_area_comes_from_the_target_when_given():
    box = [0, 0, 100, 100]
    predictions = [detections(box, scores=[0.9])]
    by_box = coco_average_precision(predictions, [target(box)], 1)
    assert by_box["ap_large"] == pytest.approx(1.0) and np.isnan(by_box["ap_small"])
    by_mask = coco_average_precision(predictions, [target(box, area=[200.0])], 1)
    assert by_mask["ap_small"] == pytest.approx(1.0) and np.isnan(by_mask["ap_large"])


def test_coco_without_detections_is_zero_and_without_ground_truth_is_nan():
    empty = detections(scores=[])
    nothing_found = coco_average_precision([empty, empty], [target([0, 0, 10, 10]), target()], 2)
    assert (nothing_found["ap"], nothing_found["per_class"]) == (0.0, [0.0, None])
    nothing_there = coco_average_precision([empty, detections([0, 0, 9, 9], scores=[1.0])], [target(), target()], 2)
    assert np.isnan(nothing_there["ap"]) and nothing_there["per_class"] == [None, None]


BOX = [0, 0, 10, 10]
WRONG = {
    "targets[1] is None: only annotated images can be scored": ([detections(scores=[])] * 2, [target(), None]),
    "differ in length: 1 and 2 images": ([detections(scores=[])], [target(), target()]),
    "targets[0]: labels must be in 0..1, got 2": ([detections(scores=[])], [target(BOX, labels=[2])]),
    "predictions[0]: labels must be in 0..1, got -1": ([detections(BOX, labels=[-1], scores=[1.0])], [target()]),
    "predictions[0]: scores must have shape (1,) like its boxes": ([detections(BOX, scores=[1.0, 0.5])], [target()]),
    "predictions[0]: scores must be finite, got nan": ([detections(BOX, scores=[np.nan])], [target()]),
    "boxes must be finite": ([detections([0, 0, np.inf, 1], scores=[1.0])], [target()]),
    "predictions[0]: boxes must have shape (n, 4), got (1, 5)": (
        [{"boxes": np.zeros((1, 5)), "labels": np.zeros(1, int), "scores": np.ones(1)}],
        [target()],
    ),
    "predictions[0] has no 'scores'": ([target(BOX)], [target(BOX)]),
    "targets: 5.5 is not a sequence": ([detections(scores=[])], 5.5),
    "targets[0]: boxes must be numbers, got 'x'": ([detections(scores=[])], [target(BOX) | {"boxes": "x"}]),
    "targets[0]: boxes must be numbers, got [[1], [2, 3]]": (
        [detections(scores=[])],
        [target(BOX) | {"boxes": [[1], [2, 3]]}],
    ),
    "targets[0]: difficult must be numbers": ([detections(scores=[])], [target(BOX) | {"difficult": ["no"]}]),
    "targets[0]: labels must be whole numbers": ([detections(scores=[])], [target(BOX, labels=[0.5])]),
    "targets[0]: difficult must have shape": ([detections(scores=[])], [target(BOX, difficult=[True, False])]),
    "targets[0] is a float, not a dict": ([detections(scores=[])], [0.5]),
}


@pytest.mark.parametrize("message", WRONG)
@pytest.mark.parametrize("metric", [voc_average_precision, coco_average_precision])
def test_wrong_input_is_one_clear_line(metric, message):
    predictions, targets = WRONG[message]
    with pytest.raises(MiaodError) as error:
        metric(predictions, targets, 2)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_wrong_voc_options_are_named():
    with pytest.raises(MiaodError, match=r"method='11-point'.*did you mean '11point'"):
        voc_average_precision([], [], 1, method="11-point")
    with pytest.raises(MiaodError, match="iou_threshold=0"):
        voc_average_precision([], [], 1, iou_threshold=0)
