"""CALD's selection against independent computations in numpy and scipy."""

import copy

import numpy as np
import pytest
import torch
from by_hand import iou, trained
from double_precision import in_double
from scipy.spatial.distance import jensenshannon

from miaod_plugin.data import make_digit_scenes, read_image
from miaod_plugin.strategies import CALDSampling
from miaod_plugin.strategies.cald import VIEWS

DATA = make_digit_scenes(26, n_classes=3, random_state=6)
START, POOL = DATA.X[:12], DATA.X[12:]


@pytest.fixture(scope="module")
def detector():
    return in_double(trained(DATA, 12, steps=150))


def seen_in(detector, image, view):
    """Return box, label, score and class probabilities of each detection in a view of an image."""
    with torch.no_grad():
        outputs = detector.network_.eval()([view(read_image(image)).float() / 255])
    found, p = outputs.detections[0], torch.cat(outputs.logits, dim=1)[0].double().sigmoid().numpy()
    columns = [found[name].double().numpy() for name in ("boxes", "labels", "scores")]
    return [(*row, p[k]) for *row, k in zip(*columns, found["instances"].tolist(), strict=True)]


def by_hand(detector, image):
    first, *others = [seen_in(detector, image, view) for view in VIEWS]
    least = []
    for view, other in zip(VIEWS[1:], others, strict=True):
        agreements = []
        for box, _, score, p in first if other else []:
            moved = view.boxes(torch.from_numpy(box)[None], (64, 64))[0].numpy()
            overlaps = [iou(moved, theirs[0]) for theirs in other]
            _, _, their_score, q = other[int(np.argmax(overlaps))]
            alike = 1 - jensenshannon(p, q) ** 2  # scipy's is the square root, and makes the rows sum to 1
            agreements.append(max(overlaps) + alike * (score + their_score) / 2)
        least.append(min([1.0, *(abs(value - 1.3) for value in agreements)]) if agreements else 0.0)
    return 1 - np.mean(least) if first else 1.0


def test_utilities_are_how_little_detections_agree_between_views(detector):
    expected = [by_hand(detector, image) for image in POOL]
    assert np.ptp(expected) > 0.01
    np.testing.assert_allclose(CALDSampling().utilities(detector, POOL), expected, rtol=0, atol=1e-6)


def test_an_image_without_a_detection_is_the_most_informative_or_what_one_says(detector):
    blind = copy.deepcopy(detector)
    for part in blind.network_.modules():
        if hasattr(part, "score_thresh"):
            part.score_thresh = np.sort([found["scores"][0] for found in detector.predict(POOL)])[2]
    seen = [len(found["scores"]) > 0 for found in blind.predict(POOL)]
    utilities, last = (CALDSampling(undetected=least).utilities(blind, POOL) for least in (1, 0))
    assert 0 < sum(seen) < len(POOL) and (utilities[~np.array(seen)] == 1).all()
    assert (last[~np.array(seen)] == 0).all() and (last[seen] == utilities[seen]).all()


def test_of_the_best_those_are_taken_whose_classes_diverge_most_from_the_annotated_ones(detector):
    utilities = CALDSampling().utilities(detector, POOL)
    best = np.argsort(-utilities, kind="stable")[:10]
    counts = np.mean([np.bincount(target["labels"], minlength=3) for target in DATA.y[:12]], axis=0)
    divergences = []
    for row in best:
        scores = np.zeros((5, 3))
        for k, view in enumerate(VIEWS):
            for _, label, score, _ in seen_in(detector, POOL[row], view):
                scores[k, int(label)] = max(scores[k, int(label)], score)
        p, q = (np.exp(x) / np.exp(x).sum() for x in (counts, scores.mean(axis=0)))
        divergences.append(jensenshannon(p, q) ** 2)
    expected = {best[k] for k in np.argsort(divergences)[::-1][:5]}
    indices, chosen = CALDSampling(reach=2).query(detector, POOL, 5)
    assert set(indices.tolist()) == expected != set(best[:5])
    assert chosen.tolist() == utilities[indices].tolist()


def test_images_of_several_sizes_are_seen_at_their_own(detector):
    wide = np.ascontiguousarray(POOL[:4, :40])
    assert CALDSampling().query(detector, wide, 4)[0].shape == (4,)
