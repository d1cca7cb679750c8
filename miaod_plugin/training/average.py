"""The moving average of a network's weights over the steps of its training."""

import copy

import torch

from ..detectors.network import DetectionNetwork


def with_average(network: DetectionNetwork) -> DetectionNetwork:
    """Give a network its ``average``, which begins as a copy of it, and ``n_averaged``, the steps that are in it.

    Both belong to the network's state, so that a training that was interrupted goes on with them.
    """
    average = copy.deepcopy(network).requires_grad_(False)
    device = next(network.parameters()).device
    network.register_buffer("n_averaged", torch.zeros((), dtype=torch.int64, device=device))
    network.average = average
    return network


@torch.no_grad()
def update_average(network: DetectionNetwork, horizon: float) -> None:
    """Let the average move towards the network after a step; nothing waits for a GPU.

    At step t it moves by ``1 / (horizon * t)``, at most all the way, so that it reaches back over that share of the
    steps so far, however many there are to be (polynomial-decay averaging: Shamir and Zhang, ICML 2013). Statistics of
    BatchNorm are averaged as weights are.
    """
    network.n_averaged += 1
    rate = (1 / (horizon * network.n_averaged)).clamp(max=1)
    average, latest = network.average.state_dict(), network.state_dict()
    numbers = [name for name, tensor in average.items() if tensor.is_floating_point()]
    old, new = ([state[name] for name in numbers] for state in (average, latest))
    difference = torch._foreach_sub(new, old)
    torch._foreach_mul_(difference, rate)
    torch._foreach_add_(old, difference)
    for name in average.keys() - set(numbers):  # how many batches BatchNorm has seen
        average[name].copy_(latest[name])


def averaged(network: DetectionNetwork) -> DetectionNetwork:
    """Return the average as a network that could be trained like the one it is of."""
    trains = {name: parameter.requires_grad for name, parameter in network.named_parameters()}
    for name, parameter in network.average.named_parameters():
        parameter.requires_grad_(trains[name])
    return network.average
