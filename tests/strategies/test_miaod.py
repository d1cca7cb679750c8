"""MI-AOD's selection."""

import numpy as np
import pytest
import torch
from double_precision import in_double

from miaod_plugin import MIAODDetector, ObjectDetector, mil
from miaod_plugin.data import make_digit_scenes, make_targets
from miaod_plugin.errors import ConfigError
from miaod_plugin.mil.adapting import adapted_to
from miaod_plugin.mil.objective import mil_instances
from miaod_plugin.strategies import MIAODSampling

DATA = make_digit_scenes(10, random_state=2)


def detector(**parameters):
    parameters = {"max_steps": 20, "random_state": 0, "device": "cpu"} | parameters
    return MIAODDetector("retinanet_tiny", classes=DATA.classes, **parameters)


def by_hand(estimator, X, top_k):
    """Return the mean of the top_k largest mean squared differences of the two classifiers' scores, in numpy."""
    network, rows = estimator.network_, []
    for image in X:
        with torch.no_grad():
            heads = network([torch.from_numpy(image).permute(2, 0, 1).float() / 255]).heads
        s1, s2 = (1 / (1 + np.exp(-torch.cat(levels, dim=1)[0].double().numpy())) for levels in heads)
        rows.append(np.sort(((s1 - s2) ** 2).mean(axis=1))[::-1][:top_k].mean())
    return np.array(rows)


def test_utilities_are_the_mean_of_the_largest_instance_uncertainties():
    estimator = in_double(detector().fit(DATA.X[:4], DATA.y[:4], unlabeled=DATA.X[4:]))
    utilities = MIAODSampling(top_k=5).utilities(estimator, DATA.X[4:])
    np.testing.assert_allclose(utilities, by_hand(estimator, DATA.X[4:], 5), rtol=1e-6)
    n_instances = 6 * (64 + 16 + 4)
    default = MIAODSampling().utilities(estimator, DATA.X[4:])
    np.testing.assert_allclose(default, by_hand(estimator, DATA.X[4:], int(np.ceil(0.1 * n_instances))), rtol=1e-6)


@pytest.mark.parametrize("top_k", [5, 0.25, 10_000])
def test_utilities_leave_padding_out(top_k):
    X = np.ascontiguousarray(DATA.X[4:, :, :40])  # padded to 64 x 64
    estimator = in_double(detector().fit(DATA.X[:4], DATA.y[:4], unlabeled=DATA.X[4:]))
    heads = {f"s{k}": lambda outputs, k=k: torch.cat(outputs.heads[k], dim=1).sigmoid() for k in (0, 1)}
    s1, s2 = (scores.astype(np.float64) for scores in estimator.map_pool(X, heads).values())
    # the cells whose centre is on the image, at strides 8, 16 and 32 row by row, with six anchors each
    columns = [np.arange(stride / 2, 64, stride) < 40 for stride in (8, 16, 32)]
    on_image = np.concatenate([np.repeat(np.tile(level, len(level)), 6) for level in columns])
    uncertainties = np.sort(((s1 - s2) ** 2).mean(axis=2)[:, on_image], axis=1)[:, ::-1]
    count = {5: 5, 0.25: np.ceil(0.25 * on_image.sum()), 10_000: on_image.sum()}[top_k]
    expected = uncertainties[:, : int(count)].mean(axis=1)
    np.testing.assert_allclose(MIAODSampling(top_k=top_k).utilities(estimator, X), expected, rtol=1e-6)


@pytest.mark.parametrize("mode", ["improved", "faithful"])
def test_utilities_by_weights_are_the_weighted_uncertainties(mode):
    estimator = in_double(detector(mode=mode).fit(DATA.X[:4], DATA.y[:4], unlabeled=DATA.X[4:]))
    utilities = MIAODSampling(average="weights").utilities(estimator, DATA.X[4:])
    for image, utility in zip(DATA.X[4:], utilities, strict=True):
        with torch.no_grad():
            outputs = estimator.network_([torch.from_numpy(image).permute(2, 0, 1).float() / 255])
        s1, s2 = (1 / (1 + np.exp(-torch.cat(levels, dim=1)[0].double().numpy())) for levels in outputs.heads)
        weights = torch.cat(mil_instances(outputs, estimator.training_.options_).weights, dim=1)[0].double().numpy()
        assert utility == pytest.approx((weights * (s1 - s2) ** 2).mean(axis=1).sum(), rel=1e-6)


def test_by_weights_more_objects_make_an_image_less_uncertain_than_by_the_most_uncertain_instances():
    def growth(uncertainty):
        """Return the uncertainty of 1,000 instances with 40 objects over that with 2, all equally uncertain."""
        few, many = (objects(count) for count in (2, 40))
        return float(uncertainty(*many) / uncertainty(*few))

    def objects(count):
        f1, f2, m = torch.full((1, 1000, 3), -6.0), torch.full((1, 1000, 3), -6.0), torch.zeros(1, 1000, 4)
        m[..., 3] = 4  # background, but for the objects
        f1[:, :count, 1], f2[:, :count, 1], m[:, :count, 1], m[:, :count, 3] = 1.0, 2.0, 4.0, 0.0
        return [f1], [f2], [m]

    def by_weights(f1, f2, m):
        weights = [mil.instance_weights(f1[0], f2[0], m[0], attention="logit")]
        return mil.weighted_uncertainty(f1, f2, weights)

    assert growth(lambda f1, f2, m: mil.image_uncertainty(f1, f2, top_k=0.1)) > 15
    assert 1 < growth(by_weights) < 2


