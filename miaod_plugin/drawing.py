"""Detections and heatmaps drawn over images."""

import numpy as np
import torch
from matplotlib import colormaps
from PIL import Image, ImageDraw, ImageFont

HEAT = "magma"  # read in the same order by colour-blind readers and in grey print
LEAST = 384  # pixels of a picture's shorter side; smaller images are enlarged
# Okabe and Ito's palette, told apart by colour-blind readers.
COLOURS = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7")

Place = tuple[int, int, int, int]  # left, top, right, bottom in pixels of a picture


def draw_detections(image: torch.Tensor, detections: dict[str, np.ndarray], classes) -> Image.Image:
    """Draw boxes with class names and scores.

    No label covers another one or leaves the picture; where there is no room left near a box, it goes without.

    Parameters
    ----------
    image : uint8 Tensor, (3, H, W)
    detections : dict
        ``boxes`` (m, 4) in pixels of the image, ``labels`` (m,), ``scores`` (m,), best first.
    classes : sequence of str
        Class names in label order.
    """
    picture, scale = _enlarged(Image.fromarray(image.permute(1, 2, 0).numpy()))
    draw = ImageDraw.Draw(picture)
    size = max(11, round(min(picture.size) / 32))
    font, line = ImageFont.load_default(size), max(2, size // 7)
    boxes = (scale * np.asarray(detections["boxes"], np.float64)).tolist()
    colours = [COLOURS[int(label) % len(COLOURS)] for label in detections["labels"]]
    for box, colour in reversed(list(zip(boxes, colours, strict=True))):  # the best one on top
        draw.rectangle(box, outline=colour, width=line)
    taken: list[Place] = []
    for box, label, score, colour in zip(boxes, detections["labels"], detections["scores"], colours, strict=True):
        text = _cut(str(classes[int(label)]), f" {score:.2f}", font, picture.width - 2 * line)
        _, _, right, bottom = draw.textbbox((0, 0), text, font=font)
        place = free_place(box, (round(right) + 2 * line, round(bottom) + line), picture.size, taken)
        if place is not None:
            taken.append(place)
            draw.rectangle((place[0], place[1], place[2] - 1, place[3] - 1), fill=colour)
            draw.text((place[0] + line, place[1]), text, fill="black", font=font)
    return picture


def free_place(box, size: tuple[int, int], canvas: tuple[int, int], taken: list[Place]) -> Place | None:
    """Return where a label of `size` (width, height) goes: at the box, inside the canvas, and on no other label.

    Above the box if there is room, or inside along its upper edge, below it, at its right; then further down its left
    edge. ``None`` when all of it is taken or the label is larger than the canvas.
    """
    (width, height), (x1, y1, x2, y2) = size, (round(side) for side in box)
    first = [(x1, y1 - height), (x1, y1), (x1, y2), (x2, y1), (x2 - width, y1 - height), (x2 - width, y2)]
    for x, y in first + [(x1, y) for y in range(y1 + height, y2, height)]:
        left, top = max(0, min(x, canvas[0] - width)), y
        place = (left, top, left + width, top + height)
        inside = width <= canvas[0] and top >= 0 and place[3] <= canvas[1]
        if inside and not any(_overlap(place, other) for other in taken):
            return place
    return None


def overlay(image: torch.Tensor, heat: np.ndarray, top: float) -> Image.Image:
    """Lay a map ``(H, W)`` of values in 0..top over a pale grey copy of an image, brightest where it reaches `top`.

    Pictures that are compared share their `top`: the same colour then means the same value.
    """
    colour = colormaps[HEAT](np.clip(heat / max(top, 1e-12), 0, 1))[..., :3]
    grey = image.float().mean(dim=0).numpy()[..., None] / 255
    return _enlarged(Image.fromarray(np.rint(255 * (0.28 * grey + 0.72 * colour)).astype(np.uint8)))[0]


def colour_bar(top: float, width: int) -> Image.Image:
    """Return the colours of `overlay` from 0 to `top`, left to right, with both numbers beneath."""
    size = max(11, round(width / 24))
    font = ImageFont.load_default(size)
    bar = Image.new("RGB", (width, size + round(1.6 * size)), "white")
    colours = colormaps[HEAT](np.linspace(0, 1, width))[:, :3]
    bar.paste(Image.fromarray(np.rint(255 * np.tile(colours, (size, 1, 1))).astype(np.uint8)), (0, 0))
    draw = ImageDraw.Draw(bar)
    draw.text((0, round(1.15 * size)), "0", fill="black", font=font)
    draw.text((width, round(1.15 * size)), f"{top:.3g}", fill="black", font=font, anchor="ra")
    return bar


def side_by_side(
    pictures: dict[str, Image.Image], title: str = "", tops: dict[str, float] | None = None
) -> Image.Image:
    """Put pictures of one size in a row on a sheet.

    Parameters
    ----------
    pictures : dict of Image
        Each is shown under its name.
    title : str
        A line over all of them, cut where the sheet ends.
    tops : dict of float, optional
        The `top` of those that are overlays: their colour bar goes beneath.
    """
    first, tops = next(iter(pictures.values())), tops or {}
    size = max(11, round(min(first.size) / 20))
    font, gap, line = ImageFont.load_default(size), size // 2, round(1.7 * size)
    bars = {name: colour_bar(top, first.width) for name, top in tops.items()}
    below = max((gap + bar.height for bar in bars.values()), default=0)
    above = line * (2 if title else 1)
    sheet = Image.new("RGB", (len(pictures) * (first.width + gap) - gap, above + first.height + below), "white")
    draw = ImageDraw.Draw(sheet)
    draw.text((gap // 2, size // 4), _cut(title, "", font, sheet.width - gap), fill="black", font=font)
    for k, (name, picture) in enumerate(pictures.items()):
        x = k * (first.width + gap)
        draw.text((x + gap // 2, above - line + size // 4), name, fill="black", font=font)
        sheet.paste(picture, (x, above))
        if name in bars:
            sheet.paste(bars[name], (x, above + picture.height + gap))
    return sheet


def _cut(text: str, end: str, font, width: int) -> str:
    """Return ``text + end`` on one line, the text shortened until both fit into `width` pixels."""
    text = " ".join(text[:200].split())
    if font.getlength(text + end) <= width:
        return text + end
    while text and font.getlength(f"{text}...{end}") > width:
        text = text[:-1]
    return f"{text}...{end}"


def _overlap(a: Place, b: Place) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _enlarged(picture: Image.Image) -> tuple[Image.Image, int]:
    """Return a picture large enough to read, and how many times as large it is."""
    scale = max(1, -(-LEAST // min(picture.size)))
    return picture.resize((scale * picture.width, scale * picture.height), Image.Resampling.BICUBIC), scale
