"""Several annotators of one image: one answer where they agree, one line where they do not."""

import numpy as np
import pytest

from miaod_plugin.annotations import Annotation, agreed
from miaod_plugin.errors import DataError

CLASSES = ["cat", "dog"]


def one(annotator, *boxes, path="a.jpg", labels=None, state="annotated", time=None) -> Annotation:
    labels = np.array([0] * len(boxes) if labels is None else labels, dtype=np.int64)
    return Annotation(path, state, np.array(boxes, np.float32).reshape(-1, 4), labels, annotator, time)


def test_an_image_of_one_annotator_stays_as_it_is_and_the_order_too():
    several = [one("eve", (0, 0, 4, 4), path="b.jpg"), one("bob", path="a.jpg"), one(None, path="c.jpg")]
    found = agreed(several, CLASSES)
    assert [(image.path, image.annotator, len(image.boxes)) for image in found] == [
        ("b.jpg", "eve", 1), ("a.jpg", "bob", 0), ("c.jpg", None, 0)
    ]  # fmt: skip


def test_boxes_of_those_who_agree_are_averaged_in_whatever_order_they_drew_them():
    first = one("eve", (0, 0, 10, 10), (50, 50, 60, 60), (50, 50, 60, 60), labels=[0, 0, 1], time="2026-01-02")
    second = one("bob", (51, 50, 61, 60), (49, 50, 59, 60), (0, 2, 10, 10), labels=[1, 0, 0], time="2026-01-01")
    (found,) = agreed([first, second], CLASSES)
    assert found.boxes.tolist() == [[0, 1, 10, 10], [49.5, 50, 59.5, 60], [50.5, 50, 60.5, 60]]
    assert found.labels.tolist() == [0, 0, 1] and found.boxes.dtype == np.float32
    assert (found.annotator, found.time, found.state) == ("eve, bob", "2026-01-02", "annotated")


def test_pairs_are_chosen_so_that_all_overlap_enough_where_that_is_possible():
    # The closest pair alone (0 with 1) would leave the other two overlapping by too little.
    first = one("eve", (0, 0, 100, 10), (40, 0, 140, 10))
    second = one("bob", (33, 0, 133, 10), (60, 0, 160, 10))
    found = agreed([first, second], CLASSES, iou=0.5)[0]
    assert found.boxes[:, 0].tolist() == [16.5, 50]


def test_the_mean_of_three_is_the_mean_of_all_three():
    several = [one(name, (x, 0, 30 + x, 9)) for name, x in (("a", 0), ("b", 3), ("c", 6))]
    assert agreed(several, CLASSES)[0].boxes.tolist() == [[3, 0, 33, 9]]


@pytest.mark.parametrize(
    ("second", "difference"),
    [
        (one("bob"), "annotators 'eve' and 'bob' drew 1 and 0 of class 'cat'"),
        (one("bob", (0, 0, 10, 10), labels=[1]), "annotators 'eve' and 'bob' drew 1 and 0 of class 'cat'"),
        (one("bob", (0, 0, 10, 10), (0, 0, 9, 9)), "annotators 'eve' and 'bob' drew 1 and 2 of class 'cat'"),
        (one("bob", (6, 0, 16, 10)), "annotators 'eve' and 'bob' drew boxes that overlap by less than 0.5"),
        (one("bob", state="unusable"), "annotator 'eve' finds the image annotated, 'bob' unusable"),
    ],
)
def test_those_who_disagree_are_named_with_what_differs_and_the_mend(second, difference):
    first = one("eve", (0, 0, 10, 10))
    with pytest.raises(DataError) as raised:
        agreed([one("eve", path="good.jpg"), first, second], CLASSES)
    assert str(raised.value) == (
        f"a.jpg: {difference}; mend it in the labelling tool, or keep one annotator's with annotator="
    )
    assert agreed([first, second], CLASSES, annotator="eve")[0] is not second
    assert len(agreed([first, second], CLASSES, annotator="bob")[0].boxes) == len(second.boxes)


def test_a_third_who_disagrees_is_found_and_a_lower_threshold_settles_it():
    several = [one("eve", (0, 0, 10, 10)), one("bob", (0, 0, 10, 10)), one("zoe", (4, 0, 14, 10))]
    with pytest.raises(DataError, match=r"'eve' and 'zoe' drew boxes that overlap by less than 0\.5"):
        agreed(several, CLASSES)
    assert agreed(several, CLASSES, iou=0.4)[0].boxes[0, 0] == pytest.approx(4 / 3)


def test_who_skipped_an_image_has_no_say_unless_all_did():
    drawn, skipped = one("eve", (0, 0, 4, 4)), one("bob", state="skipped")
    assert agreed([skipped, drawn], CLASSES)[0].annotator == "eve"
    assert agreed([skipped, one("zoe", state="skipped")], CLASSES)[0].state == "skipped"
    assert agreed([one("eve", state="unusable"), one("bob", state="unusable")], CLASSES)[0].state == "unusable"


def test_the_chosen_annotator_counts_only_where_he_has_annotated():
    several = [one("eve", (0, 0, 4, 4)), one("bob"), one("zoe", path="b.jpg")]
    assert [image.annotator for image in agreed(several, CLASSES, annotator="bob")] == ["bob", "zoe"]
    with pytest.raises(DataError, match="annotator 'evi' has made none of the annotations; did you mean 'eve'"):
        agreed(several, CLASSES, annotator="evi")
