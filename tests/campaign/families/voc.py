"""Data sets in the PASCAL VOC layout: annotation files, split files, folders, arguments."""

import shutil
from pathlib import Path
from random import Random

from cases import Case
from damage import NASTY, damaged_bytes
from data_files import save_image, save_voc
from sane import same_data, sane_data

from miaod_plugin.data import DetectionData, load_voc

IMAGES = {
    "a": [("cat", (1, 1, 20, 20), 0), ("dog", (5, 6, 40, 30), 1)],
    "b c": [("dog", (2.5, 3, 17, 29), 0)],
    "d": [],
}
FIELDS = ("name", "xmin", "ymin", "xmax", "ymax", "difficult", "bndbox", "object", "filename", "width", "size")
VALUES = (
    *("", " ", "0", "-1", "1e400", "nan", "inf", "abc", "40.5", "99999999999999999999", "٣", "1_0", "0x10", "dog"),
    *("a&lt;b", "&#10;", "&#x1b;", "&amp;" * 500, "x" * 10_000, "&lol;", "é", "<name>dog</name>", "<!-- -->5", "  7  "),
)
LINES = (
    *(
        "a",
        "a 1",
        "a -1",
        "A",
        "",
        " ",
        "\t",
        "../outside",
        "/etc/passwd",
        "a/../a",
        "nowhere",
        "x" * 300,
        "é",
        "\0",
        "a\x0bd",
    ),
    *(" " * 60_000, "\ud800", "a\x85", "b  c", "b c 1 1", "1", "-1", "a.jpg", "JPEGImages/a", "C:\\a", "d\u2028a"),
)
ARGUMENTS = {
    "split": (*NASTY, "trainval", "Trainval", "trainval.txt", "sub/trainval"),
    "years": (*NASTY, (2007,), ("2007",), "2007", ("VOC2007",), (2007, 2007), ("../x",)),
    "classes": (*NASTY, ("cat", "dog"), ("dog",), "cat", ("cat", "cat"), (1, 2), ("",), tuple("abcdefgh") * 3),
    "one_based": (False, None, "no", 2),
    "on_error": (*NASTY, "skip", "Skip"),
}


class Family:
    def __init__(self, folder: Path):
        self.root = save_voc(folder / "good", IMAGES)
        self.good = load_voc(self.root)

    def case(self, rng: Random, folder: Path) -> Case:
        root = folder / "root"
        shutil.copytree(self.root, root)
        xml, listed = root / "Annotations" / f"{rng.choice(('a', 'b c'))}.xml", root / "ImageSets/Main/trainval.txt"
        kind = rng.choice(("xml bytes", "xml bytes", "xml values", "xml values", "same", "split", "layout", "argument"))
        arguments, same, names = {}, False, (str(root),)
        if kind == "xml bytes":
            content, what = damaged_bytes(rng, xml.read_bytes())
            xml.write_bytes(content)
        elif kind == "xml values":
            what = self._damage_value(rng, xml)
        elif kind == "same":
            what, same = self._rewrite(rng, xml, listed), True
        elif kind == "split":
            lines = ["a", "b c", "d"]
            lines.insert(rng.randrange(4), rng.choice(LINES))
            ending = rng.choice(("\n", "\r\n", "\r", "\n\n"))
            what = f"{lines!r:.80} {ending!r}"
            coding = rng.choice(("utf-8", "utf-8", "utf-16", "latin-1"))
            listed.write_bytes(
                ending.join(lines).encode(coding, errors="surrogatepass" if coding != "latin-1" else "replace")
            )
        elif kind == "layout":
            what = self._damage_layout(rng, root, xml)
        else:
            key = rng.choice(list(ARGUMENTS))
            arguments[key] = rng.choice(ARGUMENTS[key])
            what, names = f"{key}={arguments[key]!r:.60}", (key, str(root))
        if rng.random() < 0.2 and not same:
            arguments["on_error"] = arguments.get("on_error", "skip")
        return Case(f"{kind}: {what}", lambda: self._load(root, arguments, same), names)

    def _load(self, root: Path, arguments: dict, same: bool) -> None:
        data: DetectionData = load_voc(root, **arguments)
        sane_data(data, root)
        if same:
            same_data(data, self.good)

    def _damage_value(self, rng: Random, xml: Path) -> str:
        text = xml.read_text()
        field = rng.choice([field for field in FIELDS if f"<{field}>" in text])
        start, end = text.index(f"<{field}>") + len(field) + 2, text.index(f"</{field}>")
        value = rng.choice(VALUES)
        if rng.random() < 0.2:
            start, end, value = start - len(field) - 2, end + len(field) + 3, ""
        head = rng.choice(("", "", "", '<?xml version="1.0" encoding="utf-16"?>', '<!DOCTYPE a [<!ENTITY lol "x">]>'))
        xml.write_text(head + text[:start] + value + text[end:])
        return f"{field} {value[:40]!r} {head}"

    def _rewrite(self, rng: Random, xml: Path, listed: Path) -> str:
        """Write the same data in other words."""
        text = xml.read_text()
        texts = {
            "spaces": text.replace("><", ">\n  <"),
            "comments": text.replace("<object>", "<!-- an <object> --><object pose='left'>"),
            "floats": text.replace("<xmin>5<", "<xmin> 5.0 <").replace("<xmax>20<", "<xmax>2e1<"),
            "foreign elements": text.replace("<object>", "<owner><name>x</name></owner><object><pose/>"),
            "references": text.replace("dog", "d&#111;g").replace("cat", "<![CDATA[cat]]>"),
        }
        lists = {
            "line endings": b"a\r\nb c\r\nd\r\n\r\n",
            "columns": b"a  1\nb c -1\n  d   0",
            "byte order mark": b"\xef\xbb\xbfa\nb c\nd",
        }
        what = rng.choice((*texts, *lists, "mark in the XML", "UTF-16", "another image"))
        if what in texts:
            xml.write_text(texts[what])
        elif what in lists:
            listed.write_bytes(lists[what])
        elif what == "mark in the XML":
            xml.write_bytes(b"\xef\xbb\xbf" + text.encode())
        elif what == "UTF-16":
            xml.write_bytes(f"<?xml version='1.0' encoding='utf-16'?>{text}".encode("utf-16"))
        else:
            save_image(xml.parent.parent / "JPEGImages" / "z.jpg")
        return what

    def _damage_layout(self, rng: Random, root: Path, xml: Path) -> str:
        victim = rng.choice((*sorted(root.rglob("*")), xml))
        kind = rng.choice(("remove", "folder", "file", "empty", "link out", "dangling", "loop", "deny"))
        if kind != "deny":
            shutil.rmtree(victim) if victim.is_dir() else victim.unlink()
        if kind == "folder":
            victim.mkdir()
        elif kind == "file":
            victim.write_text("a\n")
        elif kind == "empty":
            victim.touch()
        elif kind == "link out":
            victim.symlink_to(root.parent.parent / rng.choice(("outside", "outside.txt", "outside/file.txt")))
        elif kind == "dangling":
            victim.symlink_to(root / "nowhere")
        elif kind == "loop":
            victim.symlink_to(victim)
        elif kind == "deny":
            victim.chmod(0)
        return f"{kind} {victim.relative_to(root)}"
