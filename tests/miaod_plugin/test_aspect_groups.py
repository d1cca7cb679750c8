"""Batches of images of one orientation: full, without repetition, and every image once in each pass."""

from collections import Counter
from itertools import chain

import numpy as np
import pytest
from PIL import Image

from miaod_plugin import MIAOD, ObjectDetector, Supervised
from miaod_plugin.data import make_targets
from miaod_plugin.errors import DataError

HIGH, WIDE = (40, 32), (32, 40)
TARGET = {"boxes": np.array([[2.0, 2, 30, 30]], np.float32), "labels": np.array([0])}


def written(folder, shapes):
    """Write an image of each (height, width), of its number's grey, and return the paths."""
    for number, shape in enumerate(shapes):
        Image.fromarray(np.full((*shape, 3), number, np.uint8)).save(folder / f"{number}.png")
    return np.array([str(folder / f"{number}.png") for number in range(len(shapes))])


def seen(X, batch_size, max_steps, training=Supervised, n_labeled=None, **parameters):
    """Return the numbers of the images in each batch of a training."""
    batches = []

    class Watching(training):
        def losses(self, network, images, targets, stage):
            batches.append([round(image.min().item() * 255) for image in images])
            return super().losses(network, images, targets, stage)

    detector = ObjectDetector(
        "retinanet_tiny",
        ["thing"],
        detector_options={"width": 2, "fpn_channels": 4},
        training=Watching(),
        batch_size=batch_size,
        max_steps=max_steps,
        device="cpu",
        random_state=0,
        **{"group_by_aspect": True} | parameters,
    )
    n_labeled = n_labeled or len(X)
    detector.fit(X[:n_labeled], make_targets([TARGET] * n_labeled), unlabeled=X[n_labeled:])
    return batches


def test_a_batch_holds_one_kind_and_a_pass_every_image_once(tmp_path):
    X = written(tmp_path, [WIDE, HIGH, WIDE, WIDE, HIGH, (32, 32), HIGH, WIDE])
    high = {1, 4, 6}
    batches = seen(X, 2, 12)
    assert all(len(set(batch)) == 2 and len(high & set(batch)) in (0, 2) for batch in batches)
    counts = Counter(chain.from_iterable(batches[:11]))  # three passes, from which one image of each kind waits
    assert sorted(counts.values()) == [2, 2, *[3] * 6]
    kinds = [bool(high & set(batch)) for batch in batches]
    assert kinds != sorted(kinds) and kinds != sorted(kinds, reverse=True)
    assert seen(X, 2, 12) == batches and seen(X, 2, 12, group_by_aspect=False) != batches


def test_unlabelled_images_are_grouped_too(tmp_path):
    X = written(tmp_path, [WIDE, HIGH] * 6)
    batches = [batch for batch in seen(X, 2, 18, MIAOD, n_labeled=6) if min(batch) >= 6]
    assert batches and all(sum(number % 2 for number in batch) in (0, 2) for batch in batches)


@pytest.mark.parametrize("shapes", [[WIDE] * 5 + [HIGH], [WIDE] * 6])
def test_images_mix_where_a_kind_fills_no_batch(tmp_path, shapes):
    X = written(tmp_path, shapes)
    assert seen(X, 2, 6) == seen(X, 2, 6, group_by_aspect=False)


def test_an_image_without_a_size_is_named(tmp_path):
    X = written(tmp_path, [WIDE, HIGH])
    (tmp_path / "1.png").write_text("nothing")
    with pytest.raises(DataError, match=r"1\.png"):
        seen(X, 1, 1)
