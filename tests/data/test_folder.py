"""A plain folder of images."""

import errno
import io
import os
import struct
import sys
import tarfile
import zipfile
import zlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import ExifTags, Image
from published import encoded, jpeg, opened, picture, png_chunk

from ddpm.cli.options import log
from ddpm.config.errors import DamagedFile, UserError
from ddpm.config.registry import resolve
from ddpm.config.sources import DataSet
from ddpm.data import pictures
from ddpm.data.listing import with_fingerprint
from ddpm.storage.files import read_json, read_npz


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
    assert f"{published.root}: no labels: some images lie in no folder of a class" in published.log


def test_class_folders_in_one_folder_are_the_classes(published):
    names = ("pets/owl/0.png", "pets/cat/1.png", "pets/cat/2.png")
    fill(published.root, {name: encoded(picture(0, 8, 8)) for name in names})
    train, _ = published.prepare("pets", image_size=8)
    assert train.card["classes"] == ["cat", "owl"]


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


def pixel(published, content: bytes, name: str = "a.png", **changes) -> np.ndarray:
    """The upper left pixel [C] of an image of one colour, prepared as 8x8."""
    fill(published.root, {name: content})
    return published.prepare("mine", image_size=8, **changes)[0][:][0][0, 0]


def deep(values, form: str = "PNG", **options) -> bytes:
    return encoded(Image.fromarray(np.asarray(values, np.uint16)), form, **options)


RAMP = np.arange(2**16, dtype=np.uint16).reshape(256, 256)


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_sixteen_bits_become_eight(form, published):
    train, _ = (
        fill(published.root, {f"a.{form.lower()}": deep(RAMP, form)}),
        published.prepare("mine", image_size=256),
    )[1]
    assert np.array_equal(train[:][0, ..., 1], RAMP >> 8)  # whose mean is 127.5, where clipping gives 254.5
    assert train.card["modes"] == {"I;16": 1}
    assert train.card["treated"] == {"16 bits brought to 8": 1}
    assert "1 images: 16 bits brought to 8" in published.log


def test_twelve_bits_in_sixteen_are_asked_for_and_then_scaled(published):
    values = np.full((8, 8), 2048)
    with pytest.raises(
        DamagedFile, match=r"a.png: has the mode I;16 of 16 bits, and its largest value is 2,048.*`depth`"
    ):
        pixel(published, deep(values))
    assert pixel(published, deep(values), depth=12).tolist() == [128] * 3
    assert pixel(published, deep(values), depth=16).tolist() == [8] * 3  # it is that dark
    with pytest.raises(DamagedFile, match=r"has the values 2,048 to 2,048, and 10 bits hold 0 to 1,023"):
        pixel(published, deep(values), depth=10)


def test_whole_numbers_and_floats_without_a_range_are_refused_by_mode_and_file(published):
    whole = encoded(Image.fromarray(np.full((8, 8), 2**20, np.int32)), "TIFF")
    with pytest.raises(DamagedFile, match=r"a.tif: has the mode I .32 bits.*by `depth`"):
        pixel(published, whole, "a.tif")
    assert pixel(published, whole, "a.tif", depth=21).tolist() == [128] * 3
    with pytest.raises(DamagedFile, match=r"a.tif: has the mode F .floating point"):
        pixel(published, encoded(Image.fromarray(np.full((8, 8), 0.5, np.float32)), "TIFF"), "a.tif")


