"""Boxes drawn upright on photographs of every EXIF orientation: right in training, drawings and every export."""

from dataclasses import replace

import numpy as np
import pytest
from annotated_project import FORMATS, exported, make
from photographs import HEIGHT, ORIENTATIONS, WIDTH, bright_box, save_photograph
from PIL import ImageColor

from miaod_plugin.annotations import ImageSizes, Suggestion, TurnedImage, read_annotations
from miaod_plugin.data import make_targets, read_image
from miaod_plugin.data.images import on_stored_pixels
from miaod_plugin.drawing import COLOURS, draw_detections
from miaod_plugin.errors import ConfigError, DataError
from miaod_plugin.training.batches import TrainingImages

CLASSES = ["dog"]
PATHS = [f"{turn}.png" for turn in ORIENTATIONS]


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """A photograph of every orientation, with one bright object that is never in the same place."""
    folder = tmp_path_factory.mktemp("photographs")
    for turn, path in zip(ORIENTATIONS, PATHS, strict=True):
        save_photograph(folder / path, turn)
    return folder


def upright(folder) -> list[Suggestion]:
    """Return the box around the object of each image, as somebody draws it who sees the image upright."""
    sizes = ImageSizes(folder, PATHS)
    boxes = {path: bright_box(read_image(folder / path).permute(1, 2, 0).numpy()) for path in PATHS}
    one = np.ones(1, dtype=np.float32)
    return [
        Suggestion(path, sizes[path], 0.5, np.array([box], np.float32), np.zeros(1, np.int64), one)
        for path, box in boxes.items()
    ]


def on_stored(suggestions: list[Suggestion], folder) -> list[Suggestion]:
    """Return the same as somebody draws it who sees the pixels as they are stored."""
    stored = []
    for one in suggestions:
        (height, width), boxes = on_stored_pixels(folder / one.path, one.boxes)
        stored.append(replace(one, size=(width, height), boxes=boxes.astype(np.float32)))
    return stored


def assert_on_the_objects(annotations, folder):
    assert len(annotations) == len(PATHS)
    for one in annotations:
        wanted = bright_box(read_image(folder / one.path).permute(1, 2, 0).numpy())
        np.testing.assert_allclose(one.boxes, [wanted], atol=1e-3)


@pytest.mark.parametrize("name", FORMATS)
def test_boxes_drawn_upright_come_back_on_the_objects(tmp_path, photographs, name):
    source = exported(name, tmp_path / "x", upright(photographs), CLASSES)
    for orientation in (None, "upright"):
        found = read_annotations(make(name), source, CLASSES, photographs, PATHS, orientation)
        assert_on_the_objects(found, photographs)


@pytest.mark.parametrize("name", FORMATS)
def test_boxes_drawn_on_stored_pixels_come_back_on_the_objects(tmp_path, photographs, name):
    stored = on_stored(upright(photographs), photographs)
    assert {one.size for one in stored} == {(WIDTH, HEIGHT)}
    assert len({tuple(one.boxes[0]) for one in stored}) == 1  # it is one and the same object on the sensor
    source = exported(name, tmp_path / "x", stored, CLASSES)
    found = read_annotations(make(name), source, CLASSES, photographs, PATHS, "stored")
    assert_on_the_objects(found, photographs)
    if name == "yolo":  # which has no size to tell by
        return
    assert_on_the_objects(read_annotations(make(name), source, CLASSES, photographs, PATHS), photographs)
    with pytest.raises(TurnedImage, match=r"is 40 x 30, but 5\.png is 30 x 40: one of them is turned as EXIF tells"):
        read_annotations(make(name), source, CLASSES, photographs, PATHS, "upright")


@pytest.mark.parametrize("name", sorted({*FORMATS} - {"yolo"}))
def test_an_export_with_sizes_of_both_orientations_is_refused(tmp_path, photographs, name):
    both = [*upright(photographs)[:6], *on_stored(upright(photographs)[6:], photographs)]
    with pytest.raises(DataError, match="turned as EXIF tells"):
        read_annotations(make(name), exported(name, tmp_path / "x", both, CLASSES), CLASSES, photographs, PATHS)


def test_training_and_drawings_have_the_box_on_the_object(tmp_path, photographs):
    source = exported("label-studio", tmp_path / "x", upright(photographs), CLASSES)
    found = read_annotations(make("label-studio"), source, CLASSES, photographs, PATHS)
    targets = make_targets({"boxes": one.boxes, "labels": one.labels} for one in found)
    images = TrainingImages(np.array([str(photographs / one.path) for one in found]), targets, [])
    for pixels, target in map(images.__getitem__, range(len(PATHS))):
        box = target["boxes"][0].round().int().tolist()
        assert bright_box(pixels.permute(1, 2, 0).numpy()) == box
        picture = draw_detections(pixels, {**target, "scores": [1.0]}, CLASSES)
        scale = picture.width / pixels.shape[2]
        x1, y1, x2, y2 = (round(scale * side) for side in box)
        corners = [picture.getpixel(point) for point in ((x1, y1), (x2, y1), (x1, y2), (x2, y2))]
        assert corners == [ImageColor.getrgb(COLOURS[0])] * 4


def test_an_orientation_that_is_not_known_is_refused(photographs):
    with pytest.raises(ConfigError, match="orientation='uprigt' is not allowed; did you mean 'upright'"):
        ImageSizes(photographs, PATHS, "uprigt")
