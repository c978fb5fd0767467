"""Descriptions of what others publish: files, data sets and weights."""

from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from ddpm.config.base import Address, FileName, Folder, FrozenModel, Md5, Name, Sha256, matches

Byte = Annotated[int, Field(ge=0, le=255)]


class RemoteFile(FrozenModel):
    """A file that others publish."""

    name: FileName = Field(description="What it is called in the folder that it is downloaded to.")
    urls: tuple[Address, ...] = Field(min_length=1, description="Addresses, tried in this order.")
    md5: Md5 | None = Field(None, description="Checksum, where one is published.")
    sha256: Sha256 | None = Field(None, description="Checksum, where one is published.")
    size: int | None = Field(None, ge=1, description="Bytes, where known.")
    about: int | None = Field(None, ge=1, description="Bytes, about, where the exact number is not known.")

    @property
    def checksums(self) -> dict[str, str]:
        """Those that are known, by kind."""
        return {kind: value for kind in ("md5", "sha256") if (value := getattr(self, kind))}


class Listing(FrozenModel):
    """Parquet files that are only known from an index: {configuration: {split: [address of each file]}}."""

    urls: tuple[Address, ...] = Field(
        min_length=1,
        description="Addresses of the index, tried in this order: https://huggingface.co/api/datasets/{repo}/parquet",
    )
    about: int | None = Field(None, ge=1, description="Bytes of all files together, about.")


class Reader(StrEnum):
    """The format that a data set is published in: a module of `ddpm.data.readers` each."""

    DIGITS = "digits"
    """The scans that ship with scikit-learn."""
    CIFAR10 = "cifar10"
    """Pickled batches in a tar.gz."""
    IDX = "idx"
    """MNIST's format: gzipped arrays with a header."""
    CELEBA = "celeba"
    """JPEGs in a zip, and a list of which image is in which split."""
    CELEBAHQ = "celebahq"
    """Encoded images in parquet files, or in the tar of TensorFlow Datasets."""
    LSUN = "lsun"
    """Encoded images in an LMDB, zipped or not."""
    FOLDER = "folder"
    """Image files."""


StatisticsName = Literal["train", "test", "train-clean", "test-clean", "train-ttur"]
"""A split, of features with the resize of FID or with that of clean-FID; a second one of FID is TTUR's."""


class PublishedStatistics(RemoteFile):
    """Mean and covariance of Inception's features of one split, as others computed them: an .npz with `mu`, `sigma`."""

    publisher: str = Field("", description="Whose they are.")
    images: int | None = Field(None, ge=2, description="Of how many images, where known.")
    notes: str = Field("", description="Which images, and how they were prepared, as far as it is known.")


