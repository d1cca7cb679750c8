"""Starting from a whole detector's weights, of torchvision's model or of a file that `save` wrote."""

import io
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import detection

from miaod_plugin import MIAOD, MIAODDetector, ObjectDetector, Supervised
from miaod_plugin.data import make_digit_scenes
from miaod_plugin.detectors.factory import build_detector
from miaod_plugin.errors import ConfigError, MiaodError

DATA = make_digit_scenes(4, n_classes=3, random_state=5)
SMALL = {"min_size": 64, "max_size": 96}
OPTIONS = {
    "retinanet_resnet50_fpn": SMALL,
    "retinanet_resnet50_fpn_v2": SMALL,
    "fcos_resnet50_fpn": SMALL,
    "ssd300_vgg16": {},
    "ssdlite320_mobilenet_v3_large": {},
    "fasterrcnn_mobilenet_v3_large_320_fpn": SMALL,
}
OURS = {"ssdlite320_mobilenet_v3_large": {"reduced_tail": True}}


def scattered(model):
    """Return a model whose normalisation does something: statistics as training would leave them."""
    generator = torch.Generator().manual_seed(1)
    for name, buffer in model.named_buffers():
        if name.endswith("running_var"):
            buffer.copy_(torch.rand(buffer.shape, generator=generator) + 0.5)
        elif name.endswith("running_mean"):
            buffer.copy_(torch.randn(buffer.shape, generator=generator) / 10)
    return model.eval()


def their_model(name, **options):
    """Return torchvision's model of a detector, with random weights, for 91 classes."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        build = getattr(detection, name)
        return scattered(build(weights=None, weights_backbone=None, num_classes=91, **OPTIONS[name], **options))


def our_network(name, weights, training=None):
    """Return the network that a training on three classes begins with."""
    options = {**OPTIONS[name], **OURS.get(name, {}), "weights": weights}
    estimator = ObjectDetector(name, DATA.classes, detector_options=options, training=training, random_state=0)
    return estimator.untrained().network_.eval()


@torch.inference_mode()
def assert_features_and_boxes_are_those_of(theirs, network):
    image = torch.rand(3, 60, 80, generator=torch.Generator().manual_seed(2))
    outputs = network([image])
    batch, _ = theirs.transform([image])
    maps = list(theirs.backbone(batch.tensors).values())
    ours = outputs.features
    if isinstance(theirs, detection.FasterRCNN):  # whose box outputs depend on the classes
        proposals, _ = theirs.rpn(batch, dict(enumerate(maps)))
        torch.testing.assert_close(ours.anchors[0][: len(proposals[0])], proposals[0], rtol=1e-4, atol=1e-2)
        boxed = theirs.roi_heads.box_head(
            theirs.roi_heads.box_roi_pool(
                dict(zip("0123"[: len(maps) - 1] + "p", maps, strict=True)), proposals, batch.image_sizes
            )
        )
        torch.testing.assert_close(ours.maps[0][0, : len(boxed)], boxed, rtol=1e-3, atol=1e-4)
        return
    for level, expected in zip(ours.maps, maps, strict=True):
        torch.testing.assert_close(level, expected, rtol=1e-4, atol=1e-5 * expected.abs().max().item())
    found = theirs.head(maps)
    boxes = torch.cat([found[name] for name in ("bbox_regression", "bbox_ctrness") if name in found], dim=2)
    torch.testing.assert_close(outputs.boxes, boxes, rtol=1e-3, atol=1e-4 * boxes.abs().max().item())


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name == "ssd300_vgg16")) for name in OPTIONS]
)
def test_features_boxes_and_towers_are_those_of_torchvisions_model(tmp_path, name):
    theirs = their_model(name)
    torch.save(theirs.state_dict(), tmp_path / "detector.pth")
    network = our_network(name, tmp_path / "detector.pth", MIAOD())
    assert_features_and_boxes_are_those_of(theirs, network)
    given = {bits_of(tensor) for tensor in theirs.state_dict().values()}
    first, *others = [dict(head.named_parameters()) for head in (*network.classifiers, network.mil_head)]
    weights = {part: tensor for part, tensor in first.items() if tensor.ndim > 1}
    tower = {part for part, tensor in weights.items() if bits_of(tensor) in given}
    for other in others:
        assert {part for part in weights if torch.equal(weights[part], other[part])} == tower
    assert len(tower) < len(weights)
    assert bool(tower) == (name not in ("ssd300_vgg16", "fasterrcnn_mobilenet_v3_large_320_fpn"))


def bits_of(tensor):
    return tensor.detach().contiguous().numpy().tobytes()


def test_published_ones_go_by_their_name_and_add_nothing_to_variances_as_in_torchvision(tmp_path, monkeypatch):
    """The file is as torchvision's: with the names of its first version, which both of us have to understand."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    published = detection.RetinaNet_ResNet50_FPN_Weights.COCO_V1
    file = tmp_path / "hub" / "checkpoints" / Path(published.url).name
    file.parent.mkdir(parents=True)
    state = {}
    for name, tensor in their_model("retinanet_resnet50_fpn").state_dict().items():
        old = re.sub(r"(_head\.conv)\.(\d)\.0\.", lambda found: f"{found[1]}.{2 * int(found[2])}.", name)
        state[re.sub(r"(blocks\.\d)\.0\.", r"\1.", old)] = tensor
    state["backbone.body.bn1.running_var"].fill_(1e-5)  # by half of itself more matters
    torch.save(state, file)
    theirs = detection.retinanet_resnet50_fpn(weights=published, **SMALL).eval()
    network = our_network("retinanet_resnet50_fpn", "COCO_V1")
    assert_features_and_boxes_are_those_of(theirs, network)
    assert torch.equal(network.classifiers[0].conv[4].weight, theirs.head.classification_head.conv[2][0].weight)
    with pytest.raises(AssertionError, match="not close"):
        assert_features_and_boxes_are_those_of(theirs, our_network("retinanet_resnet50_fpn", file))


