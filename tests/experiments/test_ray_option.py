"""``miaod run --ray`` before there is any Ray; with one, see `test_ray_tasks.py`."""

import sys

import pytest
from tiny_experiment import write_experiment

from miaod_plugin.cli.app import main


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Return a function that runs the command where Ray is not installed, and returns its status and last words."""
    monkeypatch.setitem(sys.modules, "ray", None)  # as Python finds no such module
    experiment = str(write_experiment(tmp_path))

    def call(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["miaod", "run", experiment, "--out", str(tmp_path / "runs"), *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code, capsys.readouterr().err

    return call


@pytest.mark.parametrize("arguments", [["--ray"], ["--ray", "10.0.0.1:6379"], ["--ray", "threads=2"]])
def test_without_the_extra_it_says_in_one_line_what_to_install(run, arguments, tmp_path):
    assert run(*arguments) == (2, "miaod: executor ray: Ray is not installed; pip install 'miaod-plugin[ray]'\n")
    assert not (tmp_path / "runs").exists(), "nothing was begun"


def test_a_second_address_and_one_without_the_option_are_no_overrides(run):
    for arguments in (["--ray", "auto", "local"], ["local"]):
        status, said = run(*arguments)
        assert status == 2 and said.startswith("miaod: command line: 'local' is not of the form key=value")
