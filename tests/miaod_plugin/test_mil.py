"""The MI-AOD functions against the published implementation's numbers, and against plain numpy."""

from pathlib import Path

import numpy as np
import pytest
import torch

from miaod_plugin import mil

VECTORS = sorted((Path(__file__).parents[1] / "data" / "miaod").glob("*.npz"))


@pytest.fixture(params=VECTORS, ids=lambda path: path.stem)
def case(request):
    arrays = dict(np.load(request.param))
    levels = range(len(arrays["sizes"]))

    def pick(name):
        return [torch.from_numpy(arrays[f"{name}_{level}"]) for level in levels]

    weights = [mil.instance_weights(*logits) for logits in zip(pick("f1"), pick("f2"), pick("mil"), strict=True)]
    return arrays, pick("f1"), pick("f2"), weights, pick("instance_weight")


def test_there_are_reference_vectors():
    assert len(VECTORS) >= 6


def test_instance_weights_match_the_reference(case):
    _, _, _, weights, expected = case
    for level, reference in zip(weights, expected, strict=True):
        torch.testing.assert_close(level, reference, rtol=1e-5, atol=1e-9)


def test_losses_match_the_reference(case):
    arrays, f1, f2, weights, _ = case
    weight = float(arrays["lam"])
    assert mil.discrepancy(f1, f2, weights, weight).item() == pytest.approx(
        float(arrays["loss_discrepancy_min"]), rel=1e-5
    )
    assert mil.agreement(f1, f2, weights, weight).item() == pytest.approx(
        float(arrays["loss_discrepancy_max"]), rel=1e-5
    )


def test_image_scores_and_their_losses_match_the_reference(case):
    arrays, f1, f2, weights, _ = case
    scores = mil.image_scores(weights)
    np.testing.assert_allclose(scores.numpy(), arrays["image_score"], rtol=1e-5)
    labelled = mil.image_classification_loss(scores, torch.from_numpy(arrays["multi_hot"]))
    assert labelled.item() == pytest.approx(float(arrays["mil_loss_labelled"]), rel=1e-5)
    found = mil.pseudo_labels(f1, f2)
    np.testing.assert_array_equal(found.numpy(), arrays["pseudo_labels"])
    unlabelled = mil.pseudo_label_loss(scores, found, per_image=False)
    assert unlabelled.item() == pytest.approx(float(arrays["mil_loss_unlabelled"]), rel=1e-5)


def test_image_uncertainty_matches_the_reference(case):
    arrays, f1, f2, _, _ = case
    uncertainty = mil.image_uncertainty(f1, f2, top_k=int(arrays["k"]))
    np.testing.assert_allclose(uncertainty.numpy(), arrays["uncertainty"], rtol=1e-5)


def random_levels(seed, batch=2, sizes=(12, 5), classes=3):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(batch, size, classes, generator=generator) for size in sizes]


def test_top_k_as_a_share_counts_instances():
    f1, f2 = random_levels(0), random_levels(1)
    torch.testing.assert_close(mil.image_uncertainty(f1, f2, top_k=0.5), mil.image_uncertainty(f1, f2, top_k=9))  # 8.5


def test_top_k_beyond_all_instances_is_the_mean_of_all():
    f1, f2 = random_levels(0), random_levels(1)
    every = torch.cat([mil.instance_uncertainty(a, b) for a, b in zip(f1, f2, strict=True)], dim=1)
    torch.testing.assert_close(mil.image_uncertainty(f1, f2, top_k=10_000), every.mean(dim=1))


def test_instances_on_padding_count_for_nothing():
    f1, f2, m = random_levels(0), random_levels(1), random_levels(2)
    valid = [torch.ones(level.shape[:2], dtype=torch.bool) for level in f1]
    valid[0][1, 7:] = False
    alone = [level[1:, : 7 if k == 0 else None] for k, level in enumerate(f1)]
    alone2 = [level[1:, : 7 if k == 0 else None] for k, level in enumerate(f2)]
    padded = mil.image_uncertainty(f1, f2, top_k=6, valid=valid)[1:]
    torch.testing.assert_close(padded, mil.image_uncertainty(alone, alone2, top_k=6))
    for attention in ("probability", "logit"):
        weights = mil.instance_weights(f1[0], f2[0], m[0], attention=attention, valid=valid[0])
        unpadded = mil.instance_weights(alone[0], alone2[0], m[0][1:, :7], attention=attention)
        torch.testing.assert_close(weights[1:, :7], unpadded)
        assert (weights[1, 7:] == 0).all()


