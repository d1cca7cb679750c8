"""A new project."""

from collections.abc import Sequence
from os.path import relpath
from pathlib import Path

import numpy as np

from ..data import load_folder
from ..devices import chosen_device
from ..errors import ConfigError
from ..files import read_text, write_text
from .places import Places
from .settings import parse_settings, settings_text

_LARGEST_SHARE = 5  # held-out photographs are at most a fifth of all
_HELD_OUT = "# Photographs that measure the models, drawn at random: never trained on, nor picked by a strategy.\n"
_IGNORED = """\
# models, what was exported for the labelling tool, and what may be made anew at any time
/models/
/report.html
/arrived/
/.loop/
.*.part*
/rounds/*/*
!/rounds/*/asked.csv
!/rounds/*/trained.json
!/rounds/*/held_out.json
"""


def create_project(
    places: Places,
    photos: Path,
    classes: Sequence[str],
    tool: str,
    orientation: str,
    detector: str | None,
    held_out: int,
    seed: int,
) -> None:
    """Write the files of a new project, see `Project.create`; first all is checked."""
    for path in (places.settings, places.answers, places.rounds):
        if path.exists():
            raise ConfigError(f"{path}: is there already; make the project in another folder")
    there = load_folder(photos)
    if detector is None:
        small = chosen_device("auto").type == "cpu"
        detector = "retinanet_mobilenet_v2_fpn" if small else "retinanet_resnet50_fpn"
    text = settings_text(relpath(photos, places.folder), list(classes), tool, orientation, detector, seed)
    parse_settings(text, places.settings)
    count = min(held_out, len(there) // _LARGEST_SHARE)
    drawn = np.random.default_rng(seed).permutation(len(there))[:count]
    write_text(places.held_out, _HELD_OUT + "".join(f"{path}\n" for path in there.ids[drawn]))
    ignored = read_text(places.ignored, 1_000_000) if places.ignored.is_file() else ""
    if _IGNORED not in ignored:
        write_text(places.ignored, ignored + _IGNORED)
    write_text(places.settings, text)  # last: it makes the folder a project
