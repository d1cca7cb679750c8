"""Entropy with NMS and diverse prototypes against independent computations in numpy."""

import numpy as np
import pytest
import torch
from by_hand import trained
from double_precision import in_double
from scipy.stats import entropy as shannon_entropy

from miaod_plugin.data import make_digit_scenes, read_image
from miaod_plugin.strategies import ENMSSampling
from miaod_plugin.strategies.enms import prototypes

DATA = make_digit_scenes(36, n_classes=4, random_state=6)
START, POOL = DATA.X[:8], DATA.X[8:]


@pytest.fixture(scope="module")
def detector():
    return in_double(trained(DATA, 8, steps=80))


def cosine(a, b):
    return float(np.dot(a, b) / np.linalg.norm(a) / np.linalg.norm(b))


def by_hand(labels, scores, features, redundant):
    """Return for each class its entropy, highest score and prototype, detection by detection."""
    left, taken = list(range(len(labels))), []
    while left:
        entropies = {k: shannon_entropy([scores[k], 1 - scores[k]]) for k in left}
        best = max(left, key=entropies.get)
        taken.append((best, entropies[best]))
        left = [
            k for k in left
            if k != best and not (labels[k] == labels[best] and cosine(features[k], features[best]) > redundant)
        ]  # fmt: skip
    found = {}
    for label in sorted(set(labels)):
        own = [(k, h) for k, h in taken if labels[k] == label]
        prototype = sum(h * features[k] for k, h in own) / sum(h for _, h in own)
        found[int(label)] = (sum(h for _, h in own), scores[labels == label].max(), prototype)
    return found


def test_prototypes_are_those_of_what_is_left_of_an_image():
    rng = np.random.default_rng(0)
    for m in (1, 5, 30):
        labels, scores = rng.integers(0, 3, m), rng.uniform(0.05, 0.95, m)
        features = rng.normal(size=(m, 4)) + 0.5
        rows = prototypes(*(torch.from_numpy(x) for x in (labels, scores, features)), 0.5).numpy()
        expected = by_hand(labels, scores, features, 0.5)
        assert rows[:, 0].tolist() == list(expected)
        for (_, entropy, score, *prototype), (h, p, mean) in zip(rows, expected.values(), strict=True):
            assert (entropy, score) == (pytest.approx(h, rel=1e-6), pytest.approx(p, rel=1e-6))
            np.testing.assert_allclose(prototype, mean / np.linalg.norm(mean), atol=1e-6)


def seen_by_hand(detector):
    """Return what is found in each image of the pool, with the features of the cells that it was found in."""
    images = []
    for image in POOL:
        with torch.no_grad():
            outputs = detector.network_.eval()([read_image(image).float() / 255])
        found = outputs.detections[0]
        cells = np.concatenate([x[0].flatten(1).T.repeat_interleave(6, dim=0).numpy() for x in outputs.features.maps])
        columns = found["labels"].numpy(), found["scores"].double().numpy(), cells[found["instances"].numpy()]
        images.append(by_hand(*columns, 0.5))
    return images


def accepted_by_hand(images, counts, n):
    rare = sorted(range(4), key=lambda label: counts[label])[:2]
    wanted = dict.fromkeys(rare, int(np.ceil(0.75 * n / 2)))
    order = sorted(range(len(images)), key=lambda k: -sum(h for h, _, _ in images[k].values()))
    taken = []

    def differs(k):
        most = [
            max((cosine(mean, images[other][label][2]) for other in taken if label in images[other]), default=-1)
            for label, (_, _, mean) in images[k].items()
        ]
        return min(most, default=1) < 0.7

    for minority in (True, False):
        for k in order:
            there = [label for label in rare if label in images[k] and images[k][label][1] > 0.3 and wanted[label] > 0]
            if len(taken) < n and k not in taken and differs(k) and (there or not minority):
                taken.append(k)
                for label in there:
                    wanted[label] -= 1
    return (taken + [k for k in order if k not in taken])[:n]


@pytest.mark.parametrize("n", [1, 6, 27])
def test_images_are_accepted_by_their_prototypes_rare_classes_first(detector, n):
    images = seen_by_hand(detector)
    counts = np.bincount(np.concatenate([target["labels"] for target in DATA.y[:8]]), minlength=4)
    expected = accepted_by_hand(images, counts, n)
    entropies = np.array([sum(h for h, _, _ in image.values()) for image in images])
    np.testing.assert_allclose(ENMSSampling().utilities(detector, POOL), entropies, rtol=1e-6)
    indices, utilities = ENMSSampling().query(detector, POOL, n)
    assert indices.tolist() == expected
    np.testing.assert_allclose(utilities, np.minimum.accumulate(entropies[expected]), rtol=1e-6)
    assert n == 1 or indices.tolist() != np.argsort(-entropies, kind="stable")[:n].tolist()


def test_pools_without_a_detection_or_of_one_image_again_and_again_are_answered(detector):
    for pool, n in ((np.zeros_like(POOL[:4]), 3), (np.repeat(POOL[:1], 6, axis=0), 4), (POOL[:1], 1)):
        indices, utilities = ENMSSampling().query(detector, pool, n)
        assert len(set(indices.tolist())) == n and np.isfinite(utilities).all()
