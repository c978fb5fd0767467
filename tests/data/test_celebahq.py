"""CelebA-HQ from parquet files of a mirror, or from the tar that the paper's data set library reads."""

import numpy as np
import pytest
from PIL import Image
from published import encoded, jpeg, opened, picture, write_parquet, write_tar

from ddpm.config.errors import DamagedFile, UserError


def test_all_parts_are_merged_for_training(published):
    images = [jpeg(i, 256, 256) for i in range(6)] + [encoded(picture(6, 256, 256))]
    write_parquet(published.root / "train-0000.parquet", images[:3])
    write_parquet(published.root / "train-0001.parquet", images[3:5])
    write_parquet(published.root / "validation-0000.parquet", images[5:])
    train, test = published.prepare("celebahq256", train=7)
    assert (len(train), len(test), test[:].shape) == (7, 0, (0, 256, 256, 3))
    for row, content in zip(train[:], images, strict=True):
        assert np.array_equal(row, opened(content))
    assert train.card["published_as"] == {"JPEG 256x256": 6, "PNG 256x256": 1}
    assert "6 JPEG 256x256, 1 PNG 256x256: 0 of 7 images were cropped or resized" in train.card["notes"]


def test_other_sizes_are_resized_and_the_card_says_so(published):
    large = jpeg(0, 512, 512)
    write_parquet(published.root / "train-0000.parquet", [large, jpeg(1, 256, 256)])
    train, _ = published.prepare("celebahq256", train=2)
    expected = Image.fromarray(opened(large)).resize((256, 256), Image.Resampling.LANCZOS)
    assert np.array_equal(train[:1][0], np.asarray(expected))
    assert "1 of 2 images were cropped or resized" in train.card["notes"]


def test_the_tar_is_read_by_name_before_any_parquet(published):
    images = {f"data256x256/{i:05d}.png": encoded(picture(i, 256, 256)) for i in (2, 0, 1)}
    write_tar(published.root / "data256x256.tar", images)
    write_parquet(published.root / "train-0000.parquet", [jpeg(9, 256, 256)])
    train, _ = published.prepare("celebahq256", train=3)
    for i, row in enumerate(train[:]):
        assert np.array_equal(row, np.asarray(picture(i, 256, 256)))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ("parquet cut", r"train-0000.parquet: not a whole parquet file"),
        ("pages damaged", r"train-0000.parquet: cannot be read behind row"),
        ("no image column", r"train-0000.parquet: not a whole parquet file with a column `image`"),
        ("images are text", r"train-0000.parquet: its column `image` is string"),
        ("empty row", r"train-0000.parquet: row 1: is empty and no image"),
        ("image cut", r"train-0000.parquet: row 1: is no whole image"),
        ("tar cut", r"data256x256.tar: not a whole archive"),
        ("too few", r"2 train images, where 3 were expected"),
        ("nothing", r"holds neither train-\*.parquet nor data256x256.tar.*root"),
    ],
)
def test_damage_is_named_and_nothing_is_left(damage, words, published):
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = published.root / "train-0000.parquet"
    images = [jpeg(i, 256, 256) for i in range(2 if damage == "too few" else 3)]
    if damage == "image cut":
        images[1] = images[1][:500]
    write_parquet(path, [images[0], None, images[2]] if damage == "empty row" else images)
    content = path.read_bytes()
    match damage:
        case "parquet cut":
            path.write_bytes(content[: len(content) // 2])
        case "pages damaged":
            path.write_bytes(content[:4] + bytes(400) + content[404:])
        case "no image column":
            pq.write_table(pa.table({"label": [0]}), path)
        case "images are text":
            pq.write_table(pa.table({"image": ["a"]}), path)
        case "tar cut":
            write_tar(published.root / "data256x256.tar", {"a.png": encoded(picture(0, 256, 256))})
            tar = published.root / "data256x256.tar"
            tar.write_bytes(tar.read_bytes()[:700])
        case "nothing":
            path.unlink()
    with pytest.raises(UserError, match=words) as raised:
        published.prepare("celebahq256", train=3)
    assert damage in ("too few", "nothing") or isinstance(raised.value, DamagedFile)
    assert not published.left()
