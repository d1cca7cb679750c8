"""Pools in shards and what a worker asks of one, before there is any Ray; with one, see `test_rank_on_ray.py`."""

import sys

import fsspec
import numpy as np
import pytest

from miaod_plugin import ObjectDetector
from miaod_plugin.baselines import EntropySampling
from miaod_plugin.cluster.part import BATCHES, PartOfPool
from miaod_plugin.cluster.shards import FileShard, ImagePool, shard_size
from miaod_plugin.cluster.stores import place_inside
from miaod_plugin.data import load_folder, make_targets
from miaod_plugin.data.images import EncodedImage
from miaod_plugin.errors import DataError
from miaod_plugin.labeled import Labeled
from miaod_plugin.registry import STRATEGIES, find, registered
from miaod_plugin.strategies import MissesSampling


@pytest.fixture
def bucket(folder):
    """The URL of a store with the photographs of `folder` and what else lies in one."""
    store = fsspec.filesystem("memory")
    for path in folder.rglob("*.png"):
        store.pipe(f"/bucket/{path.relative_to(folder).as_posix()}", path.read_bytes())
    store.pipe("/bucket/notes.txt", b"no image")
    store.pipe("/bucket/.trash/d.png", b"hidden")
    yield "memory://bucket"
    store.rm("/bucket", recursive=True)


def asked(detector, images, ask, **options):
    part = PartOfPool(detector, **options)
    return [*part.answers(images, ask)]


def entropies(detector, X):
    return EntropySampling().utilities(detector, X)


def test_a_store_and_a_folder_are_the_same_pool_to_a_detector(checkpoints, folder, bucket):
    detector = ObjectDetector.load(checkpoints / "supervised.safetensors", device="cpu")
    (there,), (here,) = (ImagePool(str(pool), None, 8).shards() for pool in (bucket, folder))
    assert there.names == here.names == ("a.png", "b.png", "sub/c.png")
    for shard in (there, here):
        ((names, utilities, broken),) = asked(detector, shard.images(), entropies)
        assert names == list(shard.names) and broken == {}
        np.testing.assert_array_equal(utilities, entropies(detector, load_folder(folder).X))


def test_images_that_cannot_be_read_or_found_are_named_and_the_others_are_as_without_them(checkpoints, folder, bucket):
    fsspec.filesystem("memory").pipe("/bucket/b.png", b"no image")
    detector = ObjectDetector.load(checkpoints / "supervised.safetensors", device="cpu")
    shard = FileShard(0, bucket, ("a.png", "b.png", "lost.png", "sub/c.png"))
    images = [*shard.images(), ("nowhere.png", DataError("pool.parquet: 'nowhere.png' is not a path"))]
    ((names, utilities, broken),) = asked(detector, images, entropies)
    assert [names[k] for k in sorted(broken)] == ["b.png", "lost.png", "nowhere.png"]
    assert "memory://bucket/b.png: the image does not decode" in str(broken[1])
    assert "memory://bucket/lost.png: cannot be read" in str(broken[2])
    np.testing.assert_array_equal(utilities, entropies(detector, load_folder(folder).X[[0, 2]]))
    ((_, nothing, broken),) = asked(detector, FileShard(0, bucket, ("b.png",)).images(), entropies)
    assert nothing == {} and list(broken) == [0]


def test_no_more_than_some_images_are_held_at_a_time_and_what_is_asked_of_labelled_ones_is_kept(checkpoints, folder):
    detector = ObjectDetector.load(checkpoints / "supervised.safetensors", device="cpu").set_params(score_batch_size=1)
    content = (folder / "a.png").read_bytes()
    images, held = [], 0

    def read():
        nonlocal held
        for k in range(BATCHES + 2):
            held = max(held, k - sum(len(names) for names in images))
            yield f"{k}.png", EncodedImage(f"{k}.png", content)

    labelled = Labeled(np.array([str(folder / "b.png")]), make_targets([{"boxes": [[8, 8, 20, 30]], "labels": [0]}]))
    part, strategy = PartOfPool(detector, labelled), MissesSampling()
    rated = []
    for names, utilities, _ in part.answers(read(), lambda d, X: strategy.utilities(d, X, labeled=labelled)):
        images.append(names)
        rated.append(utilities)
        (folder / "b.png").unlink(missing_ok=True)  # the labelled one was looked at
    assert [len(names) for names in images] == [BATCHES, 2] and held < BATCHES
    assert len(np.unique(np.concatenate(rated))) == 1


