"""How well the objects of annotated images are found."""

import numpy as np
import torch
from torchvision.ops import box_iou


def object_overlaps(rows: np.ndarray, target: dict) -> tuple[np.ndarray, np.ndarray]:
    """Return the labels of an image's objects, and their IoU with each detection of their class.

    Parameters
    ----------
    rows : ndarray, (m, 6)
        Detections as `InstanceOutputs.detection_rows` has them.
    target : dict
        What is annotated; difficult objects and crowds are left out.

    Returns
    -------
    labels : ndarray of int64, (k,)
    ious : ndarray of float32, (k, m)
        0 for detections of other classes.
    """
    labels = np.asarray(target["labels"], dtype=np.int64)
    left_out = np.zeros(len(labels), dtype=bool)
    for name in {"difficult", "iscrowd"} & target.keys():
        left_out |= np.asarray(target[name], dtype=bool)
    labels, boxes = labels[~left_out], np.asarray(target["boxes"], dtype=np.float32).reshape(-1, 4)[~left_out]
    ious = box_iou(torch.from_numpy(boxes), torch.from_numpy(rows[:, :4].copy())).numpy()
    return labels, ious * (labels[:, None] == rows[:, 4])
