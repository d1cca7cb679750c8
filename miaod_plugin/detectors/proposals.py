"""Faster R-CNN's proposals for all images of a batch at once: found, matched, sampled and pooled.

torchvision goes image by image, and lets the host wait for a GPU about ten times for each. Here it waits once for
non-maximum suppression (of 25,000 candidates at a time) and once for how many proposals each map has. Given the same
samples the numbers are torchvision's.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler, BoxCoder, Matcher
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.rpn import RegionProposalNetwork, concat_box_prediction_layers
from torchvision.ops import MultiScaleRoIAlign, roi_align
from torchvision.ops.poolers import LevelMapper

from ..distributed.group import images_beside, normaliser, of_all_parts
from .box_coding import decode, encode
from .matching import match_anchors
from .postprocessing import Candidates, clipped, survivors

Targets = list[dict[str, Tensor]]


def propose(
    rpn: RegionProposalNetwork, batch: ImageList, maps: list[Tensor], anchors: Tensor, targets: Targets | None
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Return the proposals ``(B, P, 4)``, which of them there are, bool ``(B, P)``, and the network's losses.

    They lie best first. Losses are those of anchors ``(A, 4)`` that are sampled around `targets`, none without.
    """
    objectness, regression = rpn.head(maps)
    sizes = [level[0].numel() for level in objectness]
    objectness, regression = concat_box_prediction_layers(objectness, regression)
    objectness = objectness.view(len(batch.tensors), -1)  # (B, A)
    regression = regression.view(*objectness.shape, 4)
    proposals, valid = _best(rpn, objectness.detach(), regression.detach(), anchors, sizes, batch.image_sizes)
    losses = {} if targets is None else _losses(rpn, objectness, regression, anchors, targets)
    return proposals, valid, losses


def _best(
    rpn: RegionProposalNetwork, objectness: Tensor, regression: Tensor, anchors: Tensor, sizes: list[int], image_sizes
) -> tuple[Tensor, Tensor]:
    """Return the proposals that survive non-maximum suppression among the best anchors of each level, best first."""
    device, n_images = objectness.device, len(objectness)
    starts = [sum(sizes[:level]) for level in range(len(sizes))]
    of_levels = [min(rpn.pre_nms_top_n(), size) for size in sizes]
    best = [
        level.topk(most, dim=1).indices + start
        for level, most, start in zip(objectness.split(sizes, dim=1), of_levels, starts, strict=True)
    ]
    best = torch.cat(best, dim=1)  # (B, N)
    images = torch.arange(n_images, device=device)
    levels = torch.cat([torch.full((most,), level) for level, most in enumerate(of_levels)])
    found = Candidates(
        images.repeat_interleave(best.shape[1]),
        best.flatten(),
        levels.to(device, non_blocking=True).repeat(n_images),
        objectness.gather(1, best).sigmoid().flatten(),
    )
    decoded = decode(regression[found.images, found.instances], anchors[found.instances], rpn.box_coder)
    boxes = clipped(decoded, found.images, image_sizes)
    good = ((boxes[:, 2:] - boxes[:, :2]) >= rpn.min_size).all(dim=1) & (found.scores >= rpn.score_thresh)
    last = found._replace(scores=torch.where(good, found.scores, -1))  # so that they suppress none of the good ones
    kept = survivors(last, boxes, [best.shape[1]] * n_images, rpn.nms_thresh)

    most = min(rpn.post_nms_top_n(), best.shape[1])
    image = found.images[kept]
    counts = (image == images[:, None]).sum(dim=1)
    rank = torch.arange(len(kept), device=device) - (counts.cumsum(0) - counts)[image]
    rows = kept.new_full((n_images, most + 1), -1)
    rows[image, rank.clamp(max=most)] = kept  # those beyond the most share the last column
    rows = rows[:, :most]
    return boxes[rows], (rows >= 0) & good[rows]


def _losses(
    rpn: RegionProposalNetwork, objectness: Tensor, regression: Tensor, anchors: Tensor, targets: Targets
) -> dict[str, Tensor]:
    matcher = rpn.proposal_matcher
    matches = match_anchors(anchors, targets, matcher.high_threshold, matcher.low_threshold)
    rows, sampled = balanced_sample(matches, rpn.fg_bg_sampler)
    positive, boxes, _ = _matched(matches.gather(1, rows), sampled, targets)
    count = normaliser(sampled.sum())
    found = F.binary_cross_entropy_with_logits(objectness.gather(1, rows), positive.to(objectness), reduction="none")
    regression = regression.gather(1, rows[..., None].expand(-1, -1, 4))
    return {
        "objectness": torch.where(sampled, found, 0).sum() / count,
        "proposal_regression": regression_loss(regression, anchors[rows], boxes, positive, rpn.box_coder) / count,
    }


