"""Downloads: servers that answer nonsense, and folders in which something else lies."""

from itertools import islice, repeat
from pathlib import Path
from random import Random

from archive_files import md5, tar_of
from cases import Case
from file_server import Server

from miaod_plugin.data import fetch
from miaod_plugin.data.download import Archive, Folder, download

CONTENT = tar_of({f"v/{n}.jpg": bytes([n]) * 3000 for n in range(3)})
ARCHIVE = Archive("http://nowhere.invalid/a.tar", md5(CONTENT))
STATUSES = (
    *(
        "200 OK",
        "206 Partial Content",
        "200",
        "201 Created",
        "204 No Content",
        "301 Moved",
        "304 Not Modified",
        "307 x",
    ),
    *("401 Unauthorized", "404 Not Found", "407 Proxy", "416 Range", "429 Slow", "500 No", "503 No", "999 What", "abc"),
    *("-1 x", "200 \x1b[31m", "100 Continue", "20 OK", "2000 OK"),
)
HEADERS = (
    *(
        f"Content-Length: {n}"
        for n in (len(CONTENT), 0, -1, "abc", "1e5", 10**18, len(CONTENT) - 1, len(CONTENT) + 1, "", "5, 5")
    ),
    *(f"Content-Range: bytes {text}" for text in ("0-1/2", "*/0", f"*/{len(CONTENT)}", "x", "1000-", "-", "5-4/3")),
    *(
        f"Location: {url}"
        for url in ("/a.tar", "file:///etc/passwd", "ftp://x", "http://[", "//", "", "?", "\x00", "http://x:y/")
    ),
    *(
        "Transfer-Encoding: chunked",
        "Content-Encoding: gzip",
        "Connection: close",
        "X: " + "y" * 70_000,
        "no colon",
        ": x",
    ),
)
URLS = ("", "/", "/../..", "/%00", "/a b", "/\n", "?x=", "#y", "/é", "/\ud800", "@", ":0", ":x", "/" + "x" * 5000)


class Family:
    def __init__(self, folder: Path):
        fetch.PAUSE = 0.001
        fetch.LARGEST = 1 << 24
        self.server = Server()
        self.server.files["a.tar"] = CONTENT

    def case(self, rng: Random, folder: Path) -> Case:
        root, url = folder / "root", self.server.url
        root.mkdir()
        self.server.raw, self.server.cuts, what = None, 0, []
        if rng.random() < 0.5:
            part = rng.choice((CONTENT[:1000], CONTENT, CONTENT + b"x", b"x" * 500, b""))
            (root / "a.tar.part").write_bytes(part)
            what.append(f"{len(part)} bytes left")
        kind = rng.choice(("answer", "answer", "answer", "cuts", "in the way", "url"))
        if kind == "answer":
            answers = [self._answer(rng) for _ in range(rng.choice((1, 2, 3)))]
            self.server.raw = self._in_turn(answers)
            what.append(" then ".join(f"{head!r} {kind}" for head, kind in answers)[:200])
        elif kind == "cuts":
            self.server.cuts, self.server.cut_at = rng.choice((1, 3, 50)), rng.choice((0, 1, 2000))
            what.append(f"{self.server.cuts} cuts at {self.server.cut_at}")
        elif kind == "in the way":
            what.append(self._in_the_way(rng, folder, root))
        else:
            url = rng.choice((url, "file://" + str(folder), "", "http://", "ftp://localhost", "data:,x")) + rng.choice(
                URLS
            )
            what.append(repr(url)[:100])
        return Case("; ".join(what), lambda: self._download(root, url, folder), ("a.tar", str(root)))

    def _answer(self, rng: Random) -> tuple[str, str]:
        head = [f"HTTP/1.1 {rng.choice(STATUSES)}" if rng.random() < 0.9 else rng.choice(("", "x", "\0", "HTTP/9 200"))]
        head += rng.sample(HEADERS, rng.randint(0, 3))
        return "\r\n".join(head) + "\r\n\r\n", rng.choice(
            ("whole", "whole", "part", "twice", "endless", "none", "chunks")
        )

    def _in_turn(self, answers: list[tuple[str, str]]):
        turn = iter(range(10**9))

        def raw(wanted: str | None):
            head, body = answers[next(turn) % len(answers)]
            yield head.encode("latin-1", errors="replace")
            yield from {
                "whole": [CONTENT],
                "part": [CONTENT[:1500]],
                "twice": [CONTENT, CONTENT],
                "endless": islice(repeat(bytes(1 << 16)), 2000),
                "none": [],
                "chunks": [b"5\r\nhello\r\n", b"zz\r\n"],
            }[body]

        return raw

    def _in_the_way(self, rng: Random, folder: Path, root: Path) -> str:
        name = rng.choice(("a.tar", "a.tar.part", "v", ".v.unpacking", "."))
        path = root / name
        kind = rng.choice(("file", "folder", "link to a file", "link to a folder", "dangling link", "loop"))
        if name == ".":
            for left in root.iterdir():
                left.unlink()
            root.rmdir()
        elif path.is_file():
            path.unlink()
        targets = {"link to a file": "file", "link to a folder": "elsewhere", "dangling link": "nowhere", "loop": path}
        (folder / "file").write_text("mine")
        (folder / "elsewhere").mkdir()
        if kind == "file":
            path.write_text("mine")
        elif kind == "folder":
            path.mkdir()
        else:
            path.symlink_to(folder / targets[kind])
        return f"{name} is a {kind}"

    def _download(self, root: Path, url: str, folder: Path) -> None:
        beside = {path: path.is_file() and path.read_text() for path in folder.iterdir() if path != root}
        try:
            download([Folder("v", (ARCHIVE,), "v", ("0.jpg", "1.jpg", "2.jpg"))], root, url, lambda *_: None)
            assert [(root / "v" / f"{n}.jpg").read_bytes() for n in range(3)] == [bytes([n]) * 3000 for n in range(3)]
        finally:
            now = {path: path.is_file() and path.read_text() for path in folder.iterdir() if path != root}
            assert now == beside, "what lies beside was changed"
