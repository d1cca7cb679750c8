import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from data_files import save_image
from image_files import image_files, png
from PIL import Image
from torchvision.io import ImageReadMode, decode_image
from torchvision.transforms.v2.functional import to_dtype

from miaod_plugin.data import image_size, read_image
from miaod_plugin.errors import DataError

FILES = image_files()


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


@pytest.mark.parametrize("name", FILES)
def test_every_kind_of_file_becomes_rgb_with_the_bits_of_torchvisions_decoder(tmp_path, name):
    (tmp_path / name).write_bytes(FILES[name])
    image = read_image(tmp_path / name)
    theirs = to_dtype(decode_image(str(tmp_path / name), mode=ImageReadMode.RGB), torch.uint8, scale=True)
    assert torch.equal(image, theirs) and image.stride() == theirs.stride()
    assert image.dtype == torch.uint8 and tuple(image.shape[1:]) == image_size(tmp_path / name) == (29, 37)


def test_a_photograph_with_its_preview_in_one_file_is_one_image(tmp_path):
    first, preview = (Image.fromarray(np.full((8, 8, 3), value, dtype=np.uint8)) for value in (0, 200))
    first.save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=[preview])
    assert read_image(tmp_path / "a.jpg").max() == 0


DAMAGE = """
import random, sys
from pathlib import Path
from image_files import image_files
from miaod_plugin.data import image_size, read_image
from miaod_plugin.errors import DataError

rng, outcomes = random.Random(0), {"read": 0, "refused": 0}
for name, content in image_files().items():
    path = Path(sys.argv[1], name)
    for case in range(16):
        damaged = bytearray(content[: rng.randrange(len(content))] if case < 4 else content)
        for _ in range(case % 4):
            damaged[rng.randrange(len(damaged)) if damaged else slice(0)] = rng.randrange(256) if damaged else b""
        path.write_bytes(damaged)
        for read in (read_image, image_size):
            try:
                read(path)
                outcomes["read"] += 1
            except DataError as error:
                assert str(error).startswith(str(path)) and len(str(error)) < 500, error
                outcomes["refused"] += 1
print(outcomes["read"] > 50, outcomes["refused"] > 50)
"""


def test_a_damaged_image_of_any_kind_is_refused_in_one_line_or_read_and_never_ends_the_process(tmp_path):
    command = [sys.executable, "-c", DAMAGE, str(tmp_path)]
    done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout == "True True\n", done.stderr


def test_a_small_file_that_tells_of_very_many_pixels_is_refused_by_its_header(tmp_path):
    side = struct.pack(">H", 26_000)
    jpeg = bytearray(FILES["rgb.jpg"])
    frame = jpeg.index(b"\xff\xc0")
    jpeg[frame + 5 : frame + 9] = side + side
    gif = bytearray(FILES["palette.gif"])
    gif[6:10] = struct.pack("<HH", 26_000, 26_000)
    for name, content in {"a.png": png(8, 2, 3, 26_000, 26_000), "b.jpg": jpeg, "c.gif": gif}.items():
        (tmp_path / name).write_bytes(content)
        for read in (read_image, image_size):
            start = time.perf_counter()
            with pytest.raises(DataError, match=f"{name}: has more than 178,956,970 pixels"):
                read(tmp_path / name)
            assert time.perf_counter() - start < 0.5


def test_formats_that_run_other_programs_are_not_opened(tmp_path):
    Image.fromarray(np.zeros((8, 8, 3), dtype=np.uint8)).save(tmp_path / "a.png", format="EPS")
    with pytest.raises(DataError, match=r"a.png: .*not JPEG, PNG, WebP or GIF"):
        read_image(tmp_path / "a.png")


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
    with pytest.raises(DataError, match=r"text.png: the image does not decode \(not JPEG, PNG, WebP or GIF\)"):
        image_size(tmp_path / "text.png")
    with pytest.raises(DataError, match=r"uint8 of shape \(H, W, 3\), not float64 of shape \(3, 4\)"):
        read_image(np.zeros((3, 4)))


def test_an_animation_is_refused(tmp_path):
    frames = [Image.fromarray(np.full((8, 8, 3), value, dtype=np.uint8)) for value in (0, 200)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    with pytest.raises(DataError, match=r"a.gif: an animation of 2 frames"):
        read_image(tmp_path / "a.gif")
