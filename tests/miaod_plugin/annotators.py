"""A stand-in for annotators and their tools: it knows the true boxes, and answers what a project asks."""

import json
from pathlib import Path

import numpy as np
import yaml

from miaod_plugin.annotations import Suggestion
from miaod_plugin.data import image_size, make_digit_scenes
from miaod_plugin.data.images import store_image
from miaod_plugin.loop import Project
from miaod_plugin.registry import ANNOTATION_FORMATS, find

TOOLS = ["coco", "cvat", "label-studio", "voc", "yolo"]


class Annotator:
    """Who knows the boxes of photographs that are written into a folder, some of them in one below it."""

    def __init__(self, folder: Path, n_images: int = 24, **options):
        self.folder, self.truth, self.options = folder, {}, {"n_classes": 2, "image_size": 64, **options}
        self.classes = list(make_digit_scenes(1, **self.options).classes)
        self.take(n_images)

    def take(self, n_images: int, random_state: int = 0) -> list[str]:
        """Take more photographs and return their paths."""
        data, taken = make_digit_scenes(n_images, random_state=random_state, **self.options), []
        for k, (pixels, target) in enumerate(zip(data.X, data.y, strict=True)):
            name = f"{'sub/' if k % 3 else ''}photo_{random_state}_{k:03}"
            taken.append(store_image(pixels, self.folder / name).relative_to(self.folder).as_posix())
            self.truth[taken[-1]] = target
        return taken

    def project(self, folder: Path, tool: str = "coco", **settings) -> Project:
        """Make a project with a tiny detector that trains for a moment."""
        options = settings.pop("create", {})
        Project.create(self.folder, self.classes, folder=folder, tool=tool, detector="retinanet_tiny", **options)
        configure(
            folder,
            detector={"name": "retinanet_tiny", "options": {"width": 8, "fpn_channels": 16}},
            estimator={"max_steps": 3, "batch_size": 4, "optimizer": "adamw", "score_batch_size": 8},
            **settings,
        )
        return Project(folder)

    def answer(self, tool: str, paths: list[str], out: Path, truth: dict | None = None) -> Path:
        """Annotate photographs and return what the tool then exports."""
        annotated = []
        for path in paths:
            target = {**self.truth, **(truth or {})}[path]
            height, width = image_size(self.folder / path)
            scores = np.ones(len(target["boxes"]), dtype=np.float32)
            annotated.append(Suggestion(path, (width, height), None, target["boxes"], target["labels"], scores))
        format = find(ANNOTATION_FORMATS, tool)()
        out = out / f"{tool}{format.suffix}"
        format.write(out, annotated, self.classes)
        if tool == "label-studio":
            out.write_text(json.dumps([_submitted(task) for task in json.loads(out.read_text())]))
        return out


def _submitted(task: dict) -> dict:
    """Turn a task with a prediction into one that somebody confirmed."""
    result = task.pop("predictions", [{"result": []}])[0]["result"]
    annotation = {"result": result, "was_cancelled": False, "completed_by": 1, "updated_at": "2026-01-01T12:00:00Z"}
    return {**task, "annotations": [annotation]}


def configure(folder: Path, **settings) -> None:
    """Write other settings into a project."""
    file = folder / "loop.yaml"
    file.write_text(yaml.safe_dump({**yaml.safe_load(file.read_text()), **settings}))


def paths_of(round_) -> list[str]:
    return [one.path for one in round_.asked()]


def imported(project, annotator, paths, out, tool="coco", **options):
    out.mkdir(exist_ok=True)
    return project.import_annotations(annotator.answer(tool, paths, out, **options))


def content(project) -> dict[str, bytes]:
    """Return what is known: every file but scratch."""
    files = (path for path in project.places.folder.rglob("*") if path.is_file() and ".loop" not in path.parts)
    return {str(path): path.read_bytes() for path in files}
