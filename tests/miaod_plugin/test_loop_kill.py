"""A project whose commands are killed at any moment: nothing is lost, nothing is asked twice."""

import math
import multiprocessing
import random

import pytest
from annotators import Annotator, configure

from miaod_plugin.loop import Project

FORKS = multiprocessing.get_context("forkserver") if "forkserver" in multiprocessing.get_all_start_methods() else None
pytestmark = pytest.mark.skipif(FORKS is None, reason="starts a process for each command")
LONGEST = {"query": 0.5, "import": 0.15, "train": 1.5}  # seconds until a command is killed, at most


def work(folder, what, export):
    """Do one command, in a process of its own."""
    project = Project(folder)
    if what == "query":
        project.query(8)
    elif what == "import":
        project.import_annotations(export)
    else:
        project.train()


def ends(folder, what, export, seconds: float) -> bool:
    """Start a command and kill it after so many seconds; return whether it had ended by then."""
    process = FORKS.Process(target=work, args=(folder, what, export))
    process.start()
    process.join(None if math.isinf(seconds) else seconds)
    process.kill()
    process.join()
    assert process.exitcode in (0, -9), f"{what} failed"
    return process.exitcode == 0


def check(project, known: dict) -> None:
    """Check what must hold at any moment."""
    state = project.state()
    asked = [one.path for round_ in state.rounds for one in round_.asked()]
    assert len(set(asked)) == len(asked), "asked twice"
    assert {path: state.answers[path] for path in known} == known, "lost"
    assert [round_.number for round_ in state.rounds] == list(range(1, len(state.rounds) + 1))
    assert project.status().photos == len(state.photos)


@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_nothing_is_lost_or_asked_twice_however_often_it_is_killed(tmp_path, kills):
    FORKS.set_forkserver_preload(["miaod_plugin.loop", "miaod_plugin.baselines", "miaod_plugin.strategies"])
    annotator, folder, rng = Annotator(tmp_path / "photographs", 160), tmp_path / "project", random.Random(kills)
    project = annotator.project(folder, "coco", create={"held_out": 20})
    often = {"max_steps": 25, "batch_size": 4, "optimizer": "adamw", "checkpoint_seconds": 0, "score_batch_size": 4}
    configure(folder, estimator=often)
    known, killed, rounds = {}, [], 0
    while len(killed) < kills or rounds < 2:
        for what in ("query", "import", "train"):
            export = None
            if what == "import":
                export = annotator.answer("coco", project.state().open_photos, tmp_path)
            seconds = rng.uniform(0, LONGEST[what]) if len(killed) < kills else math.inf
            while not ends(folder, what, export, seconds):
                killed.append(what)
                check(project, known)
                seconds = rng.uniform(0, LONGEST[what] * 2) if len(killed) < kills else math.inf
            check(project, known)
            if what == "import":
                known = project.state().answers
                assert not project.state().open_photos
        rounds += 1
    state = project.state()
    assert {one.path for round_ in state.rounds for one in round_.asked()} == known.keys()
    assert len(project.learner().X_training) == len(state.annotated)
    assert project.status().curve[-1].images == len(state.annotated)