def sample_proposals(
    heads: RoIHeads, proposals: Tensor, valid: Tensor, targets: Targets
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return S of the proposals of each image and of its boxes, which are proposals too, to train a box head on.

    Returns
    -------
    proposals : Tensor, (B, S, 4)
    valid : Tensor of bool, (B, S)
        Those there are.
    labels : Tensor of int64, (B, S)
        The class of each, -1 for background.
    boxes : Tensor, (B, S, 4)
        What those of a class are matched to.
    """
    own = pad_sequence([target["boxes"] for target in targets], batch_first=True).to(proposals)
    own = F.pad(own, (0, 0, 0, max(of_all_parts(own.shape[1])) - own.shape[1]))
    counts = torch.tensor([len(target["boxes"]) for target in targets])
    there = (torch.arange(own.shape[1]) < counts[:, None]).to(own.device, non_blocking=True)
    proposals, valid = torch.cat((proposals, own), dim=1), torch.cat((valid, there), dim=1)
    matcher = heads.proposal_matcher
    matches = match_anchors(proposals, targets, matcher.high_threshold, matcher.low_threshold, low_quality=False)
    matches = torch.where(valid, matches, Matcher.BETWEEN_THRESHOLDS)
    rows, sampled = balanced_sample(matches, heads.fg_bg_sampler)
    positive, boxes, labels = _matched(matches.gather(1, rows), sampled, targets)
    proposals = proposals.gather(1, rows[..., None].expand(-1, -1, 4))
    return proposals, sampled, torch.where(positive, labels, -1), boxes


def _matched(matches: Tensor, sampled: Tensor, targets: Targets) -> tuple[Tensor, Tensor, Tensor]:
    """Return which of some matches ``(B, S)`` are positives, and the boxes ``(B, S, 4)`` and labels they are of."""
    boxes, labels = (pad_sequence([target[key] for target in targets], batch_first=True) for key in ("boxes", "labels"))
    boxes, labels = F.pad(boxes, (0, 0, 0, 1)), F.pad(labels, (0, 1))  # there may be no box at all
    box = matches.clamp(min=0)
    images = torch.arange(len(matches), device=matches.device)[:, None]
    return (matches >= 0) & sampled, boxes[images, box], labels[images, box]


def balanced_sample(matches: Tensor, sampler: BalancedPositiveNegativeSampler) -> tuple[Tensor, Tensor]:
    """Draw positives and negatives of each image as torchvision's sampler does: as likely, not the same ones.

    Up to a fraction of the sample are positives, and the rest are negatives if there are as many: those with the
    largest of random keys, which are drawn for the whole batch, whichever process sees it.

    Parameters
    ----------
    matches : Tensor, (B, A)
        The result of `match_anchors`.
    sampler : BalancedPositiveNegativeSampler
        Which says how large the sample is, S, and which part of it are positives at most.

    Returns
    -------
    rows : Tensor of int64, (B, S)
        Indices of anchors; S is A at most.
    sampled : Tensor of bool, (B, S)
        Whether an index is of the sample, or fills it up.
    """
    size, most_positives = sampler.batch_size_per_image, int(sampler.batch_size_per_image * sampler.positive_fraction)
    before, after = images_beside()
    keys = torch.rand(before + len(matches) + after, matches.shape[1], device=matches.device)[before:][: len(matches)]
    drawn = [
        keys.masked_fill(~of_kind, -1).topk(min(most, matches.shape[1]), dim=1)
        for of_kind, most in ((matches >= 0, most_positives), (matches == Matcher.BELOW_LOW_THRESHOLD, size))
    ]
    positive, negative = (found.values >= 0 for found in drawn)
    left = size - positive.sum(dim=1, keepdim=True)
    negative &= torch.arange(negative.shape[1], device=keys.device) < left
    sampled, order = torch.cat((positive, negative), dim=1).sort(dim=1, descending=True, stable=True)
    size = min(size, matches.shape[1])
    rows = torch.cat([found.indices for found in drawn], dim=1).gather(1, order)
    return rows[:, :size], sampled[:, :size]


def regression_loss(regression: Tensor, anchors: Tensor, boxes: Tensor, positive: Tensor, coder: BoxCoder) -> Tensor:
    """Return the smooth L1 loss, summed over positives, of box outputs of anchors that should say boxes -> scalar.

    All are ``(B, S, 4)``, `positive` is bool ``(B, S)``.
    """
    wanted = encode(boxes.flatten(0, 1), anchors.flatten(0, 1), coder).view_as(regression)
    # what is no positive may be without width, and so its outputs without a number
    difference = torch.where(positive[..., None], regression - wanted, 0)
    return F.smooth_l1_loss(difference, torch.zeros_like(difference), beta=1 / 9, reduction="sum")


def pool(
    pooler: MultiScaleRoIAlign, pyramid: dict[str, Tensor], boxes: Tensor, valid: Tensor, padded_size: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Return what boxes ``(B, P, 4)`` hold of the maps for their size, as torchvision's `MultiScaleRoIAlign`.

    Returns
    -------
    pooled : Tensor, (R, D, S, S)
        Of the R valid boxes, map by map.
    rows : Tensor of int64, (R,)
        Which of the B * P boxes each is.
    """
    maps = [level for name, level in pyramid.items() if name in pooler.featmap_names]
    scales = [2.0 ** round(math.log2(level.shape[2] / padded_size[0])) for level in maps]
    finest, coarsest = (int(-math.log2(scale)) for scale in (scales[0], scales[-1]))
    map_levels = LevelMapper(finest, coarsest, pooler.canonical_scale, pooler.canonical_level)
    levels = torch.where(valid.flatten(), map_levels([boxes.flatten(0, 1)]), len(maps))
    counts = (levels == torch.arange(len(maps), device=levels.device)[:, None]).sum(dim=1).tolist()
    rows = levels.argsort(stable=True)[: sum(counts)]
    regions = torch.cat(((rows // boxes.shape[1])[:, None].to(boxes), boxes.flatten(0, 1)[rows]), dim=1)
    pooled = [
        roi_align(level, of_level, pooler.output_size, scale, pooler.sampling_ratio)
        for level, of_level, scale in zip(maps, regions.split(counts), scales, strict=True)
    ]
    return torch.cat(pooled), rows
