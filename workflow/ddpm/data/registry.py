"""What is known of each data set before any of it is read: sizes, source, licence, how it is prepared."""

from dataclasses import dataclass

from ddpm.download import RemoteFile


@dataclass(frozen=True)
class DataSet:
    """One data set. `train` and `test` count images; `flip` is the paper's choice of random horizontal flips."""

    name: str
    title: str
    source: str
    licence: str
    citation: str
    image_size: int
    channels: int
    train: int
    test: int
    classes: tuple[str, ...]
    flip: bool
    crop: str
    resize: str
    notes: str
    files: tuple[RemoteFile, ...] = ()
    """What to download; nothing where the data ship with a dependency."""


def photographs(
    name: str, title: str, source: str, citation: str, train: int, flip: bool, crop: str, resize: str
) -> DataSet:
    """One of the paper's sets at 256x256. Known here for its published weights; it has no reader yet."""
    return DataSet(
        name=name, title=title, source=source, licence="none stated by its authors", citation=citation, image_size=256,
        channels=3, train=train, test=0, classes=(), flip=flip, crop=crop, resize=resize, notes="",
    )  # fmt: skip


def lsun(part: str, train: int, flip: bool) -> DataSet:
    """A category of LSUN, as StyleGAN2 prepares it."""
    return photographs(
        f"lsun-{part}256", f"LSUN {part}", "http://dl.yf.io/lsun", "F. Yu et al., arXiv 1506.03365, 2015", train, flip,
        crop="centre, to the shorter side", resize="256x256, Lanczos",
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
            classes=(
                "airplane",
                "automobile",
                "bird",
                "cat",
                "deer",
                "dog",
                "frog",
                "horse",
                "ship",
                "truck",
            ),
            flip=True,
            crop="none",
            resize="none",
            notes="In the order of the archive: data_batch_1 to 5, and test_batch.",
            files=(
                RemoteFile(
                    name="cifar-10-python.tar.gz",
                    urls=("https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",),
                    md5="c58f30108f718f92721af3b95e74349a",
                ),
            ),
        ),
        photographs(
            "celebahq256", "CelebA-HQ", "celeb_a_hq/256 of TensorFlow Datasets, which is made by hand",
            "T. Karras et al., arXiv 1710.10196, 2018", 30_000, True, crop="none", resize="none",
        ),
        lsun("bedroom", 3_033_042, flip=False),  # the paper's text; the authors' code turns flips off for cat instead
        lsun("church", 126_227, flip=True),
        lsun("cat", 1_657_266, flip=True),
    ]
}  # fmt: skip
