from pathlib import Path

import pytest

pytest.register_assert_rewrite("tiny_experiment")

from tiny_experiment import run_tiny  # noqa: E402 - rewritten only when imported after the line above


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> tuple[Path, str]:
    """A finished tiny run, to look at but not to change, and what it printed."""
    return run_tiny(tmp_path_factory.mktemp("finished"))
