"""What can be said about the arms of an experiment: pure functions on result rows and plain arrays.

A *row* is a mapping with ``arm``, ``seed``, ``cycle``, an amount of labels (``images``, ``boxes``, ...) and a metric
(``ap50``, ...), one per arm, seed and cycle, as in ``results.csv``. Rows whose metric is ``None`` or ``nan`` are left
out. Results are plain Python (float, int, None), ready for JSON; ``None`` stands for "cannot be said".
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from scipy import integrate, stats

from miaod_plugin.errors import ConfigError, MiaodError, did_you_mean

CONFIDENCE = 0.95
ENOUGH_SEEDS = 5  # three is the field's custom, but their t interval is 4.3 standard errors wide on either side
LEAST_SEEDS = 3  # for an interval at all: that of two is 12.7 standard errors wide

Row = Mapping[str, object]


def seeds_note(n: int) -> str | None:
    """Return what a reader must know about a result of `n` seeds, or ``None`` when they are enough."""
    if n < LEAST_SEEDS:
        return f"{n} seed{'' if n == 1 else 's'}: no interval or test"
    return f"only {n} seeds: read intervals and p-values with care" if n < ENOUGH_SEEDS else None


def known(value: float | None) -> bool:
    """Whether there is a metric: without ground truth it is ``nan``."""
    return value is not None and not np.isnan(value)


def describe(values: Iterable[float | None]) -> dict:
    """Mean, standard deviation (n - 1) and 95 % Student t interval of the mean of those values that are known.

    Two values have no interval, since it would be far wider than any difference that experiments show.

    Returns
    -------
    dict
        ``n``, ``mean``, ``sd``, ``low``, ``high``, ``least``, ``most`` (the extremes of the values), ``few`` (fewer
        than five values). Without a value, ``mean`` and the extremes are ``None``; ``sd`` with fewer than two,
        ``low`` and ``high`` with fewer than three.
    """
    values = np.array([value for value in values if known(value)], dtype=float)
    n = len(values)
    summary = dict.fromkeys(("mean", "sd", "low", "high", "least", "most")) | {"n": n, "few": n < ENOUGH_SEEDS}
    if n:
        mean = float(values.mean())
        summary |= {"mean": mean, "least": float(values.min()), "most": float(values.max())}
    if n > 1:
        summary["sd"] = sd = float(values.std(ddof=1))
    if n >= LEAST_SEEDS:
        half = float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1)) * sd / n**0.5
        summary |= {"low": mean - half, "high": mean + half}
    return summary


def budget_table(rows: Iterable[Row], metric: str = "ap50", x: str = "images", full: float | None = None) -> list[dict]:
    """One row per arm and cycle: the seeds' metric described, at their mean amount of labels.

    Parameters
    ----------
    full : float, optional
        The metric under full supervision (mean over seeds).

    Returns
    -------
    list of dict
        ``arm``, ``cycle``, `x` (mean over the seeds), what :func:`describe` returns, and ``ratio``: mean / `full`.
    """
    table = []
    for arm, seeds in curves_of(rows, metric, x).items():
        for cycle in sorted({cycle for curve in seeds.values() for cycle in curve}):
            points = [curve[cycle] for curve in seeds.values() if cycle in curve]
            summary = describe([value for _, value in points])
            amount = float(np.mean([amount for amount, _ in points]))
            table.append({"arm": arm, "cycle": cycle, x: amount, **summary, "ratio": ratio(summary["mean"], full)})
    return table


def ratio(value: float | None, full: float | None) -> float | None:
    """Return `value` as a fraction of full supervision; ``None`` without either or when `full` is 0."""
    return value / full if known(value) and known(full) and full else None


def area_under_curve(x: Sequence[float], y: Sequence[float], limits: tuple[float, float] | None = None) -> float:
    """Trapezoid area under ``y(x)`` divided by the x range: the mean metric over the budgets, in the metric's unit.

    Parameters
    ----------
    x, y : sequences of float, shape (n,)
        `x` never decreasing, at least two points apart.
    limits : (low, high), optional
        Part of the x range to take, within it; ``y`` is interpolated linearly at its ends.

    Raises
    ------
    MiaodError
        Fewer than two points, `x` decreasing or constant, `y` of another length, or `limits` outside of `x`.
    """
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    if x.ndim != 1 or x.shape != y.shape or len(x) < 2 or (np.diff(x) < 0).any() or x[0] == x[-1]:
        raise MiaodError(f"an area needs two increasing x or more and as many y, got x={x.tolist()}, y={y.tolist()}")
    low, high = limits or (x[0], x[-1])
    if not x[0] <= low < high <= x[-1]:
        raise MiaodError(f"limits={limits} must be an interval within {x[0]:g}..{x[-1]:g}")
    inside = (x > low) & (x < high)
    y_low, end = np.interp(low, x, y), np.searchsorted(x, high) + 1
    y_high = np.interp(high, x[:end], y[:end])  # the first of several at one x, as the line from the left reaches it
    area = integrate.trapezoid([y_low, *y[inside], y_high], [low, *x[inside], high])
    return float(area / (high - low))


def areas(rows: Iterable[Row], metric: str = "ap50", x: str = "images") -> dict[str, dict]:
    """Area under the budget curve of every arm and seed, ``{arm: {seed: area}}``.

    All areas are taken over the range of x that all complete curves cover, else an arm that picks crowded images would
    be compared over other amounts of boxes; see `complete_curves`.
    """
    curves = curves_of(rows, metric, x)
    points = complete_curves(curves)
    result = {arm: {} for arm in curves}
    low = max((float(curve[0, 0]) for curve in points.values()), default=0.0)
    high = min((float(curve[-1, 0]) for curve in points.values()), default=0.0)
    if low < high:
        for (arm, seed), curve in points.items():
            result[arm][seed] = area_under_curve(curve[:, 0], curve[:, 1], (low, high))
    return result


def paired_difference(values: Mapping, reference: Mapping) -> dict:
    """Difference to the reference over the seeds that both have, ``{seed: value}`` each.

    Returns
    -------
    dict
        What :func:`describe` says of the differences (``n`` common seeds), their ``values``, and ``p_value`` of the
        two-sided paired t-test (:func:`scipy.stats.ttest_rel`): ``None`` with fewer than three common seeds, or when
        all differences are equal, where the test is not defined (arms that share their cycle-0 model differ by exactly
        0).
    """
    seeds = [seed for seed in values if seed in reference]
    a, b = np.array([[values[seed], reference[seed]] for seed in seeds], dtype=float).reshape(-1, 2).T
    summary = describe(a - b)
    testable = len(seeds) >= LEAST_SEEDS and np.ptp(a - b) > 1e-12  # less is rounding
    p_value = float(stats.ttest_rel(a, b).pvalue) if testable else None
    return summary | {"values": (a - b).tolist(), "p_value": p_value}


def paired_table(rows: Iterable[Row], reference: str, metric: str = "ap50", x: str = "images") -> list[dict]:
    """Every other arm against the arm `reference`, per cycle and for the area under the curve.

    Areas of two arms are taken over what both cover, whatever a third one does.

    Returns
    -------
    list of dict
        ``arm``, ``cycle`` (a number or ``"area"``), what :func:`paired_difference` returns, and ``p_holm``, its p-value
        corrected by :func:`holm`: that of an area over the arms, that of a cycle over all arms and cycles but the
        first, which has none: nothing is selected yet, and arms of one training share their model.

    Raises
    ------
    ConfigError
        No such arm.
    """
    rows = list(rows)
    curves = curves_of(rows, metric, x)
    check_arm(reference, curves)
    table = []
    for arm in (arm for arm in curves if arm != reference):
        cycles = {cycle for name in (arm, reference) for curve in curves[name].values() for cycle in curve}
        for cycle in sorted(cycles):
            at_cycle = [
                {seed: curve[cycle][1] for seed, curve in curves[name].items() if cycle in curve}
                for name in (arm, reference)
            ]
            table.append({"arm": arm, "cycle": cycle, **paired_difference(*at_cycle), "p_holm": None})
        area = areas([row for row in rows if row["arm"] in (arm, reference)], metric, x)
        table.append({"arm": arm, "cycle": "area", **paired_difference(area[arm], area[reference])})
    first = min((row["cycle"] for row in rows), default=None)
    of_areas = [row for row in table if row["cycle"] == "area"]
    of_cycles = [row for row in table if row["cycle"] not in (first, "area")]
    for family in (of_areas, of_cycles):
        for row, corrected in zip(family, holm([row["p_value"] for row in family]), strict=True):
            row["p_holm"] = corrected
    return table


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Correct the p-values of a family of tests: below .05 one false find in the whole family is rarer than 1 in 20.

    The smallest of m is multiplied by m, the next by m - 1 and so on; none becomes less than the one before it, or more
    than 1. ``None``, where nothing was tested, stays and does not count.

    References
    ----------
    Holm, *A simple sequentially rejective multiple test procedure*, Scandinavian Journal of Statistics 6, 1979.
    """
    order = sorted((p, place) for place, p in enumerate(p_values) if p is not None)
    corrected: list[float | None] = [None] * len(p_values)
    least = 0.0
    for n_smaller, (p, place) in enumerate(order):
        corrected[place] = least = min(1.0, max(least, (len(order) - n_smaller) * p))
    return corrected


