"""Folders of finished runs: damaged files give the results that there were, or are named; going on does them again."""

import io
import shutil
from pathlib import Path
from random import Random

from cases import Case
from damage import damaged_bytes
from rich.console import Console
from run_folder_damage import at_random, files_of, look, require_told
from tiny_experiment import run_tiny, write_experiment

from miaod_plugin.errors import MiaodError
from miaod_plugin.experiments.config.schema import load_config
from miaod_plugin.experiments.report.page import write_report
from miaod_plugin.experiments.runner.run import run_experiment

SMALL = {"arms": [{"training": "supervised", "strategy": "random"}], "budgets": [4, 7], "seeds": [0], "jobs": 1}


class Family:
    def __init__(self, folder: Path):
        folder.mkdir()
        self.run, _ = run_tiny(folder, **SMALL)
        self.rows, _ = look(self.run)
        assert len(self.rows) == 2

    def case(self, rng: Random, folder: Path) -> Case:
        run = Path(shutil.copytree(self.run, folder / "runs" / self.run.name))
        damaged = []
        for _ in range(rng.choice((1, 1, 1, 2))):
            if rng.random() < 0.4:
                path = rng.choice(files_of(run))
                content, kind = damaged_bytes(rng, path.read_bytes() or b"\n")
                path.write_bytes(content)
            else:
                path, kind = at_random(run, rng)
            damaged.append((path, kind))
        what = "; ".join(f"{path.relative_to(run)}: {kind}" for path, kind in damaged)
        # Going on starts a process, which takes seconds.
        use = rng.choices((self._look, self._report, self._go_on), (85, 12, 3))[0]
        return Case(f"{use.__name__[1:]} {what}", lambda: use(run, damaged), (str(run), run.name))

    def _look(self, run: Path, damaged: list) -> None:
        rows, said = look(run)
        path, kind = damaged[0]
        if len(damaged) == 1:
            require_told(rows, said, self.rows, path, kind)
        assert all(row in self.rows for row in rows), "other results"

    def _report(self, run: Path, damaged: list) -> None:
        assert write_report([run]).stat().st_size > 0

    def _go_on(self, run: Path, damaged: list) -> None:
        config = load_config(write_experiment(run.parent.parent, **SMALL))
        failures = run_experiment(config, run.parent, console=Console(file=io.StringIO()))
        if failures:
            raise MiaodError(f"{run}: {failures[0].message}")
        rows, _ = look(run)
        assert len(rows) == len(self.rows)
        timed = [key for key in self.rows[0] if "seconds" in key]
        for row, expected in zip(rows, self.rows, strict=True):
            assert row | dict.fromkeys(timed) == expected | dict.fromkeys(timed), "other results"