@pytest.fixture(scope="module")
def tiny():
    """A fitted detector of three classes."""
    return tiny_detector().fit(DATA.X, DATA.y)


def tiny_detector(cls=ObjectDetector, classes=DATA.classes, **parameters):
    options = {"width": 8, "fpn_channels": 16, **parameters.pop("detector_options", {})}
    return cls("retinanet_tiny", classes, detector_options=options, max_steps=4, random_state=0, **parameters)


@pytest.fixture
def saved(tiny, tmp_path):
    tiny.save(tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


def test_of_a_saved_detector_of_the_same_classes_everything_is_taken(tiny, saved):
    begun = tiny_detector(detector_options={"weights": saved}).untrained()
    state = tiny.network_.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in begun.network_.state_dict().items())


@pytest.mark.parametrize("cls", [ObjectDetector, MIAODDetector])
def test_of_one_of_other_classes_all_but_the_last_layers_are(tiny, saved, cls):
    begun = tiny_detector(cls, ["a", "b"], detector_options={"weights": str(saved)}).untrained().network_
    anew = tiny_detector(cls, ["a", "b"]).untrained().network_.state_dict()
    state = tiny.network_.state_dict()
    for name, tensor in begun.state_dict().items():
        if "class_logits" in name:
            assert torch.equal(tensor, anew[name]), "as without a file, and so another in each head"
        else:
            ours = name if name.startswith("detector.") else f"classifiers.0.conv.{name.split('conv.')[1]}"
            assert torch.equal(tensor, state[ours])