@pytest.mark.parametrize(
    ("n", "together", "size"), [(10, 8, 64), (200_000, 64, 1024), (10**8, 8, 4096), (5000, 48, 96)]
)
def test_shards_hold_whole_batches_so_that_a_pool_is_rated_as_in_one_process(n, together, size):
    assert shard_size(n, together) == size and size % together == 0


def test_images_in_their_order_are_in_one_shard_each_and_a_changed_one_makes_another_shard(folder):
    for k in range(70):
        (folder / f"x{k:02d}.png").write_bytes((folder / "a.png").read_bytes())
    shards = ImagePool(str(folder), None, 1).shards()
    assert [shard.first for shard in shards] == [0, 64] and sum(map(len, shards)) == 73
    assert [name for shard in shards for name, _ in shard.images()] == load_folder(folder).ids.tolist()
    known = [shard.identity() for shard in shards]
    (folder / "x69.png").write_bytes(b"another one")
    assert [shard.identity() == before for shard, before in zip(shards, known, strict=True)] == [True, False]


@pytest.mark.parametrize(
    "name", ["../secret.png", "/etc/secret.png", "s3://other/a.png", "a\n.png", "", "x::file:///etc/a"]
)
def test_no_path_of_a_table_leads_out_of_its_root(tmp_path, name):
    with pytest.raises(DataError, match=r"pool\.parquet: "):
        place_inside("memory://bucket/images", name, "pool.parquet")
    if "://" not in name:
        with pytest.raises(DataError, match=r"pool\.parquet: "):
            place_inside(str(tmp_path), name, "pool.parquet")


def test_paths_of_a_table_may_be_written_from_its_root_on_or_below_it(tmp_path):
    assert place_inside("memory://bucket/", "memory://bucket/a/b.png", "t") == "memory://bucket/a/b.png"
    assert place_inside(str(tmp_path), f"{tmp_path}/a.png", "t") == place_inside(str(tmp_path), "a.png", "t")
    (tmp_path / "link.png").symlink_to("/etc/hostname")
    with pytest.raises(DataError, match="is a link that leaves"):
        place_inside(str(tmp_path), "link.png", "t")


def test_what_reads_a_url_and_is_not_installed_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(DataError, match=r"^s3://bucket: a library is missing that reads it: Install s3fs"):
        ImagePool("s3://bucket", None, 8).shards()
    with pytest.raises(DataError, match=r"^nothing://x: .*Protocol not known: nothing; give a folder, or a URL"):
        ImagePool("nothing://x", None, 8).shards()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--ray"], "--ray: Ray is not installed; pip install 'miaod-plugin[ray]'"),
        (["--ray", "--strategy", "enms", "--labelled", "FOLDER"], "learns from annotated boxes"),
        (["auto"], "auto: an address and --root are for --ray"),
        (["--root", "/data"], "/data: an address and --root are for --ray"),
    ],
)
def test_the_command_says_in_one_line_what_is_missing(
    checkpoints, folder, tmp_path, miaod, monkeypatch, arguments, said
):
    monkeypatch.setitem(sys.modules, "ray", None)  # as Python finds no such module
    arguments = [str(folder) if one == "FOLDER" else one for one in arguments]
    out = tmp_path / "rank.csv"
    status, _, errors = miaod("rank", folder, "-c", checkpoints / "miaod.safetensors", "--out", out, *arguments)
    assert status == 2 and errors.count("\n") == 1 and said in errors and not list(tmp_path.glob("rank*"))


RATES_EACH = [name for name in registered(STRATEGIES) if find(STRATEGIES, name)().reads_of_pool == "image"]


@pytest.mark.parametrize("name", RATES_EACH)
def test_a_strategy_that_rates_each_image_does_so_whatever_else_is_in_the_pool(checkpoints, folder, name):
    detector = ObjectDetector.load(checkpoints / "miaod.safetensors", device="cpu")
    strategy, X = find(STRATEGIES, name)(), load_folder(folder).X
    labelled = (X[:1], make_targets([{"boxes": np.array([[8.0, 8, 20, 30]]), "labels": np.array([0])}]))
    whole = strategy.utilities(detector, X, labeled=labelled)
    parts = [strategy.utilities(detector, X[part], labeled=labelled) for part in (slice(1), slice(1, 3))]
    np.testing.assert_allclose(np.concatenate(parts), whole, rtol=1e-6)
    best, _ = strategy.select(detector, X, 3, labeled=labelled)
    assert best.tolist() == np.argsort(-whole, kind="stable").tolist()
