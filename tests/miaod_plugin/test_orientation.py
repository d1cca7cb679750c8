"""Photographs that a camera took turned: in memory pixels, sizes and boxes are upright, whatever the files count on."""

import json
import warnings

import numpy as np
import pytest
from data_files import OBJECT
from photographs import HEIGHT, OBJECT_BOX, ORIENTATIONS, WIDTH, bright_box, save_photograph
from PIL import Image, ImageOps

from miaod_plugin.data import image_size, load_coco, load_voc, read_image, write_coco, write_voc
from miaod_plugin.errors import ConfigError, DataError


def save_voc(root, orientation: int, box, size: tuple | None = None, **options):
    """Write one photograph with a box as VOC counts it, and the ``<size>`` (height, width) if it is given."""
    save_photograph(root / "JPEGImages" / "a", orientation, **options)
    text = OBJECT.format(name="dog", box=(box[0] + 1, box[1] + 1, *box[2:]), difficult=0)
    if size is not None:
        text += f"<size><height>{size[0]}</height><width>{size[1]}</width></size>"
    for name, content in {
        "Annotations/a.xml": f"<annotation>{text}</annotation>",
        "ImageSets/Main/train.txt": "a",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return root


def save_coco(root, orientation: int, box, size: tuple | None = None):
    save_photograph(root / "images" / "a", orientation)
    entry = {"id": 1, "file_name": "a.png", **(dict(zip(("height", "width"), size, strict=True)) if size else {})}
    bbox = [box[0], box[1], box[2] - box[0], box[3] - box[1]]
    content = {
        "images": [entry],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": bbox}],
        "categories": [{"id": 1, "name": "dog"}],
    }
    (root / "instances_train.json").write_text(json.dumps(content))
    return root / "instances_train.json", root / "images"


def load(kind: str, root, exif: int, box, size=None, **options):
    if kind == "voc":
        return load_voc(save_voc(root, exif, box, size), "train", **options)
    return load_coco(*save_coco(root, exif, box, size), **options)


both_kinds = pytest.mark.parametrize("kind", ["voc", "coco"])


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_pixels_and_size_are_upright_as_pillow_turns_them(tmp_path, orientation, suffix):
    save_photograph(tmp_path / "a", orientation, suffix)
    with Image.open(tmp_path / f"a{suffix}") as image:
        upright = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    np.testing.assert_array_equal(read_image(tmp_path / f"a{suffix}").permute(1, 2, 0).numpy(), upright)
    assert image_size(tmp_path / f"a{suffix}") == upright.shape[:2]


@both_kinds
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_boxes_on_stored_pixels_lie_on_the_same_object_of_the_upright_image(tmp_path, kind, orientation):
    data = load(kind, tmp_path, orientation, OBJECT_BOX, (HEIGHT, WIDTH), orientation="stored")
    assert data.y[0]["boxes"].tolist() == [bright_box(read_image(data.X[0]).permute(1, 2, 0).numpy())]


@both_kinds
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_boxes_drawn_upright_stay_as_they_are(tmp_path, kind, orientation):
    save_photograph(tmp_path / "a", orientation)
    upright = read_image(tmp_path / "a.png").permute(1, 2, 0).numpy()
    box = bright_box(upright)
    data = load(kind, tmp_path / "data", orientation, box, upright.shape[:2], orientation="upright")
    assert data.y[0]["boxes"].tolist() == [box]


@both_kinds
@pytest.mark.parametrize(
    ("orientation", "size", "mend"), [("stored", (40, 30), "upright"), ("upright", (30, 40), "stored")]
)
def test_a_size_that_tells_of_the_other_orientation_is_refused_with_exif_and_the_mend(
    tmp_path, kind, orientation, size, mend
):
    with pytest.raises(
        DataError, match=f"a.* is {size[1]} x {size[0]}, but .* EXIF orientation 6: pass orientation='{mend}'"
    ):
        load(kind, tmp_path, 6, (5, 3, 17, 12), size, orientation=orientation)


@both_kinds
@pytest.mark.parametrize("exif", [5, 6, 7, 8])
def test_the_orientation_is_that_whose_sizes_the_annotations_tell(tmp_path, kind, exif):
    for orientation, size in (("stored", (HEIGHT, WIDTH)), ("upright", (WIDTH, HEIGHT))):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            told = load(kind, tmp_path / orientation, exif, (5, 3, 17, 12), size)
        given = load(kind, tmp_path / "given", exif, (5, 3, 17, 12), orientation=orientation)
        assert told.y[0]["boxes"].tolist() == given.y[0]["boxes"].tolist()


def test_sizes_of_both_orientations_in_one_data_set_are_refused(tmp_path):
    file, images = save_coco(tmp_path, 6, (5, 3, 17, 12), (HEIGHT, WIDTH))
    save_photograph(images / "b", 6)
    content = json.loads(file.read_text())
    content["images"].append({"id": 2, "file_name": "b.png", "height": WIDTH, "width": HEIGHT})
    file.write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"'b.png'\): is 30 x 40, but the image is 40 x 30; it fits the image upright"):
        load_coco(file, images)


