"""The benchmarks of reading and loading, at a tiny size, and what they hold the package to."""

import gc
from itertools import count

import pytest

from miaod_plugin.data import load_voc
from miaod_plugin.errors import DataError
from miaod_plugin.experiments.benchmarks.loading import coco, voc
from miaod_plugin.experiments.benchmarks.reading import images, steps
from miaod_plugin.experiments.benchmarks.training import write_photographs


def test_the_cache_gives_the_pixels_of_the_files_and_steps_are_timed_with_and_without(tmp_path):
    X, y = write_photographs(tmp_path, 4, (40, 60))
    compared = images("images", X, tmp_path / "cache")
    assert compared.same and min(compared.ours, compared.peer) > 0
    trained = steps("steps", X, y, {"detector": "retinanet_tiny"}, tmp_path / "cache", turns=1)
    assert min(trained.ours, trained.peer) > 0
    assert (tmp_path / "cache").stat().st_size > 4 * 3 * 40 * 60


@pytest.mark.parametrize("benchmark", [voc, coco])
def test_loading_makes_no_search_for_cycles_in_what_it_loads(tmp_path, benchmark):
    grown = benchmark(tmp_path, [40, 80])
    assert grown.sizes == [40, 80] and min(grown.seconds) > 0
    before, threshold, searches = gc.callbacks[:], gc.get_threshold(), count()
    gc.set_threshold(50)
    gc.callbacks.append(lambda phase, about: next(searches))
    try:
        benchmark(tmp_path, [80])  # loads twice what is there
    finally:
        gc.set_threshold(*threshold)
        gc.callbacks[:] = before
    assert next(searches) < 20


@pytest.mark.parametrize("enabled", [True, False])
def test_the_collector_is_left_as_it_was_whatever_comes_of_loading(tmp_path, enabled):
    if not enabled:
        gc.disable()
    try:
        with pytest.raises(DataError):
            load_voc(tmp_path / "missing")
        voc(tmp_path, [3])
        assert gc.isenabled() == enabled
    finally:
        gc.enable()
