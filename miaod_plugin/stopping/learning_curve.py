"""The learning curve as a power law, ``score(n) = a - b n^-c``, and what it expects of annotating more.

Power laws describe learning curves over the number of examples well (Hestness et al., *Deep learning scaling is
predictable, empirically*, 2017; Figueroa et al., *Predicting sample size required for classification performance*,
2012). With a handful of rounds the exponent is anybody's guess: instead of one best fit, all exponents are weighed by
how well they fit, so that the interval says how little a few points know.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from ..errors import MiaodError
from .base import Round

CONFIDENCE = 0.95
FEWEST = 3  # rounds that say anything about three unknowns
LATEST = 5
NOISE, NOISE_ROUNDS = 0.01, 2  # a score's standard error before anything is seen, and how many rounds that counts for
EXPONENTS = np.geomspace(0.05, 2, 60)
_GRID = np.linspace(-1, 2, 6001)  # scores and gains at which distributions are computed


@dataclass(frozen=True)
class Expected:
    """A mean and the ends of its 95 % interval."""

    mean: float
    low: float
    high: float


class LearningCurve:
    """Fit ``score(n) = a - b n^-c`` to the scores of the latest rounds.

    Early rounds bend away from one power law where every training takes the same number of steps: in the study
    ``digits_stopping`` all rounds so far expect 5.1 points of a round, the last five 4.7, the last three 4.1; 1.7 came.

    For each exponent c on a grid, a and b follow by linear least squares with ``b >= 0``; their uncertainty, and the
    weight of c, are those of Bayesian linear regression with flat priors and a weak prior of the noise.

    Parameters
    ----------
    images : sequence of int, (n,)
        Annotated images by round, rising.
    scores : sequence of float, (n,)
        In 0..1.
    latest : int
        How many of the last rounds to look at.

    Raises
    ------
    MiaodError
        Fewer than three rounds, or images that do not rise.
    """

    def __init__(self, images: Sequence[int], scores: Sequence[float], latest: int = LATEST):
        n, y = (np.asarray(values[-latest:], dtype=float) for values in (images, scores))
        if n.shape != y.shape or len(n) < FEWEST or n[0] <= 0 or (np.diff(n) <= 0).any():
            raise MiaodError(f"a learning curve needs {FEWEST} rounds or more with rising images, got {n.tolist()}")
        self._last = n[-1]
        x = (n / self._last) ** -EXPONENTS[:, None]  # (exponents, rounds), scaled for the numbers' sake
        centred = x - x.mean(axis=1, keepdims=True)
        spread = (centred**2).sum(axis=1)
        self._b = np.maximum(-(centred @ (y - y.mean())) / spread, 0.0)
        self._a = y.mean() + self._b * x.mean(axis=1)
        rest = ((y - self._a[:, None] + self._b[:, None] * x) ** 2).sum(axis=1) + NOISE_ROUNDS * NOISE**2
        self._freedom = len(n) - 2 + NOISE_ROUNDS
        weight = -self._freedom / 2 * np.log(rest) - np.log(spread) / 2
        self._weight = np.exp(weight - weight.max())
        self._weight /= self._weight.sum()
        self._variance = rest / self._freedom
        self._mean_x, self._spread, self._rounds = x.mean(axis=1), spread, len(n)

    @classmethod
    def of(cls, rounds: Iterable[Round]) -> "LearningCurve | None":
        """Return the curve of rounds, by their images; of several with as many, the last one counts.

        None before three of them, with different numbers of images, have a score.
        """
        scores = {one.images: one.score for one in rounds if one.score is not None and one.images > 0}
        images = sorted(scores)
        return cls(images, [scores[n] for n in images]) if len(images) >= FEWEST else None

    @property
    def rounds(self) -> int:
        """How many rounds it looks at."""
        return self._rounds

    def score_at(self, images: int) -> Expected:
        """Return the expected score with so many annotated images, in 0..1."""
        x = (images / self._last) ** -EXPONENTS
        variance = 1 / self._rounds + (x - self._mean_x) ** 2 / self._spread
        return self._expected(self._a - self._b * x, variance)

    def gain(self, images: int) -> Expected:
        """Return what so many more annotated images are expected to add to the score; never less than 0."""
        step = 1 - (1 + images / self._last) ** -EXPONENTS
        return self._expected(self._b * step, step**2 / self._spread)

    def _expected(self, means: np.ndarray, variances: np.ndarray) -> Expected:
        """Return the mean and interval of the mixture over the exponents, of what is in 0..1."""
        scale = np.sqrt(self._variance * variances)
        below = stats.t.cdf((_GRID[:, None] - means) / scale, self._freedom) @ self._weight
        ends = np.interp([(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], below, _GRID)
        mean, low, high = (float(min(max(value, 0.0), 1.0)) for value in (means @ self._weight, *ends))
        return Expected(mean, low, high)
