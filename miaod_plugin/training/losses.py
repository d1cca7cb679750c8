"""The losses of steps: gathered where they are computed, and read some steps at a time."""

import math

import torch
from torch import Tensor

from ..errors import TrainingError

READ_EVERY = 20  # steps on a GPU, which would have to wait for each reading


class StepLosses:
    """The losses of the steps since they were last read. On a CPU each step's are read at once.

    Parameters
    ----------
    device : torch.device
    """

    def __init__(self, device: torch.device):
        self.most = 1 if device.type == "cpu" else READ_EVERY
        self._events: list[dict] = []
        self._values: list[Tensor] = []

    def add(self, event: dict, loss: Tensor, losses: dict[str, Tensor]) -> None:
        """Remember the losses of a step by name, and their sum `loss`, with what else its event says."""
        self._events.append(event | {"losses": dict.fromkeys(losses)})
        self._values.append(torch.stack([loss, *losses.values()]).detach())

    @property
    def full(self) -> bool:
        """Whether they are to be read."""
        return len(self._events) >= self.most

    def read(self) -> list[dict]:
        """Return the events with the values of their losses, oldest first, and forget them.

        Raises
        ------
        TrainingError
            If the sum of a step's losses is not finite: of the first such step.
        """
        events, sizes = self._events, [len(values) for values in self._values]
        rows = torch.cat(self._values).cpu().split(sizes)
        self._events, self._values = [], []
        for event, row in zip(events, rows, strict=True):
            loss, *values = row.tolist()
            event["losses"] = dict(zip(event["losses"], values, strict=True))
            if not math.isfinite(loss):
                parts = ", ".join(f"{name} {value:.4g}" for name, value in event["losses"].items())
                raise TrainingError(
                    f"the loss is not finite at step {event['step']} of {event['total']} ({parts}); lower learning_rate"
                    " or set max_grad_norm"
                )
        return events
