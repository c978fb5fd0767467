"""LSUN from its LMDB: unpacked from the published zip or used in place, checked once, and decoded when it is read."""

import os
import shutil
import zipfile

import numpy as np
import pytest
from PIL import Image
from published import lsun_images, lsun_key, opened, write_lmdb, zip_lmdb

from ddpm.config.errors import DamagedFile, UserError
from ddpm.config.registry import DATASETS
from ddpm.data.store import Images
from ddpm.storage.files import read_npz


def prepared_pixels(content: bytes) -> np.ndarray:
    """create_lsun of StyleGAN2's dataset_tool.py, written out."""
    img = opened(content)
    crop = min(img.shape[:2])
    img = img[
        (img.shape[0] - crop) // 2 : (img.shape[0] + crop) // 2,
        (img.shape[1] - crop) // 2 : (img.shape[1] + crop) // 2,
    ]
    return np.asarray(Image.fromarray(img).resize((256, 256), Image.Resampling.LANCZOS))


def publish_zip(published, name: str, images: dict[bytes, bytes]) -> None:
    """The published zip of the data set `name`, alone in its folder."""
    database = published.root.parent / "database"
    write_lmdb(database, images)
    zip_lmdb(database, published.root / DATASETS[name].files[0].name)
    shutil.rmtree(database)


@pytest.mark.parametrize("name", ["lsun-bedroom256", "lsun-church256", "lsun-cat256"])
@pytest.mark.parametrize("where", ["zip", "sub-folder", "folder"])
def test_images_are_stylegan2s_in_the_order_of_the_database(name, where, published):
    images = lsun_images(8)
    stem = DATASETS[name].files[0].name.removesuffix(".zip")
    if where == "zip":
        publish_zip(published, name, images)
    else:
        write_lmdb(published.root / stem if where == "sub-folder" else published.root, images)
    train, test = published.prepare(name, train=8)
    assert (len(train), len(test), test[:].shape, train.resident) == (8, 0, (0, 256, 256, 3), False)
    for row, which in zip(train[:], sorted(images), strict=True):
        assert np.array_equal(row, prepared_pixels(images[which]))
    assert np.load(published.out / "train.npy").tolist() == sorted(images)
    assert np.array_equal(train[np.array([5, 0, 5])], train[:][[5, 0, 5]])
    assert np.array_equal(train[2:4], train[:][2:4])
    card = train.card
    assert (card["train"], card["reference"], card["skipped"]) == (8, 50_000, [])
    assert sum(card["published_as"].values()) == 8
    inside = ["lmdb/data.mdb"] if where == "zip" else []
    assert published.left() == sorted(["card.json", "labels.npz", "test.npy", "train.npy", *inside])
    assert read_npz(published.out / "labels.npz", "train")["train"].size == 0


def test_a_prepared_folder_takes_its_unpacked_database_along(published):
    publish_zip(published, "lsun-church256", lsun_images(3))
    expected = published.prepare("lsun-church256", train=3)[0][:]
    moved = published.out.rename(published.out.parent / "moved")
    assert np.array_equal(Images(moved / "train.npy")[:], expected)


def test_images_that_cannot_be_decoded_are_skipped_and_named(published):
    images = lsun_images(8)
    bad = sorted(images)[2], sorted(images)[6]
    images[bad[0]] = images[bad[0]][:50]
    images[bad[1]] = b"no image"
    write_lmdb(published.root, images)
    train, _ = published.prepare("lsun-church256", train=8)
    good = [which for which in sorted(images) if which not in bad]
    assert (len(train), train.card["train"], train.card["skipped"]) == (6, 6, [which.decode() for which in bad])
    for row, which in zip(train[:], good, strict=True):
        assert np.array_equal(row, prepared_pixels(images[which]))
    assert sum("cannot be decoded and is skipped" in line for line in published.log) == 2


def test_the_checksum_is_of_keys_and_database(published):
    write_lmdb(published.root, lsun_images(3))
    first = published.prepare("lsun-church256", train=3)[0].sha256
    assert published.prepare("lsun-church256", train=3)[0].sha256 == first
    write_lmdb(published.root, {lsun_key(0): os.urandom(1 << 18)})
    images = lsun_images(3)
    write_lmdb(published.root, images)  # the same keys and images in a larger file
    assert published.prepare("lsun-church256", train=3)[0].sha256 != first


