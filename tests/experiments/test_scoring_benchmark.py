"""The benchmark of scoring measures what the strategies themselves answer, by the passes it says."""

import numpy as np

from miaod_plugin import MIAODDetector
from miaod_plugin.data import make_digit_scenes
from miaod_plugin.experiments.benchmarks.scoring import LABELED, both, scoring_passes
from miaod_plugin.strategies import CoreSetSampling, EntropySampling, MIAODSampling


def test_one_pass_over_the_pool_answers_as_the_strategies_do():
    data = make_digit_scenes(LABELED + 9, random_state=0)
    X = data.X[LABELED : LABELED + 6]
    detector = MIAODDetector("retinanet_tiny", data.classes, max_steps=3, score_batch_size=8, random_state=0)
    detector.fit(data.X[:LABELED], data.y[:LABELED])
    scoring, bare = both(detector, data, pool=6, picks=3)
    seen = []
    hook = detector.network_.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    picked = scoring()
    assert seen == [6, 3]
    bare()
    assert seen == [6, 3] * 2
    hook.remove()
    strategies = {"miaod": MIAODSampling(adapt=False), "entropy": EntropySampling(), "coreset": CoreSetSampling()}
    for name, strategy in strategies.items():
        np.testing.assert_array_equal(picked[name], strategy.query(detector, X, 3)[0])
    assert len(set(picked["random"].tolist())) == 3


def test_both_are_timed():
    (comparison,) = scoring_passes(pool=3, test=1, image_size=64, picks=2)
    assert comparison.ours > 0 and comparison.peer > 0
