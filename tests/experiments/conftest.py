from pathlib import Path

import pytest

pytest.register_assert_rewrite("tiny_experiment", "page_reader", "pages", "run_folder_damage")

from page_reader import Page  # noqa: E402 - rewritten only when imported after the line above
from pages import write_scored  # noqa: E402
from run_folder_damage import copy_of  # noqa: E402
from tiny_experiment import run_tiny  # noqa: E402


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> tuple[Path, str]:
    """A finished tiny run, to look at but not to change, and what it printed."""
    return run_tiny(tmp_path_factory.mktemp("finished"), jobs=2)


@pytest.fixture
def copied(finished, tmp_path) -> Path:
    """A copy of the finished run; change none of its files in place."""
    return copy_of(finished[0], tmp_path)


@pytest.fixture(scope="session")
def page(finished) -> Page:
    """The page that the finished run wrote itself."""
    return Page(finished[0] / "report.html")


@pytest.fixture(scope="session")
def scored(finished, tmp_path_factory) -> Path:
    """The folder of a report on scores as a real run would have them, in the folder of its run."""
    return write_scored(finished, tmp_path_factory.mktemp("scored"))
