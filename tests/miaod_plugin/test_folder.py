import os

import pytest
from data_files import save_image

from miaod_plugin.data import load_folder
from miaod_plugin.errors import DataError


def test_images_of_all_sub_folders_are_found_in_order_and_unlabelled(tmp_path):
    for name in ("b.jpg", "a/2.PNG", "a/1.webp", ".hidden.jpg", ".cache/x.jpg"):
        save_image(tmp_path / "pool" / name)
    (tmp_path / "pool" / "notes.txt").write_text("no image")
    data = load_folder(tmp_path / "pool", classes=("dog",))
    assert data.ids.tolist() == ["a/1.webp", "a/2.PNG", "b.jpg"] and data.split == "pool"
    assert data.X.tolist() == [str(tmp_path / "pool" / name) for name in data.ids]
    assert data.y.shape == (3,) and all(target is None for target in data.y) and data.classes == ("dog",)


@pytest.mark.parametrize("name", [b"\xff.jpg", b"a\nb.jpg"])
def test_a_name_that_no_list_of_ids_can_hold_is_refused(tmp_path, name):
    path = os.path.join(os.fsencode(tmp_path), name)
    try:
        open(path, "wb").close()
    except OSError:
        pytest.skip("this file system has no such names")
    with pytest.raises(DataError, match=r"(udcff|\\n).* is no name that a text file can hold; rename the image"):
        load_folder(tmp_path)


def test_a_missing_or_empty_folder_is_named(tmp_path):
    with pytest.raises(DataError, match=r"none: no such folder; expected a folder of images"):
        load_folder(tmp_path / "none")
    with pytest.raises(DataError, match="holds no images"):
        load_folder(tmp_path)