def test_torchvisions_names_are_read_from_safetensors_as_well(tiny, tmp_path):
    state = {}
    for name, tensor in tiny.network_.state_dict().items():
        name = name.replace("detector.retinanet.", "").replace("classifiers.0.class_logits", "classifiers.0.cls_logits")
        state[name.replace("classifiers.0.", "head.classification_head.")] = tensor.contiguous()
    save_file(state, tmp_path / "model.safetensors")
    begun = tiny_detector(detector_options={"weights": tmp_path / "model.safetensors"}).untrained().network_
    different = [
        name for name, tensor in tiny.network_.state_dict().items() if not torch.equal(tensor, begun.state_dict()[name])
    ]
    assert different == [f"classifiers.0.class_logits.{part}" for part in ("weight", "bias")], "classes are not known"


def test_a_head_that_the_file_lacks_has_a_last_layer_of_its_own(tiny, saved):
    first, second = tiny_detector(MIAODDetector, detector_options={"weights": saved}).untrained().network_.classifiers
    assert torch.equal(first.class_logits.weight, tiny.network_.classifiers[0].class_logits.weight)
    assert not torch.equal(second.class_logits.weight, first.class_logits.weight)


def test_supervised_training_starts_from_the_first_classifier_of_miaods(tmp_path):
    fitted = tiny_detector(MIAODDetector).fit(DATA.X, DATA.y)
    fitted.save(tmp_path / "miaod.safetensors")
    begun = tiny_detector(detector_options={"weights": tmp_path / "miaod.safetensors"}).untrained()
    for name, tensor in begun.network_.classifiers[0].state_dict().items():
        assert torch.equal(tensor, fitted.network_.classifiers[0].state_dict()[name])


def test_a_detector_that_started_from_a_file_is_loaded_without_it(saved, tmp_path):
    estimator = tiny_detector(detector_options={"weights": str(saved)}, warm_start=True).fit(DATA.X, DATA.y)
    estimator.save(tmp_path / "next.safetensors")
    saved.unlink()
    loaded = ObjectDetector.load(tmp_path / "next.safetensors")
    np.testing.assert_array_equal(loaded.transform(DATA.X), estimator.transform(DATA.X))
    assert loaded.fit(DATA.X, DATA.y).n_steps_ == 4, "and goes on from what it has"


class Evil:
    def __reduce__(self):
        return open, ("evil", "w")


def pickled(thing):
    file = io.BytesIO()
    torch.save(thing, file)
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no file that save\\(\\) wrote"),
        (pickle.dumps({"backbone.x": Evil()}), "no file that save\\(\\) wrote"),
        (pickled({"backbone.x": Evil(), "head.x": torch.ones(1)}), "no file that save\\(\\) wrote"),
        (pickled({"backbone.x": torch.ones(10**6), "head.x": torch.ones(1)}), "no file that save\\(\\) wrote"),
        (
            pickled({"backbone.x": torch.ones(1), "head.x": torch.ones(1)}),
            "does not fit the detector: it lacks detector.retinanet.backbone.stem.0.0.weight, .* and 50 more",
        ),
    ],
)
def test_what_is_no_detectors_file_is_refused_and_runs_no_code(tmp_path, monkeypatch, content, message):
    monkeypatch.chdir(tmp_path)
    Path("weights.pth").write_bytes(content)
    with pytest.raises(ConfigError, match=message) as caught:
        tiny_detector(detector_options={"weights": "weights.pth"}).untrained()
    assert "\n" not in str(caught.value) and not Path("evil").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 4}, "size mismatch for detector.retinanet.backbone.stem"),
        ({"head_convs": 2}, "it lacks .*regression_head.conv.1.0.weight"),
        ({"head_convs": 0}, "the detector has no "),
    ],
)
def test_a_detector_with_other_options_is_refused_with_the_first_tensor(saved, options, message):
    with pytest.raises(ConfigError, match=f"weights: .*model.safetensors does not fit the detector: {message}"):
        tiny_detector(detector_options={"weights": saved, **options}).untrained()


