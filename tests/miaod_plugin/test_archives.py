import bz2
import gzip
import io
import lzma
import os
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from contextlib import suppress

import pytest
from archive_files import everything, special, tar_of, zip_of

from miaod_plugin.data.archives import unpack
from miaod_plugin.errors import DataError

CONTENT = bytes(range(256)) * 40


def ignore(*_):
    pass


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


def test_a_file_in_the_archive_that_is_no_folder_is_one_line(tmp_path):
    (tmp_path / "a.tar").write_bytes(tar_of({"v/x": b"1", "v/x/y": b"2"}))
    with pytest.raises(DataError, match="cannot be unpacked"):
        unpack([tmp_path / "a.tar"], "v", tmp_path / "v", ignore)
    assert everything(tmp_path) == {"a.tar"}


FILES = {f"v/{n}.jpg": bytes([n]) * 3000 for n in range(5)}
COMPRESS = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}


def unpacked(folder, name: str, content: bytes) -> dict[str, bytes]:
    """Unpack an archive's folder ``v`` and return its files, or see that nothing but the archive is left."""
    (folder / name).write_bytes(content)
    try:
        unpack([folder / name], "v", folder / "v", ignore)
    except DataError as error:
        assert str(error).startswith(str(folder / name)) and str(error).isprintable()
        assert everything(folder) == {name}
        raise
    return {str(path.relative_to(folder / "v")): path.read_bytes() for path in (folder / "v").rglob("*.*")}


@pytest.mark.parametrize("kind", COMPRESS)
def test_a_compressed_archive_is_unpacked_and_a_damaged_one_refused(tmp_path, kind):
    content = COMPRESS[kind](tar_of(FILES))
    files = {name[2:]: data for name, data in FILES.items()}
    assert unpacked(tmp_path, "a.tar", content) == files
    for at in range(0, len(content), 7):
        for damaged in (content[:at], content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :]):
            shutil.rmtree(tmp_path / "v", ignore_errors=True)
            with suppress(DataError):  # a time in the header may be anything
                assert unpacked(tmp_path, "a.tar", damaged) == files, at


def test_what_a_compressed_archive_hides_behind_its_end_is_not_unpacked_without_bound(tmp_path):
    content = gzip.compress(tar_of(FILES) + bytes(1 << 26), 1)
    with pytest.raises(DataError, match=r"the archive is damaged .more than"):
        unpacked(tmp_path, "a.tar", content)


def test_a_damaged_header_does_not_lose_the_files_behind_it(tmp_path):
    content = bytearray(tar_of(FILES))
    content[content.index(b"v/2.jpg")] ^= 1
    with pytest.raises(DataError, match=r"the archive is damaged .no header at byte 7168"):
        unpacked(tmp_path, "a.tar", bytes(content))
    with pytest.raises(DataError, match=r"the archive is damaged .no header at byte 7168"):
        unpacked(tmp_path, "a.tar", tar_of(FILES)[:7168])


