"""`miaod rank --ray` on a real Ray, a worker of which is killed; `make test-ray`."""

import json
import os
import shutil
import signal
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from processes import start_command, wait_for_end
from test_cli_rank import ranked

from miaod_plugin import ObjectDetector
from miaod_plugin.baselines import EntropySampling
from miaod_plugin.cluster.datasets import map_dataset
from miaod_plugin.data import load_folder, make_digit_scenes
from miaod_plugin.data.images import store_image

ray = pytest.importorskip("ray", reason="the extra miaod-plugin[ray] is not installed")
pytestmark = pytest.mark.slow
pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
N = 200


@pytest.fixture(scope="module", autouse=True)
def cluster():
    """Two workers on the loopback device, which all tests share."""
    settings = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
    os.environ.update(settings)
    folder = tempfile.mkdtemp(prefix="ray", dir="/tmp")  # sockets: short paths
    ray.init(num_cpus=2, object_store_memory=80_000_000, include_dashboard=False, log_to_driver=False, _temp_dir=folder)
    yield
    ray.shutdown()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """A folder of pictures, of which no two are alike."""
    folder = tmp_path_factory.mktemp("scenes")
    for k, x in enumerate(make_digit_scenes(N, random_state=3).X):
        store_image(x, folder / f"{k % 3}" / f"{k:04d}")
    return folder


def table_of(folder: Path, path: Path, **columns) -> None:
    """Write a table with the paths of a folder's images in their order, in row groups that no shard is made of."""
    table = pa.table({"path": load_folder(folder).ids.tolist(), "id": range(N), **columns})
    parquet.write_table(table, path, row_group_size=50)


def rows_in(folder: Path) -> list[dict]:
    """Return what is known of all images of a pool, in their order."""
    return [row for path in sorted(folder.glob("*.parquet")) for row in parquet.read_table(path).to_pylist()]


@pytest.mark.parametrize("strategy", ["entropy", "miaod", "random", "cost_aware", "misses"])
def test_the_ranking_is_to_the_bit_that_of_one_process(checkpoints, scenes, tmp_path, miaod, strategy):
    box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [8, 8, 20, 30], "area": 600, "iscrowd": 0}
    boxes = {
        "images": [{"id": 1, "file_name": "0/0000.png", "height": 64, "width": 64}],
        "annotations": [box],
        "categories": [{"id": number + 1, "name": str(number)} for number in range(5)],
    }
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))
    arguments = ["rank", scenes, "-c", checkpoints / "miaod.safetensors", "-n", 20, "--strategy", strategy]
    arguments += ["--labelled", scenes, "--annotations", tmp_path / "boxes.json"]
    assert miaod(*arguments, "--out", tmp_path / "one.json")[0] == 0
    status, said, errors = miaod(*arguments, "--ray", "--out", tmp_path / "ray.json")
    assert status == 0 and errors == "" and f"the 20 images of {N} to annotate next, by {strategy}" in said
    assert (tmp_path / "ray.json").read_text() == (tmp_path / "one.json").read_text()
    if strategy != "random":
        rows = rows_in(tmp_path / "ray.json.rows")
        assert [row["row"] for row in rows] == list(range(N)) and {row["error"] for row in rows} == {None}
        assert [row["path"] for row in rows] == load_folder(scenes).ids.tolist()


def test_core_set_chooses_in_two_levels_from_embeddings_that_stay(checkpoints, scenes, tmp_path, miaod):
    arguments = ["rank", scenes, "-c", checkpoints / "miaod.safetensors", "-n", 5, "--strategy", "coreset"]
    arguments += ["--labelled", scenes / "2"]
    assert miaod(*arguments, "--out", tmp_path / "one.csv")[0] == 0
    assert miaod(*arguments, "--ray", "--out", tmp_path / "ray.csv")[0] == 0
    one, two = (ranked(tmp_path / f"{name}.csv") for name in ("one", "ray"))
    assert one[0] == two[0], "the farthest of all is the farthest of its shard"
    assert float(two[-1]["uncertainty"]) > 0.5 * float(one[-1]["uncertainty"])
    rows = rows_in(tmp_path / "ray.csv.rows")
    assert len(rows) == N and len({len(row["embedding"]) for row in rows}) == 1