def grey_tiff(bits: int, value: int, photometric: int = 1, sample_format: int = 1) -> bytes:
    """8x8 grey pixels of one value, with tags that Pillow does not write."""
    tags = {256: 8, 257: 8, 258: bits, 259: 1, 262: photometric, 273: 122, 277: 1, 279: 8 * bits, 339: sample_format}
    header = b"II*\0" + struct.pack("<IH", 8, len(tags))
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, entry) for tag, entry in tags.items())
    return header + entries + b"\0\0\0\0" + value.to_bytes(bits // 8, "little") * 64


def test_sixteen_bits_whose_zero_is_white_are_turned(published):
    assert pixel(published, grey_tiff(16, 0x4000), "a.tif").tolist() == [0x40] * 3
    assert pixel(published, grey_tiff(16, 0x4000, photometric=0), "a.tif").tolist() == [255 - 0x40] * 3
    assert pixel(published, grey_tiff(8, 0x40, photometric=0), "a.tif").tolist() == [255 - 0x40] * 3


def test_signed_bytes_are_refused(published):
    with pytest.raises(DamagedFile, match=r"a.tif: has signed values of 8 bits"):
        pixel(published, grey_tiff(8, 0x90, sample_format=2), "a.tif")


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_transparent_grey_of_few_bits(bits, published):
    """Pillow scales the pixels to eight bits, and not the transparent value."""
    row = b"\0" + bytes([0b10000000, 0b10101010, 0b10001000][bits // 2 : bits // 2 + 1]) * bits
    png = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", bytes([0, 0, 0, 8, 0, 0, 0, 8, bits, 0, 0, 0, 0]))
    png += png_chunk(b"tRNS", (1 << bits - 1).to_bytes(2, "big"))
    png += png_chunk(b"IDAT", zlib.compress(row * 8)) + png_chunk(b"IEND", b"")
    assert pixel(published, png, background=[10, 20, 30]).tolist() == [10, 20, 30]


def test_a_grey_map_of_any_largest_value_is_scaled_by_it(published):
    content = b"P5 8 8 4095\n" + (2048).to_bytes(2, "big") * 64
    assert pixel(published, content, "a.pgm").tolist() == [128] * 3


RED, CLEAR_GREEN = (255, 0, 0, 255), (0, 255, 0, 0)


def with_transparent_colour(image: Image.Image, colour) -> bytes:
    return encoded(image, transparency=colour)


TRANSPARENT = {
    "RGBA": encoded(Image.new("RGBA", (8, 8), CLEAR_GREEN)),
    "LA": encoded(Image.new("LA", (8, 8), (90, 0))),
    "RGB": with_transparent_colour(Image.new("RGB", (8, 8), (0, 255, 0)), (0, 255, 0)),
    "L": with_transparent_colour(Image.new("L", (8, 8), 90), 90),
    "P": encoded(Image.new("RGBA", (8, 8), CLEAR_GREEN).quantize()),
    "I;16": with_transparent_colour(Image.fromarray(np.full((8, 8), 5000, np.uint16)), 5000),
}


@pytest.mark.parametrize("mode", TRANSPARENT)
@pytest.mark.parametrize("background", [(255, 255, 255), (10, 20, 30)])
def test_transparency_is_laid_on_a_colour(background, mode, published):
    changes = {} if background == (255, 255, 255) else {"background": list(background)}
    assert pixel(published, TRANSPARENT[mode], **changes).tolist() == list(background)
    card = read_json(published.out / "card.json")
    assert card["modes"] == {mode: 1}
    assert f"transparency laid on the colour {', '.join(map(str, background))}" in card["treated"]


def deep_colours(colours: list[tuple[int, int, int]], transparent: tuple[int, int, int]) -> bytes:
    """A PNG of 8x8 pixels with 16 bits of each colour, which Pillow does not write."""
    rows = np.array(colours, ">u2").reshape(8, 24)
    png = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", bytes([0, 0, 0, 8, 0, 0, 0, 8, 16, 2, 0, 0, 0]))
    png += png_chunk(b"tRNS", np.array(transparent, ">u2").tobytes())
    png += png_chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows)))
    return png + png_chunk(b"IEND", b"")


def test_twelve_bits_of_a_colour_in_sixteen_are_refused(published):
    content = deep_colours([(2048, 1000, 4095)] * 64, (0, 0, 1))
    for changes in ({}, {"depth": 12}):
        with pytest.raises(DamagedFile, match=r"a.png: has 16 bits of each colour.* fewer seem to be used"):
            pixel(published, content, **changes)
    assert pixel(published, content, depth=16).tolist() == [8, 3, 15]


