import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from tiny_experiment import untimed

from miaod_plugin.experiments.report.statistics import area_under_curve, describe


def events(run, name: str) -> EventAccumulator:
    return EventAccumulator(str(run / "tensorboard" / name), size_guidance={"images": 0}).Reload()


def rows(run, **wanted) -> list[dict]:
    return [row for row in untimed(run) if all(row[key] == value for key, value in wanted.items())]


def test_the_mean_of_each_arm_and_its_interval_are_a_run_of_their_own(finished):
    run, _ = finished
    mean = events(run, "supervised+random/mean")
    points = mean.Scalars("arms by labelled images/AP50")
    assert [point.step for point in points] == [4, 7, 9]
    for cycle, point in enumerate(points):
        of_seeds = rows(run, arm="supervised+random", cycle=str(cycle))
        expected = describe([float(row["ap50"]) for row in of_seeds])
        assert len(of_seeds) == 2 and point.value == pytest.approx(expected["mean"], abs=1e-6)
        for end in ("low", "high"):
            value = mean.Scalars(f"interval of the mean/AP50 {end}")[cycle].value
            assert expected[end] is None and value == pytest.approx(expected["mean"], abs=1e-6)  # two seeds have none


def test_the_comparison_comes_first(finished):
    found = events(finished[0], "miaod+miaod/mean")
    layout = Layout.FromString(found.Tensors("custom_scalars__config__")[0].tensor_proto.string_val[0])
    assert layout.category[0].title == "Comparison of arms"
    assert layout.category[0].chart[0].title == "AP50 by labelled images, mean of seeds"
    every = events(finished[0], "miaod+miaod/seed0").Tags()["scalars"] + found.Tags()["scalars"]
    assert min(every, key=str.lower) == "arms by labelled images/AP50"  # tabs show tags in this order


def test_hparams_say_what_the_arm_is_and_its_area_under_the_curve(finished):
    run, _ = finished
    found = events(run, "supervised+entropy/seed1")
    plugin = found.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    parameters = HParamsPluginData.FromString(plugin).session_start_info.hparams
    assert parameters["strategy"].string_value == "entropy" and parameters["seed"].number_value == 1
    own = rows(run, arm="supervised+entropy", seed="1")
    area = area_under_curve([int(row["images"]) for row in own], [float(row["ap50"]) for row in own])
    assert found.Scalars("result/AULC")[0].value == pytest.approx(area, abs=1e-6)


def test_selected_images_are_shown_for_each_query(finished):
    pictures = events(finished[0], "miaod+miaod/seed0").Images("selected images/most informative")
    assert [picture.step for picture in pictures] == [4, 7]
    assert pictures[0].height > 160 and pictures[0].width > 3 * 160 - 1  # three images were picked
