"""Query by committee against independent computations in numpy and scipy, and what a committee is as an estimator."""

import copy

import numpy as np
import pytest
from by_hand import iou, trained
from scipy.stats import entropy as shannon_entropy
from sklearn.base import clone

from miaod_plugin import Committee, DetectionLearner, MeanTeacher, ObjectDetector
from miaod_plugin.data import make_digit_scenes
from miaod_plugin.data.images import store_image
from miaod_plugin.errors import ConfigError, DataError
from miaod_plugin.ranking.patient import PatientDetector
from miaod_plugin.ranking.row_file import RowFile
from miaod_plugin.strategies import CommitteeSampling, CostAwareSampling, EntropySampling
from miaod_plugin.strategies.committee import disagreements

DATA = make_digit_scenes(24, n_classes=3, random_state=6)
START, POOL = DATA.X[:12], DATA.X[12:]
BRIEF = {"max_steps": 3, "optimizer": "adamw", "learning_rate": 0.004}


@pytest.fixture(scope="module")
def committee():
    """Two alike but for their seeds, and one that learned for longer; all find something."""
    return Committee([trained(DATA, 12, steps, seed) for steps, seed in ((60, 0), (60, 1), (90, 2))])


@pytest.fixture(scope="module")
def seen(committee):
    """What is found in each image, by each member."""
    predictions = zip(*(member.predict(POOL) for member in committee), strict=True)
    columns = [[(one["boxes"], one["labels"], one["scores"]) for one in image] for image in predictions]
    return [[np.column_stack(one).astype(np.float64) for one in image] for image in columns]


def by_hand(seen):
    """Return the disagreement about each object, object by object and vote by vote."""
    left = sorted(((row[5], k, row) for k, rows in enumerate(seen) for row in rows), key=lambda found: -found[0])
    objects = []
    while left:
        _, _, best = left.pop(0)
        objects.append(best)
        left = [found for found in left if found[2][4] != best[4] or iou(found[2], best) <= 0.5]
    found = []
    for best in objects:
        votes = [
            max((row[5] for row in rows if row[4] == best[4] and iou(row, best) >= 0.5), default=0.0) for rows in seen
        ]
        pairs = [[v, 1 - v] for v in votes]
        mean = np.mean(pairs, axis=0)
        found.append(np.mean([shannon_entropy(pair, mean) for pair in pairs]))  # Kullback-Leibler, in nats
    return found


def test_disagreement_is_the_mean_divergence_of_the_votes_for_an_object():
    rng = np.random.default_rng(0)
    for counts in ((6, 9, 4), (5, 0), (1, 1)):
        seen = []
        for count in counts:
            corners, sides = rng.uniform(0, 20, (count, 2)), rng.uniform(10, 40, (count, 2))
            labels, scores = rng.integers(0, 2, count), rng.uniform(0.05, 0.95, count)
            seen.append(np.column_stack([corners, corners + sides, labels, scores]))
        got, expected = disagreements(seen), by_hand(seen)
        np.testing.assert_allclose(np.sort(got), np.sort(expected), atol=1e-9)
        assert (got < sum(counts)).all() and got.max() <= np.log(2)


def test_members_that_see_the_same_agree_and_one_that_overlooks_what_others_see_does_not():
    seen = np.array([[0, 0, 20, 20, 0, 0.9], [30, 30, 50, 60, 1, 0.4], [5, 5, 5, 9, 0, 0.3]])
    assert disagreements([seen] * 3) == pytest.approx([0, 0], abs=1e-12), "a box without an area is no object"
    sure = [[0.9, 0.1], [0.9, 0.1], [0.0, 1.0]]
    expected = shannon_entropy(np.mean(sure, axis=0)) - np.mean([shannon_entropy(vote) for vote in sure])
    assert disagreements([seen[:1], seen[:1], seen[:0]]) == pytest.approx([expected])
    assert disagreements([seen[:0]] * 2).shape == (0,)


def test_utilities_are_the_disagreement_about_what_the_members_detect(committee, seen):
    objects = [by_hand(image) for image in seen]
    for aggregate in ("max", "mean", "sum"):
        expected = [getattr(np, aggregate)(image) for image in objects]
        assert np.ptp(expected) > 0.01
        utilities = CommitteeSampling(aggregate=aggregate).utilities(committee, POOL)
        np.testing.assert_allclose(utilities, expected, rtol=1e-6, atol=1e-9)
        indices, best = CommitteeSampling(aggregate=aggregate).query(committee, POOL, 4)
        assert best.tolist() == np.sort(utilities)[::-1][:4].tolist() == utilities[indices].tolist()


def test_images_in_which_no_member_detects_anything_come_last(committee, seen):
    highest = np.array([max(rows[:, 5].max(initial=0) for rows in image) for image in seen])
    strict = copy.deepcopy(committee)
    for part in (part for member in strict for part in member.network_.modules() if hasattr(part, "score_thresh")):
        part.score_thresh = float(np.sort(highest)[-4])
    indices, utilities = CommitteeSampling().query(strict, POOL, len(POOL))
    assert set(indices[:3].tolist()) == set(np.argsort(highest)[-3:].tolist())
    assert (utilities[:3] > 0).all() and (utilities[3:] == 0).all()