def test_sixteen_bits_of_a_colour_are_compared_with_the_transparent_one(published):
    """Pillow keeps eight bits of each value, and all sixteen of the transparent colour."""
    colours = [(0x1234, 0x8000, 0xFFFF)] + [(0x3400, 0, 0x1200)] * 63
    fill(published.root, {"a.png": deep_colours(colours, transparent=colours[0])})
    train, _ = published.prepare("mine", image_size=8)
    assert train[:][0, 0, :2].tolist() == [[255, 255, 255], [0x34, 0, 0x12]]
    assert train.card["modes"] == {"RGB;16": 1}


def test_what_is_opaque_stays_and_halves_are_mixed(published):
    assert pixel(published, encoded(Image.new("RGBA", (8, 8), (1, 2, 3, 255)))).tolist() == [1, 2, 3]
    assert "treated" not in read_json(published.out / "card.json")
    assert pixel(published, encoded(Image.new("RGBA", (8, 8), (0, 0, 0, 51)))).tolist() == [204] * 3
    assert pixel(published, encoded(Image.new("LA", (8, 8), (0, 51))), channels=1).tolist() == [204]


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_photographs_stand_upright(form, published):
    image = Image.new("RGB", (16, 16), (0, 0, 200))
    image.paste((250, 250, 250), (0, 0, 16, 8))  # white above, as it is stored
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6  # to be turned by 90 degrees, clockwise: white on the right
    options = {} if form == "PNG" else {"compression": None} if form == "TIFF" else {"quality": 95}
    fill(published.root, {f"a.{form.lower()}": encoded(image, form, exif=exif, **options)})
    train, _ = published.prepare("mine", image_size=16)
    assert train[:][0, :, 12:, 0].min() > 200
    assert train[:][0, :, :4, 0].max() < 50
    assert train.card["treated"] == {"turned as the EXIF orientation says": 1}


@pytest.mark.parametrize("orientation", [0, 1, 9])
def test_an_orientation_that_turns_nothing_is_not_said(orientation, published):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    pixel(published, encoded(picture(0, 8, 8), "PNG", exif=exif))
    assert "treated" not in read_json(published.out / "card.json")


@pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP", "TIFF"])
def test_of_an_animation_the_first_frame_is_taken_and_said(form, published):
    frames = [Image.new("RGB", (8, 8), (40 * i, 0, 0)) for i in (2, 5)]
    options = {"lossless": True} if form == "WEBP" else {}
    content = encoded(frames[0], form, save_all=True, append_images=frames[1:], **options)
    assert pixel(published, content, f"a.{form.lower()}").tolist() == [80, 0, 0]
    assert read_json(published.out / "card.json")["treated"]["first of several frames or pages taken"] == 1


def test_links_are_followed_and_lead_to_no_circle(published, tmp_path):
    fill(tmp_path / "elsewhere", {"owls/1.png": encoded(picture(1, 8, 8)), "x.png": encoded(picture(2, 8, 8))})
    fill(published.root, {"cat/0.png": encoded(picture(0, 8, 8))})
    (published.root / "owl").symlink_to(tmp_path / "elsewhere/owls")
    (published.root / "cat/1.png").symlink_to(tmp_path / "elsewhere/x.png")
    (published.root / "cat/above").symlink_to(published.root)
    (published.root / "cat/far-above").symlink_to(tmp_path)
    train, _ = published.prepare("pets", image_size=8)
    expected = [np.asarray(picture(seed, 8, 8)) for seed in (0, 1, 2)]  # cat/0, owl/1, cat/1
    assert np.array_equal(train[:], np.stack(expected))
    assert train.card["classes"] == ["cat", "owl"]
    assert "left out: 2 links back to a folder above" in train.card["layout"]


