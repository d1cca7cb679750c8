"""Detections and heatmaps drawn over images."""

import numpy as np
import torch
from matplotlib import colormaps
from PIL import Image, ImageDraw, ImageFont

HEAT = "magma"  # read in the same order by colour-blind readers and in grey print
LEAST = 384  # pixels of a picture's shorter side; smaller images are enlarged
# Okabe and Ito's palette, told apart by colour-blind readers.
COLOURS = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7")


def draw_detections(image: torch.Tensor, detections: dict[str, np.ndarray], classes) -> Image.Image:
    """Draw boxes with class names and scores.

    Parameters
    ----------
    image : uint8 Tensor, (3, H, W)
    detections : dict
        ``boxes`` (m, 4) in pixels of the image, ``labels`` (m,), ``scores`` (m,).
    classes : sequence of str
        Class names in label order.
    """
    picture, scale = _enlarged(Image.fromarray(image.permute(1, 2, 0).numpy()))
    draw = ImageDraw.Draw(picture)
    size = max(11, round(min(picture.size) / 32))
    font, line = ImageFont.load_default(size), max(2, size // 7)
    best_last = range(len(detections["boxes"]) - 1, -1, -1)
    for k in best_last:
        label, box = int(detections["labels"][k]), (scale * detections["boxes"][k]).tolist()
        colour = COLOURS[label % len(COLOURS)]
        draw.rectangle(box, outline=colour, width=line)
        text = f"{classes[label]} {detections['scores'][k]:.2f}"
        left, _, right, bottom = draw.textbbox((0, 0), text, font=font)
        x = max(0, min(box[0], picture.width - right - 2 * line))
        y = box[1] - bottom - line if box[1] >= bottom + line else box[1]  # above the box, or inside at the top edge
        draw.rectangle((x, y, x + right - left + 2 * line, y + bottom + line), fill=colour)
        draw.text((x + line, y), text, fill="black", font=font)
    return picture


def overlay(image: torch.Tensor, heat: np.ndarray) -> Image.Image:
    """Lay a map of non-negative values ``(H, W)`` over a pale grey copy of an image, brightest where it is largest."""
    colour = colormaps[HEAT](heat / max(heat.max(), 1e-12))[..., :3]
    grey = image.float().mean(dim=0).numpy()[..., None] / 255
    return _enlarged(Image.fromarray(np.rint(255 * (0.28 * grey + 0.72 * colour)).astype(np.uint8)))[0]


def side_by_side(pictures: dict[str, Image.Image]) -> Image.Image:
    """Put pictures of one size in a row, each under its name."""
    first = next(iter(pictures.values()))
    size = max(11, round(min(first.size) / 20))
    font, gap, top = ImageFont.load_default(size), size // 2, round(1.7 * size)
    sheet = Image.new("RGB", (len(pictures) * (first.width + gap) - gap, first.height + top), "white")
    draw = ImageDraw.Draw(sheet)
    for k, (name, picture) in enumerate(pictures.items()):
        x = k * (first.width + gap)
        draw.text((x + gap // 2, size // 4), name, fill="black", font=font)
        sheet.paste(picture, (x, top))
    return sheet


def _enlarged(picture: Image.Image) -> tuple[Image.Image, int]:
    """Return a picture large enough to read, and how many times as large it is."""
    scale = max(1, -(-LEAST // min(picture.size)))
    return picture.resize((scale * picture.width, scale * picture.height), Image.Resampling.BICUBIC), scale