def class_counts(targets: Iterable[Mapping], num_classes: int) -> list[int]:
    """Number of boxes of each class in `targets` (dicts with ``labels``)."""
    labels = [np.asarray(target["labels"], dtype=np.int64) for target in targets]
    return np.bincount(np.concatenate([np.zeros(0, np.int64), *labels]), minlength=num_classes).tolist()


def class_balance(selected: Sequence[int], pool: Sequence[int], smoothing: float = 1.0) -> dict:
    """Compare the class counts of what was selected with those of the pool it was selected from.

    Both counts get `smoothing` boxes added to each class (Laplace) before they become shares, so that a class that was
    never selected, or is not in the pool, gives a finite value.

    Returns
    -------
    dict
        ``share`` and ``pool_share`` (smoothed, each sums to 1) and ``kl``: KL(selected || pool) in nats, 0 when the
        balance is the pool's.
    """
    p, q = np.asarray(selected, dtype=float) + smoothing, np.asarray(pool, dtype=float) + smoothing
    return {"share": (p / p.sum()).tolist(), "pool_share": (q / q.sum()).tolist(), "kl": float(stats.entropy(p, q))}


def overlap(labelled: Mapping[str, Sequence[Iterable[str]]], initial: Iterable[str]) -> list[dict]:
    """Jaccard overlap of what each two arms of one seed have had labelled up to each cycle.

    Parameters
    ----------
    labelled : mapping
        Per arm one collection of labelled ids per cycle, cumulative.
    initial : iterable of str
        The ids of the shared initial set, which do not count.

    Returns
    -------
    list of dict
        ``cycle``, ``arm``, ``other`` and ``jaccard`` (intersection / union; ``None`` while neither has selected
        anything) for every pair and every cycle that all arms have.
    """
    initial = set(initial)
    arms = list(labelled)
    table = []
    for cycle, of_arms in enumerate(zip(*labelled.values(), strict=False)):
        chosen = [set(ids) - initial for ids in of_arms]
        for i, arm in enumerate(arms):
            for j in range(i + 1, len(arms)):
                union = len(chosen[i] | chosen[j])
                jaccard = len(chosen[i] & chosen[j]) / union if union else None
                table.append({"cycle": cycle, "arm": arm, "other": arms[j], "jaccard": jaccard})
    return table


