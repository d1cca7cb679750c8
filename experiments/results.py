"""What a run has measured: one row per arm, seed and cycle, as a table in a file and on the terminal."""

import statistics

from rich.console import Group
from rich.table import Table

from miaod_plugin.experiments.layout import Run, read_json, write_rows


def score_name(run: Run) -> str:
    """Return the column that the experiment is about: COCO's ``ap`` or VOC's ``ap50``."""
    return "ap" if run.config.evaluation.metric == "coco" else "ap50"


def collect(run: Run) -> list[dict]:
    """Return a row for each finished cycle, in the order of arms, seeds and cycles; the timings are last."""
    strategies = {arm.name: arm.strategy for arm in run.config.arms}
    rows = []
    for cell in run.arm_cells():
        metrics = read_json(run.folder(cell) / "metrics.json")
        if metrics is None:
            continue
        scores = [name for name in ("ap50", "ap") if name in metrics]
        names = ["seed", "cycle", "images", "boxes", "steps", *scores, "train_seconds", "query_seconds"]
        arm = {"arm": cell.arm, "training": cell.training, "strategy": strategies[cell.arm]}
        rows.append({**arm, **{name: metrics[name] for name in names}})
    return rows


def write_results(run: Run) -> None:
    """Write ``results.csv`` from the finished cycles."""
    rows = collect(run)
    if rows:
        timed = [{**row, **{name: _seconds(row[name]) for name in ("train_seconds", "query_seconds")}} for row in rows]
        write_rows(run.root / "results.csv", timed)


def by_arm(rows: list[dict], score: str) -> dict[str, dict[int, list[float]]]:
    """Return arm -> number of labelled images -> the scores of the seeds."""
    grouped: dict[str, dict[int, list[float]]] = {}
    for row in rows:
        grouped.setdefault(row["arm"], {}).setdefault(row["images"], []).append(row[score])
    return grouped


def results_table(run: Run) -> Group:
    """Return a heading and the table of arms x budgets: mean and standard deviation over seeds, in percent."""
    score = score_name(run)
    grouped = by_arm(collect(run), score)
    n_seeds = len(run.config.seeds)
    spread = f"mean ± standard deviation of {n_seeds} seeds" if n_seeds > 1 else "one seed: no spread"
    heading = f"{'COCO AP' if score == 'ap' else 'AP50'} (%) by labelled images; {spread}"
    table = Table()
    table.add_column("arm")
    for budget in run.config.budgets:
        table.add_column(str(budget), justify="right")
    for arm in run.config.arms:
        cells = [_mean_and_deviation(grouped.get(arm.name, {}).get(budget, [])) for budget in run.config.budgets]
        table.add_row(arm.name, *cells)
    return Group(heading, table)


def _mean_and_deviation(scores: list[float]) -> str:
    if not scores:
        return "-"
    mean = f"{100 * statistics.fmean(scores):.1f}"
    return mean if len(scores) < 2 else f"{mean} ± {100 * statistics.stdev(scores):.1f}"


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
