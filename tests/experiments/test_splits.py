import hashlib
from pathlib import Path

import pytest
from tiny_experiment import run_tiny, write_experiment

from miaod_plugin.errors import ConfigError, DataError
from miaod_plugin.experiments.config.schema import load_config
from miaod_plugin.experiments.cycle.cycle import Experiment
from miaod_plugin.experiments.runner.run import run_experiment
from miaod_plugin.experiments.store import splits
from miaod_plugin.experiments.store.datasets import load_data
from miaod_plugin.experiments.store.layout import Run
from miaod_plugin.experiments.store.splits import read_split, write_splits

PUBLISHED = Path(splits.__file__).parents[1] / "splits"
PROTOCOLS = ["coco_retinanet", "voc_retinanet", "voc_ssd"]


def test_the_published_splits_are_those_of_their_checksums():
    lines = (PUBLISHED / "SHA256SUMS").read_text().splitlines()
    sums = {name: digest for digest, name in (line.split("  ") for line in lines)}
    assert set(sums) == {path.name for path in PUBLISHED.glob("*.txt")}
    for name, digest in sums.items():
        assert hashlib.sha256((PUBLISHED / name).read_bytes()).hexdigest() == digest


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_protocol_has_a_split_of_its_first_budget_for_each_seed(protocol):
    config = load_config(PUBLISHED.parent / f"{protocol}.yaml")
    sets = []
    for seed in config.seeds:
        file = Path(config.initial.replace("{seed}", str(seed)))
        assert file.parent == PUBLISHED
        sets.append(read_split(file, ids=[""] * config.data.sizes.train).tolist())
    assert {len(chosen) for chosen in sets} == {config.budgets[0]}
    assert sets[0] != sets[1] != sets[2]


def test_a_run_from_split_files_starts_from_the_images_they_name(tmp_path):
    config = load_config(write_experiment(tmp_path))
    write_splits(config, tmp_path / "splits")
    first = tmp_path / "splits" / "tiny_seed0.txt"
    ids = load_data(config)[0].ids
    first.write_text("# 4 of 24 images\n" + "".join(f"{row + 1}\t{ids[row]}\n" for row in (3, 5, 8, 20)))
    arms = [{"training": "supervised", "strategy": "random"}]
    run, _ = run_tiny(tmp_path, arms=arms, seeds=[0], budgets=[4, 5], initial="splits/tiny_seed{seed}.txt")
    labelled = run / "arms" / "supervised+random" / "seed0" / "cycle0" / "labelled.txt"
    assert labelled.read_text().split() == ids[[3, 5, 8, 20]].tolist()

    first.write_text("# 4 of 24 images\n3\n5\n8\n9\n")
    with pytest.raises(DataError, match=r"initial images of seed0: not what the run in .* began with"):
        run_experiment(load_config(tmp_path / "tiny.yaml"), tmp_path / "runs")


def test_split_files_name_the_images_that_are_drawn_without_them(tmp_path):
    config = load_config(write_experiment(tmp_path))
    train, test = load_data(config)
    for seed, file in zip(config.seeds, write_splits(config, tmp_path), strict=True):
        drawn = Experiment(config, Run(config, tmp_path), train, test).initial_set(seed)
        assert read_split(file, train.ids).tolist() == drawn.tolist()


def test_lines_of_a_split_file_may_be_in_any_order(tmp_path):
    (tmp_path / "split.txt").write_text("# 3 of 4 images\n3\n1\ta\n4\n")
    assert read_split(tmp_path / "split.txt", ids=["a", "b", "c", "d"]).tolist() == [0, 2, 3]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "line 1: '' is not of the form"),
        ("1\n2\n", "line 1: '1' is not of the form"),
        ("# 2 of 4 images\n1\n2\n", "line 1: '# 2 of 4 images', but 2 follow and the training part has 3"),
        ("# 2 of 3 images\n1\n", "but 1 follow"),
        ("# 2 of 3 images\n1\n4\n", "line 3: '4' is not a position from 1 to 3"),
        ("# 2 of 3 images\n1\n-1\n", "line 3: '-1' is not a position"),
        ("# 2 of 3 images\n1\n\n", "line 3: '' is not a position"),
        ("# 2 of 3 images\n1\n2\tc\n", "line 3: image 2 is 'b' here, not 'c'"),
        ("# 2 of 3 images\n2\n2\n", "an image is named twice"),
        (f"# {'9' * 5000} of 3 images\n", "line 1: '# 999"),
        (f"# 1 of 3 images\n{'1' * 5000}\n", "line 2: '111"),
        ("#" + " " * 60_000, "is not of the form"),
        ("\0\n\x1b[2J", r"line 1: '\x00' is not of the form"),
    ],
)
def test_a_wrong_split_file_is_refused_by_its_line(tmp_path, content, message):
    path = tmp_path / "split.txt"
    path.write_text(content)
    with pytest.raises(DataError) as refused:
        read_split(path, ids=["a", "b", "c"])
    assert str(refused.value).startswith(f"{path}: ")
    assert message in str(refused.value)


def test_a_split_that_is_no_file_of_text_is_refused(tmp_path):
    (tmp_path / "latin").write_bytes(b"# 1 of 3 images\n\xff")
    for place, message in [
        ("/dev/zero", "is not a file"),
        (tmp_path, "is not a file"),
        (tmp_path / "missing", "cannot be read: No such file"),
        (tmp_path / "latin", r"byte 16 \(0xff\) is not UTF-8"),
    ]:
        with pytest.raises(DataError, match=message):
            read_split(place, ids=["a"])


def test_initial_images_are_for_budgets_of_images_and_as_many_as_the_first(tmp_path):
    with pytest.raises(ConfigError, match="initial: is for budgets that count images, not boxes"):
        load_config(write_experiment(tmp_path, initial="x", budget={"unit": "boxes"}))
    write_splits(load_config(write_experiment(tmp_path)), tmp_path)
    changed = load_config(write_experiment(tmp_path, initial=str(tmp_path / "tiny_seed{seed}.txt"), budgets=[5, 7]))
    with pytest.raises(ConfigError, match="has 4 images, but the first budget is 5"):
        run_experiment(changed, tmp_path / "runs")
    assert not (tmp_path / "runs").exists()