def curves_of(rows: Iterable[Row], metric: str, x: str) -> dict[str, dict]:
    """Rows as ``{arm: {seed: {cycle: (x, metric)}}}``, arms and seeds in the order in which they come."""
    curves: dict[str, dict] = {}
    for row in rows:
        seeds = curves.setdefault(row["arm"], {})
        if known(row[metric]):
            seeds.setdefault(row["seed"], {})[row["cycle"]] = (float(row[x]), float(row[metric]))
    return curves


def complete_curves(curves: Mapping[str, Mapping]) -> dict[tuple[str, int], np.ndarray]:
    """Return ``{(arm, seed): (n_cycles, 2)}``, columns x and metric, of the curves that can be compared as a whole.

    A curve that lacks a cycle which others have is not complete; one cycle alone is no curve.
    """
    cycles = {cycle for seeds in curves.values() for curve in seeds.values() for cycle in curve}
    return {
        (arm, seed): np.array([curve[cycle] for cycle in sorted(cycles)])
        for arm, seeds in curves.items()
        for seed, curve in seeds.items()
        if len(cycles) > 1 and curve.keys() == cycles
    }


def check_arm(name: str, arms: Iterable[str]) -> None:
    """Raise a ConfigError when there is no arm `name`."""
    if name not in arms:
        raise ConfigError(f"reference: there is no arm {name!r}{did_you_mean(name, arms)}")
