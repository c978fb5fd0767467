"""CIFAR-10 from its archive for Python: fetched, opened without running code, and in the archive's order."""

import hashlib
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hostile import Hostile
from PIL import Image
from published import (
    CIFAR10_BATCHES,
    cifar10_archive,
    cifar10_batch,
    cifar10_tree,
    encoded,
    pickled,
    write_parquet,
    write_tar,
)
from servers import serving

from ddpm.config.errors import DamagedFile, UserError
from ddpm.config.registry import DATASETS, resolve
from ddpm.config.sources import DataSet, RemoteFile
from ddpm.data.prepare import download_data, prepare
from ddpm.data.store import Images
from ddpm.storage import download
from ddpm.storage.files import read_npz


@pytest.fixture
def publish(monkeypatch):
    """Puts an archive on a server; returns a CIFAR-10 of 20 + 4 images with its address."""
    monkeypatch.setattr(download, "ROUNDS", 1)
    with serving() as server:

        def publish(content: bytes, how: str = "good") -> DataSet:
            url = server.add("cifar-10-python.tar.gz", content, how)
            file = RemoteFile(name="cifar-10-python.tar.gz", urls=(url,), md5=hashlib.md5(content).hexdigest())
            return resolve("cifar10", {"train": 20, "test": 4, "files": (file,)})

        yield publish


def test_images_are_those_of_the_archive(publish, tmp_path):
    data = publish(cifar10_archive())
    download_data(data, tmp_path / "down", log=lambda message: None)
    prepare(data, tmp_path / "down", tmp_path / "cifar10")
    train, test = (Images(tmp_path / f"cifar10/{split}.npy") for split in ("train", "test"))
    labels = read_npz(tmp_path / "cifar10/labels.npz", "train", "test")
    for i in range(6):
        images, names = (train, labels["train"]) if i < 5 else (test, labels["test"])
        rows = slice(4 * i, 4 * i + 4) if i < 5 else slice(4)
        expected = cifar10_batch(i)
        # Written out: pixel (y, x) of colour c stands at c * 1024 + y * 32 + x of a row.
        for j, image in enumerate(images[rows]):
            for c, y, x in ((0, 0, 0), (0, 0, 31), (1, 5, 7), (2, 31, 30)):
                assert image[y, x, c] == expected[b"data"][j, c * 1024 + y * 32 + x]
        assert names[rows].tolist() == expected[b"labels"]
    assert train.card["title"] == "CIFAR-10"


def test_an_archive_may_be_used_where_it_lies(publish, tmp_path):
    known = {name: hashlib.md5(pickled(cifar10_batch(i))).hexdigest() for i, name in enumerate(CIFAR10_BATCHES)}
    data = publish(content := cifar10_archive(), "broken")
    data = data.model_copy(update={"root": tmp_path, "contents": known})
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(content)
    prepare(data, None, tmp_path / "cifar10")
    assert len(Images(tmp_path / "cifar10/train.npy")) == 20
    other = cifar10_archive(replaced={"data_batch_3": pickled(cifar10_batch(9))})
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(other)
    words = r"gz: data_batch_3: is not data_batch_3 of CIFAR-10: the md5 of its content.*reencoded: JPEG"
    with pytest.raises(UserError, match=words):
        prepare(data, None, tmp_path / "cifar10")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ("hostile", "which is no array"),
        ("no archive", "not a whole archive"),
        ("cut", "not a whole archive"),
        ("batch missing", "data_batch_2 is not a batch of CIFAR-10"),
        ("too few images", "19 train images, where 20 were expected"),
        ("labels missing", "16 labels of 20 train images"),
    ],
)
def test_a_wrong_archive_is_named_and_nothing_is_written(damage, words, publish, tmp_path):
    content = {
        "hostile": cifar10_archive(replaced={"data_batch_2": pickle.dumps({b"data": Hostile(tmp_path / "code ran")})}),
        "no archive": b"not an archive",
        "cut": cifar10_archive()[:5000],
        "batch missing": cifar10_archive(replaced={"data_batch_2": pickle.dumps({b"labels": []})}),
        "labels missing": cifar10_archive(replaced={"data_batch_2": pickled(cifar10_batch(1) | {b"labels": []})}),
        "too few images": cifar10_archive(replaced={"data_batch_2": pickled(cifar10_batch(1, 3))}),
    }[damage]
    data = publish(content)
    download_data(data, tmp_path / "down", log=lambda message: None)
    with pytest.raises(UserError, match=words):
        prepare(data, tmp_path / "down", tmp_path / "cifar10")
    assert not (tmp_path / "cifar10").exists()
    assert not (tmp_path / "code ran").exists()


