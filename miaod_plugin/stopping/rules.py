"""The stopping rules that come with the package."""

from collections.abc import Sequence

from ..parameters import Count, NonNegative, Positive, Probability
from .base import Round, StoppingRule
from .learning_curve import FEWEST, LearningCurve


class PredictedGain(StoppingRule):
    """Stop when the learning curve expects too little of the next round.

    Parameters
    ----------
    least : float
        The gain in average precision, in 0..1, that a round must promise.
    images : int, optional
        Images of the next round; as many as the last one added when left out.

    References
    ----------
    `LearningCurve`.
    """

    def __init__(self, least: Probability = 0.01, images: Count | None = None):
        self.least = least
        self.images = images

    def reason(self, rounds: Sequence[Round]) -> str | None:
        """Return why to stop, once four rounds are scored: three points say nothing about their own noise.

        A model whose score is no more than `least` has learned nothing yet, which is no reason to stop.
        """
        curve = LearningCurve.of(rounds)
        if curve is None or curve.rounds <= FEWEST or (rounds[-1].score or 0) <= self.least:
            return None
        fewer, most = sorted({one.images for one in rounds})[-2:]  # a round may have had no more than the one before
        more = self.images or most - fewer
        gain = curve.gain(more)
        if gain.mean >= self.least:
            return None
        return (
            f"{more:,} more images are expected to add {100 * gain.mean:.1f} points"
            f" (95 %: {100 * gain.low:.1f} to {100 * gain.high:.1f}), less than {100 * self.least:g}"
        )


class StabilisedPredictions(StoppingRule):
    """Stop when the detections of two rounds' models on a fixed set of images agree no more than those before did.

    Bloodgood and Vijay-Shanker stop where the agreement passes 0.99. Detectors that are trained anew in each round
    never come near it (on digit scenes they level off at 0.66), so what counts is that the agreement rises no more.

    Parameters
    ----------
    rise : float
        How much the agreement must rise with a round, on average, see `agreement`.
    rounds : int
        Over how many rounds.

    References
    ----------
    Bloodgood and Vijay-Shanker, *A method for stopping active learning based on stabilizing predictions*, CoNLL 2009.
    """

    def __init__(self, rise: Probability = 0.02, rounds: Count = 2):
        self.rise = rise
        self.rounds = rounds

    def reason(self, rounds: Sequence[Round]) -> str | None:
        """Return why to stop, once the agreement is known for one round more than it is averaged over."""
        known = [one.agreement for one in rounds if one.agreement is not None]
        if len(known) <= self.rounds or (known[-1] - known[-1 - self.rounds]) / self.rounds >= self.rise:
            return None
        return (
            f"detections agree by {known[-1]:.2f} with those of the round before, and {self.rounds} rounds ago they did"
            f" by {known[-1 - self.rounds]:.2f}: less than {self.rise:g} more with each round"
        )


class OverallUncertainty(StoppingRule):
    """Stop when the detector has become certain on a fixed set of images.

    To be used with care: on digit scenes the uncertainty of a RetinaNet rose from 0.55 to 0.58 while its AP50 rose
    from 14 to 70, as it finds more objects and is no surer of them.

    Parameters
    ----------
    share : float
        Of the uncertainty in the first round, see `uncertainty`, below which it counts as certain.

    References
    ----------
    Zhu, Wang and Hovy, *Multi-criteria-based strategy to stop active learning for data annotation*, COLING 2008.
    """

    def __init__(self, share: Positive = 0.5):
        self.share = share

    def reason(self, rounds: Sequence[Round]) -> str | None:
        known = [one.uncertainty for one in rounds if one.uncertainty is not None]
        if len(known) < 2 or not known[0] or known[-1] >= self.share * known[0]:
            return None
        return f"the uncertainty fell to {known[-1] / known[0]:.0%} of the first round's (less than {self.share:.0%})"


class SpentBudget(StoppingRule):
    """Stop when the budget is spent.

    Parameters
    ----------
    most : float
        In the unit in which the rounds count their cost, such as hours.
    """

    def __init__(self, most: NonNegative):
        self.most = most

    def reason(self, rounds: Sequence[Round]) -> str | None:
        if not rounds or rounds[-1].cost < self.most:
            return None
        return f"the budget of {self.most:g} is spent ({rounds[-1].cost:g})"