def header(name: str, kind: bytes, size: int, content: bytes = b"") -> bytes:
    """Return a tar header that claims a size, and content as it is."""
    member = special(name, kind)
    member.size = size
    return member.tobuf(tarfile.GNU_FORMAT) + content.ljust(-(-len(content) // 512) * 512, b"\0")


def pax(**fields: str) -> bytes:
    """Return an extended header with such fields and the file it belongs to."""
    records = b""
    for key, value in fields.items():
        record = f" {key.replace('_', '.')}={value}\n".encode()
        length = len(record) + 2
        records += f"{length + (length > 99)}".encode() + record
    return header("pax", tarfile.XHDTYPE, len(records), records) + header("v/pax.jpg", b"0", 9, b"123456789")


def member_of_zip(flags: int = 0, method: int = 0, extra: bytes = b"", size: int = 3) -> bytes:
    """Return a zip of one file ``v/1.jpg`` whose headers say what they like."""
    name, content = b"v/1.jpg", b"abc"
    checks = struct.pack("<LLL", zlib.crc32(content), len(content), size)
    local = b"PK\3\4" + struct.pack("<HHHHH", 45, flags, method, 0, 0) + checks
    local += struct.pack("<HH", len(name), 0) + name + content
    central = b"PK\1\2" + struct.pack("<HHHHHH", 45, 45, flags, method, 0, 0) + checks
    central += struct.pack("<HHHHHLL", len(name), len(extra), 0, 0, 0, 0, 0) + name + extra
    end = b"PK\5\6" + struct.pack("<HHHHLLH", 0, 0, 1, 1, len(central), len(local), 0)
    return local + central + end


NONSENSE = {
    "a size below zero": header("v/1.jpg", b"0", -512),
    "a size beyond any disk": header("v/1.jpg", b"0", 1 << 62),
    "pax fields without end": header("pax", tarfile.XHDTYPE, 1 << 40),
    "a name without end": header("@LongLink", tarfile.GNUTYPE_LONGNAME, 1 << 40),
    "a pax size below zero": pax(size="-512"),
    "a pax size in words": pax(size="many"),
    "a pax size beyond any number": pax(size="9" * 400),
    "a sparse file": header("v/1.jpg", tarfile.GNUTYPE_SPARSE, 512, b"x" * 512),
    "a sparse file in pax 0": pax(GNU_sparse_map="0,1,5", GNU_sparse_size="9999"),
    "a sparse file in pax 1": pax(GNU_sparse_major="1", GNU_sparse_minor="0", GNU_sparse_realsize="9999"),
    "a sparse file of words": pax(GNU_sparse_map="a,b", GNU_sparse_size="c"),
    "extended headers alone": b"".join(header("pax", tarfile.XHDTYPE, 0) for _ in range(3000)),
    "a name that is too long": tar_of({f"v/{'x' * 300}.jpg": b"1"}),
    "a path that is too long": tar_of({f"v/{'x/' * 3000}1.jpg": b"1"}),
    "a file twice": tar_of({"v/1.jpg": b"1", "./v/1.jpg": b"2"}),
    "a file in a file": tar_of({"v/1.jpg/2.jpg": b"1", "v/1.jpg": b"2"}),
    "nothing": b"",
    "zeros": bytes(10_240),
    "a bomb": gzip.compress(tar_of({"v/1.jpg": bytes(1 << 26)}), 1),
    "encrypted.zip": member_of_zip(flags=1),
    "unknown method.zip": member_of_zip(method=77),
    "wrong size.zip": member_of_zip(size=2),
    "zip64 of no size.zip": member_of_zip(size=0xFFFFFFFF, extra=struct.pack("<HH", 1, 0)),
    "zip64 of wrong size.zip": member_of_zip(size=0xFFFFFFFF, extra=struct.pack("<HHQ", 1, 8, 1 << 62)),
    "zip64 cut off.zip": member_of_zip(size=0xFFFFFFFF, extra=struct.pack("<HH", 1, 99)),
    "twice.zip": zip_of({"v/1.jpg": b"1", "./v/1.jpg": b"2"}),
    "too long.zip": zip_of({f"v/{'x' * 300}.jpg": b"1"}),
    "no directory.zip": b"PK\5\6" + struct.pack("<HHHHLLH", 0, 0, 9, 9, 999, 999, 0),
}


@pytest.mark.parametrize("name", NONSENSE)
def test_nonsense_in_an_archive_is_one_line_and_nothing_is_left(tmp_path, name):
    with pytest.raises(DataError):
        unpacked(tmp_path, name, NONSENSE[name])


def test_a_zip_that_unpacks_to_far_more_than_its_size_is_refused(tmp_path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("v/1.jpg", bytes(1 << 26))
    with pytest.raises(DataError, match="bytes that unpack to 67108864 and more; refused"):
        unpacked(tmp_path, "a.zip", buffer.getvalue())


def test_an_archive_of_a_folder_itself_is_unpacked(tmp_path):
    content = tar_of({}, special("./", tarfile.DIRTYPE), special("./v", tarfile.DIRTYPE))
    content = content.rstrip(b"\0") + bytes(-len(content.rstrip(b"\0")) % 512) + tar_of({"./v/1.jpg": b"1"})
    assert unpacked(tmp_path, "a.tar", content) == {"1.jpg": b"1"}


@pytest.mark.parametrize("kind", ["file", "link"])
def test_what_lies_where_an_archive_is_unpacked_is_named_and_left(tmp_path, kind):
    outside = tmp_path / "outside"
    outside.mkdir()
    root = tmp_path / "root"
    root.mkdir()
    (root / "a.tar").write_bytes(tar_of(FILES))
    if kind == "file":
        (root / ".v.unpacking").write_text("mine")
    else:
        (root / ".v.unpacking").symlink_to(outside)
    before = everything(tmp_path)
    with pytest.raises(DataError, match=r"\.v\.unpacking: in the way; move it away"):
        unpack([root / "a.tar"], "v", root / "v", ignore)
    assert everything(tmp_path) == before
    (root / ".v.unpacking").unlink()
    (root / "v").symlink_to(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"v: cannot be made: .* move away what is there"):
        unpack([root / "a.tar"], "v", root / "v", ignore)
    assert everything(tmp_path) == {"outside", "root", "root/a.tar", "root/v"}