def test_a_zip_is_unpacked_once(published):
    publish_zip(published, "lsun-church256", lsun_images(3))
    published.prepare("lsun-church256", train=3)
    before = (published.out / "lmdb/data.mdb").stat().st_mtime_ns
    published.prepare("lsun-church256", train=3)
    assert (published.out / "lmdb/data.mdb").stat().st_mtime_ns == before
    assert sum("unpacking" in line for line in published.log) == 1


def test_a_full_disk_is_foreseen(published, monkeypatch):
    publish_zip(published, "lsun-church256", lsun_images(3))
    usage = shutil.disk_usage(published.root)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(UserError, match=r"church_outdoor_train_lmdb.zip needs [\d,]+ bytes there; 1,000 are free"):
        published.prepare("lsun-church256", train=3)
    assert not published.left()


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ("zip cut", r"church_outdoor_train_lmdb.zip: not a whole zip"),
        ("zip damaged", r"church_outdoor_train_lmdb.zip: not a whole zip archive .*(CRC|decompress)"),
        ("zip of something else", r"church_outdoor_train_lmdb.zip: holds 0 files data.mdb"),
        ("database cut", r"data.mdb: is cut off: 20,000 bytes"),
        ("no database", r"data.mdb: cannot be read as an LMDB"),
        ("count", r"data.mdb: holds 3 images, where 4 of LSUN church were expected"),
        ("no images", r"data.mdb: none of its images can be decoded"),
        ("nothing", r"holds none of data.mdb, church_outdoor_train_lmdb/data.mdb or church_outdoor_train_lmdb.zip"),
    ],
)
def test_damage_is_named_and_nothing_is_left(damage, words, published):
    images = lsun_images(3)
    archive = published.root / "church_outdoor_train_lmdb.zip"
    if damage.startswith("zip"):
        publish_zip(published, "lsun-church256", images)
        content = archive.read_bytes()
        if damage == "zip cut":
            archive.write_bytes(content[: len(content) // 2])
        elif damage == "zip damaged":
            archive.write_bytes(content[:3000] + bytes([content[3000] ^ 1]) + content[3001:])
        else:
            with zipfile.ZipFile(archive, "w") as zipped:
                zipped.writestr("a.txt", "a")
    elif damage != "nothing":
        write_lmdb(published.root, dict.fromkeys(images, b"none") if damage == "no images" else images)
        path = published.root / "data.mdb"
        if damage == "database cut":
            os.truncate(path, 20_000)
        if damage == "no database":
            path.write_bytes(b"not one" * 3000)
    with pytest.raises(UserError, match=words):
        published.prepare("lsun-church256", train=4 if damage == "count" else 3)
    assert not published.left()


@pytest.mark.parametrize("damage", ["moved", "another", "image gone"])
def test_a_database_that_is_no_longer_the_one_prepared_is_named(damage, published):
    images = lsun_images(3)
    write_lmdb(published.root, images)
    train, _ = published.prepare("lsun-church256", train=3)
    path = published.root / "data.mdb"
    if damage == "moved":
        path.unlink()
        with pytest.raises(UserError, match=r"data.mdb: no such file. The images of LSUN church.*set.*root"):
            Images(published.out / "train.npy")
    elif damage == "another":
        path.write_bytes(path.read_bytes() + bytes(4096))
        with pytest.raises(DamagedFile, match=r"data.mdb: has [\d,]+ bytes; the one that was prepared has"):
            Images(published.out / "train.npy")
    else:
        import lmdb

        with lmdb.open(str(published.root)) as database, database.begin(write=True) as transaction:
            transaction.delete(sorted(images)[1])
        with pytest.raises(DamagedFile, match=rf"image {sorted(images)[1].decode()} cannot be read \(it is not there"):
            train[:]


def test_arrays_in_the_place_of_keys_are_refused(published):
    write_lmdb(published.root, lsun_images(3))
    published.prepare("lsun-church256", train=3)
    np.save(published.out / "train.npy", np.zeros((3, 256, 256, 3), np.uint8))
    with pytest.raises(DamagedFile, match=r"train.npy: holds uint8 .*, its card says 3 keys of images"):
        Images(published.out / "train.npy")
