"""Downloads that end with the right files or none: addresses in turn, checked, tried again."""

import time
from collections.abc import Sequence
from pathlib import Path

from pydantic import Field

from ddpm.files import DamagedFile, UserError, read_json, sha256, write_json
from ddpm.strict import Strict

ROUNDS = 3  # how often all addresses are tried
TIMEOUT = 30  # seconds without a byte


class RemoteFile(Strict):
    """A file that others publish."""

    name: str = Field(pattern=r"^\w[\w.-]*$", description="What it is called in the folder that it is downloaded to.")
    urls: tuple[str, ...] = Field(min_length=1, description="Addresses, tried in this order.")
    md5: str | None = Field(None, pattern="^[0-9a-f]{32}$", description="Checksum, where one is published.")
    size: int | None = Field(None, ge=1, description="Bytes, where known.")


def download(files: Sequence[RemoteFile], folder: Path, about: dict, log=print) -> None:
    """Fetch `files` into `folder`, and write `about` and their checksums to card.json beside them, last.

    Raises:
        UserError: no address gives a right copy of some file.
    """
    for file in files:
        fetch(file.name, file.urls, folder, file.md5, file.size, log)
    write_json(folder / "card.json", {**about, "sha256": {file.name: sha256(folder / file.name) for file in files}})


def downloaded(card: Path) -> dict:
    """The card.json that `download` wrote, after a check that its files are still what they were.

    Raises:
        DamagedFile: a file is missing or is not what was downloaded.
    """
    document = read_json(card)
    if not isinstance(document, dict) or not isinstance(document.get("sha256"), dict):
        raise DamagedFile(card, "not the card of a download")
    for name, expected in document["sha256"].items():
        path = card.parent / name
        if not path.exists() or sha256(path) != expected:
            raise DamagedFile(path, f"is missing or no longer what {card} says", "Delete it and download it again.")
    return document


def fetch(
    name: str, urls: Sequence[str], folder: Path, md5: str | None = None, size: int | None = None, log=print
) -> Path:
    """The file `name` in `folder`, downloaded unless it is there and right.

    Args:
        urls: addresses of the same file, tried in turn; each again after a pause, since most failures pass.
        md5, size: checksum and bytes of the right file, where they are known.

    Raises:
        UserError: no address gives a right copy; what each one gave is listed.
    """
    import pooch
    import requests

    pooch.get_logger().setLevel("ERROR")
    path = folder / name
    failures: dict[str, str] = {}
    for attempt in range(ROUNDS):
        for url in urls:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                there = path.exists()
                pooch.retrieve(
                    url, f"md5:{md5}" if md5 else None, name, folder, downloader=pooch.HTTPDownloader(timeout=TIMEOUT)
                )
                if wrong := what_is_wrong(path, size):
                    path.unlink()
                    raise ValueError(wrong)
                log(f"{path}: {'is there' if there else f'from {url}'}, {path.stat().st_size:,} bytes")
                return path
            except (requests.RequestException, ValueError) as error:
                failures[url] = str(error)
                log(f"{url}: {error}")
            except OSError as error:  # the disk, not the network: no other address helps
                raise UserError(f"{path}: cannot be written ({error}). Make room, or choose another folder.") from error
        if attempt < ROUNDS - 1:
            time.sleep(2**attempt)
    listed = "\n".join(f"  {url}: {what}" for url, what in failures.items())
    raise UserError(
        f"{path}: could not be downloaded. If this machine has no way to the internet, run this command on one that "
        f"has, or put the file there by hand; each address was tried {ROUNDS} times:\n{listed}"
    )


def what_is_wrong(path: Path, size: int | None) -> str | None:
    """Why the downloaded file cannot be the right one, or None."""
    with open(path, "rb") as file:
        start = file.read(512).lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html")):
        return "gives an HTML page (a login, or a quota that is used up?), not the file"
    found = path.stat().st_size
    return f"gives {found:,} bytes, not {size:,}" if size is not None and found != size else None
