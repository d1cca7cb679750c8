"""How series look, wherever they are drawn."""

import pytest

from miaod_plugin.pages.looks import apart, colour_of, mark_of


def test_labels_are_moved_apart_as_little_as_possible():
    assert apart([5.0, 1.0], 2, 0, 9) == [5.0, 1.0]
    assert apart([4.0, 4.0, 8.5], 2, 0, 9) == pytest.approx([3, 5, 8.5])
    assert apart([9.0, 8.0], 2, 0, 9) == pytest.approx([9, 7])
    assert apart([1.0, 1.0, 1.0], 2, 0, 3) is None and apart([], 2, 0, 3) == []


def test_no_two_of_many_arms_look_alike():
    assert len({(colour_of(number), mark_of(number)) for number in range(64)}) == 64
