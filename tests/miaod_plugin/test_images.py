import numpy as np
import pytest
import torch
from data_files import save_image
from PIL import Image

from miaod_plugin.data import image_size, read_image
from miaod_plugin.errors import DataError


def test_files_and_arrays_give_the_same_pixels(tmp_path):
    pixels = save_image(tmp_path / "a.png")
    image = read_image(str(tmp_path / "a.png"))
    assert image.dtype == torch.uint8 and image.shape == (3, 30, 40)
    np.testing.assert_array_equal(image.permute(1, 2, 0).numpy(), pixels)
    copy = read_image(pixels)
    assert torch.equal(copy, image)
    before = pixels.copy()
    copy.zero_()
    np.testing.assert_array_equal(pixels, before)
    assert image_size(tmp_path / "a.png") == image_size(pixels) == (30, 40)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "I;16"])
def test_every_colour_mode_becomes_rgb(tmp_path, mode):
    pixels = save_image(tmp_path / "a.png")
    path = tmp_path / ("b.jpg" if mode == "CMYK" else "b.png")
    if mode == "I;16":
        Image.fromarray(pixels[..., 0].astype(np.uint16) * 257).save(path)
    else:
        Image.fromarray(pixels).convert(mode).save(path)
    image = read_image(path)
    assert image.dtype == torch.uint8 and image.shape == (3, 30, 40)
    if mode == "I;16":
        np.testing.assert_array_equal(image[0].numpy(), pixels[..., 0])


def test_pixels_stay_as_stored_whatever_the_exif_orientation(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # a camera turned by 90 degrees
    save_image(tmp_path / "a.jpg", exif=exif)
    assert read_image(tmp_path / "a.jpg").shape == (3, 30, 40) and image_size(tmp_path / "a.jpg") == (30, 40)


def test_an_unreadable_image_is_named(tmp_path):
    save_image(tmp_path / "whole.jpg")
    data = (tmp_path / "whole.jpg").read_bytes()
    for name, content in {"half.jpg": data[: len(data) // 2], "empty.jpg": b"", "text.png": b"hello"}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=f"{name}: the image does not decode") as error:
            read_image(tmp_path / name)
        assert "\n" not in str(error.value)
    for read in (read_image, image_size):
        with pytest.raises(DataError, match=r"none.jpg: no such image file"):
            read(tmp_path / "none.jpg")
    with pytest.raises(DataError, match=r"text.png: not an image"):
        image_size(tmp_path / "text.png")
    with pytest.raises(DataError, match=r"uint8 of shape \(H, W, 3\), not float64 of shape \(3, 4\)"):
        read_image(np.zeros((3, 4)))


def test_an_animation_is_refused(tmp_path):
    frames = [Image.fromarray(np.full((8, 8, 3), value, dtype=np.uint8)) for value in (0, 200)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    with pytest.raises(DataError, match=r"a.gif: an animation of 2 frames"):
        read_image(tmp_path / "a.gif")