class DataSet(FrozenModel):
    """One data set, as it is published and as it is prepared."""

    name: Name
    title: str
    source: str = Field(description="Where it comes from.")
    licence: str
    citation: str
    image_size: int = Field(ge=1, description="Height and width of the prepared images, in pixels.")
    channels: int = Field(ge=1, le=3, description="1: grey, 3: red, green and blue.")
    train: int | None = Field(ge=1, description="Training images as published; None: counted when prepared.")
    test: int | None = Field(ge=0, description="Test images, likewise.")
    classes: tuple[str, ...] | None = Field(
        description="Names of the labels; none where there are no labels. None: the class folders, if there are some."
    )
    flip: bool = Field(description="Whether training mirrors images at random: the paper's choice.")
    crop: str = Field(description="What is cut out, in words.")
    resize: str = Field(description="To what size, by which filter, in words.")
    notes: str
    reader: Reader
    files: tuple[RemoteFile | Listing, ...] = Field((), description="What to download; nothing where data come along.")
    unverified: bool = Field(
        False,
        exclude_if=lambda allowed: not allowed,
        description="Whether files without a known checksum may come by plain HTTP, on which anybody can change them.",
    )
    root: Folder | None = Field(None, description="A folder that holds the published files already, used in place.")
    reencoded: Annotated[str, matches("[A-Za-z0-9]+", "the name of a format, as in JPEG")] | None = Field(
        None,
        description="The format, as in JPEG, in which somebody encoded the images anew with loss: `root` holds them as "
        "train/CLASS/... and test/CLASS/.... The title says so, and no number from them gets a verdict.",
    )
    background: tuple[Byte, Byte, Byte] = Field(
        (255, 255, 255),
        exclude_if=lambda colour: colour == (255, 255, 255),
        description="The colour that transparent pixels are laid on: red, green and blue, each 0 to 255.",
    )
    depth: int | None = Field(
        None,
        ge=8,
        le=31,
        exclude_if=lambda bits: bits is None,
        description="So many bits of each value are used, in grey images of more than 8: 12 where 12 bits lie in 16.",
    )
    listing: str | None = Field(
        None,
        exclude_if=lambda digest: digest is None,
        description="sha256 of names, sizes and times of the files in `root`: a changed folder is prepared again.",
    )
    contents: dict[str, str] = Field({}, description="md5 of what is in the published files, by name, where known.")
    means: dict[Literal["train", "test"], tuple[float, ...]] = Field(
        {}, description="Mean of each channel / 255 of all images of a split, to eight digits, where others report it."
    )
    reference: int | None = Field(None, ge=1, description="So many training images, from the first, are the FID's.")
    statistics: dict[StatisticsName, PublishedStatistics] = Field(
        {}, description="Others' statistics of a split, which ours are compared with. Nothing else depends on them."
    )

    @model_validator(mode="after")
    def can_be_read(self) -> Self:
        if self.reader is Reader.FOLDER and self.root is None:
            raise ValueError("root is missing: the folder of the images")
        if self.reencoded and self.reader is not Reader.CIFAR10:
            raise ValueError(
                "reencoded: is for cifar10; name other copies as a data set of your own, with reader: folder"
            )
        if self.reencoded and self.root is None:
            raise ValueError("reencoded: only what a `root` holds can be a copy; root is missing")
        if self.channels == 2:
            raise ValueError("channels: 2 is neither grey (1) nor colour (3)")
        return self

    @property
    def may_have_classes(self) -> bool:
        """Whether it has labels, or is a folder in which there may be several class folders, or an archive of them."""
        if self.classes is not None or self.root is None:
            return bool(self.classes)
        archives, folder = (".zip", ".tar", ".gz", ".xz", ".bz2", ".tgz"), self.root
        try:
            for _ in range(8):  # folders in each other; or a link that leads back
                shown = [path for path in folder.iterdir() if not path.name.startswith(".")]
                folders = [path for path in shown if path.is_dir()]
                if any(path.suffix.lower() in archives for path in shown):
                    return True
                train = [path for path in folders if path.name.casefold() in ("train", "training")]
                if not train and len(folders) != 1:
                    return bool(folders)
                folder = (train or folders)[0]
        except OSError:  # a folder that is closed: the job that reads it says so, with all others
            pass
        return True

    @property
    def published(self) -> dict[str, str]:
        """The checksum that the publishers state for each file, or that there is none."""
        named = ((f.name, f.md5) if isinstance(f, RemoteFile) else (f.urls[0], None) for f in self.files)
        return {name: f"md5 {md5}" if md5 else "none published" for name, md5 in named}


class Checkpoint(FrozenModel):
    """Weights that somebody has published, in one of the formats that `training/importing.py` opens."""

    name: Name = Field(description="Names its folder under resources/weights.")
    files: tuple[RemoteFile, ...] = Field(min_length=1, description="What to download.")
    averaged: bool = Field(description="Whether these are running means of the weights (EMA), as scored in the paper.")
    step: int | None = Field(None, ge=0, description="Training steps, where known.")
    data: str | None = Field(None, description="The data set that it was trained on.")
    variance: str | None = Field(None, description="The reverse process's variance in the authors' code for it.")
    network: dict[str, Any] | None = Field(None, description="The network's sizes; None: the experiment's.")
    note: str = ""

    @model_validator(mode="after")
    def holds_weights(self) -> Self:
        names = [file.name for file in self.files if not file.name.endswith(".json")]
        if len(names) != 1:
            raise ValueError(f"files: one file of weights is needed, and configurations (.json); there are {names}")
        return self

    @property
    def weights_file(self) -> RemoteFile:
        """The one file that is no configuration."""
        return next(file for file in self.files if not file.name.endswith(".json"))
