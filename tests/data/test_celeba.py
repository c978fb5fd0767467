"""CelebA from its zip and its list."""

import zipfile

import numpy as np
import pytest
from PIL import Image
from published import jpeg, opened, write_celeba, write_tar

from ddpm.config.errors import DamagedFile, UserError
from ddpm.storage.files import read_npz

SPLITS = [0, 0, 2, 1, 0, 2]
COUNTS = {"train": 3, "test": 2}


def test_images_are_in_the_order_of_the_list(published):
    images = list(write_celeba(published.root, SPLITS).values())
    train, test = published.prepare("celeba64", **COUNTS)
    for found, members in ((train, (0, 1, 4)), (test, (2, 5))):
        assert len(found) == len(members)
        for row, i in zip(found[:], members, strict=True):
            face = Image.fromarray(opened(images[i])[57:185, 25:153])  # rows and columns, written out
            assert np.array_equal(row, np.asarray(face.resize((64, 64), Image.Resampling.BILINEAR)))
    assert train.card["published_as"] == {"JPEG 178x218": 5}
    assert "5 of 5 images were cropped or resized" in train.card["notes"]
    labels = read_npz(published.out / "labels.npz", "train", "test")
    assert [len(values) for values in labels.values()] == [0, 0]


def test_the_order_is_the_lists_and_not_the_archives(published):
    images = write_celeba(published.root, SPLITS)
    lines = [f"{name} {split}\n" for name, split in zip(images, SPLITS, strict=True)]
    expected = published.prepare("celeba64", **COUNTS)[0][:]
    (published.root / "list_eval_partition.txt").write_text("".join(reversed(lines)))
    assert np.array_equal(published.prepare("celeba64", **COUNTS)[0][:], expected[::-1])


@pytest.mark.parametrize("threads", [1, 5])
def test_threads_do_not_change_a_byte(threads, published):
    write_celeba(published.root, [0] * 70)  # more than one batch
    published.prepare("celeba64", threads=threads, train=70, test=0)
    first = (published.out / "train.npy").read_bytes()
    published.prepare("celeba64", threads=3, train=70, test=0)
    assert (published.out / "train.npy").read_bytes() == first


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ("image missing", r"img_align_celeba.zip: 000003.jpg is missing there"),
        ("image cut", r"img_align_celeba.zip: img_align_celeba/000003.jpg: is no whole image"),
        ("zip cut", r"img_align_celeba.zip: not a whole archive"),
        ("bytes changed", r"img_align_celeba.zip: img_align_celeba/000003.jpg is missing or damaged there .Bad CRC"),
        ("list is no list", r"list_eval_partition.txt: line 2, 'x', is no file name with 0, 1 or 2"),
        ("too few", r"2 train images, where 3 were expected"),
    ],
)
def test_damage_is_named_and_nothing_is_left(damage, words, published):
    archive, names = published.root / "img_align_celeba.zip", published.root / "list_eval_partition.txt"
    images = write_celeba(published.root, [0, 2, 1] if damage == "too few" else SPLITS, damage)
    content = archive.read_bytes()
    if damage == "zip cut":
        archive.write_bytes(content[: len(content) // 2])
    if damage == "bytes changed":
        place = content.index(images["000003.jpg"]) + 300
        archive.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
    if damage == "list is no list":
        names.write_text("000001.jpg 0\nx\n")
    if damage == "too few":
        names.write_text("000001.jpg 0\n000002.jpg 0\n000003.jpg 1\n")
    with pytest.raises(UserError, match=words) as raised:
        published.prepare("celeba64", **COUNTS)
    assert damage == "too few" or isinstance(raised.value, DamagedFile)
    assert not published.left()


@pytest.mark.parametrize("form", ["unpacked", "unpacked, in the root", "packed anew, without the folder", "in a tar"])
def test_the_images_may_lie_unpacked_or_in_another_archive(form, published):
    images = write_celeba(published.root, SPLITS)
    expected = [split[:] for split in published.prepare("celeba64", **COUNTS)]
    (published.root / "img_align_celeba.zip").unlink()
    if form.startswith("unpacked"):
        folder = published.root if form.endswith("root") else published.root / "img_align_celeba"
        folder.mkdir(exist_ok=True)
        for name, content in images.items():
            (folder / name).write_bytes(content)
    elif form == "in a tar":
        write_tar(published.root / "faces.tar", {f"img_align_celeba/{name}": each for name, each in images.items()})
    else:
        with zipfile.ZipFile(published.root / "images.zip", "w") as archive:
            for name, content in images.items():
                archive.writestr(name, content)
    found = published.prepare("celeba64", **COUNTS)
    assert all(np.array_equal(here[:], there) for here, there in zip(found, expected, strict=True))


def test_all_missing_and_all_damaged_images_are_listed(published):
    images = write_celeba(published.root, SPLITS)
    (published.root / "img_align_celeba.zip").unlink()
    for name in ("000001.jpg", "000003.jpg", "000004.jpg", "000005.jpg"):
        (published.root / name).write_bytes(images[name][:400])
    with pytest.raises(DamagedFile, match=r"(?s)these are missing there:\n  000002.jpg\n  000006.jpg\n"):
        published.prepare("celeba64", **COUNTS)
    for name in ("000002.jpg", "000006.jpg", "._000002.jpg"):  # the last as macOS leaves them
        (published.root / name).write_bytes(images["000002.jpg"])
    with pytest.raises(DamagedFile, match=r"(?s)3 images: .*000001.jpg: is no.*000005.jpg: is no.*000003.jpg: is no"):
        published.prepare("celeba64", **COUNTS)


def test_images_of_the_same_name_are_refused(published):
    images = write_celeba(published.root, SPLITS)
    for folder in ("img_celeba", "img_align_celeba"):
        (published.root / folder).mkdir()
        for name, content in images.items():
            (published.root / folder / name).write_bytes(content)
    with pytest.raises(UserError, match=r"holds 000001.jpg twice, as img_align_celeba/000001.jpg and as img_celeba"):
        published.prepare("celeba64", **COUNTS)


def test_images_that_are_not_aligned_are_refused(published):
    images = write_celeba(published.root, SPLITS) | {"000001.jpg": jpeg(0, 409, 687)}  # of which the crop is no face
    for name, content in images.items():
        (published.root / name).write_bytes(content)
    with pytest.raises(DamagedFile, match=r"000001.jpg: has 409x687 pixels; the aligned .* 178x218"):
        published.prepare("celeba64", **COUNTS)


@pytest.mark.parametrize("name", ["img_align_celeba.zip", "list_eval_partition.txt"])
def test_a_missing_file_is_named(name, published):
    write_celeba(published.root, SPLITS)
    (published.root / name).unlink()
    with pytest.raises(UserError, match=rf"{name}: no such file.*root"):
        published.prepare("celeba64", **COUNTS)


def test_failing_removes_what_was_prepared_before(published):
    write_celeba(published.root, SPLITS)
    published.prepare("celeba64", **COUNTS)
    write_celeba(published.root, SPLITS, "image cut")
    with pytest.raises(DamagedFile):
        published.prepare("celeba64", **COUNTS)
    assert not published.left()
