"""Files that say which images an experiment starts from."""

from pathlib import Path
from random import Random

import numpy as np
from cases import Case
from damage import damaged_bytes

from miaod_plugin.experiments.store.splits import read_split

IDS = [f"VOC2007/{n:06d}" for n in range(50)]
ROWS = [2, 5, 30, 49]
LINES = [f"# {len(ROWS)} of {len(IDS)} images", *(f"{row + 1}\t{IDS[row]}" for row in ROWS)]
STRANGE = (
    *(
        "0\tx",
        "51\tx",
        "-1",
        "1",
        "3\t" + IDS[2],
        "3\t" + IDS[3],
        "٣",
        "1e1",
        "9" * 5000,
        " 3",
        "3 ",
        "\t",
        "# 5 of 50 images",
    ),
    *(
        "",
        " " * 60_000,
        "3\t" + "x" * 10_000,
        "\0",
        "3\ta\tb",
        "3\x0b" + IDS[2],
        "3\u2028",
        "\x1b[31m",
        "é",
        "+3",
        "1_0",
    ),
)


class Family:
    def __init__(self, folder: Path):
        pass

    def case(self, rng: Random, folder: Path) -> Case:
        path, lines, same = folder / "seed0.txt", list(LINES), False
        kind = rng.choice(("bytes", "lines", "lines", "header", "same", "ids", "no file"))
        what, ids = "", IDS
        if kind == "bytes":
            content, what = damaged_bytes(rng, "\n".join(lines).encode())
            path.write_bytes(content)
        elif kind == "no file":
            what = rng.choice(("missing", "folder", "empty"))
            if what != "missing":
                path.mkdir() if what == "folder" else path.touch()
        else:
            if kind == "lines":
                at = rng.randrange(1, 5)
                lines[at : at + rng.choice((0, 1))] = [rng.choice(STRANGE)] * rng.choice((1, 1, 2))
                what = repr(lines[at])[:60]
            elif kind == "header":
                lines[0] = (
                    f"# {rng.choice((4, 0, -1, 5, '9' * 5000, 'x'))} of {rng.choice((50, 49, '9' * 4999))} images"
                )
            elif kind == "ids":
                ids = rng.choice((IDS[:49], IDS[::-1], [""] * 50, [], [*IDS, "x"]))
                what = f"{len(ids)} ids"
            else:
                lines[1:] = rng.sample(lines[1:], 4)
                same = True
            path.write_text("\n".join(lines) + rng.choice(("", "\n")), encoding="utf-8")
        return Case(f"{kind} {what}", lambda: self._read(path, ids, same), (path.name,))

    def _read(self, path: Path, ids: list[str], same: bool) -> None:
        rows = read_split(path, ids)
        assert rows.dtype == np.int64 and (np.diff(rows) > 0).all() and (rows >= 0).all() and (rows < len(ids)).all()
        if same:
            assert rows.tolist() == ROWS
