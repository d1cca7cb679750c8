"""Fitted models of other libraries, queried through their adapter."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.base import clone

from miaod_plugin.baselines import CoreSetSampling, EntropySampling, RandomSampling
from miaod_plugin.data import make_digit_scenes
from miaod_plugin.detectors.whole_model import ForeignModel
from miaod_plugin.errors import ConfigError
from miaod_plugin.foreign import ForeignDetector
from miaod_plugin.strategies import MIAODSampling

DATA = make_digit_scenes(6, n_classes=3, random_state=5)
GUIDE = (Path(__file__).parents[2] / "docs" / "foreign-models.md").read_text(encoding="utf-8")


class Brightness(ForeignModel):
    """A model without torch, as an ONNX session would be: one box, the surer the brighter the image, and another."""

    def __init__(self, num_classes=3, change=lambda found, vectors: (found, vectors)):
        super().__init__(num_classes)
        self.change = change

    def look(self, images):
        pixels = torch.stack(images).numpy()
        light = pixels.mean(axis=(1, 2, 3))
        found = [
            {
                "boxes": np.array([[0, 0, 9, 9], [1, 2, 3, 4]]),
                "labels": np.array([0, 2]),
                "scores": np.array([x / 9, x]),
            }
            for x in light
        ]
        return self.change(found, pixels.mean(axis=(2, 3)))


def detector(**parameters):
    return ForeignDetector(Brightness(), DATA.classes, score_batch_size=4, **parameters)


def test_it_predicts_best_first_scores_and_embeds():
    light = DATA.X.mean(axis=(1, 2, 3)) / 255
    predictions = detector().predict(DATA.X)
    np.testing.assert_allclose([found["scores"] for found in predictions], np.stack([light, light / 9], 1), rtol=1e-5)
    assert all(
        found["labels"].tolist() == [2, 0] and found["boxes"][0].tolist() == [1, 2, 3, 4] for found in predictions
    )
    y = DATA.y.copy()
    for target in y:
        target.update(boxes=np.array([[1, 2, 3, 4]], np.float32), labels=np.array([2]))
    assert detector().score(DATA.X, y) == 1.0
    np.testing.assert_allclose(detector().transform(DATA.X), DATA.X.mean(axis=(1, 2)) / 255, rtol=1e-5)


def test_strategies_that_need_no_more_ask_it():
    light = DATA.X.mean(axis=(1, 2, 3)) / 255
    certain = np.abs(light - 0.5)
    picked, _ = EntropySampling().query(detector(), DATA.X, 2)
    assert picked.tolist() == np.argsort(certain)[:2].tolist()
    picked, distances = CoreSetSampling().query(detector(), DATA.X[1:], 1, labeled=DATA.X[:1])
    colours = DATA.X.mean(axis=(1, 2)) / 255
    assert picked[0] == np.linalg.norm(colours[1:] - colours[0], axis=1).argmax() and distances[0] > 0
    assert len(RandomSampling(0).query(detector(), DATA.X, 3)[0]) == 3


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda own: own.fit(DATA.X, DATA.y), "Brightness is trained elsewhere"),
        (lambda own: own.save("model.safetensors"), "Brightness is of another library"),
        (lambda own: MIAODSampling().query(own, DATA.X), "MIAODSampling needs a detector trained by MIAOD"),
        (lambda own: EntropySampling(over="instances").query(own, DATA.X), "Brightness shows no instances"),
        (lambda own: CoreSetSampling().query(own, DATA.X), "query with labeled=X"),
        (lambda own: own.map_pool(DATA.X, {"loss": lambda outputs: outputs.losses}, y=DATA.y), "is trained elsewhere"),
        (lambda own: own.set_params(classes=["a"]).predict(DATA.X), "classes: .* are 1, but the model knows 3"),
        (lambda own: own.set_params(classes=["a", "a", "b"]).predict(DATA.X), "classes: .* is not allowed"),
    ],
)
def test_what_only_its_own_library_can_do_is_refused_in_one_line(ask, message):
    with pytest.raises(ConfigError, match=message) as caught:
        ask(detector())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda found, vectors: (found[1:], vectors), "1 detections and embeddings of shape \\(2, 3\\) for 2 images"),
        (lambda found, vectors: (found, vectors[:1]), "embeddings of shape \\(1, 3\\)"),
        (lambda found, vectors: (found, vectors[:, 0]), "embeddings of shape \\(2,\\)"),
        (lambda found, vectors: ([{**found[0], "labels": [0, 3]}] * 2, vectors), "labels 0 to 3; return 0 to 2"),
        (lambda found, vectors: ([{**found[0], "boxes": [1, 2, 3, 4]}] * 2, vectors), "return \\(m, 4\\), \\(m,\\)"),
    ],
)
def test_a_wrong_answer_of_an_adapter_is_named(change, message):
    own = ForeignDetector(Brightness(change=change), DATA.classes)
    with pytest.raises(ConfigError, match=f"Brightness.look: .*{message}"):
        own.predict(DATA.X[:2])


def test_a_pass_leaves_the_model_as_it_was_and_clones_are_alike():
    own = ForeignDetector(Brightness().eval(), DATA.classes)
    own.predict(DATA.X)
    assert not own.model.training
    np.testing.assert_array_equal(clone(own).transform(DATA.X), own.transform(DATA.X))


def test_the_guides_adapter_asks_a_model_of_transformers(tmp_path):
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    names = {}
    for block in re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL):
        exec(compile(block, "docs/foreign-models.md", "exec"), names)
    config = transformers.YolosConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=[32, 32],
        patch_size=8, num_detection_tokens=5, num_labels=3,
    )  # fmt: skip
    torch.manual_seed(0)
    model = transformers.YolosForObjectDetection(config).eval()
    processor = transformers.YolosImageProcessor(size={"height": 32, "width": 32})
    own = names["detector_of"](model, processor)
    assert own.classes_.tolist() == ["LABEL_0", "LABEL_1", "LABEL_2"]
    with torch.inference_mode():
        images = [torch.from_numpy(image).permute(2, 0, 1) / 255 for image in DATA.X]
        outputs = model(**processor(images=images, do_rescale=False, return_tensors="pt"))
    expected = processor.post_process_object_detection(outputs, 0.05, [(64, 64)] * len(images))
    for ours, theirs in zip(own.predict(DATA.X), expected, strict=True):
        assert len(ours["scores"]) == 5, "each token finds something"
        order = theirs["scores"].argsort(descending=True, stable=True)
        for name in ("boxes", "labels", "scores"):
            np.testing.assert_allclose(ours[name], theirs[name][order], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(own.transform(DATA.X), outputs.last_hidden_state.mean(dim=1), rtol=1e-4, atol=1e-5)
    assert len(names["most_uncertain"](own, DATA.X, 2)[0]) == 2
    assert set(names["most_different"](own, DATA.X[2:], 2, DATA.X[:2])[0]) <= set(range(4))
