"""``miaod run`` and ``miaod sweep``."""

import json
import sys
from collections.abc import Callable
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Annotated

import typer

Yaml = Annotated[Path, typer.Argument(help="The experiment file.", show_default=False)]
Out = Annotated[Path, typer.Option(help="Folder of all runs.")]
Fresh = Annotated[bool, typer.Option("--fresh", help="Delete the run of this name and start over.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only show the plan: cells, images, steps, time.")]
Ray = Annotated[bool, typer.Option("--ray", help="Run on Ray: on this machine, or where ADDRESS says, HOST:PORT.")]


def run(
    yaml: Yaml,
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Other values, such as training.batch_size=4.")
    ] = None,
    out: Out = Path("runs"),
    fresh: Fresh = False,
    dry_run: DryRun = False,
    ray: Ray = False,
) -> None:
    """Run an experiment, or go on with it: finished cycles are never redone."""
    from miaod_plugin.experiments.config.schema import load_config
    from miaod_plugin.experiments.runner.run import run_experiment

    config = load_config(yaml, _on_ray(overrides or []) if ray else overrides or [])
    if dry_run:
        _show_plans([config], out)
    else:
        _to_the_end(lambda: run_experiment(config, out, fresh))


def sweep(
    yaml: Yaml,
    values: Annotated[
        list[str], typer.Argument(metavar="KEY=VALUE,VALUE...", help="Such as training.learning_rate=1e-3,3e-3.")
    ],
    out: Out = Path("runs"),
    fresh: Annotated[bool, typer.Option("--fresh", help="Delete the runs of these names and start over.")] = False,
    dry_run: DryRun = False,
    ray: Ray = False,
) -> None:
    """Run an experiment with every combination of values, one after the other, and compare them in one report.

    Each is a run, named after the values that differ; one value is for all of them. A list in brackets is one value.
    """
    from miaod_plugin.experiments.runner.sweep import run_sweep, sweep_configs

    configs = sweep_configs(yaml, _on_ray(values) if ray else values)
    if dry_run:
        _show_plans(configs, out)
    else:
        _to_the_end(lambda: run_sweep(configs, out / f"{yaml.stem}.sweep" / "report.html", out, fresh))


def _show_plans(configs: list, out: Path) -> None:
    from miaod_plugin.experiments.runner.plan import show_plan

    for config in configs:
        show_plan(config, out)


def _on_ray(overrides: list[str]) -> list[str]:
    """Return what ``--ray [ADDRESS]`` stands for; the address is the first argument that is not KEY=VALUE."""
    address = next((one for one in overrides if "=" not in one), None)
    if address is None:
        return [*overrides, "executor.name=ray"]
    others = [one for one in overrides if one is not address]
    return [*others, "executor.name=ray", f"executor.options.address={json.dumps(address)}"]


def _to_the_end(run: Callable[[], list]) -> None:
    """Run; print a line for each reason that stopped cells, and exit with 2 where the user can mend them all, or 1."""
    try:
        failures = run()
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        raise typer.Exit(130) from None
    message_of = attrgetter("message")
    for message, alike in groupby(sorted(failures, key=message_of), key=message_of):
        cells = [str(failure.cell) for failure in alike]
        more = f" (and {len(cells) - 1} more cells)" if len(cells) > 1 else ""
        print(f"miaod: {cells[0]}{more}: {message}", file=sys.stderr)
    if failures:
        raise typer.Exit(2 if all(failure.by_user for failure in failures) else 1)
