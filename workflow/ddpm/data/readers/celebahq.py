"""CelebA-HQ: encoded images in parquet files, or the tar that TensorFlow Datasets reads; all of them for training."""

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from ddpm.config.errors import DamagedFile, UserError
from ddpm.config.sources import DataSet
from ddpm.data import pictures
from ddpm.data.readers import Part, archive_members, part_of_images, sort_wanted

TAR = "data256x256.tar"
ROWS = 64  # of a parquet file, read at a time


def count_rows(files: list[Path]) -> int:
    """The number of rows of the parquet files, after a check that each file is whole and has images."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    count = 0
    for path in files:
        try:
            with pq.ParquetFile(path) as file:
                image = file.schema_arrow.field("image").type
                count += file.metadata.num_rows
        except (pa.ArrowException, OSError, KeyError) as error:
            raise DamagedFile(path, f"not a whole parquet file with a column `image` ({error})") from error
        if not pa.types.is_struct(image) or image.get_field_index("bytes") < 0:
            raise DamagedFile(path, f"its column `image` is {image}, where encoded images were expected")
    return count


def read_rows(files: list[Path]) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """The encoded images of all rows, in order, each with its place for messages; an empty one is damaged."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    for path in files:
        row = 0
        try:
            with pq.ParquetFile(path) as file:
                for batch in file.iter_batches(ROWS, columns=["image"], use_threads=False):
                    for image in batch.column(0).to_pylist():
                        content = (image or {}).get("bytes") or b""
                        yield f"{path}: row {row}", lambda content=content: content
                        row += 1
        except (pa.ArrowException, OSError) as error:
            raise DamagedFile(path, f"cannot be read behind row {row} ({error})") from error


def read(data: DataSet, folder: Path, threads: int) -> dict[str, Part]:
    if (folder / TAR).is_file():
        members = sort_wanted(archive_members(folder / TAR, lambda path: True), lambda path: True, Counter())
        count, contents = len(members), ((f"{folder / TAR}: {path}", read) for path, read in members.items())
    else:
        files = [path for split in ("train", "validation") for path in sorted(folder.glob(f"{split}-*.parquet"))]
        if not files:
            raise UserError(
                f"{folder}: holds neither train-*.parquet nor {TAR}. Download the data set, or set its root to where "
                "one of them is."
            )
        count, contents = count_rows(files), read_rows(files)
    train = part_of_images(data, count, contents, lambda image: pictures.resize(image, data.image_size), threads)
    return {"train": train, "test": Part(0, [])}
