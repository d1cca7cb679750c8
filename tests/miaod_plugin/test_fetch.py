from itertools import count, repeat

import pytest
from archive_files import everything, md5
from file_server import Server

from miaod_plugin.data import fetch as module
from miaod_plugin.data.fetch import fetch
from miaod_plugin.errors import ConfigError, DataError


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(module, "PAUSE", 0.001)
    server = Server()
    yield server
    server.close()


def ignore(*_):
    pass


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


def test_a_file_that_is_there_already_is_verified_too(tmp_path, server):
    (tmp_path / "a.tar").write_bytes(CONTENT)
    fetch(f"{server.url}/a.tar", tmp_path / "a.tar", md5(CONTENT), ignore)
    (tmp_path / "b.tar").symlink_to(tmp_path / "a.tar")
    assert fetch(f"{server.url}/b.tar", tmp_path / "b.tar", md5(CONTENT), ignore).read_bytes() == CONTENT
    assert server.requests == []
    with pytest.raises(DataError, match=r"a\.tar: MD5 sum .* delete the file and download it again"):
        fetch(f"{server.url}/a.tar", tmp_path / "a.tar", "0" * 32, ignore)
    assert (tmp_path / "a.tar").read_bytes() == CONTENT


def answer(status: str, *headers: str, body: bytes = b"") -> list[bytes]:
    return ["".join(f"{line}\r\n" for line in (f"HTTP/1.1 {status}", *headers, "")).encode("latin-1"), body]


def redirect(location: str) -> list[bytes]:
    return answer("302 Found", f"Location: {location}", "Content-Length: 0")


NONSENSE = {
    "a negative length": answer("200 OK", "Content-Length: -5", body=CONTENT),
    "a length in words": answer("200 OK", "Content-Length: many", body=CONTENT),
    "a length in floats": answer("200 OK", "Content-Length: 1e9", body=CONTENT),
    "a length beyond any disk": answer("200 OK", "Content-Length: 999999999999999999", body=CONTENT),
    "a length beyond any number": answer("200 OK", f"Content-Length: {'9' * 5000}", body=CONTENT),
    "a length too large": answer("200 OK", f"Content-Length: {len(CONTENT) + 9}", body=CONTENT),
    "a length too small": answer("200 OK", f"Content-Length: {len(CONTENT) - 9}", body=CONTENT),
    "no length and too much": answer("200 OK", body=CONTENT * 2),
    "chunks of no size": answer("200 OK", "Transfer-Encoding: chunked", body=b"xyz\r\nabc"),
    "another range": answer("206 Partial Content", "Content-Range: bytes 7-9/10", "Content-Length: 3", body=b"abc"),
    "no content": answer("204 No Content"),
    "not modified": answer("304 Not Modified"),
    "no range to satisfy": answer("416 Range Not Satisfiable", "Content-Range: bytes */0"),
    "a broken server": answer("503 Service \x1b[31m Unavailable"),
    "no such status": answer("999 What"),
    "a status in words": answer("OK fine"),
    "no status": [b"\0\xff\r\n garbage"],
    "nothing": [],
    "headers without end": [b"HTTP/1.1 200 OK\r\n", *(b"A: %d\r\n" % k for k in range(300))],
    "a header without end": [b"HTTP/1.1 200 OK\r\nA: ", *repeat(b"x" * 1000, 100)],
    "a circle": redirect("/a.tar"),
    "a redirect to a file": redirect("file:///etc/passwd"),
    "a redirect to ftp": redirect("ftp://localhost/a.tar"),
    "a redirect to data": redirect("data:,abc"),
    "a redirect to no address": redirect("http://[::1/a.tar"),
    "a redirect to no port": redirect("http://localhost:port/a.tar"),
    "a redirect to two lines": redirect("http://localhost:1/\ta\x0bb"),
    "a redirect nowhere": answer("302 Found"),
}


