"""Image files: damaged bytes, headers that lie, and files that are no images."""

import io
import os
import struct
import zlib
from pathlib import Path
from random import Random

import numpy as np
import torch
from cases import Case
from damage import damaged_bytes
from PIL import Image
from sane import sane_image

FORMATS = {
    "rgb.jpg": ("RGB", "JPEG", {"quality": 90}),
    "progressive.jpg": ("RGB", "JPEG", {"progressive": True}),
    "grey.jpg": ("L", "JPEG", {}),
    "cmyk.jpg": ("CMYK", "JPEG", {}),
    "rgb.png": ("RGB", "PNG", {}),
    "rgba.png": ("RGBA", "PNG", {}),
    "palette.png": ("P", "PNG", {"transparency": 0}),
    "deep.png": ("I;16", "PNG", {}),
    "bits.png": ("1", "PNG", {}),
    "lossy.webp": ("RGB", "WEBP", {}),
    "lossless.webp": ("RGBA", "WEBP", {"lossless": True}),
    "moving.gif": ("P", "GIF", {"save_all": True}),
    "moving.webp": ("RGB", "WEBP", {"save_all": True}),
    "map.bmp": ("RGB", "BMP", {}),
    "scan.tif": ("RGB", "TIFF", {}),
}
FOREIGN = (b"", b"\n", b"not an image", b"<html></html>", b"PK\3\4" + bytes(50), b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")
SUFFIXES = (".jpg", ".png", ".webp", ".jpeg", ".PNG")
SIDES = (0, 1, 65_500, 26_000, 1 << 16, 0x7FFFFFFF, 0xFFFFFFFF, 12_000)


class Family:
    def __init__(self, folder: Path):
        folder.mkdir()
        self.good = {}
        for name, (mode, form, options) in FORMATS.items():
            pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
            image = Image.fromarray(pixels).convert("I" if mode == "I;16" else mode)
            image = image.point(lambda value: value * 256).convert("I;16") if mode == "I;16" else image
            exif = Image.Exif()
            exif[0x0112] = 6  # turned
            more = {"exif": exif} if form in ("JPEG", "WEBP") else {}
            frames = {"append_images": [image.rotate(90)]} if options.get("save_all") else {}
            buffer = io.BytesIO()
            image.save(buffer, form, **options, **more, **frames)
            self.good[name] = buffer.getvalue()
        self.pixels = {}
        for name in ("rgb.jpg", "rgb.png", "palette.png", "lossy.webp", "grey.jpg"):
            (folder / name).write_bytes(self.good[name])
            self.pixels[name] = sane_image(folder / name)

    def case(self, rng: Random, folder: Path) -> Case:
        name = rng.choice(list(self.good))
        path = folder / ("a" + (Path(name).suffix if rng.random() < 0.8 else rng.choice(SUFFIXES)))
        checked = False
        kind = rng.choice(("bytes",) * 6 + ("header", "header", "behind", "foreign", "no file"))
        if kind == "no file":
            return Case(self._no_file(rng, path, folder), lambda: sane_image(path), (path.name,))
        if kind == "behind":
            name = rng.choice(list(self.pixels))
            path = path.with_suffix(Path(name).suffix)
            path.write_bytes(self.good[name] + rng.randbytes(rng.choice((1, 100, 5000))))
            return Case(f"{name} and more", lambda: self._same(path, self.pixels[name]), (path.name,))
        if kind == "bytes":
            content, what = damaged_bytes(rng, self.good[name], tuple(self.good.values()))
            checked = name.endswith(".png") and name in self.pixels and what.startswith("flip")  # PNG has checksums
        elif kind == "header":
            content, what = self._lying(rng, name)
        else:
            content, what = rng.choice(FOREIGN), "foreign"
        path.write_bytes(content)
        look = (lambda: self._same(path, self.pixels[name])) if checked else (lambda: sane_image(path))
        return Case(f"{name} as {path.name}: {what}", look, (path.name,))

    def _same(self, path: Path, pixels: torch.Tensor) -> None:
        assert torch.equal(sane_image(path), pixels), "other pixels"

    def _lying(self, rng: Random, name: str) -> tuple[bytes, str]:
        """Claim another size in the header, with a sum that fits it."""
        content = bytearray(self.good[name])
        width, height = rng.choice(SIDES), rng.choice(SIDES)
        if name.endswith(".png"):
            content[16:24] = struct.pack(">II", width, height)
            content[24:26] = bytes([content[24], content[25]] if rng.random() < 0.7 else [rng.choice((1, 16)), 3])
            content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
        elif name.endswith(".jpg"):
            at = max(content.find(b"\xff\xc0"), content.find(b"\xff\xc2")) + 5
            content[at : at + 4] = struct.pack(">HH", height & 0xFFFF, width & 0xFFFF)
        elif name.endswith(".gif"):
            content[6:10] = struct.pack("<HH", width & 0xFFFF, height & 0xFFFF)
        elif name.endswith(".bmp"):
            content[18:26] = struct.pack("<II", width, height)
        else:
            at = 24 if content[12:16] == b"VP8X" else 26
            content[at : at + 4] = struct.pack("<I", width)
        return bytes(content), f"claims {width} x {height}"

    def _no_file(self, rng: Random, path: Path, folder: Path) -> str:
        kind = rng.choice(("missing", "folder", "dangling", "loop", "pipe"))
        if kind == "folder":
            path.mkdir()
        elif kind == "dangling":
            path.symlink_to(folder / "nowhere.jpg")
        elif kind == "loop":
            path.symlink_to(path)
        elif kind == "pipe":
            os.mkfifo(path)
        return kind