def test_an_average_that_does_not_exist_is_refused():
    estimator = detector().fit(DATA.X[:4], DATA.y[:4])
    with pytest.raises(ConfigError, match="average: 'mean' is not allowed; give 'top_k' or 'weights'"):
        MIAODSampling(average="mean").utilities(estimator, DATA.X[4:])


def test_a_detector_that_saw_no_unlabelled_image_is_adapted_to_the_pool_without_changing():
    estimator = detector().fit(DATA.X[:4], DATA.y[:4])
    weights = {name: tensor.clone() for name, tensor in estimator.network_.state_dict().items()}
    indices, adapted = MIAODSampling().query(estimator, DATA.X[4:], 6)
    as_it_is = MIAODSampling(adapt=False).query(estimator, DATA.X[4:], 6)
    assert not np.allclose(adapted, as_it_is[1])
    np.testing.assert_array_equal(MIAODSampling().select(estimator, DATA.X[4:], 6), as_it_is)
    np.testing.assert_array_equal(np.sort(MIAODSampling().utilities(estimator, DATA.X[4:]))[::-1], as_it_is[1])
    assert all(torch.equal(tensor, weights[name]) for name, tensor in estimator.network_.state_dict().items())
    expected = MIAODSampling().utilities(adapted_to(estimator, DATA.X[4:]), DATA.X[4:])
    np.testing.assert_array_equal(adapted, expected[indices])


def test_a_detector_that_saw_unlabelled_images_is_asked_as_it_is():
    estimator = detector().fit(DATA.X[:4], DATA.y[:4], unlabeled=DATA.X[4:])
    as_it_is = MIAODSampling(adapt=False).query(estimator, DATA.X[4:], 6)
    np.testing.assert_array_equal(MIAODSampling(adapt=True).query(estimator, DATA.X[4:], 6), as_it_is)


def test_adapting_goes_through_the_adversarial_rounds():
    estimator = detector().fit(DATA.X[:4], DATA.y[:4])
    adapted = adapted_to(estimator, DATA.X[4:])
    assert adapted.n_unlabeled_ == 4 and estimator.n_unlabeled_ == 0
    assert {"classification", "box_regression", "image_classification"} == set(adapted.losses_)
    assert adapted.n_steps_ == 20 - 4  # of 34 passes, 6 are label-set training before: 20 * 6 / 34 steps


def test_adapting_copies_the_network_and_neither_the_labelled_images_nor_the_callback():
    class Queue:
        def __call__(self, event):
            pass

        def __deepcopy__(self, memo):
            raise TypeError("a queue cannot be copied")

    estimator = detector(on_step=Queue()).fit(DATA.X[:4], DATA.y[:4])
    adapted = adapted_to(estimator, DATA.X[4:])
    assert adapted.X_labeled_ is estimator.X_labeled_ and adapted.y_labeled_ is estimator.y_labeled_
    assert adapted.network_ is not estimator.network_ and adapted.on_step is None


def test_a_supervised_detector_is_refused_in_one_line():
    estimator = ObjectDetector("retinanet_tiny", classes=DATA.classes, max_steps=1).fit(DATA.X[:2], DATA.y[:2])
    with pytest.raises(ConfigError, match=r"trained by MIAOD, not by Supervised; .*\(label_set or miaod\)"):
        MIAODSampling().query(estimator, DATA.X[4:], 1)


def test_a_loaded_detector_adapts_once_it_is_told_what_it_learned_from(tmp_path):
    fitted = detector().fit(DATA.X[:4], DATA.y[:4])
    fitted.save(tmp_path / "model.safetensors")
    loaded = ObjectDetector.load(tmp_path / "model.safetensors")
    for labeled in (None, DATA.X[:4]):
        with pytest.raises(ConfigError, match=r"^labeled: .*query with labeled=\(X, y\), or with adapt=False$"):
            MIAODSampling().query(loaded, DATA.X[4:], 1, labeled=labeled)
    expected = MIAODSampling().query(fitted, DATA.X[4:], 6)
    answer = MIAODSampling().query(loaded, DATA.X[4:], 6, labeled=(DATA.X[:5], make_targets([*DATA.y[:4], None])))
    np.testing.assert_array_equal(answer, expected)
    assert not hasattr(loaded, "X_labeled_")


@pytest.mark.parametrize("top_k", [5.5, 0, -1, 0.0, "5", True, float("nan")])
def test_a_top_k_that_is_neither_a_number_of_instances_nor_a_share_is_refused(top_k):
    with pytest.raises(ConfigError, match=r"top_k: .* is not allowed; give a whole number from 1"):
        MIAODSampling(top_k=top_k).query(detector(), DATA.X[4:], 1)