@pytest.mark.parametrize("raw", NONSENSE.values(), ids=NONSENSE)
@pytest.mark.parametrize("left", [0, 5000], ids=["from the start", "going on"])
def test_the_nonsense_of_a_server_is_one_line(tmp_path, server, raw, left):
    server.raw = lambda wanted: raw
    if left:
        (tmp_path / "a.tar.part").write_bytes(CONTENT[:left])
    with pytest.raises(DataError) as refused:
        fetch(f"{server.url}/a.tar", tmp_path / "a.tar", md5(CONTENT), ignore)
    assert str(refused.value).isprintable()
    assert "a.tar" in str(refused.value) or str(tmp_path) in str(refused.value)
    assert everything(tmp_path) <= {"a.tar.part"}
    assert len(server.requests) <= 6


def test_a_body_without_end_is_cut_off(tmp_path, server, monkeypatch):
    monkeypatch.setattr(module, "LARGEST", 1 << 22)
    server.raw = lambda wanted: (chunk for part in (answer("200 OK"), repeat(bytes(1 << 16))) for chunk in part)
    with pytest.raises(DataError, match=r"a\.tar: more than 0\.0 GB; that is not the file"):
        fetch(f"{server.url}/a.tar", tmp_path / "a.tar", md5(CONTENT), ignore)
    assert everything(tmp_path) == set()


def test_the_body_of_a_redirect_is_not_read(tmp_path, server):
    server.files["b.tar"] = CONTENT
    sent = count()

    def redirected(wanted):
        server.raw = None  # for the second request
        yield from answer("302 Found", f"Location: {server.url}/b.tar")
        yield from (bytes(1 << 16) for _ in sent)

    server.raw = redirected
    assert fetch(f"{server.url}/a.tar", tmp_path / "a.tar", md5(CONTENT), ignore).read_bytes() == CONTENT
    assert next(sent) < 1000


def test_a_range_refused_again_and_again_is_given_up(tmp_path, server):
    def whole_then_refused(wanted):
        if wanted is None:
            return answer("200 OK", f"Content-Length: {len(CONTENT)}", body=CONTENT[:1000])
        return answer("416 Range Not Satisfiable", "Content-Range: bytes */7", "Content-Length: 0")

    server.raw = whole_then_refused
    with pytest.raises(DataError, match="the same command goes on from there"):
        fetch(f"{server.url}/a.tar", tmp_path / "a.tar", md5(CONTENT), ignore)
    assert len(server.requests) <= 10


@pytest.mark.parametrize("name", ["a.tar", "a.tar.part"])
@pytest.mark.parametrize("kind", ["folder", "dangling link", "link to a folder"])
def test_what_lies_where_the_download_belongs_is_named_and_left(tmp_path, server, name, kind):
    root = tmp_path / "root"
    root.mkdir()
    if kind == "folder":
        (root / name).mkdir()
    else:
        (root / name).symlink_to(tmp_path / "outside" if kind == "dangling link" else tmp_path)
    server.files["a.tar"] = CONTENT
    with pytest.raises(DataError, match=r"a\.tar.* is a folder or a link, no download; move it away"):
        fetch(f"{server.url}/a.tar", root / "a.tar", md5(CONTENT), ignore)
    assert everything(tmp_path) == {"root", f"root/{name}"}


def test_a_half_download_that_is_a_link_to_a_file_is_not_written_through(tmp_path, server):
    server.files["a.tar"] = CONTENT
    (tmp_path / "mine").write_bytes(b"mine")
    (tmp_path / "a.tar.part").symlink_to(tmp_path / "mine")
    with pytest.raises(DataError, match="move it away"):
        fetch(f"{server.url}/a.tar", tmp_path / "a.tar", md5(CONTENT), ignore)
    assert (tmp_path / "mine").read_bytes() == b"mine"


@pytest.mark.parametrize(
    "url",
    [
        *("file:///etc/passwd", "ftp://localhost/a", "a.tar", "", "http://", "http://[::1", "http://localhost:port/a"),
        *("http://local host/a\nb", f"http://{'x' * 300}.com/a", "http://\ud800/a", "https://localhost:99999/a"),
    ],
)
def test_a_url_that_is_none_is_one_line(tmp_path, url):
    with pytest.raises(ConfigError, match=r"not an http or https URL|not a URL that can be opened") as refused:
        fetch(url, tmp_path / "a.tar", md5(CONTENT), ignore)
    assert str(refused.value).isprintable()
    assert everything(tmp_path) == set()
