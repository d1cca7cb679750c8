"""What a run has measured: one row per arm, seed and cycle, as a table in a file and on the terminal."""

import statistics

from rich.console import Group
from rich.table import Table

from ..config.trainings import FULL_SUPERVISION
from ..store.layout import Cell, Run
from ..store.records import Record, survey
from ..store.stored import write_rows
from .statistics import known, ratio


def score_name(run: Run) -> str:
    """Return the column that the experiment is about: COCO's ``ap`` or VOC's ``ap50``."""
    return "ap" if run.config.evaluation.metric == "coco" else "ap50"


def collect(run: Run) -> list[dict]:
    """Return a row for each cycle that counts, in the order of arms, seeds and cycles; the timings are last.

    Damaged cycles do not count, see `records.survey`.
    With full supervision, ``full`` is its score for the seed, and ``ratio`` what share of it the row reaches.
    """
    score, records = score_name(run), survey(run).records
    full = _full_scores(run, records)
    strategies = {arm.name: arm.strategy for arm in run.config.arms}
    rows = []
    for cell in run.arm_cells():
        if cell not in records:
            continue
        metrics = records[cell].metrics
        row = {"arm": cell.arm, "training": cell.training, "strategy": strategies[cell.arm]}
        scores = [name for name in ("ap50", "ap") if name in metrics]
        row |= {
            name: metrics[name] for name in ("seed", "cycle", "budget", "spent", "images", "boxes", "steps", *scores)
        }
        row |= {name: metrics.get(name) for name in ("uncertainty", "agreement")}
        if run.config.full_supervision:
            row |= {"full": full.get(cell.seed), "ratio": ratio(metrics[score], full.get(cell.seed))}
        rows.append(row | {name: metrics[name] for name in ("train_seconds", "query_seconds")})
    return rows


def records_of(run: Run, records: dict[Cell, Record], arm: str, seed: int) -> list[Record]:
    """Return the records of an arm and seed by cycle, up to the first that does not count."""
    cells = [Cell(seed, cycle, run.trainings[arm], arm) for cycle in range(len(run.config.budgets))]
    return [records[cell] for cell in cells if cell in records]


def full_supervision(run: Run) -> dict[int, float]:
    """Return seed -> the score under full supervision, for the seeds whose reference is trained."""
    return _full_scores(run, survey(run).records) if run.config.full_supervision else {}


def _full_scores(run: Run, records: dict[Cell, Record]) -> dict[int, float]:
    cells = [Cell(seed, 0, FULL_SUPERVISION) for seed in run.config.seeds]
    return {cell.seed: records[cell].metrics[score_name(run)] for cell in cells if cell in records}


def write_results(run: Run) -> None:
    """Write ``results.csv`` from the finished cycles."""
    rows = collect(run)
    if rows:
        timed = [{**row, **{name: _seconds(row[name]) for name in ("train_seconds", "query_seconds")}} for row in rows]
        write_rows(run.root / "results.csv", timed)


def by_arm(rows: list[dict], score: str) -> dict[str, dict[int, list[float]]]:
    """Return arm -> budget -> the scores of the seeds that have one."""
    grouped: dict[str, dict[int, list[float]]] = {}
    for row in rows:
        grouped.setdefault(row["arm"], {}).setdefault(row["budget"], []).extend(filter(known, [row[score]]))
    return grouped


def results_table(run: Run) -> Group:
    """Return a heading and the table of arms x budgets: mean and standard deviation over seeds, in percent.

    Below each, where it is known, the share of full supervision.
    """
    score = score_name(run)
    grouped = by_arm(collect(run), score)
    full = [value for value in full_supervision(run).values() if known(value)]
    n_seeds = len(run.config.seeds)
    spread = f"mean ± standard deviation of {n_seeds} seeds" if n_seeds > 1 else "one seed: no spread"
    heading = f"{'COCO AP' if score == 'ap' else 'AP50'} (%) by {run.config.budget.words}; {spread}"
    if full:
        heading += f"\nfull supervision: {_mean_and_deviation(full)}; second line: the share of it that is reached"
    table = Table()
    table.add_column("arm")
    for budget in run.config.budgets:
        table.add_column(str(budget), justify="right")
    for arm in run.config.arms:
        scores = [grouped.get(arm.name, {}).get(budget, []) for budget in run.config.budgets]
        shares = [
            ratio(statistics.fmean(seeds), statistics.fmean(full)) if seeds and full else None for seeds in scores
        ]
        lines = [f"\n{share:.1%}" if share is not None else "" for share in shares]
        table.add_row(arm.name, *(_mean_and_deviation(seeds) + line for seeds, line in zip(scores, lines, strict=True)))
    return Group(heading, table)


def _mean_and_deviation(scores: list[float]) -> str:
    if not scores:
        return "-"
    mean = f"{100 * statistics.fmean(scores):.1f}"
    return mean if len(scores) < 2 else f"{mean} ± {100 * statistics.stdev(scores):.1f}"


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
