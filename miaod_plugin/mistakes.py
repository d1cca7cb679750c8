"""What a detector gets wrong: does it overlook objects, or take them for something else?"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torchvision.ops import box_iou

from .metrics import check_boxes


@dataclass(frozen=True)
class Mistakes:
    """How many objects were found, and how many detections lie on one; difficult objects and crowds count neither way.

    Entropy and the disagreement of two classifiers are large where classes are confused, and small where an object is
    overlooked altogether.
    """

    objects: int
    found: int  # overlapped by a detection of their class
    mistaken: int  # by detections of other classes alone
    detections: int
    right: int  # on an object of their class; several may be on one
    misnamed: int  # on objects of other classes alone

    def __str__(self) -> str:
        found, mistaken = (_share(n, self.objects) for n in (self.found, self.mistaken))
        missed = _share(self.objects - self.found - self.mistaken, self.objects)
        right, misnamed = (_share(n, self.detections) for n in (self.right, self.misnamed))
        nothing = _share(self.detections - self.right - self.misnamed, self.detections)
        return (
            f"of {self.objects:,} objects {found} are found, {mistaken} taken for another class, {missed} overlooked\n"
            f"of {self.detections:,} detections {right} lie on an object of their class, {misnamed} of another class,"
            f" {nothing} on none"
        )


def count_mistakes(
    predictions: Sequence[dict], targets: Sequence[dict], num_classes: int, threshold: float = 0.5, iou: float = 0.5
) -> Mistakes:
    """Count what detections with a score of `threshold` or more get right and wrong.

    Parameters
    ----------
    predictions, targets : sequence of dict
        One per image, as for `voc_average_precision`.
    num_classes : int
        Labels are in ``0..num_classes - 1``.
    threshold : float, default=0.5
        Score from which a detection counts.
    iou : float, default=0.5
        Overlap with an object from which a detection lies on it.

    Raises
    ------
    MiaodError
        If a prediction or target is not what it should be; names the image and the field.
    """
    check_boxes(predictions, targets, num_classes)
    counts = np.zeros(6, dtype=np.int64)
    for found, there in zip(predictions, targets, strict=True):
        sure = np.asarray(found["scores"]) >= threshold
        labels, known = np.asarray(found["labels"])[sure], np.asarray(there["labels"])
        ignored = np.zeros(len(known), dtype=bool)
        for name in {"difficult", "iscrowd"} & there.keys():
            ignored |= np.asarray(there[name], dtype=bool)
        boxes = (np.asarray(side["boxes"], dtype=np.float64).reshape(-1, 4) for side in (there, found))
        objects, seen = (torch.from_numpy(side) for side in boxes)
        on = box_iou(objects, seen).numpy()[:, sure] >= iou
        of_class = on & (known[:, None] == labels)
        right, lies = of_class[~ignored].any(axis=0), on[~ignored].any(axis=0)
        counted = lies | ~on[ignored].any(axis=0)
        of_object, overlapped = of_class.any(axis=1)[~ignored], on.any(axis=1)[~ignored]
        counts += [
            len(of_object), of_object.sum(), (overlapped & ~of_object).sum(),
            counted.sum(), right.sum(), (lies & ~right).sum(),
        ]  # fmt: skip
    return Mistakes(*counts.tolist())


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.0f} %" if whole else "-"
