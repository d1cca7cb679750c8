"""Small image files of every kind that a decoder treats in its own way."""

import io
import struct
import zlib

import numpy as np
from PIL import Image

HEIGHT, WIDTH = 29, 37


def image_files() -> dict[str, bytes]:
    """Return the content of one file of each kind, by name; the name ends in the suffix."""
    pixels = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    rgb = Image.fromarray(pixels)
    palette = rgb.convert("P")
    transparent = rgb.convert("RGBA")
    transparent.putalpha(Image.fromarray(pixels[..., 1] * (pixels[..., 1] > 60)))
    cmyk = _saved(rgb.convert("CMYK"), "JPEG")
    adobe = cmyk.index(b"Adobe") + 11  # the transform that the marker tells: 2 is YCCK
    files = {
        "grey.jpg": _saved(rgb.convert("L"), "JPEG"),
        "rgb.jpg": _saved(rgb, "JPEG"),
        "every pixel.jpg": _saved(rgb, "JPEG", subsampling=0, quality=95),
        "progressive.jpg": _saved(rgb, "JPEG", progressive=True),
        "cmyk.jpg": cmyk,
        "ycck.jpg": cmyk[:adobe] + b"\2" + cmyk[adobe + 1 :],
        "one bit.png": _saved(rgb.convert("1"), "PNG"),
        "grey alpha.png": _saved(transparent.convert("LA"), "PNG"),
        "palette.png": _saved(palette, "PNG"),
        "palette of 4.png": _saved(rgb.quantize(4), "PNG", bits=2),
        "palette trns.png": _saved(palette, "PNG", transparency=bytes(range(255, -1, -1))),
        "grey trns.png": _saved(rgb.convert("L"), "PNG", transparency=7),
        "rgb trns.png": _saved(rgb, "PNG", transparency=tuple(pixels[0, 0].tolist())),
        "rgba.png": _saved(transparent, "PNG"),
        "rgb.webp": _saved(rgb, "WEBP"),
        "rgba.webp": _saved(transparent, "WEBP"),
        "lossless.webp": _saved(transparent, "WEBP", lossless=True),
        "palette.gif": _saved(palette, "GIF"),
        "transparent.gif": _saved(palette, "GIF", transparency=5),
    }
    for name, bits, colour, channels in (
        ("grey 2", 2, 0, 1),
        ("grey 4", 4, 0, 1),
        ("grey", 8, 0, 1),
        ("grey 16", 16, 0, 1),
        ("rgb", 8, 2, 3),
        ("rgb 16", 16, 2, 3),
        ("grey alpha 16", 16, 4, 2),
        ("rgba 16", 16, 6, 4),
    ):
        files[f"{name}.png"] = png(bits, colour, channels)
    return files


def png(bits: int, colour: int, channels: int, height: int = HEIGHT, width: int = WIDTH) -> bytes:
    """Return a PNG of random pixels, written byte by byte; its header tells of `height` and `width`."""
    rows = np.random.default_rng(bits + colour).integers(0, 256, (HEIGHT, -(-WIDTH * bits * channels // 8)), np.uint8)
    content = b"".join(b"\0" + row.tobytes() for row in rows)
    chunks = {
        b"IHDR": struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0),
        b"IDAT": zlib.compress(content),
        b"IEND": b"",
    }
    parts = [struct.pack(">I", len(data)) + name + data for name, data in chunks.items()]
    return b"\x89PNG\r\n\x1a\n" + b"".join(part + struct.pack(">I", zlib.crc32(part[4:])) for part in parts)


def _saved(image: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()