@both_kinds
def test_a_box_drawn_upright_that_leaves_the_stored_image_is_refused_with_exif_and_the_mend(tmp_path, kind):
    with pytest.raises(DataError, match=r"outside its 40 x 30 image.*EXIF orientation 8: pass orientation='upright'"):
        load(kind, tmp_path, 8, (5, 3, 17, 38))
    with pytest.raises(DataError, match=r"outside its 40 x 30 image; fix it or pass on_error='skip'$"):
        load(kind, tmp_path, 3, (5, 3, 17, 38))


@both_kinds
def test_a_data_set_whose_sizes_are_all_others_is_refused(tmp_path, kind):
    with pytest.raises(DataError, match=r"is 20 x 15, but the image is 40 x 30; fix the one .* on_error='skip'"):
        load(kind, tmp_path, 1, OBJECT_BOX, (15, 20))
    with pytest.raises(DataError, match=r"left out the image, as all others; give the images"):
        load(kind, tmp_path, 1, OBJECT_BOX, (15, 20), on_error="skip")


@both_kinds
@pytest.mark.parametrize("size", [None, (0, 0), (0, 40), ("", "")])
def test_a_size_that_an_annotation_leaves_out_is_no_contradiction(tmp_path, kind, size):
    assert len(load(kind, tmp_path, 6, OBJECT_BOX, size, orientation="stored")) == 1


@both_kinds
def test_images_that_exif_turns_are_warned_of_where_nothing_tells_what_their_boxes_count_on(tmp_path, kind):
    for exif, size in ((3, (30, 40)), (6, None)):
        with pytest.warns(UserWarning, match=r"1 images are turned by their EXIF orientation; .* stored pixels; pass"):
            load(kind, tmp_path / f"{exif}", exif, OBJECT_BOX, size)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load(kind, tmp_path / "told by the size", 6, OBJECT_BOX, (30, 40))
        load(kind, tmp_path / "not turned", 1, OBJECT_BOX)
        for orientation in ("stored", "upright"):
            load(kind, tmp_path / orientation, 3, OBJECT_BOX, orientation=orientation)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_what_is_written_counts_on_stored_pixels_as_the_loaders_expect(tmp_path, orientation):
    data = load("voc", tmp_path / "in", orientation, OBJECT_BOX, orientation="stored")
    write_voc(data, tmp_path / "voc")
    write_coco(data, tmp_path / "coco")
    places = [tmp_path / "coco" / "instances_train.json", tmp_path / "coco" / "images" / "train"]
    for again in (
        load_voc(tmp_path / "voc", "train", orientation="stored"),
        load_coco(*places, orientation="stored"),
    ):
        assert again.y[0]["boxes"].tolist() == data.y[0]["boxes"].tolist()
        assert image_size(again.X[0]) == image_size(data.X[0])


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("size", [(1, 9), (9, 1), (1, 1)])
def test_images_one_pixel_wide_or_high_are_turned_too(tmp_path, orientation, size):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.arange(size[0] * size[1] * 3, dtype=np.uint8).reshape(*size, 3)).save(
        tmp_path / "a.png", exif=exif
    )
    with Image.open(tmp_path / "a.png") as image:
        upright = np.asarray(ImageOps.exif_transpose(image))
    np.testing.assert_array_equal(read_image(tmp_path / "a.png").permute(1, 2, 0).numpy(), upright)


def test_a_damaged_exif_tag_or_an_unknown_orientation_turns_nothing(tmp_path):
    pixels = save_photograph(tmp_path / "a", 9)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png").permute(1, 2, 0).numpy(), pixels)
    Image.fromarray(pixels).save(tmp_path / "b.png", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    np.testing.assert_array_equal(read_image(tmp_path / "b.png").permute(1, 2, 0).numpy(), pixels)


def test_an_orientation_that_is_not_known_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="orientation='uprigt' is not allowed; did you mean 'upright'"):
        load("voc", tmp_path, 1, OBJECT_BOX, orientation="uprigt")
