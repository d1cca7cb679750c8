"""Arguments of the commands that do not train."""

import contextlib
import io
import shutil
import sys
from pathlib import Path
from random import Random

import yaml
from cases import Case
from data_files import save_image
from tiny_experiment import TINY

from miaod_plugin import ObjectDetector
from miaod_plugin.cli.app import main
from miaod_plugin.data import fetch, make_digit_scenes, write_voc

from .targets import SIDE, SMALL

TEXTS = (
    *(
        "",
        " ",
        "-1",
        "0",
        "1e9",
        "99999999999999999999",
        "nan",
        "abc",
        "-",
        "--",
        "--help",
        "--fresh",
        "a=b",
        "\ud800",
        "é",
    ),
    *(
        "nowhere",
        "../outside",
        "../outside.txt",
        "x" * 300,
        "x" * 5000,
        "a\nb",
        "\x1b[31m",
        "*",
        "~",
        "/dev/null",
        "NUL",
    ),
)
GOOD = (
    "pool",
    "empty folder",
    "text.txt",
    "good.yaml",
    "bad.yaml",
    "model.safetensors",
    "half.safetensors",
    "voc",
    "a.jpg",
)
COMMANDS = (
    ("--version",),
    ("--help",),
    ("run", "good.yaml", "--dry-run"),
    ("run", "good.yaml", "training.batch_size=2", "--dry-run", "--out", "runs"),
    ("report", "runs"),
    ("report", "runs", "--out", "page.html", "--reference", "x"),
    ("runs", "--out", "runs"),
    ("splits", "good.yaml", "--out", "splits"),
    ("diagnose", "runs", "--cycle", "0", "--arm", "x"),
    ("evaluate", "good.yaml", "--checkpoint", "model.safetensors"),
    ("predict", "a.jpg", "--checkpoint", "model.safetensors", "--out", "found"),
    ("predict", "pool", "--checkpoint", "model.safetensors", "--out", "found"),
    ("rank", "pool", "--checkpoint", "model.safetensors"),
    ("rank", "pool", "--checkpoint", "model.safetensors", "--strategy", "random", "--out", "ranked.csv"),
    ("data", "digits", "made", "--train", "2", "--test", "1", "--format", "coco"),
    ("data", "voc", "root", "--year", "2007", "--url-base", "http://localhost:1"),
    ("data", "coco", "root", "--url-base", "file:///nowhere"),
)


class RefusedError(Exception):
    """A command ended with a status other than 0; its message is the last line that it wrote."""


class Family:
    def __init__(self, folder: Path):
        folder.mkdir()
        fetch.PAUSE = 0.001
        self.folder = folder
        data = make_digit_scenes(4, image_size=SIDE, object_size=(8, 16), n_classes=3, random_state=0)
        small = TINY | {"data": TINY["data"] | {"train": 10, "test": 2, "image_size": 44}}
        fitted = ObjectDetector(**SMALL, classes=data.classes, random_state=0).fit(data.X, data.y)
        fitted.save(folder / "model.safetensors")
        write_voc(data, folder / "voc")
        save_image(folder / "a.jpg")
        for name in ("1.jpg", "sub/2.png"):
            save_image(folder / "pool" / name)
        (folder / "empty folder").mkdir()
        (folder / "text.txt").write_text("text")
        (folder / "good.yaml").write_text(yaml.safe_dump(small))
        (folder / "bad.yaml").write_text("name: [")
        (folder / "half.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:500])

    def case(self, rng: Random, folder: Path) -> Case:
        shutil.copytree(self.folder, folder, dirs_exist_ok=True)
        arguments = list(rng.choice(COMMANDS))
        for _ in range(rng.choice((0, 1, 1, 1, 2))):
            at = rng.randrange(len(arguments) + 1)
            text = rng.choice(rng.choice((TEXTS, GOOD)))
            kind = rng.choice(("replace", "replace", "insert", "lose", "double"))
            if kind == "insert" or at == len(arguments):
                arguments.insert(at, text)
            elif kind == "replace":
                arguments[at] = text
            elif kind == "lose":
                del arguments[at]
            else:
                arguments.insert(at, arguments[at])
        if arguments[:1] == ["run"] and "--dry-run" not in arguments:
            arguments.append("--dry-run")  # no training here
        return Case(f"{[text[:50] for text in arguments]}", lambda: self._run(arguments), (), (RefusedError,))

    def _run(self, arguments: list[str]) -> None:
        before, sys.argv = sys.argv, ["miaod", *arguments]
        output, errors = io.StringIO(), io.StringIO()
        try:
            with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
                main()
            code = 0
        except SystemExit as ended:
            code = ended.code or 0
        finally:
            sys.argv = before
        said = errors.getvalue()
        assert code in (0, 1, 2), code
        assert "Traceback" not in said
        if code and said.startswith(("Usage: ", "Error: ")):
            raise RefusedError("typer: no such argument, option or value")  # its own words, which may be help
        if code:
            last = said.rstrip("\n").split("\n")[-1]
            assert last.startswith("miaod: "), said[-500:]
            raise RefusedError(last.removeprefix("miaod: "))