def test_dead_links_and_closed_folders_are_listed(published, monkeypatch):
    fill(published.root, {"0.png": encoded(picture(0, 8, 8)), "closed/1.png": encoded(picture(0, 8, 8))})
    (published.root / "1.png").symlink_to("nowhere.png")
    (published.root / "cat").symlink_to("/nowhere/at/all")
    scan = os.scandir

    def scandir(path):
        if str(path).endswith("closed"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(UserError, match=r"cannot be read as a whole") as raised:
        published.prepare("mine", image_size=8)
    for words in ("1.png (a link to nowhere.png", "cat (a link to /nowhere/at/all", "closed (Permission denied)"):
        assert words in str(raised.value)


def test_an_unreadable_image_is_listed_beside_a_damaged_one(published, monkeypatch):
    fill(published.root, {f"{i}.png": encoded(picture(i, 8, 8)) for i in range(3)} | {"3.png": b"text"})
    read = Path.read_bytes

    def read_bytes(path):
        if path.name == "1.png":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    with pytest.raises(DamagedFile, match=r"(?s)2 images: cannot be.*1.png: cannot be read .Permission.*3.png: is no"):
        published.prepare("mine", image_size=8)


@pytest.mark.parametrize(
    ("files", "layout"),
    [
        (("Train/a", "TEST/b"), ["train: 1 images of Train", "test: 1 images of TEST"]),
        (("training/a", "Testing/b"), ["train: 1 images of training", "test: 1 images of Testing"]),
        (
            ("train/a", "val/b", "val/c", "test/d"),
            ["train: 1 images of train", "test: 1 images of test", "left out: 2 images of val"],
        ),
        (("set/train/a", "set/dev/b"), ["train: 1 images of set/train", "left out: 1 images of set/dev"]),
        (("train/a", "b"), ["train: 1 images of train", "left out: 1 images beside these folders"]),
        (("a", "cat/b"), ["train: all 2 images", "no labels: some images lie in no folder of a class"]),
        (("train/train/a", "test/train/b"), ["train: 1 images of train", "test: 1 images of test"]),
        (("train-station/a", "kitchen/b", "validators/c"), ["train: all 3 images"]),
    ],
)
def test_which_folder_became_what_is_said(files, layout, published):
    fill(published.root, {f"{name}.png": encoded(picture(0, 8, 8)) for name in files})
    train, test = published.prepare("mine", image_size=8)
    assert sorted(train.card["layout"]) == sorted(layout)
    assert {f"{published.root}: {line}" for line in layout} <= set(published.log)
    assert len(test) == sum("test:" in line for line in layout)


@pytest.mark.parametrize(
    ("files", "found"),
    [
        (("car/a", "plane/b", "plane/c", "train/d"), r"car \(1 images\), plane \(2 images\), train \(1 images\)"),
        (("train/a", "Train/b"), r"Train \(1 images\), train \(1 images\)"),
        (("train/a", "training/b"), r"train \(1 images\), training \(1 images\)"),
        (("test/a", "Test/b", "train/c"), r"Test .*, test .*, train"),
        (("test/a", "val/b"), r"test \(1 images\), val"),
        (("val/a", "cat/b"), r"cat .*, val"),
        (("car/train/a", "plane/train/b"), r"car \(1 images\), plane \(1 images\), and train in them"),
        (("set/a/1", "set/train/b"), r"Found: set/a .*, set/train"),
        (("car/training/a", "car/Testing/b", "plane/c"), r"car .*, plane .*, and Testing, training in them"),
        (("car/val/a", "plane/b"), r"car .*, plane .*, and val in them"),
        (("train_images/a", "test_images/b"), r"test_images .*, train_images"),
        (("set/train2017/a", "set/val2017/b"), r"set/train2017 .*, set/val2017"),
    ],
)
def test_folders_that_may_be_splits_or_classes_are_refused(files, found, published):
    fill(published.root, {f"{name}.png": encoded(picture(0, 8, 8)) for name in files})
    with pytest.raises(UserError, match=rf"not clear which folders are splits and which are classes. .*{found}"):
        published.prepare("mine", image_size=8)
    assert not published.left()


HIDDEN = (
    ".ipynb_checkpoints/a-checkpoint.png", ".thumbnails/a.png", "cat/._a.png", "__MACOSX/cat/._a.png",
    "lost+found/b.png", "@eaDir/a.png", "cat/.a.png",
)  # fmt: skip


@pytest.mark.parametrize("packed", [False, True])
def test_hidden_files_are_left_out_and_others_counted(packed, published):
    files = dict.fromkeys(("cat/a.png", "owl/b.JFIF", *HIDDEN), encoded(picture(0, 8, 8)))
    files |= {"notes.txt": b"", "cat/more.TXT": b"", "cat/a.heic": b"", "LICENSE": b""}
    if packed:
        with zipfile.ZipFile(published.root / "pets.zip", "w") as archive:
            for name, content in files.items():
                archive.writestr(name, content)
    else:
        fill(published.root, files)
    train, _ = published.prepare("pets", image_size=8)
    assert (len(train), train.card["classes"]) == (2, ["cat", "owl"])
    kinds = ("1 files of the kind .heic", "2 files of the kind .txt", "1 files of the kind without a suffix")
    hidden = "7 hidden files or folders"
    assert sorted(train.card["layout"][1:]) == sorted(f"left out: {what}" for what in (*kinds, hidden))


SUFFIXES = {
    "jfif": "JPEG", "jpe": "JPEG", "avif": "AVIF", "jp2": "JPEG2000", "tga": "TGA", "pnm": "PPM", "pbm": "PPM",
    "apng": "PNG", "dib": None, "heic": None,
}  # fmt: skip


def test_all_formats_that_are_promised_are_read(published):
    image = Image.new("RGB", (8, 8), (255, 255, 255))
    for suffix, form in SUFFIXES.items():
        black_and_white = {"pbm": "1"}.get(suffix, "RGB")
        fill(published.root, {f"{suffix}.{suffix}": encoded(image.convert(black_and_white), form or "BMP")})
    train, _ = published.prepare("mine", image_size=8)
    assert len(train) == sum(form is not None for form in SUFFIXES.values())
    assert train[:].min() > 250
    assert {name.split()[0] for name in train.card["published_as"]} == set(filter(None, SUFFIXES.values()))


@pytest.mark.parametrize(("count", "shown"), [(2, 2), (20, 20), (30, 20)])
def test_all_damaged_files_are_listed_at_once(count, shown, published):
    fill(published.root, {f"train/{i:02}.png": encoded(picture(i, 8, 8)) for i in range(70)})
    fill(published.root, {f"train/x{i:02}.png": b"text" for i in range(count - 1)} | {"test/y.png": b"text"})
    with pytest.raises(DamagedFile) as raised:
        published.prepare("mine", image_size=8)
    said = str(raised.value)
    assert said.startswith(f"{count} images: cannot be used:")
    assert said.count("is no whole image") == shown
    assert ("and 10 more" in said) == (count == 30)
    assert "train/x00.png: is no" in said
    assert ("test/y.png: is no" in said) == (count <= 20)
    assert not published.left()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\n<!DOCTYPE html><html><body>404</body></html>", "a.jpg: is an HTML or XML page and no image"),
        (b"<!-- no cookies -->\n<html></html>", "a.jpg: is an HTML or XML page and no image"),
        (b"<?xml version='1.0'?><Error>AccessDenied</Error>", "a.jpg: is an HTML or XML page and no image"),
        (b"neither", r"a.jpg: is no whole image \(of no format or mode that is read here\)"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a.jpg: is a pointer of Git LFS and no image"),
        (b"", "a.jpg: is empty and no image"),
        (jpeg(0, 64, 64)[:700], "a.jpg: is no whole image"),
    ],
)
def test_what_has_an_images_name_is_called_what_it_is(content, words, published):
    fill(published.root, {"a.jpg": content})
    with pytest.raises(DamagedFile, match=words):
        published.prepare("mine", image_size=8)


