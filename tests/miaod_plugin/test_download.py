import hashlib
import io
import os
import stat
import sys
import tarfile
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from miaod_plugin.cli import main
from miaod_plugin.data import download as module
from miaod_plugin.data.download import Archive, Folder, download, fetch, unpack, voc_folders
from miaod_plugin.errors import ConfigError, DataError


class Server:
    """Serves `files`, with Range; each of the first `cuts` answers ends after `cut_at` bytes of its body."""

    def __init__(self):
        self.files: dict[str, bytes] = {}
        self.requests: list[str | None] = []
        self.cuts, self.cut_at, self.ranges = 0, 1000, True
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                content = outer.files.get(self.path.rpartition("/")[2])
                wanted = self.headers.get("Range")
                outer.requests.append(wanted)
                if content is None:
                    self.send_error(404)
                    return
                start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and outer.ranges else 0
                if start >= len(content):
                    self.send_response(416)
                    self.send_header("Content-Range", f"bytes */{len(content)}")
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                self.send_response(206 if start else 200)
                if start:
                    self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
                self.send_header("Content-Length", str(len(content) - start))
                self.end_headers()
                cut = outer.cuts > 0
                outer.cuts -= cut
                self.wfile.write(content[start : start + outer.cut_at] if cut else content[start:])

            def log_message(self, *_):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()


@pytest.fixture
def server():
    server = Server()
    yield server
    server.http.shutdown()
    server.http.server_close()


def ignore(*_):
    pass


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


def tar_of(files: dict[str, bytes], *more: tarfile.TarInfo) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        for member in more:
            archive.addfile(member)
    return buffer.getvalue()


def zip_of(files: dict[str, bytes], mode: int = 0) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            member = zipfile.ZipInfo(name)
            member.external_attr = mode << 16
            archive.writestr(member, content)
    return buffer.getvalue()


