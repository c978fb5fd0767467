"""Downloads that end with the right file or none: addresses in turn, checked, tried again."""

import time
from collections.abc import Sequence
from pathlib import Path

from ddpm.files import UserError

ROUNDS = 3  # how often all addresses are tried
TIMEOUT = 30  # seconds without a byte


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
