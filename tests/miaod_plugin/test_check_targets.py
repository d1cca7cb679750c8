import numpy as np
import pytest

from miaod_plugin.data import check_targets
from miaod_plugin.errors import DataError

BOXES, LABELS = np.float32([[0, 0, 5, 5], [1, 1, 2, 2]]), np.array([0, 1])


def test_targets_that_keep_the_contract_pass():
    empty = {"boxes": np.zeros((0, 4), np.float32), "labels": np.zeros(0, np.int64)}
    check_targets([{"boxes": BOXES, "labels": LABELS, "difficult": np.array([True, False])}, None, empty], 2)


@pytest.mark.parametrize(
    ("target", "problem"),
    [
        ([[0, 0, 5, 5]], r"y\[1\] must be None or a dict"),
        ({"boxes": BOXES}, r"y\[1\] must be None or a dict with 'boxes' and 'labels'"),
        ({"boxes": np.zeros(0), "labels": []}, r"y\[1\]\['boxes'\] has shape \(0,\)"),
        ({"boxes": BOXES, "labels": LABELS[:1]}, r"y\[1\]\['labels'\] has shape \(1,\); it must be \(2,\)"),
        ({"boxes": BOXES, "labels": LABELS, "iscrowd": [0]}, r"y\[1\]\['iscrowd'\] has shape"),
        ({"boxes": BOXES, "labels": LABELS + 1}, r"y\[1\]\['labels'\] is \[1, 2\]; expected integers from 0 to 1"),
        ({"boxes": BOXES, "labels": LABELS - 1}, r"y\[1\]\['labels'\]"),
        ({"boxes": BOXES, "labels": LABELS / 2}, r"y\[1\]\['labels'\]"),
        ({"boxes": BOXES * np.nan, "labels": LABELS}, r"y\[1\]\['boxes'\]\[0\] is \[nan"),
        ({"boxes": [[1, 2, 3, 4], [1, 2]], "labels": LABELS}, r"y\[1\]\['boxes'\] is .*; an array of numbers expected"),
        ({"boxes": [list("1234")] * 2, "labels": LABELS}, r"y\[1\]\['boxes'\] is .*; an array of numbers"),
        ({"boxes": BOXES, "labels": ["dog", None]}, r"y\[1\]\['labels'\] is \['dog', None\]; an array of numbers"),
        ({"boxes": BOXES, "labels": LABELS, "difficult": None}, r"y\[1\]\['difficult'\] is None; an array of numbers"),
        ({"boxes": BOXES[:, [2, 1, 0, 3]], "labels": LABELS}, r"\['boxes'\]\[0\] is \[5.0, 0.0, 0.0, 5.0\]"),
    ],
)
def test_a_target_that_does_not_is_named(target, problem):
    with pytest.raises(DataError, match=problem) as error:
        check_targets([None, target], 2)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("y", [None, 5.5, np.array(7)])
def test_targets_that_are_no_sequence_are_refused(y):
    with pytest.raises(DataError, match=r"y: .* is not a sequence of targets"):
        check_targets(y, 2)
