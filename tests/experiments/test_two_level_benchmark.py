"""The benchmark of choosing in two levels, at tiny sizes."""

import pytest
from PIL import Image

from miaod_plugin.baselines import CoreSetSampling
from miaod_plugin.experiments.benchmarks.two_level import choose, draw, in_turns, radius, shards, write


def test_two_levels_read_the_file_shard_by_shard_and_come_close_to_at_once(tmp_path):
    path = tmp_path / "films"
    write(path, 1000, "films")
    assert [len(shard) for shard in shards(path, 300)] == [300, 300, 300, 100]
    at_once, two_levels = (choose(path, CoreSetSampling(shard_size=size), 20) for size in (None, 300))
    assert at_once.size == two_levels.size == 1000 and at_once.rows[0] == two_levels.rows[0]
    fewer = radius(path, at_once.rows[:5])
    assert radius(path, two_levels.rows) < min(fewer, 1.2 * radius(path, at_once.rows))
    draw([at_once, two_levels], tmp_path / "plot.png")
    assert Image.open(tmp_path / "plot.png").size == (1440, 660)


@pytest.mark.slow
def test_each_measurement_has_a_peak_of_memory_of_its_own(tmp_path):
    write(tmp_path / "few", 1000, "normal")
    write(tmp_path / "many", 400_000, "normal")
    jobs = [(tmp_path / name, CoreSetSampling()) for name in ("many", "few")]
    many, few = in_turns(jobs, picks=3, repeats=1)
    assert many.bytes > 1.5 * (tmp_path / "many").stat().st_size > 10 * few.bytes
