"""Versions and hardware of a run: what else its numbers depend on."""

import logging
import os
import platform
from importlib.metadata import version

import torch
from pydantic import BaseModel, ConfigDict, RootModel

from miaod_plugin.errors import DataError
from miaod_plugin.threads import usable_cores

from ..config.schema import ExperimentConfig
from .layout import Run, require_own
from .stored import as_json, read_json, require_fit, reseal

logger = logging.getLogger("miaod_plugin")

PACKAGES = ("miaod-plugin", "torch", "torchvision", "numpy", "scipy", "scikit-learn", "modAL-python", "pycocotools")
IN_A_WORD = {"none": "highest", "ieee": "highest", "tf32": "high", "bf16": "medium"}  # as torch calls a processor's


def threads_of_each(config: ExperimentConfig) -> int:
    """Return how many threads torch may use in each worker."""
    return config.threads or max(1, usable_cores() // config.jobs)


def environment(run: Run) -> dict:
    """Return Python, packages, system, processor, GPUs, and the processes and threads that the run uses."""
    config = run.config
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "gpus": gpus,
        "cuda": torch.version.cuda if gpus else None,
        "driver": _driver(),
        "numerics": numerics(),
        "device": "cuda" if config.device == "auto" and gpus else config.device.replace("auto", "cpu"),
        "jobs": config.jobs,
        "threads": threads_of_each(config),
    }


def numerics() -> dict:
    """Return what decides how exact and how repeatable torch computes; all but the first two matter to GPUs alone.

    The precisions are asked of each backend, since torch raises where they were set so and are asked for in one word.
    """
    return {
        "float32_matmul_precision": IN_A_WORD[torch.backends.mkldnn.matmul.fp32_precision],
        "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
        "matmul_tf32": torch.backends.cuda.matmul.fp32_precision == "tf32",
        "cudnn_tf32": torch.backends.cudnn.conv.fp32_precision == "tf32",
        "cudnn": torch.backends.cudnn.version(),
        "cudnn_deterministic": torch.backends.cudnn.deterministic,
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
    }


def record_environment(run: Run, now: dict) -> None:
    """Add an environment to the run's ``environment.json``, unless it is the last one there."""
    path = run.root / "environment.json"
    known = environments(run)
    if not known or known[-1] != now:
        reseal(path, as_json([*known, now]))


class _Environment(BaseModel):
    """What a report shows of an environment."""

    model_config = ConfigDict(strict=True)

    python: str
    packages: dict[str, str]
    system: str
    cpu: str
    cores: int | None
    gpus: list[str]
    cuda: str | None
    device: str
    jobs: int
    threads: int


class _Environments(RootModel[list[_Environment]]):
    """An ``environment.json``."""


def environments(run: Run) -> list[dict]:
    """Return every environment that the run was started in, the first one first; none, with a warning, if damaged."""
    path = run.root / "environment.json"
    try:
        require_own(path)
        known = read_json(path) or []
        require_fit(_Environments, known, path)
    except DataError as error:
        logger.warning("left out: %s", error)
        return []
    return known


def _driver() -> str | None:
    """Return the line in which NVIDIA's driver tells its version, where it is loaded."""
    try:
        with open("/proc/driver/nvidia/version", encoding="utf-8") as file:
            return " ".join(file.readline().partition(":")[2].split())
    except OSError:
        return None


def _cpu() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()