def test_a_picture_above_the_limit_is_called_that(published, monkeypatch):
    fill(published.root, {"a.png": encoded(picture(0, 30, 30))})
    monkeypatch.setattr(pictures, "MAX_PIXELS", 800)
    with pytest.raises(DamagedFile, match=r"a.png: is too large .30x30 pixels are more than the 800 .* bombs: make it"):
        published.prepare("mine", image_size=8)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 300)
    with pytest.raises(DamagedFile, match=r"a.png: is too large .*900 pixels.* exceeds limit.*make it smaller"):
        published.prepare("mine", image_size=8)


def test_a_zip_of_windows_may_have_backslashes(published):
    with zipfile.ZipFile(published.root / "pets.zip", "w") as archive:
        for name in ("train/cat/0.png", "test/cat/1.png"):
            info = zipfile.ZipInfo(name)
            info.filename = name.replace("/", "\\")
            archive.writestr(info, encoded(picture(0, 8, 8)))
    train, test = published.prepare("pets", image_size=8)
    assert (len(train), len(test), train.card["classes"]) == (1, 1, ["cat"])


def test_names_need_not_be_text(published, monkeypatch):
    name = os.fsdecode(b"\xff")
    fill(published.root, {f"{name}/{split}/{name}.png": encoded(picture(0, 8, 8)) for split in ("train", "val")})
    said = io.TextIOWrapper(io.BytesIO(), "utf-8", errors="strict")  # as stdout is in most languages
    monkeypatch.setattr(sys, "stdout", said)
    monkeypatch.setattr(published, "log", SimpleNamespace(append=log))
    train, _ = published.prepare("mine", image_size=8)
    assert len(train) == 1
    assert rb"train: 1 images of \udcff/train" in said.buffer.getvalue()