def test_a_query_about_one_detector_trains_the_others_with_other_seeds_and_leaves_it_as_it_is():
    detector = ObjectDetector("retinanet_tiny", DATA.classes, random_state=0, **BRIEF).fit(START[:4], DATA.y[:4])
    for classifier in detector.network_.classifiers:
        list(classifier.parameters())[-1].data += 2.5  # the last bias: boxes are found in anything
    weights = {name: tensor.clone() for name, tensor in detector.network_.state_dict().items()}
    strategy = CommitteeSampling(members=3, random_state=5)
    members = strategy.prepared(detector, POOL, None).members
    assert members[0] is detector and len({member.random_state for member in members}) == len(members) == 3
    for other in members[1:]:
        again = clone(detector).set_params(random_state=other.random_state).fit(START[:4], DATA.y[:4])
        assert all((other.network_.state_dict()[name] == x).all() for name, x in again.network_.state_dict().items())
    answer = strategy.query(detector, POOL, 3)
    np.testing.assert_array_equal(answer, CommitteeSampling().query(Committee(members), POOL, 3))
    told = strategy.prepared(detector, POOL, (START[4:8], DATA.y[4:8])).members[1]
    assert (told.X_labeled_ == START[4:8]).all(), "they learn from what is told to be annotated"
    assert all((weights[name] == tensor).all() for name, tensor in detector.network_.state_dict().items())
    assert strategy.preparing_steps(detector, 4) == 2 * 3 and strategy.preparing_steps(Committee(members), 4) == 0


def test_the_others_learn_from_the_pool_where_the_detector_has():
    detector = ObjectDetector("retinanet_tiny", DATA.classes, training=MeanTeacher(), random_state=0, **BRIEF)
    detector.fit(START[:4], DATA.y[:4], unlabeled=POOL)
    _, other = CommitteeSampling(members=2, random_state=0).prepared(detector, POOL, None)
    assert other.n_unlabeled_ == len(POOL) and CommitteeSampling(2).preparing_steps(detector, 4, 12) == 3


def test_a_learner_teaches_every_member_or_none():
    members = [ObjectDetector("retinanet_tiny", DATA.classes, random_state=seed, **BRIEF) for seed in (0, 1)]
    learner = DetectionLearner(Committee(members), CommitteeSampling(), START[:3], DATA.y[:3])
    picked, images = learner.query(POOL, n_instances=2)
    learner.teach(images, DATA.y[12:][picked])
    assert [len(member.X_labeled_) for member in members] == [5, 5]
    assert learner.score(POOL, DATA.y[12:]) == members[0].score(POOL, DATA.y[12:])
    networks = [member.network_ for member in members]
    members[1].set_params(classes=DATA.classes[:2])
    with pytest.raises(DataError, match="label"):
        learner.teach(START[:4], DATA.y[:4])
    assert [member.network_ for member in members] == networks and len(learner.X_training) == 5


def test_other_strategies_ask_the_first_member_and_one_around_it_asks_all(committee):
    first = committee.members[0]
    entropies = EntropySampling().utilities(first, POOL)
    np.testing.assert_array_equal(EntropySampling().utilities(committee, POOL), entropies)
    seconds = CostAwareSampling(EntropySampling()).utilities(first, POOL) / entropies
    utilities = CostAwareSampling(CommitteeSampling()).utilities(committee, POOL)
    np.testing.assert_allclose(utilities, CommitteeSampling().utilities(committee, POOL) * seconds, rtol=1e-6)


def test_rows_of_members_that_were_kept_need_no_second_look(committee, tmp_path):
    images, seen = [str(store_image(image, tmp_path / str(k))) for k, image in enumerate(POOL[:4])], []
    for _ in range(2):
        rows = RowFile(tmp_path / "rows", "key")
        patient = PatientDetector(committee, rows, lambda *count: seen.append(count))
        answer = CommitteeSampling().select(patient, np.array(images), 3)
    np.testing.assert_array_equal(answer, CommitteeSampling().select(committee, POOL[:4], 3))
    assert seen[-3:] == [(4, 4)] * 3 and seen.count((0, 4)) == 3


def test_what_is_no_committee_is_refused_in_one_line(committee, tmp_path):
    one = committee.members[0]
    with pytest.raises(ConfigError, match=r"^estimator: CommitteeSampling compares several detectors; give a Commi"):
        CommitteeSampling().utilities(one, POOL)
    for members in ([], [one], one, [one, "retinanet_tiny"]):
        with pytest.raises(ConfigError, match=r"^members: .* give a list of at least two detectors$"):
            CommitteeSampling().query(Committee(members), POOL, 1)
    other = ObjectDetector("retinanet_tiny", ("a", "b", "c"), max_steps=1).fit(START[:1], DATA.y[:1])
    with pytest.raises(ConfigError, match=r"^members: one knows the classes 0, 1, 2, another a, b, c;"):
        CommitteeSampling().query(Committee([one, other]), POOL, 1)
    with pytest.raises(ConfigError, match=r"a file holds one detector; save\(\) each member"):
        committee.save(tmp_path / "model.safetensors")
    one.save(tmp_path / "model.safetensors")
    loaded = ObjectDetector.load(tmp_path / "model.safetensors")
    with pytest.raises(ConfigError, match=r"^labeled: the other members train on .* query with labeled=\(X, y\)"):
        CommitteeSampling().query(loaded, POOL, 1)
    with pytest.raises(ConfigError, match=r"members: 1 is not allowed; give a whole number from 2"):
        CommitteeSampling(members=1).query(committee, POOL, 1)