def test_what_was_downloaded_is_checked_again(publish, tmp_path):
    data = publish(cifar10_archive())
    download_data(data, tmp_path / "down", log=lambda message: None)
    with open(tmp_path / "down/cifar-10-python.tar.gz", "ab") as file:
        file.write(b"more")
    with pytest.raises(DamagedFile, match="no longer what"):
        prepare(data, tmp_path / "down", tmp_path / "cifar10")


def test_it_must_be_downloaded_first(tmp_path):
    with pytest.raises(UserError, match="CIFAR-10 must be downloaded first"):
        prepare(DATASETS["cifar10"], None, tmp_path)


def test_a_set_that_ships_with_a_dependency_has_nothing_to_download(tmp_path):
    with pytest.raises(UserError, match=r"nothing to download; it comes from sklearn"):
        download_data(DATASETS["digits"], tmp_path)
    assert not list(tmp_path.iterdir())


ROWS = [cifar10_batch(i) for i in range(6)]
PLANES = np.concatenate([batch[b"data"] for batch in ROWS]).reshape(-1, 3, 32, 32)
PIXELS = PLANES.transpose(0, 2, 3, 1)
LABELS = [label for batch in ROWS for label in batch[b"labels"]]
MEANS = {"train": PIXELS[:20].mean((0, 1, 2)) / 255, "test": PIXELS[20:].mean((0, 1, 2)) / 255}


def binary_batches() -> dict[str, bytes]:
    """The binary version: a byte for the label, and then 3,072, for each image."""
    rows = [b"".join(bytes([label, *row]) for label, row in zip(b[b"labels"], b[b"data"], strict=True)) for b in ROWS]
    return {f"cifar-10-batches-bin/{name}.bin": content for name, content in zip(CIFAR10_BATCHES, rows, strict=True)}


def lay(root: Path, form: str) -> None:
    """The same 20 + 4 images in one of the forms that people have."""
    python = {f"cifar-10-batches-py/{name}": pickled(batch) for name, batch in zip(CIFAR10_BATCHES, ROWS, strict=True)}
    tree = cifar10_tree(PIXELS, LABELS, 20)
    match form:
        case "archive by another name":
            (root / "cifar.tgz").write_bytes(cifar10_archive())
        case "pickled batches, unpacked":
            fill(root, python)
        case "pickled batches in the root":
            fill(root, {name.partition("/")[2]: content for name, content in python.items()})
        case "binary batches, unpacked":
            fill(root, binary_batches())
        case "binary batches in a tar":
            write_tar(root / "cifar-10-binary.tar", binary_batches())
        case "parquet":
            png = [encoded(Image.fromarray(image)) for image in PIXELS]
            (root / "plain_text").mkdir()
            write_parquet(root / "plain_text/train-00000-of-00001.parquet", png[:20], LABELS[:20], "img")
            write_parquet(root / "plain_text/test-00000-of-00001.parquet", png[20:], LABELS[20:], "img")
        case "tree":
            fill(root, tree)
        case "tree in a zip":
            with zipfile.ZipFile(root / "any.zip", "w") as archive:
                for name, content in tree.items():
                    archive.writestr(f"cifar10/{name}", content)
        case "tree in a tar":
            write_tar(root / "any.tar", tree)


def fill(root: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)


FORMS = (
    "archive by another name", "pickled batches, unpacked", "pickled batches in the root", "binary batches, unpacked",
    "binary batches in a tar", "parquet", "tree", "tree in a zip", "tree in a tar",
)  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_the_same_contents_are_the_same_data_set_in_any_form(form, published):
    lay(published.root, form)
    train, test = published.prepare("cifar10", train=20, test=4, means=MEANS)
    labels = read_npz(published.out / "labels.npz", "train", "test")
    splits = ((train, labels["train"]), (test, labels["test"]))
    found = [(image.tobytes(), label) for images, of in splits for image, label in zip(images[:], of, strict=True)]
    expected = [(image.tobytes(), label) for image, label in zip(PIXELS, LABELS, strict=True)]
    if form.startswith("tree"):  # which has no order of its own
        found, expected = (sorted(each[:20]) + sorted(each[20:]) for each in (found, expected))
    assert found == expected
    assert (train.card["title"], train.card["reencoded"]) == ("CIFAR-10", None)
    files = form in ("parquet", "tree", "tree in a zip", "tree in a tar")
    assert train.card.get("published_as") == ({"PNG 32x32": 24} if files else None)


