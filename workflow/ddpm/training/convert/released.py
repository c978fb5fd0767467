"""Published weights: what is known of them, and how they are fetched (no torch here: a login node suffices)."""

from pathlib import Path

from ddpm.config.errors import DamagedFile
from ddpm.config.sources import Checkpoint
from ddpm.storage.download import download, downloaded


def download_weights(checkpoint: Checkpoint, folder: Path, log=print) -> None:
    """Fetch the files of `checkpoint` into `folder`; card.json there says what they are.

    Raises:
        UserError: no address gives a right copy of some file.
    """
    download(checkpoint.files, folder, {"checkpoint": checkpoint.model_dump(mode="json")}, log)


def downloaded_checkpoint(card: Path) -> Checkpoint:
    """The checkpoint that `download_weights` left beside `card`, whose files are verified.

    Raises:
        DamagedFile: a file is missing or is not what was downloaded.
    """
    try:
        return Checkpoint(**downloaded(card)["checkpoint"])
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedFile(card, f"not the card of downloaded weights ({error})") from error