def test_a_level_that_is_all_padding_has_no_weight():
    f1, f2, m = (random_levels(seed)[0] for seed in range(3))
    valid = torch.tensor([True, False])[:, None].expand(2, 12)
    weights = mil.instance_weights(f1, f2, m, valid=valid)
    assert (weights[0] > 0).all() and (weights[1] == 0).all()


def test_a_class_is_found_from_the_threshold_on_and_not_on_padding():
    f1, f2 = torch.tensor([[[1.0, -9.0], [-9.0, 9.0]]]), torch.tensor([[[-1.0, -9.0], [-9.0, 9.0]]])
    assert mil.pseudo_labels([f1], [f2]).tolist() == [[1, 1]]  # (sigmoid(1) + sigmoid(-1)) / 2 is 0.5
    assert mil.pseudo_labels([f1], [f2], threshold=0.51).tolist() == [[0, 1]]
    assert mil.pseudo_labels([f1], [f2], valid=[torch.tensor([[True, False]])]).tolist() == [[1, 0]]


def test_attention_on_logits_finds_the_few_confident_anchors_that_probabilities_lose():
    logits = torch.full((1, 50_000, 1), -5.0)
    logits[0, :20] = 5.0
    m = torch.zeros(1, 50_000, 1)
    by_probability = mil.instance_weights(logits, logits, m)[0, :20].sum()
    by_logit = mil.instance_weights(logits, logits, m, attention="logit")[0, :20].sum()
    assert by_probability < 0.002 and by_logit > 0.85


def test_a_background_class_lets_a_single_class_be_absent():
    f = random_levels(0, classes=1)[0]
    without = mil.image_scores([mil.instance_weights(f, f, torch.zeros(2, 12, 1))])
    background = torch.tensor([-3.0, 3.0]).expand(2, 12, 2)
    absent = mil.image_scores([mil.instance_weights(f, f, background)])
    assert (without > 0.999).all() and (absent < 0.01).all()


def test_weights_are_constants_of_the_discrepancy():
    f1, f2 = random_levels(0), random_levels(1)
    weights = [torch.rand_like(level).requires_grad_() for level in f1]
    f1[0].requires_grad_()
    mil.discrepancy(f1, f2, weights).backward()
    assert f1[0].grad is not None and weights[0].grad is None


def test_the_attention_takes_no_gradient_to_the_classifiers():
    f, m = random_levels(0)[0].requires_grad_(), random_levels(1)[0].requires_grad_()
    mil.instance_weights(f, f, m, attention="logit").square().sum().backward()
    assert f.grad is None and m.grad.abs().sum() > 0


def test_an_image_without_pseudo_label_drops_only_itself_when_masked_per_image():
    scores = torch.tensor([[0.2, 0.7], [0.4, 0.1]], requires_grad=True)
    labels = torch.tensor([[0.0, 1.0], [0.0, 0.0]])
    masked = mil.pseudo_label_loss(scores, labels, per_image=True)
    assert masked.item() == pytest.approx(-(np.log(0.8) + np.log(0.7)) / 2 / 2, rel=1e-5)
    assert mil.pseudo_label_loss(scores, labels, per_image=False).item() == 0
    nothing = mil.pseudo_label_loss(scores, torch.zeros(2, 2))
    nothing.backward()
    assert nothing.item() == 0 and (scores.grad == 0).all()


def test_scores_that_are_not_numbers_give_a_loss_that_is_none():
    scores = torch.tensor([[0.3, torch.nan], [0.2, 0.9]], requires_grad=True)
    assert mil.image_classification_loss(scores, torch.ones(2, 2)).isnan()
    whole = torch.tensor([[0.3, 0.5], [0.2, 0.9]], requires_grad=True)
    loss = mil.image_classification_loss(whole, torch.ones(2, 2))
    assert loss == torch.nn.functional.binary_cross_entropy(whole, torch.ones(2, 2))
    loss.backward()
    torch.testing.assert_close(whole.grad, -1 / (4 * whole.detach()))
