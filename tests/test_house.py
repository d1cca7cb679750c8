"""The house: which room may know which, and that no two know each other."""

import ast
import re
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[1]
TOPS = {"miaod_plugin": "", "strategies": "strategies", "baselines": "baselines", "experiments": "experiments"}
ROOMS = ("benchmarks", "runner", "executors", "report", "cycle", "store", "data_kinds", "config")
EXPERIMENTS = [f"experiments.{room}" for room in ROOMS]
# From the roof down: a room knows those below it alone.
STOREYS = ["cli", *EXPERIMENTS, "strategies", "baselines", "miaod_plugin"]


def modules() -> dict[str, Path]:
    """Return every module of the package by its name without ``miaod_plugin.``, a package by its folder's."""
    found = {}
    for top, name in TOPS.items():
        for path in sorted((ROOT / top).rglob("*.py")):
            parts = [name, *path.relative_to(ROOT / top).with_suffix("").parts]
            found[".".join(part for part in parts if part and part != "__init__")] = path
    return found


MODULES = modules()


def imported(name: str) -> set[str]:
    """Return the modules that a module imports, within functions too; what only a type checker reads is left out."""
    path, found = MODULES[name], set()
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    package = [part for part in package if part]
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for_types = {
        child for node in ast.walk(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for child in ast.walk(node)
    }  # fmt: skip
    for node in ast.walk(tree):
        if not isinstance(node, ast.ImportFrom) or node in for_types:
            continue
        module = node.module or ""
        if node.level:
            source = ".".join([*package[: len(package) - node.level + 1], *([module] if module else [])])
        elif module == "miaod_plugin" or module.startswith("miaod_plugin."):
            source = module.removeprefix("miaod_plugin").removeprefix(".")
        else:
            continue
        for alias in node.names:
            member = f"{source}.{alias.name}" if source else alias.name
            found.add(member if member in MODULES else source)
    return found & MODULES.keys()


IMPORTS = {name: imported(name) for name in MODULES}


def room(name: str) -> str:
    """Return the folder of a module; a module beside the rooms of `miaod_plugin` is a room of its own."""
    parts = name.split(".")
    if parts[0] == "experiments":
        return ".".join(parts[:2])
    return parts[0]


def storey(name: str) -> int:
    own = room(name)
    return STOREYS.index(own if own in STOREYS else "miaod_plugin")


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Return a circle for each node from which a path leads back to it."""
    found = []
    for start in graph:
        paths, seen = [[start]], set()
        while paths:
            path = paths.pop()
            for following in graph.get(path[-1], ()):
                if following == start:
                    found.append([*path, start])
                elif following not in seen:
                    seen.add(following)
                    paths.append([*path, following])
    return found


def test_the_imports_that_are_checked_are_those_that_are_there():
    assert "mil.maths" in IMPORTS["mil"] and "errors" in IMPORTS["experiments.config.schema"]
    assert {"strategies.miaod", "baselines"} <= IMPORTS["strategies"] and len(MODULES) > 80
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) != [] == circles({"a": {"b", "c"}, "b": {"c"}})


def test_imports_point_down():
    wrong = [
        f"{name} -> {other}"
        for name, others in IMPORTS.items()
        for other in others
        if storey(other) < storey(name) and name not in ("", "__main__")
    ]
    assert wrong == []


def test_no_two_modules_and_no_two_rooms_know_each_other():
    assert circles({name: others for name, others in IMPORTS.items() if name}) == []
    rooms = defaultdict(set)
    for name, others in IMPORTS.items():
        if name:
            rooms[room(name)] |= {room(other) for other in others if other} - {room(name)}
    assert circles(rooms) == []


def test_imports_within_a_folder_are_relative_so_that_an_editor_can_follow_them():
    wrong = []
    for name, path in MODULES.items():
        own = path.relative_to(ROOT).parts[0]
        for line in path.read_text(encoding="utf-8").splitlines():
            match = re.match(r"\s*(?:from|import) (miaod_plugin[\w.]*)", line)
            target = match and match[1].removeprefix("miaod_plugin").removeprefix(".").split(".")[0]
            if match and (target if target in TOPS else "miaod_plugin") == own:
                wrong.append(f"{name}: {line.strip()}")
    assert wrong == []


def test_the_map_names_every_room_and_every_module_beside_them_once():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("## The house")[2].partition("\n## ")[0]
    named, top = [], ""
    for indent, name in re.findall(r"^ {4}( {0,2})([a-z_]+(?:/|\.py)) +\S", text, re.MULTILINE):
        top = top if indent else name
        named.append(f"{top}{name}" if indent else name)
    rooms = {f"{path.relative_to(ROOT).parent.as_posix()}/" for path in MODULES.values()}
    beside = {f"miaod_plugin/{path.name}" for path in (ROOT / "miaod_plugin").glob("[a-z]*.py")}
    assert sorted(named) == sorted({*rooms, *beside, "tests/"})
