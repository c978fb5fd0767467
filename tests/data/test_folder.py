"""A plain folder of images."""

import numpy as np
import pytest
from PIL import Image
from published import encoded, jpeg, opened, picture

from ddpm.config.errors import UserError
from ddpm.storage.files import read_npz


def fill(folder, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def test_all_images_at_any_depth_are_for_training_by_path(published):
    files = {
        "b.png": encoded(picture(0, 40, 30)),
        "a/z.JPG": jpeg(1, 30, 40),
        "a/y.webp": encoded(picture(2, 30, 30), "WEBP"),
        "a-b.png": encoded(picture(3, 12, 12, "L")),
        "a/notes.txt": b"none",
    }
    fill(published.root, files)
    train, test = published.prepare("my-photos", image_size=16)
    assert (len(train), len(test)) == (4, 0)
    for row, name in zip(train[:], ("a/y.webp", "a/z.JPG", "a-b.png", "b.png"), strict=True):
        array = opened(files[name])
        (height, width), side = array.shape[:2], min(array.shape[:2])
        top, left = (height - side) // 2, (width - side) // 2
        cut = Image.fromarray(array[top : top + side, left : left + side])
        assert np.array_equal(row, np.asarray(cut.resize((16, 16), Image.Resampling.LANCZOS))), name
    card = train.card
    assert (card["title"], card["train"], card["test"], card["classes"]) == ("my-photos", 4, 0, [])
    assert (card["crop"], card["resize"]) == ("centre, to the shorter side", "16x16, Lanczos")


def test_sub_folders_are_the_splits(published):
    fill(published.root, {f"train/{i}.png": encoded(picture(i, 8, 8)) for i in range(3)})
    fill(published.root, {"test/0.png": encoded(picture(7, 8, 8)), "elsewhere.png": encoded(picture(8, 8, 8))})
    train, test = published.prepare("mine", image_size=8)
    assert np.array_equal(train[:], np.stack([np.asarray(picture(i, 8, 8)) for i in range(3)]))
    assert np.array_equal(test[:][0], np.asarray(picture(7, 8, 8)))
    assert read_npz(published.out / "labels.npz", "train")["train"].size == 0


def test_class_folders_are_the_classes_and_take_turns(published):
    names = ("train/owl/0.png", "train/owl/1.png", "train/cat/0.png", "test/owl/x.png", "train/cat/deep/er.png")
    fill(published.root, {name: encoded(picture(i, 8, 8)) for i, name in enumerate(names)})
    train, _ = published.prepare("pets", image_size=8)
    assert train.card["classes"] == ["cat", "owl"]
    labels = read_npz(published.out / "labels.npz", "train", "test")
    assert (labels["train"].tolist(), labels["test"].tolist()) == ([0, 1, 0, 1], [1])
    order = ("train/cat/0.png", "train/owl/0.png", "train/cat/deep/er.png", "train/owl/1.png")
    for row, name in zip(train[:], order, strict=True):
        assert np.array_equal(row, np.asarray(picture(names.index(name), 8, 8))), name


def test_images_beside_class_folders_have_no_classes(published):
    fill(published.root, {name: encoded(picture(0, 8, 8)) for name in ("train/owl/0.png", "train/1.png")})
    train, _ = published.prepare("pets", image_size=8)
    assert train.card["classes"] == []


def test_a_class_of_test_images_alone_is_refused(published):
    fill(published.root, {name: encoded(picture(0, 8, 8)) for name in ("train/owl/0.png", "test/cat/0.png")})
    with pytest.raises(UserError, match=r"expected as test/CLASS/... with the classes owl; found: cat"):
        published.prepare("pets", image_size=8)
    assert not published.left()


def test_grey_images(published):
    fill(published.root, {"0.png": encoded(picture(0, 8, 8, "L"))})
    train, _ = published.prepare("grey", image_size=8, channels=1)
    assert np.array_equal(train[:][0, ..., 0], np.asarray(picture(0, 8, 8, "L")))


@pytest.mark.parametrize(
    ("files", "changes", "words"),
    [
        ({}, {}, "holds no images"),
        ({"a.png": b"text"}, {}, r"a.png: is no whole image.*It is yours"),
        ({"a.png": encoded(picture(0, 8, 8))}, {"train": 2}, "1 train images, where 2 were expected"),
    ],
)
def test_what_cannot_be_is_named_and_nothing_is_left(files, changes, words, published):
    fill(published.root, files)
    with pytest.raises(UserError, match=words):
        published.prepare("mine", image_size=8, **changes)
    assert not published.left()


def test_a_root_that_is_not_there_is_named(published):
    with pytest.raises(UserError, match=r"nowhere: no such folder. It is the root of mine"):
        published.prepare("mine", image_size=8, root=published.root / "nowhere")
