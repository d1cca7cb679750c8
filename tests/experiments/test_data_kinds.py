"""A kind of data set that another package registers: one file and one line."""

import os
import subprocess
import sys

from own_packages import register
from tiny_experiment import write_experiment

from miaod_plugin.registry import DATA_KINDS

KIND = '''
from typing import Literal
from miaod_plugin.data import make_digit_scenes
from miaod_plugin.experiments.config.data_sections import DataKind, Place

class Squares(DataKind):
    """Two small parts."""
    paths = frozenset({"folder"})
    kind: Literal["squares"]
    """A kind of its own."""
    folder: Place
    """Where they lie."""

    def load(self, on_error):
        assert self.folder.endswith("beside") and "/" in self.folder, self.folder
        sizes = {"image_size": 48, "object_size": (12, 24)}
        return tuple(make_digit_scenes(4, split=split, **sizes) for split in ("train", "test"))
'''
USE = """
import sys
from miaod_plugin.errors import ConfigError
from miaod_plugin.experiments.config.reference import as_markdown, key_parts
from miaod_plugin.experiments.config.schema import load_config
from miaod_plugin.experiments.store.datasets import load_data
print(len(load_data(load_config(sys.argv[1], ["data={kind: squares, folder: beside}"]))[0]))
print(*(entry.key for part in key_parts() for entry in part.entries if part.title.endswith("kind squares")))
print("kind squares" in as_markdown())
try:
    load_config(sys.argv[1], ["data={kind: squares, folder: beside, foldr: x}"])
except ConfigError as error:
    print(error)
"""


def test_a_registered_kind_is_loaded_described_and_checked_like_the_built_in_ones(tmp_path):
    site, experiment = tmp_path / "site", tmp_path / "experiment"
    register(site, DATA_KINDS, "squares = squares:Squares")
    (site / "squares.py").write_text(KIND)
    (experiment / "beside").mkdir(parents=True)
    path = write_experiment(experiment, budgets=[2, 4])
    environment = {**os.environ, "PYTHONPATH": str(site)}
    done = subprocess.run([sys.executable, "-c", USE, path], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    count, keys, on_the_page, refusal = done.stdout.splitlines()
    assert (count, keys, on_the_page) == ("4", "data.kind data.folder", "False")
    assert "data.foldr: unknown key; did you mean 'folder'" in refusal
