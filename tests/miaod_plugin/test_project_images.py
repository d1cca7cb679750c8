"""An image is found by whatever name a tool gave it, and never taken for another one."""

import pytest

from miaod_plugin.annotations.project_images import ProjectImages
from miaod_plugin.errors import DataError

PATHS = ("a/1.jpg", "b/1.jpg", "b/2.jpg", "b/2.png", "3.jpg", "x/3.jpg", "x/ä (1)&.jpeg", "with,comma+plus.png")


def find(name, paths=PATHS) -> str:
    return ProjectImages({path: (4, 3) for path in paths}).find(name, "file.json")


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("a/1.jpg", "a/1.jpg"),
        ("./a/1.jpg", "a/1.jpg"),
        ("/home/me/photos/a/1.jpg", "a/1.jpg"),
        ("C:\\photos\\a\\1.jpg", "a/1.jpg"),
        ("https://host/photos/a/1.jpg?version=2", "a/1.jpg"),
        ("/data/local-files/?d=photos/a/1.jpg", "a/1.jpg"),
        ("/photos/x/%C3%A4%20(1)&.jpeg", "x/ä (1)&.jpeg"),
        ("2.jpg", "b/2.jpg"),  # the only one of that name
        ("3.jpg", "3.jpg"),  # the whole path of one image comes before the end of another's
        ("photos/x/3.jpg", "x/3.jpg"),  # as much of the name as possible
        ("/data/upload/12/1a2b3c4d-2.jpg", "b/2.jpg"),
        ("1a2b3c4d-2.png", "b/2.png"),
        ("/data/upload/12/1a2b3c4d-%C3%A4_1.jpeg", "x/ä (1)&.jpeg"),
        ("/data/upload/12/1a2b3c4d-withcommaplus.png", "with,comma+plus.png"),
    ],
)
def test_an_image_is_found_by_what_a_tool_calls_it(name, path):
    assert find(name) == path


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("1.jpg", r"'1.jpg' may be a/1.jpg, b/1.jpg; keep folders and suffixes in the names"),
        ("/data/upload/1/1a2b3c4d-1.jpg", "may be a/1.jpg, b/1.jpg"),
        ("c/1.jpg", r"'c/1.jpg' is not among the 8 images of the project; .*; did you mean"),
        ("1.png", "is not among"),
        ("22.jpg", "is not among"),
        ("../a/1.jpg", "is not a path inside the project; use one without"),
        ("a/../../1.jpg", "is not a path inside the project"),
        ("/data/local-files/?d=%2e%2e/a/1.jpg", "is not a path inside the project"),
        ("https://[/a/1.jpg", "is not an address"),
        ("", "is not the name of an image"),
        ("/", "is not a path inside the project"),
        (None, "None is not the name of an image"),
        (["a/1.jpg"], "is not the name of an image"),
        ("x" * 10_000, "is not the name of an image"),
    ],
)
def test_what_is_no_image_of_the_project_or_could_be_several_is_refused_in_one_line(name, message):
    with pytest.raises(DataError, match=message) as raised:
        find(name)
    assert str(raised.value).startswith("file.json: ") and len(str(raised.value)) <= 600


def test_names_without_suffix_find_the_image_unless_two_differ_by_it_alone():
    images = ProjectImages({path: (4, 3) for path in PATHS})
    assert images.find_stem("train/a/1", "file") == "a/1.jpg"
    assert images.find_stem("1a2b3c4d-ä_1", "file") == "x/ä (1)&.jpeg"
    with pytest.raises(DataError, match=r"'b/2' may be b/2\.jpg, b/2\.png"):
        images.find_stem("b/2", "file")


def test_a_percent_sign_in_a_name_is_one():
    assert find("https://host/100%25.jpg", ("100%25.jpg", "100%.jpg")) == "100%25.jpg"
    assert find("https://host/100%25.jpg", ("100%.jpg",)) == "100%.jpg"


def test_a_backslash_in_a_name_is_one():
    assert find("a\\b.jpg", ("a\\b.jpg", "a/b.jpg")) == "a\\b.jpg"


def test_an_uploads_number_is_not_taken_off_a_name_that_has_it_itself():
    assert find("1a2b3c4d-2.jpg", ("b/2.jpg", "1a2b3c4d-2.jpg")) == "1a2b3c4d-2.jpg"
