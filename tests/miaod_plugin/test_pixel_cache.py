"""Images that are decoded once: the same pixels, whatever becomes of the cache's file."""

import logging
import os
import resource
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock
from image_files import image_files
from PIL import Image
from torch.utils.data import DataLoader

from miaod_plugin import ObjectDetector
from miaod_plugin.data import make_digit_scenes, read_image, write_voc
from miaod_plugin.data import pixel_cache as module
from miaod_plugin.data.pixel_cache import PixelCache
from miaod_plugin.errors import ConfigError, DataError
from miaod_plugin.pool import PoolImages

IMAGE, BEGIN, HEADER = 3 * 20 * 30, 16, 44  # bytes


def png_files(folder: Path, n: int) -> list[str]:
    """Write images of 20 x 30 pixels, each of one colour of its own."""
    for k in range(n):
        Image.fromarray(np.full((20, 30, 3), k, np.uint8)).save(folder / f"{k}.png")
    return [str(folder / f"{k}.png") for k in range(n)]


def overwrite(path: str | Path) -> None:
    """Make an image file undecodable without changing what tells that it has changed."""
    state = os.stat(path)
    Path(path).write_bytes(bytes(state.st_size))
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))


def read_all(paths: list[str], cache: PixelCache) -> list[int]:
    """Read images of one colour, and return the colours."""
    images = [cache.read(path) for path in paths]
    assert all(image.shape == (3, 20, 30) and (image == image[0, 0, 0]).all() for image in images)
    return [int(image[0, 0, 0]) for image in images]


@pytest.mark.parametrize("name", image_files())
def test_every_kind_of_file_comes_from_the_cache_with_the_bits_and_strides_of_its_decoding(tmp_path, name):
    path, cache = tmp_path / name, PixelCache(tmp_path / "cache", 10**6)
    path.write_bytes(image_files()[name])
    decoded = read_image(path)
    first = cache.read(path)
    overwrite(path)
    for image in (first, cache.read(path), PixelCache(tmp_path / "cache", 10**6).read(str(path))):
        assert torch.equal(image, decoded) and image.stride() == decoded.stride()
    cache.read(path).zero_()  # what is read belongs to who reads it
    assert torch.equal(cache.read(path), decoded)


def test_a_file_that_has_changed_is_decoded_anew(tmp_path):
    path, cache = tmp_path / "a.bmp.png", PixelCache(tmp_path / "cache", 10**6)
    for colour, time in ((1, 100), (2, 200), (3, 200)):
        Image.fromarray(np.full((20, 30, 3), colour, np.uint8)).save(path, compress_level=colour)
        os.utime(path, (time, time))
        assert read_all([path, path], cache) == [colour, colour]
    path.unlink()
    with pytest.raises(DataError, match="no such image file"):
        cache.read(path)


def test_arrays_are_not_kept_and_images_that_do_not_decode_are_refused_each_time(tmp_path):
    cache = PixelCache(tmp_path / "cache", 10**6)
    pixels = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    assert torch.equal(cache.read(pixels), read_image(pixels))
    (tmp_path / "a.png").write_bytes(b"no image")
    for _ in range(2):
        with pytest.raises(DataError, match=r"a\.png: the image does not decode"):
            cache.read(tmp_path / "a.png")
    assert not (tmp_path / "cache").exists()


def test_the_cache_never_grows_beyond_its_bound(tmp_path):
    paths, bound = png_files(tmp_path, 6), BEGIN + 3 * (HEADER + IMAGE) + 1
    cache = PixelCache(tmp_path / "cache", bound)
    for _ in range(2):
        assert read_all(paths, cache) == list(range(6))
        assert (tmp_path / "cache").stat().st_size == bound - 1
    overwrite(paths[2])
    assert cache.read(paths[2]).max() == 2
    overwrite(paths[3])
    with pytest.raises(DataError):
        cache.read(paths[3])


def test_the_workers_of_a_loader_share_one_cache_with_each_other_and_with_this_process(tmp_path):
    paths = np.array(png_files(tmp_path, 40) * 2)
    own = PixelCache(tmp_path / "cache", 10**6)
    loader = DataLoader(PoolImages(paths, PixelCache(tmp_path / "cache", 10**6).read), 1, num_workers=2)
    assert [int(image.max()) for image in loader] == [*range(40)] * 2
    assert (tmp_path / "cache").stat().st_size == BEGIN + 40 * (HEADER + IMAGE)  # each image once
    for path in paths[:40]:
        overwrite(path)
    assert read_all(paths.tolist(), own) == [*range(40)] * 2


@pytest.mark.parametrize("left", [0, 3, BEGIN, BEGIN + 7, BEGIN + HEADER, BEGIN + HEADER + IMAGE + 9])
def test_what_a_killed_process_had_begun_to_write_is_overwritten(tmp_path, left):
    paths, file = png_files(tmp_path, 3), tmp_path / "cache"
    begun = PixelCache(file, 10**6)
    read_all(paths, begun)
    os.truncate(file, left)
    for cache in (begun, PixelCache(file, 10**6)):
        assert read_all(paths, cache) == [0, 1, 2]
        assert file.stat().st_size == BEGIN + 3 * (HEADER + IMAGE)