def test_numbers_that_are_not_finite_and_damaged_files_are_refused(saved, tmp_path):
    broken = tiny_detector().fit(DATA.X, DATA.y)
    broken.network_.classifiers[0].conv[0].weight.data.fill_(np.nan)
    broken.save(tmp_path / "broken.safetensors")
    with pytest.raises(ConfigError, match="not finite, in 'classifiers"):
        tiny_detector(detector_options={"weights": tmp_path / "broken.safetensors"}).untrained()
    saved.write_bytes(saved.read_bytes()[:-8])
    with pytest.raises(MiaodError, match="no file that save"):
        tiny_detector(detector_options={"weights": saved}).untrained()


def test_a_warm_start_goes_on_from_the_network_of_the_last_fit(tiny):
    again = tiny_detector(warm_start=True)
    first = again.fit(DATA.X, DATA.y).network_
    assert all(torch.equal(tensor, first.state_dict()[name]) for name, tensor in tiny.network_.state_dict().items())
    before = {name: tensor.clone() for name, tensor in first.state_dict().items()}
    again.set_params(learning_rate=0.0, weight_decay=0.0).fit(DATA.X, DATA.y)
    assert again.network_ is not first and again.n_steps_ == 4
    assert all(torch.equal(tensor, before[name]) for name, tensor in again.network_.named_parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in first.state_dict().items())
    again.set_params(warm_start=False).fit(DATA.X, DATA.y)
    assert any(not torch.equal(tensor, before[name]) for name, tensor in again.network_.named_parameters())


def test_a_warm_start_with_other_classes_or_another_network_is_refused_and_changes_nothing(tiny):
    again = tiny_detector(warm_start=True).fit(DATA.X, DATA.y)
    network = again.network_
    with pytest.raises(ConfigError, match="warm_start: the classes are now a, b, c, and were 0, 1, 2"):
        again.set_params(classes=["a", "b", "c"]).fit(DATA.X, DATA.y)
    again.set_params(classes=DATA.classes, detector_options={"width": 4})
    with pytest.raises(ConfigError, match="warm_start: the network so far does not fit the detector: size mismatch"):
        again.fit(DATA.X, DATA.y)
    assert again.network_ is network and again.classes_.tolist() == list(DATA.classes)


def test_a_supervised_warm_start_may_go_on_as_miaod():
    again = tiny_detector(warm_start=True).fit(DATA.X[:2], DATA.y[:2])
    again.set_params(training=MIAOD(rounds=1)).fit(DATA.X[:2], DATA.y[:2], unlabeled=DATA.X[2:])
    assert len(again.network_.classifiers) == 2
    assert len(again.set_params(training=Supervised()).fit(DATA.X, DATA.y).network_.classifiers) == 1


def test_a_stopped_warm_start_goes_on_with_the_same_bits(tmp_path):
    class Stop(Exception):
        pass

    def stop(step):
        if step["step"] == 3:
            raise Stop

    def new(**parameters):
        begun = tiny_detector(warm_start=True).fit(DATA.X, DATA.y)
        return begun.set_params(checkpoint_seconds=0.0, **parameters)

    whole = new().fit(DATA.X, DATA.y).network_.state_dict()
    stopped = new(checkpoint=tmp_path / "half.ckpt", on_step=stop)
    with pytest.raises(Stop):
        stopped.fit(DATA.X, DATA.y)
    assert (tmp_path / "half.ckpt").exists()
    steps = []
    stopped.set_params(on_step=steps.append).fit(DATA.X, DATA.y)
    assert len(steps) < 4
    assert all(torch.equal(tensor, whole[name]) for name, tensor in stopped.network_.state_dict().items())


def test_an_option_that_a_detector_lacks_is_still_named():
    with pytest.raises(ConfigError, match="has no 'wieghts'; did you mean 'weights'"):
        build_detector("retinanet_tiny", {"wieghts": None}, 3)


def test_published_ones_that_cannot_be_downloaded_are_one_line(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # where nobody listens
    with pytest.raises(ConfigError, match=r"COCO_V1 cannot be downloaded \(.*; try again") as caught:
        our_network("ssdlite320_mobilenet_v3_large", "COCO_V1")
    assert "\n" not in str(caught.value)
