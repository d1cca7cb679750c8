"""What `verbose` prints while something long goes on."""

import time
from collections.abc import Callable

EVERY = 10.0  # seconds between two lines at verbose 1


class Progress:
    """Print how far something is, as scikit-learn's `verbose` does: nothing at 0, a line now and then at 1, all at 2.

    The last line is printed at 1 as well.
    """

    def __init__(self, who: str, verbose: int):
        self.who, self.verbose = who, int(verbose)
        self.began = self.said = time.monotonic()
        self.first: tuple[int, float] | None = None

    def show(self, done: int, total: int, what: str, detail: str = "") -> None:
        """Tell that `done` of `total` is done, in words such as ``("steps", "loss 0.5")``, if it is time for a line."""
        now = time.monotonic()
        if self.first is None:
            self.first = done, now  # whatever went before, such as steps of a resumed training, took no time here
        due = self.verbose > 1 or done == total or now - self.said >= EVERY
        if not self.verbose or not due:
            return
        self.said = now
        parts = [f"{done} of {total} {what}", detail, self._time(done, total, now)]
        print(f"[{self.who}] {', '.join(filter(None, parts))}", flush=True)

    def _time(self, done: int, total: int, now: float) -> str:
        first, then = self.first
        if done == total:
            return f"took {duration(now - self.began)}"
        return f"{duration((now - then) / (done - first) * (total - done))} left" if done > first else ""


def duration(seconds: float) -> str:
    """Return a time as a person says it: 45 s, 12 min, 3.5 h, 2.1 days."""
    for unit, length in (("days", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s"


def telling(who: str, verbose: int, on_step: Callable[[dict], None] | None) -> Callable[[dict], None]:
    """Return an `on_step` of a training that prints, and calls the given one."""
    progress = Progress(who, verbose)

    def tell(report: dict) -> None:
        losses = ", ".join(f"{name} {value:.3g}" for name, value in report["losses"].items())
        progress.show(report["step"], report["total"], "steps", f"{report['round']}: {losses}")
        if on_step:
            on_step(report)

    return tell