def test_images_in_two_archives_are_refused(published):
    for name in ("a.zip", "b.zip"):
        with zipfile.ZipFile(published.root / name, "w") as archive:
            archive.writestr("0.png", encoded(picture(0, 8, 8)))
    with pytest.raises(UserError, match=r"holds images in two archives, a.zip and b.zip"):
        published.prepare("mine", image_size=8)


def test_links_in_a_tar_are_refused(published):
    with tarfile.open(published.root / "a.tar", "w") as tar:
        info = tarfile.TarInfo("owl")
        info.type, info.linkname = tarfile.SYMTYPE, "/data/owls"
        tar.addfile(info)
    with pytest.raises(UserError, match=r"a.tar: owl is a link to /data/owls.*Unpack"):
        published.prepare("mine", image_size=8)


@pytest.mark.parametrize("change", ["nothing", "added", "removed", "replaced", "renamed", "hidden", "linked folder"])
def test_a_changed_folder_has_another_fingerprint(change, published, tmp_path):
    fill(published.root, {f"cat/{i}.png": encoded(picture(i, 8, 8)) for i in range(3)})
    fill(tmp_path, {"owls/0.png": b"x"})
    (published.root / "owl").symlink_to(tmp_path / "owls")
    data = resolve("mine", {"root": published.root, "image_size": 8})
    before = with_fingerprint(data)
    image = published.root / "cat/1.png"
    match change:
        case "added":
            fill(published.root, {"dog/0.png": b""})
        case "removed":
            image.unlink()
        case "replaced":
            about = image.stat()
            image.write_bytes(bytes(about.st_size))
            os.utime(image, ns=(about.st_atime_ns, about.st_mtime_ns + 1))
        case "renamed":
            image.rename(image.with_name("7.png"))
        case "hidden":
            fill(published.root, {".thumbnails/0.png": b""})
        case "linked folder":
            fill(tmp_path, {"owls/1.png": b""})
    assert (with_fingerprint(data) == before) == (change in ("nothing", "hidden"))
    assert DataSet.model_validate_json(before.model_dump_json()) == before  # as it comes in a source's document
    assert data.listing is None


def test_known_contents_need_no_fingerprint(published):
    for name in ("cifar10", "fashionmnist", "lsun-church256"):
        assert with_fingerprint(resolve(name, {"root": published.root})).listing is None
    assert with_fingerprint(resolve("cifar10", {"root": published.root, "reencoded": "JPEG"})).listing
    assert with_fingerprint(resolve("celeba64", {"root": published.root})).listing
    assert with_fingerprint(resolve("cifar10", {})).listing is None
