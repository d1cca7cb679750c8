"""`miaod rank` over a folder of images, broken ones among them."""

import csv
import json

import numpy as np
import pytest

from miaod_plugin import Committee, ObjectDetector
from miaod_plugin.data import load_coco, load_folder
from miaod_plugin.strategies import CommitteeSampling

SIDES = ("width", "height")


def ranked(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("strategy", ["miaod", "random", "entropy", "coreset"])
def test_rank_writes_the_most_informative_images_first(checkpoints, folder, tmp_path, miaod, strategy):
    arguments = [folder, "-c", checkpoints / "miaod.safetensors", "--out", tmp_path / "rank.csv"]
    arguments += ["--strategy", strategy, "--labelled", folder / "sub"]
    assert miaod("rank", *arguments)[0] == 0
    rows = ranked(tmp_path / "rank.csv")
    assert {row["path"] for row in rows} == {"a.png", "b.png", "sub/c.png"}
    assert [row["rank"] for row in rows] == ["1", "2", "3"]
    assert np.all(np.diff([float(row["uncertainty"]) for row in rows]) <= 0)
    assert all(float(row["expected_boxes"]) >= 0 for row in rows)
    assert [path.name for path in tmp_path.glob("rank*")] == ["rank.csv"], "nothing is left of what was kept"


def test_a_committee_of_several_files_ranks_by_their_disagreement(checkpoints, folder, tmp_path, miaod):
    files = [checkpoints / f"{name}.safetensors" for name in ("miaod", "supervised")]
    arguments = ["rank", folder, "--strategy", "committee", "-c", files[0], "--out", tmp_path / "rank.csv"]
    (folder / "broken.jpg").write_bytes(b"no image")
    assert miaod(*arguments, "-c", files[1], "--on-error", "skip")[0] == 0
    rows, pool = ranked(tmp_path / "rank.csv"), load_folder(folder)
    pool = pool.subset(pool.ids != "broken.jpg")
    committee = Committee([ObjectDetector.load(file) for file in files])
    indices, utilities = CommitteeSampling().query(committee, pool.X, 3)
    assert [row["path"] for row in rows] == pool.ids[indices].tolist() and utilities.min() > 0
    assert [float(row["uncertainty"]) for row in rows] == pytest.approx(utilities.tolist(), rel=1e-5)
    status, _, errors = miaod(*arguments)
    assert status == 2 and "--strategy committee compares detectors; give --checkpoint for each" in errors
    status, _, errors = miaod("rank", folder, "-c", files[0], "-c", files[1], "--strategy", "entropy")
    assert status == 2 and "--checkpoint: 2 detectors, but --strategy entropy asks one" in errors


@pytest.mark.parametrize("strategy", ["miaod", "random", "coreset"])
def test_all_broken_images_are_named_at_once_and_may_be_left_out(checkpoints, folder, tmp_path, miaod, strategy):
    for name in ("a.png", "broken.jpg", "sub/empty.png"):
        (folder / name).write_bytes(b"no image")
    arguments = ["rank", folder, "-c", checkpoints / "miaod.safetensors", "--out", tmp_path / "rank.csv"]
    arguments += ["--strategy", strategy, "--labelled", folder]
    status, _, errors = miaod(*arguments)
    assert status == 2 and not (tmp_path / "rank.csv").exists()
    assert all(str(folder / name) in errors for name in ("a.png", "broken.jpg", "sub/empty.png"))
    assert errors.count("\n") == 4 and "3 images" in errors and "--on-error skip" in errors
    status, output, errors = miaod(*arguments, "--on-error", "skip")
    assert status == 0 and "the 2 images of 2" in output
    assert errors.count("left out: ") == errors.count("\n") == 3
    assert {row["path"] for row in ranked(tmp_path / "rank.csv")} == {"b.png", "sub/c.png"}


def test_what_was_done_before_a_broken_image_is_kept_for_the_same_model_and_strategy(
    checkpoints, folder, tmp_path, miaod
):
    good = (folder / "a.png").read_bytes()
    (folder / "a.png").write_bytes(b"no image")
    out, partial = tmp_path / "rank.csv", tmp_path / "rank.csv.partial"
    arguments = ["rank", folder, "--out", out, "-c"]
    assert miaod(*arguments, checkpoints / "miaod.safetensors")[0] == 2
    kept = partial.read_bytes()
    assert miaod(*arguments, checkpoints / "supervised.safetensors", "--strategy", "entropy")[0] == 2
    assert partial.read_bytes() != kept, "another model begins anew"
    (folder / "a.png").write_bytes(good)
    partial.write_bytes(kept[:-40])
    assert miaod(*arguments, checkpoints / "miaod.safetensors")[0] == 0
    assert len(ranked(out)) == 3 and not partial.exists()


def test_only_broken_images_are_an_error_even_when_they_are_left_out(checkpoints, folder, tmp_path, miaod):
    for path in folder.rglob("*.png"):
        path.write_bytes(b"no image")
    out = tmp_path / "rank.csv"
    status, _, errors = miaod(
        "rank", folder, "-c", checkpoints / "miaod.safetensors", "--out", out, "--on-error", "skip"
    )
    assert status == 2 and "no image left" in errors and not out.exists()


def test_coco_holds_boxes_to_start_from(checkpoints, folder, tmp_path, miaod):
    out = tmp_path / "rank.json"
    arguments = ["rank", folder, "-c", checkpoints / "miaod.safetensors", "--out", out, "-n", 2, "--threshold", 0]
    assert miaod(*arguments, "--format", "coco")[0] == 0
    coco = json.loads(out.read_text())
    utilities = [image["utility"] for image in coco["images"]]
    assert len(utilities) == 2 and utilities == sorted(utilities, reverse=True)
    data = load_coco(out, folder)
    assert sum(len(target["boxes"]) for target in data.y) == len(coco["annotations"]) > 0
    assert all(0 <= annotation["score"] <= 1 for annotation in coco["annotations"])
    assert miaod(*arguments)[0] == 0
    rows = json.loads(out.read_text())["images"]
    assert [row["path"] for row in rows] == [image["file_name"] for image in coco["images"]]
    assert all(row[side] == image[side] for row, image in zip(rows, coco["images"], strict=True) for side in SIDES)
    assert sum(len(row["boxes"]) for row in rows) == len(coco["annotations"])
    assert all(box["class"] in data.classes for row in rows for box in row["boxes"])


@pytest.mark.parametrize("terminal", [False, True])
def test_time_left_is_shown_on_a_terminal_alone(checkpoints, folder, tmp_path, monkeypatch, miaod, terminal):
    if terminal:
        monkeypatch.setenv("FORCE_COLOR", "1")  # rich then takes any stream for a terminal
    status, output, errors = miaod("rank", folder, "-c", checkpoints / "miaod.safetensors", "--out", tmp_path / "r.csv")
    assert status == 0 and output.count("\n") == 1
    assert ("3/3" in errors and "0:00:0" in errors) if terminal else errors == ""


def test_a_strategy_that_learns_from_boxes_is_given_their_file(checkpoints, folder, tmp_path, miaod):
    arguments = ["rank", folder, "-c", checkpoints / "miaod.safetensors", "--out", tmp_path / "rank.csv"]
    arguments += ["--strategy", "ppal"]
    status, _, errors = miaod(*arguments)
    assert status == 2 and "--strategy ppal starts from the annotated images; give their folder with" in errors
    status, _, errors = miaod(*arguments, "--labelled", folder)
    assert status == 2 and "learns from annotated boxes; give their COCO file with --annotations" in errors
    images = [{"id": 1, "file_name": "a.png", "height": 64, "width": 64}]
    boxes = [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [8, 8, 20, 30], "area": 600, "iscrowd": 0}]
    categories = [{"id": number + 1, "name": str(number)} for number in range(5)]
    content = {"images": images, "annotations": boxes, "categories": categories}
    (tmp_path / "boxes.json").write_text(json.dumps(content))
    status, _, errors = miaod(*arguments, "--annotations", tmp_path / "boxes.json")
    assert status == 2 and "--annotations: give the folder of their images with --labelled" in errors
    status, _, errors = miaod(*arguments, "--labelled", folder, "--annotations", tmp_path / "boxes.json")
    assert status == 0, errors
    assert len(ranked(tmp_path / "rank.csv")) == 3
