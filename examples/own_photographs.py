"""Play the loop on a folder of photographs: ask, annotate, import, train, three times.

The photographs are digit scenes, so that a stand-in for the annotator can know the true boxes: it reads what was
written for Label Studio and writes what Label Studio would export. `python examples/own_photographs.py FOLDER` takes
half a minute on two cores and ends with the path of the project's page.
"""

import argparse
import json
from pathlib import Path

import yaml
from PIL import Image

from miaod_plugin.data import make_digit_scenes
from miaod_plugin.loop import Project

TRAINING = {"max_steps": 400, "batch_size": 8, "optimizer": "adamw", "learning_rate": 0.004, "warmup_steps": 20}


def take_photographs(folder: Path, count: int) -> tuple[list[str], dict[str, dict]]:
    """Write photographs and return the class names and the true boxes of each."""
    scenes = make_digit_scenes(count, image_size=64, n_classes=3, random_state=0)
    folder.mkdir(parents=True)
    for name, pixels in zip(scenes.ids, scenes.X, strict=True):
        Image.fromarray(pixels).save(folder / f"{name}.png")
    return list(scenes.classes), {f"{name}.png": target for name, target in zip(scenes.ids, scenes.y, strict=True)}


def annotate(tasks: Path, export: Path, truth: dict[str, dict], classes: list[str]) -> None:
    """Answer tasks for Label Studio as an annotator does who replaces all proposed boxes by the true ones."""
    answered = []
    for task in json.loads(tasks.read_text()):
        target = truth[task["data"]["path"]]
        drawn = zip(target["boxes"].tolist(), target["labels"].tolist(), strict=True)
        result = [rectangle(box, classes[label]) for box, label in drawn]
        answered.append({"data": task["data"], "annotations": [{"result": result, "completed_by": 1}]})
    export.write_text(json.dumps(answered))


def rectangle(box: list[float], name: str, size: int = 64) -> dict:
    """Return a box as Label Studio exports it: in percent of the photograph."""
    x1, y1, x2, y2 = (100 * side / size for side in box)
    value = {"x": x1, "y": y1, "width": x2 - x1, "height": y2 - y1, "rotation": 0, "rectanglelabels": [name]}
    return {"type": "rectanglelabels", "value": value, "original_width": size, "original_height": size}


def main(folder: Path, photographs: int = 200, training: dict = TRAINING) -> Path:
    """Play three rounds in a new folder and return the project's page."""
    classes, truth = take_photographs(folder / "photos", photographs)
    project = Project.create(folder / "photos", classes, folder=folder, detector="retinanet_tiny", held_out=40)
    settings = yaml.safe_load((folder / "loop.yaml").read_text())
    (folder / "loop.yaml").write_text(yaml.safe_dump(settings | {"estimator": training}))
    project = Project(folder)
    for _ in range(3):
        asked = project.query(photographs // 5)
        annotate(project.exported(asked), folder / "export.json", truth, classes)
        project.import_annotations(folder / "export.json")
        project.train()
        newest = project.status().curve[-1]
        print(f"round {asked.number}: {newest.images} photographs, AP50 {newest.ap:.2f} on {newest.held_out} held out")
    return project.report()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="a new folder")
    print(main(parser.parse_args().folder))
