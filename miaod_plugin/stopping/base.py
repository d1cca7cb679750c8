"""What a stopping rule is: it looks at the rounds so far and says whether another is worth its cost."""

from collections.abc import Sequence
from dataclasses import dataclass

from sklearn.base import BaseEstimator


@dataclass(frozen=True)
class Round:
    """What is known once the detector of a round is trained; None where it is not known.

    Attributes
    ----------
    images : int
        Annotated images it was trained on.
    cost : float
        What annotating them has cost in all, in the unit of `SpentBudget`.
    score : float or None
        Average precision on images that are held out, in 0..1.
    agreement : float or None
        With the detections of the round before on a fixed set of images, see `agreement`.
    uncertainty : float or None
        Of the detections on a fixed set of images, see `uncertainty`.
    """

    images: int
    cost: float = 0.0
    score: float | None = None
    agreement: float | None = None
    uncertainty: float | None = None


class StoppingRule(BaseEstimator):
    """Say when to stop annotating. A subclass stores its parameters and implements `reason`."""

    def reason(self, rounds: Sequence[Round]) -> str | None:
        """Return why to stop after the last of these rounds, in a sentence's words; None to go on."""
        raise NotImplementedError

    def stop(self, rounds: Sequence[Round]) -> int | None:
        """Return after which of the rounds, counted from 0, one would have stopped; None where one never would."""
        return next((last for last in range(len(rounds)) if self.reason(rounds[: last + 1]) is not None), None)