@pytest.mark.parametrize("how", ["paths", "bytes", "several files"])
def test_a_table_of_paths_or_of_bytes_is_the_pool_that_it_tells_of(checkpoints, scenes, tmp_path, miaod, how):
    arguments = ["-c", checkpoints / "miaod.safetensors", "-n", 20, "--strategy", "entropy", "--out"]
    assert miaod("rank", scenes, *arguments, tmp_path / "one.json")[0] == 0
    pool, root = tmp_path / "pool.parquet", []
    if how == "bytes":
        table_of(scenes, pool, bytes=[Path(path).read_bytes() for path in load_folder(scenes).X])
    else:
        table_of(scenes, pool)
        root = ["--root", scenes]
    if how == "several files":
        whole, pool = parquet.read_table(pool), tmp_path / "pool"
        pool.mkdir()
        for k, start in enumerate((0, 70, 150)):
            parquet.write_table(whole[start : (70, 150, N)[k]], pool / f"{k}.parquet")
    status, _, errors = miaod("rank", pool, *arguments, tmp_path / "ray.json", "--ray", *root)
    assert status == 0, errors
    assert (tmp_path / "ray.json").read_text() == (tmp_path / "one.json").read_text()


def test_a_path_of_a_table_that_leads_elsewhere_is_an_image_that_cannot_be_read(checkpoints, scenes, tmp_path, miaod):
    parquet.write_table(pa.table({"path": ["0/0000.png", "/etc/hostname", "../secret.png"]}), tmp_path / "pool.parquet")
    arguments = ["rank", tmp_path / "pool.parquet", "-c", checkpoints / "miaod.safetensors", "--root", scenes, "--ray"]
    status, _, errors = miaod(*arguments, "--out", tmp_path / "rank.csv")
    assert status == 2 and errors.count("is not a path inside") == 2 and "--on-error skip" in errors
    parquet.write_table(pa.table({"url": ["a.png"]}), tmp_path / "pool.parquet")
    status, _, errors = miaod(*arguments, "--out", tmp_path / "rank.csv")
    assert status == 2 and "has no column path of strings or bytes of binary, but url; name them so" in errors


@pytest.mark.parametrize("how", ["paths", "bytes"])
def test_a_ray_data_set_of_images_gets_a_column_for_each_reducer(checkpoints, scenes, tmp_path, how):
    X = load_folder(scenes).X
    columns = {"bytes": [Path(path).read_bytes() for path in X]} if how == "bytes" else {}
    table_of(scenes, tmp_path / "pool.parquet", **columns)
    model = checkpoints / "miaod.safetensors"
    reducers = {"entropy": EntropySampling().reducer(), "embedding": lambda outputs: outputs.embeddings}
    mapped = map_dataset(ray.data.read_parquet(str(tmp_path / "pool.parquet")), model, reducers, root=str(scenes))
    mapped.write_parquet(str(tmp_path / "rated"))
    rows = sorted(rows_in(tmp_path / "rated"), key=lambda row: row["id"])
    expected = ObjectDetector.load(model, device="cpu").map_pool(X, reducers)
    assert [row["path"] for row in rows] == load_folder(scenes).ids.tolist()
    np.testing.assert_allclose([row["entropy"] for row in rows], expected["entropy"], rtol=1e-5)
    np.testing.assert_allclose([row["embedding"] for row in rows], expected["embedding"], rtol=1e-4, atol=1e-6)


class Killer(threading.Thread):
    """Kills a worker as soon as there is a file in a folder."""

    def __init__(self, folder: Path):
        super().__init__(daemon=True)
        self._folder, self.killed, self.files = folder, None, 0

    def run(self) -> None:
        deadline = time.monotonic() + 120
        while self.killed is None and time.monotonic() < deadline:
            self.files = len(list(self._folder.glob("*.parquet")))
            if self.files:
                self.killed = next(iter(workers()))
                os.kill(self.killed, signal.SIGKILL)
            time.sleep(0.005)


