"""What a student sees of an unlabelled image."""

import numpy as np
import torch

from miaod_plugin.training.views import strong_view


def test_a_strong_view_changes_colours_and_erases_rectangles_and_moves_nothing():
    image = torch.zeros(3, 64, 64)
    image[:, 16:40, 20:50] = torch.tensor([0.7, 0.5, 0.3])[:, None, None]
    kept, changed, erased = image.clone(), 0, []
    for seed in range(40):
        torch.manual_seed(seed)
        view = strong_view(image)
        assert view.shape == image.shape and view.min() >= 0 and view.max() <= 1
        _, counts = view.flatten(1).unique(dim=1, return_counts=True)
        frequent = counts.sort(descending=True).values[:2].tolist()
        erased.append(1 - sum(frequent) / 64**2)  # what is in neither of the image's two colours
        assert len(counts) <= 2 + 3
        changed += not torch.equal(view[:, 20, 30], kept[:, 20, 30])
    assert torch.equal(image, kept) and changed > 20
    assert 0.01 < np.mean(erased) < 0.12 and min(erased) == 0


def test_a_strong_view_leaves_grey_grey_and_is_drawn_from_torch_s_random_numbers():
    grey = torch.full((3, 32, 48), 0.5)
    for seed in range(20):
        torch.manual_seed(seed)
        view = strong_view(grey)
        again = [torch.manual_seed(seed), strong_view(grey)][1]
        assert torch.equal(view, again)
        most = view.flatten(1).mode(dim=1).values
        assert most.max() - most.min() < 1e-4
