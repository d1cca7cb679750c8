"""How many labels an arm saves against a reference, from result rows (see `statistics.py`)."""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from statistics import fmean

from sklearn.isotonic import isotonic_regression

from .statistics import Row, check_arm, complete_curves, curves_of, describe


def labels_saved(rows: Iterable[Row], reference: str, metric: str = "ap50", x: str = "images") -> dict[str, dict]:
    """How many labels each arm needs for what the arm `reference` ends with, and what share that saves.

    A curve that happens to fall has its last value long before its end, so that even the reference would seem to save
    labels. Therefore both curves are first made monotone by isotonic regression, and both needs are read off them.
    For each seed:

    - the target is the reference's last value on its monotone curve;
    - what an arm needs is the amount of labels at which its monotone curve first has the target, linear between
      budgets; the reference's own need may lie before its end, where its curve stops rising;
    - saved is 1 - arm's need / reference's need, negative when the arm needs more. The reference saves 0.

    An arm that is no better than the reference reaches the target by chance in about every other seed, and saves where
    it does. So a saving of one seed says little, and one that every seed has is what an arm earns by being better.

    Only seeds count for which both curves are complete (`statistics.complete_curves`).

    Returns
    -------
    dict
        Per arm: ``n`` seeds that count; ``never``, how many of them do not reach their target; ``at_start``, how many
        have it from the beginning of one of the two curves on, so that a need is unknown; ``target``, the mean over
        the seeds that count; and, unless some seed has no need, where a mean over the others would flatter, `x` (mean
        need) and ``saved``, ``low`` and ``high`` (mean and 95 % Student interval over the seeds, not beyond 1, as
        nobody saves more than all). What cannot be said is ``None``.

    Raises
    ------
    ConfigError
        No such arm.
    """
    curves = curves_of(rows, metric, x)
    check_arm(reference, curves)
    monotone = {
        key: [*zip(curve[:, 0], isotonic_regression(curve[:, 1]), strict=True)]
        for key, curve in complete_curves(curves).items()
    }
    result = {}
    for arm in curves:
        seeds = [seed for seed in curves[arm] if (arm, seed) in monotone and (reference, seed) in monotone]
        pairs = [(monotone[arm, seed], monotone[reference, seed]) for seed in seeds]
        result[arm] = _saved(pairs, x)
    return result


def _saved(pairs: Sequence[tuple], x: str) -> dict:
    """Sum up the monotone curves ``(arm's, reference's)`` of the seeds."""
    targets = [reference[-1][1] for _, reference in pairs]
    needs = [[first_reach(curve, target) for curve in both] for both, target in zip(pairs, targets, strict=True)]
    never = [arm is None for arm, _ in needs]
    at_start = [
        arm is not None and (arm <= curves[0][0][0] or reference <= curves[1][0][0])
        for (arm, reference), curves in zip(needs, pairs, strict=True)
    ]
    said = {"n": len(pairs), "never": sum(never), "at_start": sum(at_start), "target": describe(targets)["mean"]}
    if not pairs or any(never) or any(at_start):
        return said | {x: None, "saved": None, "low": None, "high": None}
    share = describe([1 - arm / reference for arm, reference in needs])
    high = None if share["high"] is None else min(share["high"], 1.0)
    return said | {x: fmean(arm for arm, _ in needs), "saved": share["mean"], "low": share["low"], "high": high}


def first_reach(points: Sequence[tuple[float, float]], target: float) -> float | None:
    """Smallest x at which the line through the points ``(x, y)`` reaches `target`, ``None`` if it never does."""
    if points and points[0][1] >= target:
        return float(points[0][0])
    for (x0, y0), (x1, y1) in pairwise(points):
        if y1 >= target:
            return float(x0 + (x1 - x0) * (target - y0) / (y1 - y0))
    return None
