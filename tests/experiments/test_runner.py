import csv
import json
import os
import shutil
import signal

import pytest
from matplotlib.image import imread
from processes import miaod, start_until, wait_for_end
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny_experiment import TINY, bits, run_tiny, untimed, write_experiment

from miaod_plugin import ObjectDetector
from miaod_plugin.experiments.report.results import collect
from miaod_plugin.experiments.store.layout import open_run

ONE_SEED = {"seeds": [0], "budgets": [4, 7], "arms": TINY["arms"][:2], "jobs": 1}


def test_results_have_one_row_for_each_arm_seed_and_cycle(finished):
    run, _ = finished
    with open(run / "results.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    columns = "arm training strategy seed cycle budget spent images boxes steps ap50 uncertainty agreement"
    assert list(rows[0]) == [*columns.split(), "train_seconds", "query_seconds"]
    assert len(rows) == 3 * 2 * 3
    assert [row["images"] for row in rows[:3]] == ["4", "7", "9"]
    assert [row["arm"] for row in rows[::6]] == ["miaod+miaod", "supervised+random", "supervised+entropy"]
    for row in rows:
        assert float(row["train_seconds"]) > 0
        assert (row["query_seconds"] == "") == (row["cycle"] == "2"), "the last budget asks for nothing"


def test_all_arms_of_a_budget_take_the_same_optimiser_steps(finished):
    run, _ = finished
    for path in run.glob("arms/*/*/*/losses.jsonl"):
        metrics = json.loads((path.parent / "metrics.json").read_text())
        steps = [json.loads(line)["step"] for line in path.read_text().splitlines()]
        assert steps == list(range(1, metrics["steps"] + 1))
    by_images = {}
    for row in untimed(run):
        by_images.setdefault(row["images"], set()).add(row["steps"])
    assert all(len(steps) == 1 for steps in by_images.values())
    assert len(by_images) == 3


def test_arms_of_a_seed_share_the_initial_set_and_seeds_do_not(finished):
    run, _ = finished
    initial = [{path.read_text() for path in run.glob(f"arms/*/seed{seed}/cycle0/labelled.txt")} for seed in (0, 1)]
    assert [len(texts) for texts in initial] == [1, 1]
    assert initial[0] != initial[1]


def test_arms_of_one_training_share_the_first_model_to_the_last_bit(finished):
    run, printed = finished
    random, entropy = (run / "arms" / arm / "seed0" / "cycle0" for arm in ("supervised+random", "supervised+entropy"))
    assert (random / "model.safetensors").read_bytes() == (entropy / "model.safetensors").read_bytes()
    scores = [json.loads((folder / "metrics.json").read_text())["ap50"] for folder in (random, entropy)]
    assert scores[0] == scores[1]
    assert (random / "selected.csv").read_text() != (entropy / "selected.csv").read_text()
    line = next(line for line in (run / "run.log").read_text().splitlines() if "seed 0  shared supervised" in line)
    assert line.endswith("trained once for supervised+random, supervised+entropy")
    assert printed.count("seed 0  shared supervised ") == 1


def test_what_is_selected_is_labelled_next_and_never_twice(finished):
    run, _ = finished
    for chain in run.glob("arms/*/seed*"):
        for cycle, (size, picks) in enumerate([(4, 3), (7, 2)]):
            labelled = (chain / f"cycle{cycle}" / "labelled.txt").read_text().split()
            with open(chain / f"cycle{cycle}" / "selected.csv", newline="") as file:
                selected = list(csv.DictReader(file))
            following = (chain / f"cycle{cycle + 1}" / "labelled.txt").read_text().split()
            assert following == labelled + [row["id"] for row in selected]
            assert len(set(following)) == size + picks
            assert [int(row["rank"]) for row in selected] == list(range(1, picks + 1))
            utilities = [float(row["utility"]) for row in selected]
            assert utilities == sorted(utilities, reverse=True)


def test_unlabelled_images_of_a_training_are_named(finished):
    run, _ = finished
    miaod, supervised = (run / "arms" / arm / "seed0" / "cycle1" for arm in ("miaod+miaod", "supervised+random"))
    unlabelled = (miaod / "unlabelled.txt").read_text().split()
    assert len(set(unlabelled)) == 7
    assert not set(unlabelled) & set((miaod / "labelled.txt").read_text().split())
    assert (supervised / "unlabelled.txt").read_text() == ""


def test_every_seed_and_cycle_trains_and_draws_by_numbers_of_its_own(finished):
    run, _ = finished
    trained, drawn = set(), set()
    for cell in run.glob("arms/supervised+random/seed*/cycle*"):
        trained.add(ObjectDetector.load(cell / "model.safetensors").random_state)
        if (cell / "selected.csv").exists():
            with open(cell / "selected.csv", newline="") as file:
                drawn |= {row["utility"] for row in csv.DictReader(file)}
    assert len(trained) == 2 * 3 and len(drawn) == 2 * (3 + 2)


def test_every_seed_draws_its_own_part_of_the_pool_as_unlabelled_images(finished):
    def places(seed):
        cell = finished[0] / "arms" / "miaod+miaod" / f"seed{seed}" / "cycle0"
        labelled, unlabelled = ((cell / f"{name}.txt").read_text().split() for name in ("labelled", "unlabelled"))
        pool = sorted({f"train_{row:06d}" for row in range(24)} - set(labelled))
        return [pool.index(name) for name in unlabelled]

    assert len(places(0)) == len(places(1)) == 4 and places(0) != places(1)


def test_event_files_show_average_precision_against_labelled_images(finished):
    run, _ = finished
    events = EventAccumulator(str(run / "tensorboard" / "supervised+random" / "seed1")).Reload()
    points = events.Scalars("by labelled images/AP50")
    rows = [row for row in untimed(run) if row["arm"] == "supervised+random" and row["seed"] == "1"]
    assert [point.step for point in points] == [4, 7, 9]
    assert [point.value for point in points] == pytest.approx([float(row["ap50"]) for row in rows], abs=1e-6)
    tag = next(tag for tag in events.Tags()["scalars"] if tag.startswith("loss by optimiser step/"))
    assert [point.step for point in events.Scalars(tag)] == list(range(1, sum(int(row["steps"]) for row in rows) + 1))


def test_the_run_ends_with_a_table_and_the_paths(finished):
    run, printed = finished
    for name in ("results.csv", "curves.png", "tensorboard"):
        assert str(run / name) in printed
        assert (run / name).exists()
    assert "mean ± standard deviation of 2 seeds" in printed
    height, width, _ = imread(run / "curves.png").shape
    assert width >= 1200 and height >= 800


def test_one_process_gives_the_results_of_two(finished, tmp_path):
    run, _ = finished
    alone, _ = run_tiny(tmp_path, seeds=[1], jobs=1)
    assert untimed(alone) == [row for row in untimed(run) if row["seed"] == "1"]
    assert bits(alone) == {name: content for name, content in bits(run).items() if "seed1" in name}


def test_a_started_run_goes_on_from_what_is_finished(finished, tmp_path):
    run = tmp_path / "runs" / "tiny"
    shutil.copytree(finished[0], run)
    shutil.rmtree(run / "shared" / "seed1")  # not needed any more, yet made again
    for path in (run / "arms").glob("*/seed1/cycle[12]"):
        shutil.rmtree(path)
    stopped = run / "arms" / "miaod+miaod" / "seed0" / "cycle2"  # trained, but neither scored nor finished
    (stopped / "metrics.json").unlink()
    kept = {path: path.stat().st_mtime_ns for path in run.glob("arms/**/*") if path.is_file()}
    run_tiny(tmp_path)
    assert untimed(run) == untimed(finished[0])
    assert bits(run) == bits(finished[0])
    redone = {path for path, changed in kept.items() if path.stat().st_mtime_ns != changed}
    assert redone == {stopped / "labelled.txt", stopped / "detections.safetensors", stopped / "SHA256SUMS"}


def test_budgets_and_arms_can_be_added_to_a_finished_run(tmp_path):
    run, _ = run_tiny(tmp_path, **ONE_SEED)
    before = {path: path.stat().st_mtime_ns for path in run.glob("**/model.safetensors")}
    arms = [*TINY["arms"], {"training": "label_set", "strategy": "miaod"}]
    run_tiny(tmp_path, **ONE_SEED | {"budgets": [4, 7, 9], "arms": arms})
    rows = untimed(run)
    assert [row["images"] for row in rows] == ["4", "7", "9"] * 4
    assert {row["training"] for row in rows} == {"miaod", "supervised", "label_set"}
    assert all(path.stat().st_mtime_ns == changed for path, changed in before.items())


@pytest.mark.parametrize("unit", ["boxes", "seconds"])
def test_budgets_may_count_boxes_or_seconds(tmp_path, unit):
    budgets = [12, 20, 30] if unit == "boxes" else [400, 600, 900]
    run, printed = run_tiny(
        tmp_path, **ONE_SEED | {"budgets": budgets, "budget": {"unit": unit}, "full_supervision": True}
    )
    words = {"boxes": "labelled boxes", "seconds": "annotation seconds"}[unit]
    assert f"AP50 (%) by {words}" in printed
    rows = untimed(run)
    assert [int(row["budget"]) for row in rows] == budgets * 2
    for row in rows:
        images, boxes, spent = int(row["images"]), int(row["boxes"]), float(row["spent"])
        assert spent == pytest.approx(boxes if unit == "boxes" else 7.8 * images + 25.5 * boxes)
        most_of_an_image = 6 if unit == "boxes" else 7.8 + 6 * 25.5
        assert int(row["budget"]) <= spent < int(row["budget"]) + most_of_an_image
    for cycle in range(3):
        assert len({row["steps"] for row in rows if row["cycle"] == str(cycle)}) == 1
    assert len({row["images"] for row in rows if row["cycle"] == "0"}) == 1


def test_full_supervision_is_trained_once_a_seed_and_every_result_is_a_ratio_to_it(tmp_path):
    run, printed = run_tiny(tmp_path, **ONE_SEED | {"full_supervision": True})
    folder = run / "shared" / "seed0" / "full-supervision"
    metrics = json.loads((folder / "metrics.json").read_text())
    assert len((folder / "labelled.txt").read_text().split()) == metrics["images"] == 24
    assert metrics["steps"] == 2 * (1 + 2 + 2 + 1) * 6, "repeated twice: label, min, max, label epochs of 24 / 4 steps"
    assert {float(row["full"]) for row in untimed(run)} == {metrics["ap50"]}
    assert f"full supervision: {100 * metrics['ap50']:.1f}" in printed
    line = "seed 0  full supervision: 24 images"
    assert sum(line in logged for logged in (run / "run.log").read_text().splitlines()) == 1
    for part, score in {"arms": 0.2, "shared": 0.5}.items():  # what was trained so short finds nothing
        for path in run.glob(f"{part}/**/metrics.json"):
            path.with_name("SHA256SUMS").unlink()  # as in a run of an earlier version
            path.write_text(json.dumps(json.loads(path.read_text()) | {"ap50": score}))
    rows = collect(open_run(run))
    assert len(rows) == 4 and {(row["full"], row["ratio"]) for row in rows} == {(0.5, 0.4)}


def test_full_supervision_trains_as_long_as_its_own_key_says_and_no_arm_does(tmp_path):
    one_budget = {"seeds": [0], "budgets": [4], "training": TINY["training"] | {"max_steps": 5}, "jobs": 1}
    run, _ = run_tiny(tmp_path, **one_budget, full_supervision=True, full_supervision_steps=13)
    folder = run / "shared" / "seed0"
    steps = {path.parent.name: json.loads(path.read_text())["steps"] for path in folder.glob("*/metrics.json")}
    assert steps == {"full-supervision": 13, "miaod": 5, "supervised": 5}
    losses = (folder / "full-supervision" / "losses.jsonl").read_text().splitlines()
    assert json.loads(losses[-1])["step"] == 13


def test_full_supervision_can_be_added_to_a_finished_run(tmp_path):
    run, _ = run_tiny(tmp_path, **ONE_SEED)
    before = untimed(run)
    run_tiny(tmp_path, **ONE_SEED | {"full_supervision": True})
    without = [{key: value for key, value in row.items() if key not in ("full", "ratio")} for row in untimed(run)]
    assert without == before


def test_a_cell_that_fails_leaves_the_others_alone(tmp_path):
    config = {**ONE_SEED, "training": {"batch_size": 4, "learning_rate": 0.01}}
    path = write_experiment(tmp_path, **config)
    blocked = tmp_path / "runs" / "tiny" / "arms" / "supervised+random" / "seed0" / "cycle1" / "model.safetensors"
    blocked.mkdir(parents=True)  # nothing can be written there
    (blocked / "x").touch()
    ended = miaod("run", path, "--out", tmp_path / "runs", capture_output=True, text=True)
    assert ended.returncode == 2
    assert "seed 0  supervised+random  cycle 1" in ended.stderr.splitlines()[-1]
    assert "Traceback" not in ended.stderr
    run = tmp_path / "runs" / "tiny"
    assert json.loads((blocked.parent / "error.json").read_text())["error"]
    assert [row["arm"] for row in untimed(run)] == ["miaod+miaod", "miaod+miaod", "supervised+random"]
    shutil.rmtree(blocked)
    run_tiny(tmp_path, **config)
    assert len(untimed(run)) == 4
    assert not (blocked.parent / "error.json").exists()


@pytest.mark.skipif(not os.path.isdir("/proc"), reason="finds child processes in /proc")
def test_a_killed_run_takes_its_workers_along_and_goes_on_to_the_same_results(finished, tmp_path):
    often = {"training": {**TINY["training"], "checkpoint_seconds": 0}, "jobs": 2}
    path, runs = write_experiment(tmp_path, **often), tmp_path / "runs"
    process, workers = start_until(path, runs, "tiny/arms/*/*/cycle1/half_trained.ckpt")
    process.kill()
    process.communicate()
    assert workers
    wait_for_end(workers)
    run = tmp_path / "runs" / "tiny"
    done = {path: path.stat().st_mtime_ns for path in run.glob("**/metrics.json")}
    assert done, "something was finished when it was killed"
    next(iter(done)).with_name(".metrics.json.1.part.json").touch()  # of a process that is killed while it writes
    run_tiny(tmp_path, **often)
    assert not [path for path in run.glob("**/*") if path.suffix == ".ckpt" or ".part" in path.name]
    assert untimed(run) == untimed(finished[0])
    assert bits(run) == bits(finished[0])
    assert all(path.stat().st_mtime_ns == changed for path, changed in done.items())


@pytest.mark.skipif(not os.path.isdir("/proc"), reason="finds child processes in /proc")
def test_a_run_in_progress_refuses_a_second_process_and_ends_cleanly_on_ctrl_c(tmp_path):
    experiment = write_experiment(tmp_path, seeds=list(range(50)))  # far from done when the second process has started
    process, workers = start_until(experiment, tmp_path / "runs", "tiny/shared/*/*/losses.jsonl")
    second = miaod("run", tmp_path / "tiny.yaml", "--out", tmp_path / "runs", capture_output=True, text=True)
    assert second.returncode == 2
    assert second.stderr.strip().endswith("another process is working on this run; let it end first")
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.decode().strip() == "stopped; the same command goes on from here"
    wait_for_end(workers)


def test_a_variant_of_miaod_trains_from_the_same_images_with_the_options_it_changes(tmp_path):
    arms = [{"training": name, "strategy": "miaod"} for name in ("miaod", "first-head")]
    run, _ = run_tiny(
        tmp_path,
        arms=arms,
        budgets=[4, 6],
        seeds=[0],
        trainings={
            "miaod": {"label_epochs": 1, "rounds": 1, "options": {"attention": "level"}},
            "first-head": {"kind": "miaod", "options": {"detect_with": "first"}},
        },
    )
    files = {name: run / "arms" / f"{name}+miaod" / "seed0" / "cycle0" for name in ("miaod", "first-head")}
    assert (files["miaod"] / "labelled.txt").read_text() == (files["first-head"] / "labelled.txt").read_text()
    loaded = {name: ObjectDetector.load(folder / "model.safetensors") for name, folder in files.items()}
    options = {name: one.training_.options_ for name, one in loaded.items()}
    assert {name: one.detect_with for name, one in options.items()} == {"miaod": "mean", "first-head": "first"}
    assert {one.attention for one in options.values()} == {"level"}
    assert {row["training"] for row in untimed(run)} == {"miaod", "first-head"}
