"""Which instance each detection came from."""

import pytest
import torch
from tiny_detectors import TINY_OPTIONS

from miaod_plugin.data import make_digit_scenes, read_image
from miaod_plugin.detectors.network import DetectionNetwork
from miaod_plugin.randomness import seeded
from miaod_plugin.registry import DETECTORS, find, registered

C = 3
# resized and padded in several ways
IMAGES = [read_image(x).float() / 255 for x in make_digit_scenes(2, image_size=96, random_state=0).X]
IMAGES[1] = IMAGES[1][:, :60]


@pytest.fixture(scope="module", params=registered(DETECTORS))
def outputs(request):
    with seeded(0):
        network = DetectionNetwork(find(DETECTORS, request.param)(C, **TINY_OPTIONS[request.param])).eval()
    with seeded(0), torch.inference_mode():
        outputs = network(IMAGES)
        outputs.boxes = 0.3 * torch.randn_like(outputs.boxes)
        return outputs


def detections(outputs, logits):
    sizes = [level.shape[1] for level in outputs.logits]
    return outputs.network.detector.detections(list(logits.split(sizes, dim=1)), outputs.boxes, outputs.features)


def quiet(outputs):
    """Return logits ``(B, A, C)``, or with background, with which there is nothing to detect."""
    logits = torch.full_like(torch.cat(outputs.logits, dim=1), -20)
    if outputs.network.detector.background:
        logits[..., -1] = 0
    return logits


@pytest.mark.parametrize("tied", [False, True])
@torch.inference_mode()
def test_an_instance_alone_gives_the_box_the_class_and_the_score_of_its_detection(outputs, tied):
    with seeded(1):
        logits = torch.randn_like(quiet(outputs)) if not tied else quiet(outputs) * 0
    count = 0
    for k, found in enumerate(detections(outputs, logits)):
        assert found["instances"].dtype == torch.int64 and found["instances"].shape == found["labels"].shape
        pairs = list(zip(found["instances"].tolist(), found["labels"].tolist(), strict=True))
        assert len(set(pairs)) == len(pairs)
        for j in torch.linspace(0, len(pairs) - 1, min(len(pairs), 6)).long().tolist():
            instance, label = pairs[j]
            alone = quiet(outputs)
            alone[k, instance] = logits[k, instance]
            again = detections(outputs, alone)[k]
            row = again["labels"].tolist().index(label)
            torch.testing.assert_close(again["boxes"][row], found["boxes"][j])
            torch.testing.assert_close(again["scores"][row], found["scores"][j])
            assert again["instances"][row] == instance
            count += 1
    assert count > 4
