"""Small data sets in the exact formats that others publish them in."""

import gzip
import hashlib
import io
import pickle
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path
from typing import ClassVar

import lmdb
import numpy as np
from PIL import Image

LSUN_SIZES = [(341, 256), (256, 341), (256, 256), (300, 270), (270, 300), (257, 256)]


def picture(seed: int, width: int, height: int, mode: str = "RGB") -> Image.Image:
    """Smooth random colours, which survive lossy encodings well enough to be told apart."""
    random = np.random.Generator(np.random.PCG64(seed))
    small = random.integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC).convert(mode)


def encoded(image: Image.Image, form: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def jpeg(seed: int, width: int, height: int) -> bytes:
    return encoded(picture(seed, width, height), "JPEG", quality=90)


def png_chunk(name: bytes, data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + name + data + zlib.crc32(name + data).to_bytes(4, "big")


def opened(content: bytes) -> np.ndarray:
    """What Pillow makes of an encoded image, [H, W, 3]."""
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


def write_celeba(folder: Path, splits: list[int], damage: str = "") -> dict[str, bytes]:
    """img_align_celeba.zip and list_eval_partition.txt, image i in split splits[i]; returns the images by name."""
    images = {f"{i + 1:06d}.jpg": jpeg(i, 178, 218) for i in range(len(splits))}
    with zipfile.ZipFile(folder / "img_align_celeba.zip", "w") as archive:
        archive.writestr("img_align_celeba/", b"")
        for name, content in images.items():
            if not (damage == "image missing" and name == "000003.jpg"):
                cut = damage == "image cut" and name == "000003.jpg"
                archive.writestr(f"img_align_celeba/{name}", content[:400] if cut else content)
    lines = [f"{name} {split}\n" for name, split in zip(images, splits, strict=True)]
    (folder / "list_eval_partition.txt").write_text("".join(lines))
    return images


def write_parquet(
    path: Path, images: list[bytes | None], labels: list[int] | None = None, column_name: str = "image"
) -> None:
    """A file of Hugging Face's datasets: a column of structs for the images, and a column of labels."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    column = pa.array([{"bytes": content, "path": None} for content in images], kind)
    labels = pa.array(labels or [0] * len(images), pa.int64())
    pq.write_table(pa.table({column_name: column, "label": labels}), path, row_group_size=2)


def write_tar(path: Path, images: dict[str, bytes]) -> None:
    with tarfile.open(path, "w") as tar:
        for name, content in images.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


def lsun_key(i: int) -> bytes:
    """Keys as LSUN's: hexadecimal digests, whose order has nothing to do with that of writing."""
    return hashlib.sha1(b"%d" % i).hexdigest().encode()


def lsun_images(count: int) -> dict[bytes, bytes]:
    """Encoded images by key, some WebP and some JPEG."""
    images = {}
    for i in range(count):
        size = LSUN_SIZES[i % 6]
        images[lsun_key(i)] = jpeg(i, *size) if i % 3 == 0 else encoded(picture(i, *size), "WEBP", quality=75)
    return images


def write_lmdb(folder: Path, images: dict[bytes, bytes]) -> None:
    with lmdb.open(str(folder), map_size=1 << 24) as database, database.begin(write=True) as transaction:
        for key, content in images.items():
            transaction.put(key, content)


def zip_lmdb(database: Path, archive: Path) -> None:
    """The LMDB in `database` as LSUN publishes it: a folder of the archive's name, with data.mdb and lock.mdb."""
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr(f"{archive.stem}/", b"")
        for name in ("data.mdb", "lock.mdb"):
            zipped.write(database / name, f"{archive.stem}/{name}")


def idx(array: np.ndarray) -> bytes:
    """An idx file of bytes."""
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def write_fashion(folder: Path, packed: bool, train: int = 5, test: int = 3) -> dict[str, np.ndarray]:
    """The four files of (Fashion-)MNIST; returns the arrays by name."""
    random = np.random.Generator(np.random.PCG64(0))
    arrays = {}
    for prefix, count in (("train", train), ("t10k", test)):
        arrays[f"{prefix}-images-idx3-ubyte"] = random.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        arrays[f"{prefix}-labels-idx1-ubyte"] = random.integers(0, 10, count, dtype=np.uint8)
    for name, array in arrays.items():
        if packed:
            (folder / f"{name}.gz").write_bytes(gzip.compress(idx(array)))
        else:
            (folder / name).write_bytes(idx(array))
    return arrays


CIFAR10_BATCHES = (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")


def cifar10_batch(i: int, count: int = 4) -> dict:
    """A batch as the archive holds it: byte strings for keys, rows of red, green and blue planes."""
    random = np.random.Generator(np.random.PCG64(i))
    return {
        b"batch_label": b"training batch %d" % i,
        b"labels": random.integers(0, 10, count).tolist(),
        b"data": random.integers(0, 256, (count, 3072), dtype=np.uint8),
        b"filenames": [b"a.png"] * count,
    }


class Python2Pickler(pickle._Pickler):
    """Writes byte strings as Python 2 wrote its strings: the archive's batches are from 2009."""

    def save_string(self, value: bytes) -> None:
        self.write(pickle.BINSTRING + struct.pack("<i", len(value)) + value)
        self.memoize(value)

    dispatch: ClassVar = {**pickle._Pickler.dispatch, bytes: save_string}


def pickled(value: dict) -> bytes:
    buffer = io.BytesIO()
    Python2Pickler(buffer, protocol=2).dump(value)
    return buffer.getvalue().replace(b"cnumpy._core.", b"cnumpy.core.")  # NumPy's name for it then


def cifar10_archive(count: int = 4, replaced: dict[str, bytes] | None = None) -> bytes:
    """cifar-10-python.tar.gz with `count` images to a batch; `replaced` holds other contents for some batches."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for i, name in enumerate(CIFAR10_BATCHES):
            content = (replaced or {}).get(name) or pickled(cifar10_batch(i, count))
            info = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def cifar10_tree(images: np.ndarray, labels: list[int], train: int, form: str = "PNG") -> dict[str, bytes]:
    """Image files by path, train/CLASS/0000.png and test/CLASS/...."""
    from ddpm.config.registry import DATASETS

    classes = DATASETS["cifar10"].classes
    suffix = {"PNG": "png", "JPEG": "jpg"}[form]
    return {
        f"{'train' if i < train else 'test'}/{classes[label]}/{i:04d}.{suffix}": encoded(Image.fromarray(image), form)
        for i, (image, label) in enumerate(zip(images, labels, strict=True))
    }


def write_statistics(path: Path, features: int = 2048) -> None:
    """Mean and covariance of features, as clean-fid writes them: those of a standard normal distribution."""
    np.savez_compressed(path, mu=np.zeros(features), sigma=np.eye(features))
