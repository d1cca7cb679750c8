"""Benchmark of rating a pool on Ray Data with two workers, against one process and two that know nothing of Ray.

    python -m miaod_plugin.experiments.benchmarks.pool --images 200000 --kill

Tiny images lie in a Parquet file as PNG. All rate the same shards by the same code, with a thread each, in turns; a
rate is that after the first shards, since starting takes as long for a large pool as for a small one. It needs the
extra ``ray``.
"""

import argparse
import io
import os
import signal
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image

from miaod_plugin import ObjectDetector
from miaod_plugin.baselines import EntropySampling
from miaod_plugin.cluster.connection import require_ray
from miaod_plugin.cluster.passes import Rating
from miaod_plugin.cluster.ranking import PoolQuery, rank_on_ray
from miaod_plugin.cluster.shards import ImagePool, Shard
from miaod_plugin.data import make_digit_scenes
from miaod_plugin.ranking.ranking import ranking_key

SIDE, SCENES, ROW_GROUP = 32, 500, 1000


def write_pool(path: Path, n: int) -> None:
    """Write tiny images, no two of which are alike, as PNG in a Parquet file."""
    import pyarrow
    from pyarrow import parquet

    scenes = make_digit_scenes(min(n, SCENES), image_size=SIDE, object_size=(10, 24), random_state=1).X
    schema = pyarrow.schema({"path": pyarrow.string(), "bytes": pyarrow.binary()})
    with parquet.ParquetWriter(path, schema) as writer:
        for start in range(0, n, ROW_GROUP):
            rows = range(start, min(start + ROW_GROUP, n))
            content = [_png(scenes[row % SCENES] ^ np.uint8(row // SCENES % 64)) for row in rows]
            writer.write_table(pyarrow.table([[f"{row:09d}.png" for row in rows], content], schema))


def _png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=1)
    return file.getvalue()


def train(path: Path) -> int:
    """Write a detector that finds digits, and return how many images it takes at a time."""
    data = make_digit_scenes(200, image_size=SIDE, object_size=(10, 24), random_state=0)
    options = {"max_steps": 200, "batch_size": 8, "optimizer": "adamw", "learning_rate": 0.004, "random_state": 0}
    detector = ObjectDetector("retinanet_tiny", data.classes, device="cpu", **options).fit(data.X, data.y)
    detector.save(path)
    return detector.score_batch_size


def rate_alone(rate: Rating, shards: list[Shard]) -> float:
    """Return the images a second that this process rates."""
    rate(shards[0])
    begin = time.perf_counter()
    for shard in shards[1:]:
        rate(shard)
    return sum(map(len, shards[1:])) / (time.perf_counter() - begin)


def rate_in_processes(folder: Path, rate_of, shards: list[Shard], count: int) -> float:
    """Return the images a second that so many processes rate, each of which has a share of the shards."""
    with ProcessPoolExecutor(count, mp_context=get_context("spawn")) as pool:
        shares = [pool.submit(rate_alone, rate_of(folder / f"{k}"), shards[k::count]) for k in range(count)]
        return sum(share.result() for share in shares)


class Watch(threading.Thread):
    """Looks at a ranking on Ray as it goes on: what memory it takes, and, when told to, kills a worker on the way.

    Attributes
    ----------
    memory : list of (float, int, int)
        Share of the images that are done, and the bytes of this process and of the largest worker, every second.
    """

    def __init__(self, kill_at: float | None):
        super().__init__(daemon=True)
        self.memory, self.times, self._kill_at, self._ended = [], [], kill_at, threading.Event()

    def show(self, done: int, total: int) -> None:
        self.times.append((time.perf_counter(), done, total))

    def run(self) -> None:
        while not self._ended.wait(1.0):
            pids = [int(path.parent.name) for path in Path("/proc").glob("[0-9]*/cmdline") if _is_worker(path)]
            if not pids or not self.times:
                continue
            share = self.times[-1][1] / self.times[-1][2]
            self.memory.append((share, _resident(os.getpid()), max(map(_resident, pids))))
            if self._kill_at is not None and share >= self._kill_at:
                os.kill(pids[0], signal.SIGKILL)
                print(f"killed a worker at {share:.0%}")
                self._kill_at = None

    def end(self) -> None:
        self._ended.set()
        self.join()

    @property
    def rate(self) -> float:
        """Images a second after the first shards."""
        (_, *_), (begin, first, _), *_, (end, last, _) = self.times
        return (last - first) / (end - begin)


def _is_worker(cmdline: Path) -> bool:
    try:
        return cmdline.read_bytes().startswith(b"ray::MapWorker")
    except OSError:
        return False


def _resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def rank_watched(query: PoolQuery, pool: ImagePool, folder: Path, kill_at: float | None) -> Watch:
    """Rank a pool on Ray; check that each image is in the Parquet files once."""
    from pyarrow import parquet

    watch = Watch(kill_at)
    watch.start()
    rank_on_ray(query, pool, folder, "local", "cpu", watch.show)
    watch.end()
    rows = np.concatenate([parquet.read_table(path, columns=["row"])["row"] for path in folder.glob("*.parquet")])
    assert np.array_equal(np.sort(rows), np.arange(watch.times[-1][2])), "rows were lost or doubled"
    return watch


def main() -> None:
    """Print the rates of one process, two, and Ray, and what memory they take."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3, help="of one process, two, and Ray; each has all images")
    parser.add_argument("--compared", type=int, help="of the images that are rated without Ray; all when left out")
    parser.add_argument("--kill", action="store_true", help="kill a worker in the middle of the last round")
    options = parser.parse_args()
    require_ray("the benchmark", "pyarrow")
    os.environ.setdefault("RAY_worker_niceness", "0")  # as that of the processes that they are compared with
    with TemporaryDirectory() as temporary:
        top = Path(temporary)
        write_pool(top / "pool.parquet", options.images)
        checkpoint, strategy = top / "detector.safetensors", EntropySampling()
        pool = ImagePool(str(top / "pool.parquet"), None, train(checkpoint))
        query = PoolQuery(strategy, 100, str(checkpoint), ranking_key(checkpoint, strategy))
        shards = pool.shards()
        some = shards[: -(-(options.compared or options.images) // len(shards[0]))]

        def rate_of(folder: Path) -> Rating:
            return Rating(str(checkpoint), "cpu", None, strategy, 100, str(folder), query.rows_key)

        print(f"{options.images} images of {SIDE} x {SIDE}, shards of {len(shards[0])}; images a second:")
        ratios = []
        for number in range(options.rounds):
            last, folder = number == options.rounds - 1, top / f"{number}"
            one = rate_in_processes(folder / "one", rate_of, some, 1)
            two = rate_in_processes(folder / "two", rate_of, some, 2)
            begin = time.perf_counter()
            watch = rank_watched(query, pool, folder / "ray", 0.3 if options.kill and last else None)
            took = time.perf_counter() - begin
            ratios.append((watch.rate / (2 * one), watch.rate / two))
            print(
                f"one process {one:.0f}, two {two:.0f}, Ray {watch.rate:.0f}: {ratios[-1][0]:.2f} of twice one,"
                f" {ratios[-1][1]:.2f} of two; {took:.0f} s in all; load {os.getloadavg()[0]:.1f}",
                flush=True,
            )
        print("the middle of the rounds: {:.2f} of twice one, {:.2f} of two".format(*np.median(ratios, axis=0)))
        for share, own, worker in watch.memory[:: max(1, len(watch.memory) // 12)]:
            print(f"{share:5.0%} done: {own / 2**20:.0f} MiB in this process, {worker / 2**20:.0f} in a worker")


if __name__ == "__main__":
    main()