def workers() -> set[int]:
    """Return the processes that look at images."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_bytes().startswith(b"ray::MapWorker"):
                found.add(int(path.parent.name))
        except OSError:
            continue
    return found


@pytest.mark.skipif(not os.path.isdir("/proc"), reason="finds workers in /proc")
def test_a_killed_worker_costs_no_row_and_makes_none_twice(checkpoints, scenes, tmp_path, miaod):
    content = [Path(path).read_bytes() for path in load_folder(scenes).X] * 10
    parquet.write_table(pa.table({"bytes": content}), tmp_path / "pool.parquet", row_group_size=100)
    killer = Killer(tmp_path / "rank.csv.rows")
    killer.start()
    arguments = ["rank", tmp_path / "pool.parquet", "-c", checkpoints / "miaod.safetensors", "--ray"]
    status, _, errors = miaod(*arguments, "--out", tmp_path / "rank.csv", "--strategy", "entropy")
    assert status == 0, errors
    rows = rows_in(tmp_path / "rank.csv.rows")
    assert killer.killed and killer.files < len(list((tmp_path / "rank.csv.rows").glob("*.parquet")))
    assert [row["row"] for row in rows] == list(range(10 * N))
    np.testing.assert_array_equal([row["utility"] for row in rows[:N]] * 10, [row["utility"] for row in rows])


def test_ctrl_c_ends_the_workers_in_one_line_and_the_same_command_goes_on(checkpoints, scenes, tmp_path, miaod):
    content = [Path(path).read_bytes() for path in load_folder(scenes).X] * 10
    parquet.write_table(pa.table({"bytes": content}), tmp_path / "pool.parquet", row_group_size=100)
    arguments = ["rank", tmp_path / "pool.parquet", "-c", checkpoints / "miaod.safetensors", "--strategy", "entropy"]
    arguments += ["--out", tmp_path / "rank.csv", "--ray"]
    process, kept = start_command(*arguments, ray.get_runtime_context().gcs_address), tmp_path / "rank.csv.rows"
    deadline = time.monotonic() + 240
    while not list(kept.glob("*.parquet")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    started = workers()
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and errors.decode() == "stopped; the same command goes on from here\n"
    assert started
    wait_for_end(started)
    before = {path: path.stat().st_mtime_ns for path in kept.glob("*.parquet")}
    status, _, errors = miaod(*arguments)
    assert status == 0, errors
    assert before and all(path.stat().st_mtime_ns == then for path, then in before.items())
    assert [row["row"] for row in rows_in(kept)] == list(range(10 * N))


def test_what_was_done_is_not_done_again_for_the_same_model_and_images(checkpoints, scenes, tmp_path, miaod):
    folder = tmp_path / "images"
    shutil.copytree(scenes, folder)
    last = load_folder(folder).ids[-1]
    good = (folder / last).read_bytes()
    (folder / last).write_bytes(b"no image")
    out, kept = tmp_path / "rank.csv", tmp_path / "rank.csv.rows"
    arguments = ["rank", folder, "--ray", "--strategy", "entropy", "--out", out, "-c"]
    status, _, errors = miaod(*arguments, checkpoints / "miaod.safetensors")
    assert status == 2 and str(folder / last) in errors and not out.exists()
    before = {path.name: path.stat().st_mtime_ns for path in kept.glob("*.parquet")}
    (folder / last).write_bytes(good)
    assert miaod(*arguments, checkpoints / "miaod.safetensors")[0] == 0
    after = {path.name: path.stat().st_mtime_ns for path in kept.glob("*.parquet")}
    assert len(after) == len(before) == len(before.items() & after.items()) + 1
    assert miaod(*arguments, checkpoints / "supervised.safetensors")[0] == 0
    assert not {path.name for path in kept.glob("*.parquet")} & set(after), "another model begins anew"


@pytest.mark.parametrize("strategy", ["entropy", "random"])
def test_broken_images_may_be_left_out_as_in_one_process(checkpoints, scenes, tmp_path, miaod, strategy):
    folder = tmp_path / "images"
    shutil.copytree(scenes, folder)
    arguments = ["rank", folder, "-c", checkpoints / "miaod.safetensors", "-n", 15, "--strategy", strategy, "--out"]
    assert miaod(*arguments, tmp_path / "one.csv")[0] == 0
    for row in ranked(tmp_path / "one.csv")[:2]:
        (folder / row["path"]).write_bytes(b"no image")
    assert miaod(*arguments, tmp_path / "one.csv", "--on-error", "skip")[0] == 0
    status, said, errors = miaod(*arguments, tmp_path / "ray.csv", "--on-error", "skip", "--ray")
    assert status == 0 and errors.count("left out: ") == 2 and f"of {N - 2} to annotate" in said
    assert (tmp_path / "ray.csv").read_text() == (tmp_path / "one.csv").read_text()


def test_what_a_strategy_refuses_on_a_worker_is_one_line(checkpoints, scenes, tmp_path, miaod):
    arguments = ["rank", scenes, "-c", checkpoints / "supervised.safetensors", "--out", tmp_path / "rank.csv", "--ray"]
    status, _, errors = miaod(*arguments)
    assert status == 2 and errors.count("\n") == 1 and "needs a detector trained by MIAOD" in errors
    status, _, errors = miaod(*arguments, "--strategy", "enms", "--device", "cuda:1")
    assert status == 2 and errors.count("\n") == 1