@pytest.mark.parametrize("form", ["binary batches, unpacked", "parquet", "tree"])
def test_other_images_in_such_a_form_are_refused_and_the_key_is_named(form, published):
    lay(published.root, form)
    others = MEANS | {"test": MEANS["test"] + [0, 0, 2e-8]}
    words = r"its test images are not those of CIFAR-10: the means of their channels.*reencoded: JPEG"
    with pytest.raises(UserError, match=words):
        published.prepare("cifar10", train=20, test=4, means=others)
    assert not published.left()


def test_a_copy_that_was_encoded_again_is_called_that(published):
    fill(published.root, cifar10_tree(PIXELS, LABELS, 20, "JPEG"))
    train, _ = published.prepare("cifar10", train=20, test=4, reencoded="JPEG")
    assert (train.card["title"], train.card["reencoded"]) == ("JPEG copy of CIFAR-10", "JPEG")
    assert train.card["published_as"] == {"JPEG 32x32": 24}
    # The first image of each class comes first: any first few images are of all classes.
    labels = read_npz(published.out / "labels.npz", "train")["train"].tolist()
    classes = sorted(set(LABELS[:20]))
    assert labels[: len(classes)] == classes


def test_a_copy_must_be_in_the_format_that_is_said(published):
    fill(published.root, cifar10_tree(PIXELS, LABELS, 20, "PNG"))
    with pytest.raises(UserError, match=r"airplane/.*png: is PNG, and cifar10 has reencoded: JPEG"):
        published.prepare("cifar10", train=20, test=4, reencoded="JPEG")


@pytest.mark.parametrize("form", ["parquet", "tree", "tree in a tar"])
def test_all_damaged_images_are_listed(form, published):
    lay(published.root, form)
    png = [encoded(Image.fromarray(image)) for image in PIXELS]
    png[1] = png[21] = b"text"
    if form == "parquet":
        for split, rows in (("train", slice(20)), ("test", slice(20, 24))):
            write_parquet(published.root / f"plain_text/{split}-00000-of-00001.parquet", png[rows], LABELS[rows], "img")
    else:
        tree = dict(zip(cifar10_tree(PIXELS, LABELS, 20), png, strict=True))
        fill(published.root, tree) if form == "tree" else write_tar(published.root / "any.tar", tree)
    with pytest.raises(DamagedFile, match=r"(?s)2 images: cannot be used:.*is no whole image.*is no whole image"):
        published.prepare("cifar10", train=20, test=4)


def test_a_tree_may_have_its_splits_in_capitals(published):
    tree = cifar10_tree(PIXELS, LABELS, 20)
    fill(published.root, {name.capitalize(): content for name, content in tree.items()})
    train, _ = published.prepare("cifar10", train=20, test=4, means=MEANS)
    assert len(train) == 20


def test_a_tree_without_test_images_is_refused_in_words(published):
    fill(published.root, dict(list(cifar10_tree(PIXELS, LABELS, 20).items())[:20]))
    with pytest.raises(UserError, match=r"0 test images, where 4 were expected"):
        published.prepare("cifar10", train=20, test=4, means=MEANS)


def test_every_image_of_a_copy_must_be_in_that_format(published):
    tree = cifar10_tree(PIXELS, LABELS, 20, "JPEG")
    fill(published.root, tree | {sorted(tree)[-1]: encoded(Image.fromarray(PIXELS[0]))})  # a PNG by another name
    with pytest.raises(UserError, match=r"jpg: is PNG, and cifar10 has reencoded: JPEG"):
        published.prepare("cifar10", train=20, test=4, reencoded="JPEG")
    assert not published.left()


def test_a_tree_must_have_the_classes_of_the_data_set(published):
    tree = cifar10_tree(PIXELS, LABELS, 20)
    fill(published.root, {name.replace("/frog/", "/toad/"): content for name, content in tree.items()})
    with pytest.raises(UserError, match=r"expected as train/CLASS/... with the classes airplane, .*; found: .*toad"):
        published.prepare("cifar10", train=20, test=4)


def test_a_folder_of_something_else_is_refused_with_what_is_known(published):
    (published.root / "notes.txt").write_text("none")
    with pytest.raises(UserError, match=r"holds no CIFAR-10. Known forms: cifar-10-python.tar.gz, .*reencoded: JPEG"):
        published.prepare("cifar10", train=20, test=4)
