import sys

import pytest
from archive_files import everything, md5, tar_of
from file_server import Server

from miaod_plugin.cli.app import main
from miaod_plugin.data.download import Archive, Folder, download, voc_folders
from miaod_plugin.errors import ConfigError, DataError

ROOT_FILES = {"VOCdevkit/VOC2007/Annotations/1.xml": b"<a/>", "VOCdevkit/VOC2007/JPEGImages/1.jpg": b"jpg"}


@pytest.fixture
def server():
    server = Server()
    yield server
    server.close()


def ignore(*_):
    pass


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


@pytest.mark.parametrize("root", ["file", "file/inside", "link to a file", "dangling link", "x" * 300, "file/../file"])
def test_a_root_that_cannot_be_a_folder_is_one_line(tmp_path, server, monkeypatch, capsys, root):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link to a file").symlink_to(tmp_path / "file")
    (tmp_path / "dangling link").symlink_to(tmp_path / "nowhere" / "at all")
    before = everything(tmp_path)
    monkeypatch.setattr(sys, "argv", ["miaod", "data", "voc", str(tmp_path / root), "--url-base", server.url])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(f"miaod: {tmp_path}") and "cannot be made a folder: " in last
    assert everything(tmp_path) == before
    assert server.requests == []


def test_a_root_that_is_a_link_to_a_folder_is_filled(tmp_path, server):
    (tmp_path / "big disk").mkdir()
    (tmp_path / "data").symlink_to(tmp_path / "big disk")
    folder = Folder("VOC2007", archives_in(server, ("a.tar", tar_of(ROOT_FILES))), "VOCdevkit/VOC2007", ())
    download([folder], tmp_path / "data", server.url, ignore)
    assert (tmp_path / "big disk" / "VOC2007" / "JPEGImages" / "1.jpg").read_bytes() == b"jpg"


@pytest.mark.parametrize("kind", ["file", "dangling link"])
def test_what_lies_where_the_folder_belongs_is_named_before_anything_is_downloaded(tmp_path, server, kind):
    folder = Folder("VOC2007", archives_in(server, ("a.tar", tar_of(ROOT_FILES))), "VOCdevkit/VOC2007", ("JPEGImages",))
    if kind == "file":
        (tmp_path / "VOC2007").write_text("mine")
    else:
        (tmp_path / "VOC2007").symlink_to(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"JPEGImages: missing; move .*VOC2007 away"):
        download([folder], tmp_path, server.url, ignore)
    assert server.requests == []


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
