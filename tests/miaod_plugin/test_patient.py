"""Long passes over image files that are stopped and gone on with."""

import os

import numpy as np
import pytest

from miaod_plugin import ObjectDetector
from miaod_plugin.data import load_folder, make_digit_scenes
from miaod_plugin.data.images import store_image
from miaod_plugin.ranking.found import FOUND
from miaod_plugin.ranking.patient import BrokenImages, PatientDetector
from miaod_plugin.ranking.row_file import RowFile
from miaod_plugin.strategies import CoreSetSampling, EntropySampling


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    for k, image in enumerate(make_digit_scenes(7, random_state=0).X):
        store_image(image, folder / str(k))
    return load_folder(folder).X


@pytest.fixture(scope="module")
def estimator():
    data = make_digit_scenes(4, random_state=1)
    detector = ObjectDetector("retinanet_tiny", data.classes, max_steps=8, score_batch_size=2, random_state=0)
    return detector.fit(data.X, data.y)


def stop_after(count):
    def on_progress(done, total):
        if done >= count:
            raise KeyboardInterrupt

    return on_progress


@pytest.mark.parametrize("reducers", [FOUND, {"embeddings": lambda outputs: outputs.embeddings}])
def test_a_pass_that_was_stopped_goes_on_and_ends_with_the_same_rows(tmp_path, estimator, images, reducers):
    whole = estimator.map_pool(images, reducers)
    with pytest.raises(KeyboardInterrupt):
        PatientDetector(estimator, RowFile(tmp_path / "rows", "key"), stop_after(4)).map_pool(images, reducers)
    seen = []
    detector = PatientDetector(estimator, RowFile(tmp_path / "rows", "key"), lambda *count: seen.append(count))
    rows = detector.map_pool(images, reducers)
    assert seen == [(4, 7), (6, 7), (7, 7)]
    for name, expected in whole.items():
        assert rows[name].dtype == expected.dtype and len(rows[name]) == 7
        for row, wanted in zip(rows[name], expected, strict=True):
            np.testing.assert_array_equal(row, wanted)


@pytest.mark.parametrize("change", ["image", "key", "damage", "truncate"])
def test_rows_of_what_has_changed_are_not_taken_up(tmp_path, estimator, images, change):
    path, reducers = tmp_path / "rows", {"embeddings": lambda outputs: outputs.embeddings}
    PatientDetector(estimator, RowFile(path, "key"), lambda *_: None).map_pool(images, reducers)
    whole = bytearray(path.read_bytes())
    if change == "image":
        os.utime(images[2], ns=(0, 0))
    if change == "damage":
        whole[-5] ^= 1
    path.write_bytes(whole[:-9] if change == "truncate" else whole)
    seen = []
    rows = RowFile(path, "other" if change == "key" else "key")
    PatientDetector(estimator, rows, lambda *count: seen.append(count)).map_pool(images, reducers)
    assert seen[0] == (6 if change == "image" else 0, 7)


@pytest.mark.parametrize("strategy", [EntropySampling(), CoreSetSampling()])
def test_a_query_after_broken_images_looks_only_at_what_is_new(tmp_path, estimator, images, strategy):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    seen = []
    detector = PatientDetector(estimator, RowFile(tmp_path / "rows", "key"), lambda *count: seen.append(count))
    with pytest.raises(BrokenImages) as error:
        strategy.query(detector, np.array([*images[:5], str(broken)]), 2, labeled=images[5:])
    assert list(error.value.errors) == [str(broken)] and str(broken) in str(error.value)
    seen.clear()
    detector.begin()
    picked, utilities = strategy.query(detector, images[:5], 2, labeled=images[5:])
    assert (5, 5) in seen and all(done == of for done, of in seen), "nothing is looked at again"
    expected = strategy.query(estimator, images[:5], 2, labeled=images[5:])
    np.testing.assert_array_equal(picked, expected[0])
    np.testing.assert_allclose(utilities, expected[1], rtol=1e-3, atol=1e-6)


def test_passes_of_one_query_that_look_alike_are_told_apart(tmp_path, estimator, images):
    def scaled(detector):
        return [detector.map_pool(images, {"u": lambda out, k=k: out.embeddings[:, 0] * k})["u"] for k in (1.0, 3.0)]

    for _ in range(2):  # the second detector has the rows of the first
        once, thrice = scaled(PatientDetector(estimator, RowFile(tmp_path / "rows", "key"), lambda *_: None))
        np.testing.assert_allclose(thrice, 3 * once, rtol=1e-6)
    assert np.abs(once).max() > 0
