"""What is overlooked, and what is taken for something else."""

import numpy as np
import pytest

from miaod_plugin.errors import MiaodError
from miaod_plugin.mistakes import Mistakes, count_mistakes

A, B, C = [0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10]
FAR = [80, 80, 90, 90]


def seen(*found):
    boxes, labels, scores = zip(*found, strict=True) if found else ((), (), ())
    return {"boxes": np.array(boxes, float).reshape(-1, 4), "labels": np.array(labels, int), "scores": np.array(scores)}


def there(*objects, **flags):
    boxes, labels = zip(*objects, strict=True) if objects else ((), ())
    return {"boxes": np.array(boxes, float).reshape(-1, 4), "labels": np.array(labels, int), **flags}


def test_objects_are_found_taken_for_another_class_or_overlooked_and_detections_lie_on_one_or_on_none():
    found = [seen((A, 0, 0.9), (A, 0, 0.6), (B, 0, 0.8), (FAR, 1, 0.7), (C, 1, 0.4)), seen(), seen((A, 1, 0.9))]
    mistakes = count_mistakes(found, [there((A, 0), (B, 1), (C, 1)), there((A, 0)), there()], 2)
    assert mistakes == Mistakes(objects=4, found=1, mistaken=1, detections=5, right=2, misnamed=1)
    assert str(mistakes) == (
        "of 4 objects 25 % are found, 25 % taken for another class, 50 % overlooked\n"
        "of 5 detections 40 % lie on an object of their class, 20 % of another class, 40 % on none"
    )


def test_an_object_that_is_also_found_as_what_it_is_counts_as_found():
    assert count_mistakes([seen((A, 1, 0.9), (A, 0, 0.5))], [there((A, 0))], 2) == Mistakes(1, 1, 0, 2, 1, 1)


@pytest.mark.parametrize("flag", ["difficult", "iscrowd"])
def test_difficult_objects_and_crowds_and_what_lies_on_them_count_neither_way(flag):
    target = there((A, 0), (B, 1), **{flag: np.array([True, False])})
    assert count_mistakes([seen((A, 0, 0.9), (A, 1, 0.9), (B, 1, 0.9))], [target], 2) == Mistakes(1, 1, 0, 1, 1, 0)


def test_shares_of_nothing_are_no_number():
    assert str(count_mistakes([seen()], [there()], 1)).count("-") == 6


def test_the_thresholds_are_counted_in():
    half = [0, 0, 10, 5]
    assert count_mistakes([seen((half, 0, 0.5))], [there((A, 0))], 1).found == 1
    assert count_mistakes([seen((half, 0, 0.5))], [there((A, 0))], 1, iou=0.51).found == 0
    assert count_mistakes([seen((half, 0, 0.5))], [there((A, 0))], 1, threshold=0.51).detections == 0


def test_what_is_no_prediction_is_refused_by_image_and_field():
    with pytest.raises(MiaodError, match=r"predictions\[0\]"):
        count_mistakes([{"boxes": [A], "labels": [0]}], [there((A, 0))], 1)
    with pytest.raises(MiaodError, match="differ in length"):
        count_mistakes([], [there()], 1)
