"""Published weights: what is known of them, and how they are fetched (no torch here: a login node suffices)."""

from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from ddpm.download import RemoteFile, download, downloaded
from ddpm.files import DamagedFile, UserError
from ddpm.strict import Strict


class Checkpoint(Strict):
    """Weights that somebody has published, in one of the formats that `training/importing.py` opens."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]*$", description="Names its folder under resources/weights.")
    files: tuple[RemoteFile, ...] = Field(min_length=1, description="What to download.")
    averaged: bool = Field(description="Whether these are running means of the weights (EMA), as scored in the paper.")
    step: int | None = Field(None, ge=0, description="Training steps, where known.")
    data: str | None = Field(None, description="The data set that it was trained on.")
    variance: str | None = Field(None, description="The reverse process's variance in the authors' code for it.")
    network: dict[str, Any] | None = Field(None, description="The network's sizes; None: the experiment's.")
    note: str = ""

    @model_validator(mode="after")
    def holds_weights(self):
        if len(weights := self.not_configurations()) != 1:
            names = [file.name for file in weights]
            raise ValueError(f"files: one file of weights is needed, and configurations (.json); there are {names}")
        return self

    def not_configurations(self) -> list[RemoteFile]:
        return [file for file in self.files if not file.name.endswith(".json")]

    @property
    def weights_file(self) -> RemoteFile:
        """The one file that is no configuration."""
        return self.not_configurations()[0]


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


def download_weights(checkpoint: Checkpoint, folder: Path, log=print) -> None:
    """Fetch the files of `checkpoint` into `folder`; card.json there says what they are.

    Raises:
        UserError: no address gives a right copy of some file.
    """
    download(checkpoint.files, folder, {"checkpoint": checkpoint.model_dump(mode="json")}, log)


def default_for(data: str) -> Checkpoint | None:
    """The averaged published weights for that data set, if there are any."""
    return next((each for each in PUBLISHED.values() if each.data == data and each.averaged), None)


def downloaded_checkpoint(card: Path) -> Checkpoint:
    """The checkpoint that `download_weights` left beside `card`, whose files are verified.

    Raises:
        DamagedFile: a file is missing or is not what was downloaded.
    """
    try:
        return Checkpoint(**downloaded(card)["checkpoint"])
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedFile(card, f"not the card of downloaded weights ({error})") from error
