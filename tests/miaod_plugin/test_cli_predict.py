"""`miaod predict` on images and folders of them."""

import json
import shutil

import numpy as np
import pytest
from PIL import ExifTags, Image

from miaod_plugin.data import load_coco


@pytest.fixture
def predict(miaod, checkpoints, tmp_path):
    def run(*arguments, model="miaod"):
        return miaod("predict", *arguments, "-c", checkpoints / f"{model}.safetensors", "--out", tmp_path / "out")

    return run


def test_predict_draws_every_image_and_prints_its_uncertainty(folder, tmp_path, predict):
    status, output, _ = predict(folder / "a.png", folder / "b.png", "--heatmap", "--threshold", 0)
    assert status == 0 and output.count("uncertainty") == 2
    for name, (width, height) in (("a", (64, 64)), ("b", (90, 40))):
        picture = Image.open(tmp_path / "out" / f"{name}.png")
        scale = -(-384 // min(width, height))
        assert picture.width > 4 * scale * width and picture.height > scale * height


def test_heatmaps_need_a_mi_aod_detector(folder, tmp_path, predict):
    status, output, _ = predict(folder / "a.png", model="supervised")
    assert status == 0 and "boxes" in output and "uncertainty" not in output
    status, _, errors = predict(folder / "a.png", "--heatmap", model="supervised")
    assert status == 2 and errors.count("\n") == 1 and "--training miaod" in errors


def test_predict_takes_folders_and_writes_what_it_found(folder, tmp_path, predict):
    status, output, _ = predict(folder, folder / "b.png", "--threshold", 0)
    assert status == 0 and output.count("\n") == 3, "an image that is given twice counts once"
    assert {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.png")} == {
        "a.png", "b.png", "sub/c.png",
    }  # fmt: skip
    found = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert [image["path"] for image in found["images"]] == [str(folder / n) for n in ("a.png", "b.png", "sub/c.png")]
    assert [(image["width"], image["height"]) for image in found["images"]] == [(64, 64), (90, 40), (70, 100)]
    boxes = [box for image in found["images"] for box in image["boxes"]]
    assert boxes and all(box["class"] in found["classes"] and 0 <= box["score"] <= 1 for box in boxes)
    assert predict(folder, "--format", "coco")[0] == 0
    assert load_coco(tmp_path / "out" / "predictions.json", folder).ids.tolist() == ["a", "b", "sub/c"]


def test_pictures_of_images_with_the_same_name_do_not_collide(folder, tmp_path, predict):
    other = tmp_path / "other"
    other.mkdir()
    shutil.copy(folder / "a.png", other / "a.png")
    Image.open(folder / "a.png").convert("RGB").save(other / "a.jpg")
    assert predict(folder / "a.png", other)[0] == 0
    pictures = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.png"))
    assert pictures == ["images/a.png.png", "other/a.jpg.png", "other/a.png.png"]


def test_predict_goes_on_past_broken_images_and_names_them_all(folder, tmp_path, predict):
    for name in ("a.png", "sub/d.jpg"):
        (folder / name).write_bytes(b"no image")
    status, output, errors = predict(folder)
    assert status == 2 and output.count("\n") == 2
    assert str(folder / "a.png") in errors and str(folder / "sub/d.jpg") in errors and "2 images" in errors
    assert len(json.loads((tmp_path / "out" / "predictions.json").read_text())["images"]) == 2
    status, output, errors = predict(folder, "--on-error", "skip")
    assert status == 0 and output.count("\n") == 2 and errors.count("left out: ") == 2


def test_a_threshold_that_no_box_passes_is_told(folder, tmp_path, predict):
    assert "lower --threshold" in predict(folder / "a.png", "--threshold", 1)[2]
    assert predict(folder / "a.png", "--threshold", 0)[2] == ""


def test_boxes_of_turned_photographs_are_written_on_the_pixels_that_are_asked_for(folder, tmp_path, predict):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6  # stored lying on its side
    stored = Image.open(folder / "b.png")  # 90 x 40
    stored.save(folder / "turned.png", exif=exif)
    boxes = {}
    for orientation in ("upright", "stored"):
        assert (
            predict(folder / "turned.png", "--orientation", orientation, "--threshold", 0, "--format", "coco")[0] == 0
        )
        file = tmp_path / "out" / "predictions.json"
        (image,) = json.loads(file.read_text())["images"]
        assert (image["width"], image["height"]) == ((40, 90) if orientation == "upright" else (90, 40))
        data = load_coco(file, folder, orientation=orientation)  # refuses boxes beyond the frame
        boxes[orientation] = data.y[0]["boxes"]
    assert len(boxes["upright"]) > 0
    np.testing.assert_allclose(boxes["stored"], boxes["upright"], atol=0.05)
