"""Archives: damaged and hostile tar (plain, gz, bz2, xz) and zip files."""

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
from pathlib import Path
from random import Random

from archive_files import tar_of, zip_of
from cases import Case
from damage import damaged_bytes

from miaod_plugin.data.archives import unpack

FILES = {f"v/{folder}/{n}.xml": f"<a>{n}</a>".encode() * 30 for folder in ("A", "B") for n in range(3)}
COMPRESS = {"tar": bytes, "gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}
NAMES = (
    *("v/A/0.xml", "./v/A/0.xml", "v//A/0.xml", "v/A", "v/A/0.xml/1.xml", "v", "v/", "", ".", "../outside.txt"),
    *(
        "v/../../outside.txt",
        "/etc/x",
        "v/C:/x",
        "v\\..\\x",
        "v/\0",
        "v/a\nb.xml",
        "v/" + "x" * 300,
        "v/" + "y/" * 2000,
    ),
)
TYPES = (b"0", b"\0", b"1", b"2", b"3", b"4", b"5", b"6", b"7", b"L", b"K", b"S", b"x", b"g", b"X", b"V", b"Z")
SIZES = (0, 1, 511, 512, 513, -1, -512, 1 << 20, 1 << 33, 1 << 62)


class Family:
    def __init__(self, folder: Path):
        self.zip = self._zip()
        self.tars = {kind: compress(tar_of(FILES)) for kind, compress in COMPRESS.items()}

    def case(self, rng: Random, folder: Path) -> Case:
        kind = rng.choice(("bytes", "bytes", "members"))
        name = rng.choice(("zip", *self.tars))
        if kind == "bytes":
            good = self.zip if name == "zip" else self.tars[name]
            content, what = damaged_bytes(rng, good, (self.zip, *self.tars.values()))
        elif name == "zip":
            members = dict(rng.sample(sorted(FILES.items()), 3)) | {rng.choice(NAMES): b"x"}
            mode = rng.choice((0, 0, 0o100644, 0o120777, 0o010644, 0o177777))
            content, what = zip_of(members, mode), f"members {list(members)!r:.80}, mode {mode:o}"
        else:
            content, what = self._strange_tar(rng)
            content = COMPRESS[name](content)
        archive = folder / ("a.zip" if name == "zip" else "a.tar")
        archive.write_bytes(content)
        checked = name in ("zip", "gz", "bz2", "xz") and kind == "bytes"
        return Case(f"{name}: {what}", lambda: self._unpack(archive, folder, checked), (archive.name,))

    def _zip(self) -> bytes:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in FILES.items():
                archive.writestr(name, content)
        return buffer.getvalue()

    def _strange_tar(self, rng: Random) -> tuple[bytes, str]:
        member = tarfile.TarInfo(rng.choice(NAMES))
        member.type, member.size = rng.choice(TYPES), rng.choice(SIZES)
        member.linkname = rng.choice(("", "../outside.txt", "/etc/passwd", "v/A/0.xml"))
        if rng.random() < 0.5:
            keys = (
                "path",
                "size",
                "linkpath",
                "GNU.sparse.major",
                "GNU.sparse.map",
                "GNU.sparse.size",
                "mtime",
                "hdrcharset",
            )
            values = ("", "-1", "9" * 30, "abc", "1", "0,1", "../outside.txt", "v/A/0.xml", "\udcff")
            member.pax_headers = {rng.choice(keys): rng.choice(values) for _ in range(rng.randint(1, 3))}
        form = rng.choice((tarfile.GNU_FORMAT, tarfile.PAX_FORMAT))
        if form == tarfile.PAX_FORMAT:
            member.size = max(member.size, 0)
        header = member.tobuf(form, errors="surrogateescape")
        content = header + rng.randbytes(rng.choice((0, 512, 1024)))
        said = f"{member.name!r:.40} type {member.type!r} size {member.size} {member.pax_headers}"
        return rng.choice((content + tar_of(FILES), tar_of(FILES).rstrip(b"\0").ljust(10_240, b"\0") + content)), said

    def _unpack(self, archive: Path, folder: Path, checked: bool) -> None:
        try:
            unpack([archive], "v", folder / "v", lambda *_: None)
        except Exception:
            assert [path.name for path in folder.iterdir()] == [archive.name], "something was left"
            raise
        assert sorted(path.name for path in folder.iterdir()) == [archive.name, "v"]
        found = {f"v/{path.relative_to(folder / 'v')}": path for path in (folder / "v").rglob("*") if not path.is_dir()}
        assert all(path.is_file() and not path.is_symlink() for path in found.values())
        if checked:  # its format has a checksum: what is there is right
            assert all(path.read_bytes() in FILES.values() for path in found.values()), "damage came through"