@pytest.mark.parametrize(
    ("offset", "content"),
    [
        (BEGIN, b"\1"),  # another key
        (BEGIN + 32, struct.pack("<II", 2**32 - 1, 2**32 - 1)),
        (BEGIN + 32, struct.pack("<II", 10_000, 10_000)),
        (BEGIN + 32, struct.pack("<II", 0, 30)),
        (BEGIN + 32, struct.pack("<II", 30, 20)),  # as many pixels
        (BEGIN + 40, b"\0\0\0\0"),
        (BEGIN + HEADER + 5, b"\xff"),
    ],
)
def test_damage_costs_time_and_changes_no_pixel(tmp_path, offset, content):
    paths, file = png_files(tmp_path, 3), tmp_path / "cache"
    before = PixelCache(file, 10**6)
    read_all(paths, before)
    with open(file, "r+b") as opened:
        opened.seek(offset)
        opened.write(content)
    for cache in (before, PixelCache(file, 10**6)):
        assert read_all(paths + paths, cache) == [0, 1, 2] * 2
        assert file.stat().st_size <= BEGIN + 4 * (HEADER + IMAGE)


def test_a_cache_that_is_deleted_begins_anew(tmp_path):
    paths, file = png_files(tmp_path, 3), tmp_path / "cache"
    cache, other = PixelCache(file, 10**6), PixelCache(file, 10**6)
    read_all(paths, cache)
    file.unlink()
    read_all(paths[1:] + paths, other)
    assert read_all(paths, cache) == [0, 1, 2]
    assert file.stat().st_size == BEGIN + 3 * (HEADER + IMAGE)


@pytest.mark.parametrize("content", [b"", b"a photograph", bytes(100)])
def test_something_else_in_its_place_is_refused_and_left_alone(tmp_path, content):
    file, paths = tmp_path / "cache", png_files(tmp_path, 1)
    begun = PixelCache(file, 10**6)
    file.write_bytes(content)
    if content:
        with pytest.raises(ConfigError, match=r"cache: .*: is no cache of pixels; give another file"):
            ObjectDetector("retinanet_tiny", cache=file, max_steps=1).fit(
                np.array(paths), [{"boxes": np.array([[1, 1, 9, 9]]), "labels": np.array([0])}]
            )
        assert read_all(paths, begun) == [0]
        assert file.read_bytes() == content
    else:
        assert read_all(paths, begun) == [0]
    with pytest.raises(ConfigError, match="is no cache of pixels"):
        PixelCache(tmp_path, 10**6)


def test_a_disk_that_is_full_is_said_once_and_images_are_decoded(tmp_path, caplog):
    paths, cache = png_files(tmp_path, 4), PixelCache(tmp_path / "cache", 10**6)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (BEGIN + HEADER + IMAGE + 300, limits[1]))
    try:
        with caplog.at_level(logging.WARNING, "miaod_plugin"):
            assert [read_all(paths, cache) for _ in range(2)] == [[0, 1, 2, 3]] * 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    (line,) = caplog.messages
    assert line == f"{tmp_path}/cache: File too large; images that it does not hold are decoded each time"
    assert read_all(paths, PixelCache(tmp_path / "cache", 10**6)) == [0, 1, 2, 3]


def test_a_process_that_holds_the_lock_for_ever_holds_up_nobody(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(module, "PATIENCE", 0.01)
    paths, cache = png_files(tmp_path, 2), PixelCache(tmp_path / "cache", 10**6)
    with FileLock(tmp_path / "cache.lock"), caplog.at_level(logging.WARNING, "miaod_plugin"):
        assert read_all(paths, cache) == [0, 1]
    assert len(caplog.messages) == 1 and "could not be acquired; images that" in caplog.messages[0]


def test_the_last_of_a_disk_is_left_for_what_cannot_be_made_again(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(module, "LEAVE_FREE", 2**62)
    paths, cache = png_files(tmp_path, 2), PixelCache(tmp_path / "cache", 10**6)
    with caplog.at_level(logging.WARNING, "miaod_plugin"):
        assert read_all(paths, cache) == [0, 1]
    assert len(caplog.messages) == 1 and "GiB of the disk is free; images that" in caplog.messages[0]
    assert (tmp_path / "cache").stat().st_size == BEGIN


def test_training_and_detecting_from_the_cache_give_the_bits_of_training_from_files(tmp_path):
    scenes = make_digit_scenes(8, random_state=0)
    write_voc(scenes, tmp_path)
    X = np.array(sorted(map(str, tmp_path.glob("JPEGImages/*"))))

    def trained(**parameters):
        parameters = {"max_steps": 4, "random_state": 0, "device": "cpu"} | parameters
        detector = ObjectDetector("retinanet_tiny", scenes.classes, **parameters).fit(X[:6], scenes.y[:6])
        return detector.transform(X), detector

    from_files = trained()[0]
    cache = {"cache": tmp_path / "cache"}
    filled, detector = trained(**cache)
    detector.save(tmp_path / "model")
    for path in X:
        overwrite(path)
    kept = [trained(**cache)[0], trained(**cache, num_workers=2)[0]]
    assert all(np.array_equal(from_files, other) for other in (filled, *kept))
    loaded = ObjectDetector.load(tmp_path / "model")
    assert loaded.cache is None  # a path of the machine that trained it
    with pytest.raises(DataError, match="does not decode"):
        loaded.transform(X)
    with pytest.raises(DataError, match="does not decode"):
        trained(**cache, cache_bytes=0)