def special(name: str, kind: bytes, linkname: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, linkname
    return member


def everything(folder) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


CONTENT = bytes(range(256)) * 40


def test_a_file_is_downloaded_and_verified(tmp_path, server):
    server.files["a.tar"] = CONTENT
    seen = []
    path = fetch(f"{server.url}/a.tar", tmp_path / "a.tar", md5(CONTENT), lambda *message: seen.append(message))
    assert path.read_bytes() == CONTENT
    assert everything(tmp_path) == {"a.tar"}
    assert ("download a.tar", len(CONTENT), len(CONTENT)) in seen


def test_a_cut_connection_is_taken_up_where_it_broke(tmp_path, server):
    server.files["a.tar"], server.cuts = CONTENT, 3
    path = fetch(f"{server.url}/a.tar", tmp_path / "a.tar", md5(CONTENT), ignore)
    assert path.read_bytes() == CONTENT
    assert server.requests == [None, "bytes=1000-", "bytes=2000-", "bytes=3000-"]


def test_what_an_earlier_call_left_is_not_downloaded_again(tmp_path, server):
    server.files["a.tar"] = CONTENT
    for left in (4000, len(CONTENT)):
        (tmp_path / "a.tar").unlink(missing_ok=True)
        (tmp_path / "a.tar.part").write_bytes(CONTENT[:left])
        server.requests.clear()
        assert fetch(f"{server.url}/a.tar", tmp_path / "a.tar", md5(CONTENT), ignore).read_bytes() == CONTENT
        assert server.requests == [f"bytes={left}-"]


def test_a_server_without_ranges_or_with_a_shorter_file_starts_over(tmp_path, server):
    server.files["a.tar"], server.ranges = CONTENT, False
    (tmp_path / "a.tar.part").write_bytes(b"x" * 4000)
    assert fetch(f"{server.url}/a.tar", tmp_path / "a.tar", md5(CONTENT), ignore).read_bytes() == CONTENT
    server.ranges = True
    (tmp_path / "b.tar.part").write_bytes(b"x" * (len(CONTENT) + 5))
    server.files["b.tar"] = CONTENT
    assert fetch(f"{server.url}/b.tar", tmp_path / "b.tar", md5(CONTENT), ignore).read_bytes() == CONTENT


def test_a_connection_that_breaks_off_without_progress_is_given_up_and_can_be_resumed(tmp_path, server, monkeypatch):
    monkeypatch.setattr(module, "ATTEMPTS", 2)
    server.files["a.tar"], server.cuts, server.cut_at = CONTENT, 3, 500
    original = server.files["a.tar"]
    (tmp_path / "a.tar.part").write_bytes(CONTENT[:700])
    server.cut_at = 0
    with pytest.raises(DataError, match="after 700 bytes; the same command goes on from there"):
        fetch(f"{server.url}/a.tar", tmp_path / "a.tar", md5(CONTENT), ignore)
    server.cuts = 0
    assert fetch(f"{server.url}/a.tar", tmp_path / "a.tar", md5(CONTENT), ignore).read_bytes() == original


def test_a_wrong_sum_is_refused_and_the_file_deleted(tmp_path, server):
    server.files["a.tar"] = CONTENT
    with pytest.raises(DataError, match=f"MD5 sum {md5(CONTENT)} instead of {'0' * 32}"):
        fetch(f"{server.url}/a.tar", tmp_path / "a.tar", "0" * 32, ignore)
    assert everything(tmp_path) == set()


def test_a_file_that_is_not_there_is_named(tmp_path, server):
    with pytest.raises(DataError, match=r"/none\.tar: the server answers 404"):
        fetch(f"{server.url}/none.tar", tmp_path / "none.tar", "0" * 32, ignore)


ROOT_FILES = {"VOCdevkit/VOC2007/Annotations/1.xml": b"<a/>", "VOCdevkit/VOC2007/JPEGImages/1.jpg": b"jpg"}
HOSTILE = {
    "parent.tar": tar_of(ROOT_FILES | {"VOCdevkit/VOC2007/../../../outside": b"x"}),
    "absolute.tar": tar_of(ROOT_FILES | {"/tmp/outside": b"x"}),
    "windows.tar": tar_of(ROOT_FILES | {"VOCdevkit\\..\\..\\outside": b"x"}),
    "symbolic.tar": tar_of(ROOT_FILES, special("VOCdevkit/VOC2007/out", tarfile.SYMTYPE, "../../..")),
    "hard.tar": tar_of(ROOT_FILES, special("VOCdevkit/VOC2007/out", tarfile.LNKTYPE, "../../../outside")),
    "device.tar": tar_of(ROOT_FILES, special("VOCdevkit/VOC2007/null", tarfile.CHRTYPE)),
    "fifo.tar": tar_of(ROOT_FILES, special("VOCdevkit/VOC2007/pipe", tarfile.FIFOTYPE)),
    "parent.zip": zip_of(ROOT_FILES | {"../outside": b"x"}),
    "absolute.zip": zip_of(ROOT_FILES | {"/outside": b"x"}),
    "drive.zip": zip_of(ROOT_FILES | {"C:/outside": b"x"}),
    "symbolic.zip": zip_of(ROOT_FILES | {"VOCdevkit/VOC2007/out": b"/etc"}, mode=stat.S_IFLNK | 0o777),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_archive_is_refused_and_nothing_is_written(tmp_path, name):
    root = tmp_path / "a" / "b" / "root"
    root.mkdir(parents=True)
    (root / name).write_bytes(HOSTILE[name])
    before = everything(tmp_path)
    with pytest.raises(DataError) as refused:
        unpack([root / name], "VOCdevkit/VOC2007", root / "VOC2007", ignore)
    assert name in str(refused.value)
    assert "\n" not in str(refused.value)
    assert everything(tmp_path) == before


@pytest.mark.parametrize("name", ["a.tar", "a.zip"])
@pytest.mark.parametrize("keep", [0.1, 0.5, 0.8])
def test_a_truncated_archive_is_refused_and_nothing_is_left(tmp_path, name, keep):
    files = {f"VOCdevkit/VOC2007/{n}": os.urandom(3000) for n in range(5)}
    content = (tar_of if name == "a.tar" else zip_of)(files)
    (tmp_path / name).write_bytes(content[: int(keep * len(content))])
    with pytest.raises(DataError, match="the archive is damaged"):
        unpack([tmp_path / name], "VOCdevkit/VOC2007", tmp_path / "VOC2007", ignore)
    assert everything(tmp_path) == {name}


def test_a_damaged_byte_in_a_zip_is_found(tmp_path):
    content = bytearray(zip_of({"val2017/1.jpg": CONTENT}))
    content[1000] ^= 1
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(DataError, match="the archive is damaged"):
        unpack([tmp_path / "a.zip"], "val2017", tmp_path / "val2017", ignore)
    assert everything(tmp_path) == {"a.zip"}


def test_an_archive_of_something_else_is_refused(tmp_path):
    (tmp_path / "a.zip").write_bytes(zip_of({"other/1.jpg": CONTENT}))
    with pytest.raises(DataError, match="holds no val2017"):
        unpack([tmp_path / "a.zip"], "val2017", tmp_path / "val2017", ignore)


def archives_in(server, *contents: tuple[str, bytes]) -> tuple[Archive, ...]:
    server.files |= dict(contents)
    return tuple(Archive(f"http://nowhere.invalid/{name}", md5(content)) for name, content in contents)


def test_a_folder_is_made_of_its_archives_at_once_and_only_once(tmp_path, server):
    lists = {"VOCdevkit/VOC2007/ImageSets/Main/test.txt": b"2\n", "./VOCdevkit/VOC2007/JPEGImages/2.jpg": b"2"}
    archives = archives_in(server, ("a.tar", tar_of(ROOT_FILES)), ("b.tar", tar_of(lists)))
    folder = Folder("VOC2007", archives, "VOCdevkit/VOC2007", ("Annotations", "ImageSets/Main/test.txt"))
    assert download([folder], tmp_path, server.url, ignore) == [tmp_path / "VOC2007"]
    files = {path.name: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert files == {"1.xml": b"<a/>", "1.jpg": b"jpg", "test.txt": b"2\n", "2.jpg": b"2"}
    assert (tmp_path / "VOC2007" / "JPEGImages" / "2.jpg").exists()
    server.requests.clear()
    assert download([folder], tmp_path, server.url, ignore) == []
    assert server.requests == []
    (tmp_path / "VOC2007" / "ImageSets" / "Main" / "test.txt").unlink()
    with pytest.raises(DataError, match=r"test\.txt: missing; move .*VOC2007 away"):
        download([folder], tmp_path, server.url, ignore)


def test_a_file_in_the_archive_that_is_no_folder_is_one_line(tmp_path):
    (tmp_path / "a.tar").write_bytes(tar_of({"v/x": b"1", "v/x/y": b"2"}))
    with pytest.raises(DataError, match="cannot be unpacked"):
        unpack([tmp_path / "a.tar"], "v", tmp_path / "v", ignore)
    assert everything(tmp_path) == {"a.tar"}


def test_voc_has_a_test_set_in_2007_alone(tmp_path):
    first, second = voc_folders([2007, 2012])
    assert [archive.name for archive in first.archives] == ["VOCtrainval_06-Nov-2007.tar", "VOCtest_06-Nov-2007.tar"]
    assert [archive.name for archive in second.archives] == ["VOCtrainval_11-May-2012.tar"]
    assert (first.prefix, second.name) == ("VOCdevkit/VOC2007", "VOC2012")
    with pytest.raises(ConfigError, match="2006 is not a year of PASCAL VOC; known: 2007, 2008"):
        voc_folders([2006])


@pytest.mark.parametrize(
    ("kind", "name"), [("voc", "VOCtrainval_06-Nov-2007.tar"), ("coco", "annotations_trainval2017.zip")]
)
def test_the_command_shows_the_expected_tree_when_the_archive_is_not_the_published_one(
    tmp_path, server, monkeypatch, capsys, kind, name
):
    server.files[name] = tar_of(ROOT_FILES)
    monkeypatch.setattr(sys, "argv", ["miaod", "data", kind, str(tmp_path / "data"), "--url-base", f"{server.url}/x/"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    printed, errors = capsys.readouterr()
    assert printed == ""
    assert "Main/trainval.txt" in errors or "instances_train2017.json" in errors
    assert f"{name}: MD5 sum" in errors.splitlines()[-1]
    assert everything(tmp_path / "data") == set()
