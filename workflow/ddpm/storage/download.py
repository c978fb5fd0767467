"""Download published files: from mirrors in turn, resumed, checked. The right file gets the name, or none does.

All mirrors are tried before a pause and the next round. urllib3's Retry can do neither that nor repeat half a body.
"""

import hashlib
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from ddpm.config.base import is_insecure
from ddpm.config.errors import DamagedFile, DiskError, UserError
from ddpm.config.sources import Listing, RemoteFile
from ddpm.jobs.locks import Lock, lock_beside
from ddpm.storage.files import Log, claim_card, read_json, set_aside, sha256, write_json
from ddpm.storage.transfer import (
    Failure,
    NoRoom,
    PartialFile,
    came_insecurely,
    open_url,
    read_body,
    refuse_html,
    resume,
)

ROUNDS = 3  # over all mirrors
PAUSE = 5  # seconds after the first round; twice as many after each further one
MAX_INDEX_BYTES = 2**22
MAX_INDEX_FILES = 10_000

Copy = dict[str, Any]  # `sha256` and `size` of a file; its `url` after redirects and a hub's `commit`, where known


class NotDownloaded(UserError):
    """No mirror gives a right copy; `failures` has the reason of each address."""

    def __init__(self, message: str, failures: dict[str, str]):
        super().__init__(message)
        self.failures = failures


def download(
    files: Sequence[RemoteFile | Listing], folder: Path, about: dict, log: Log = print, unverified: bool = False
) -> None:
    """Fetch `files` into `folder`, then write `about` and their checksums to card.json there.

    Args:
        unverified: files without a known checksum may come by plain HTTP as well.

    Raises:
        UserError: no mirror gives a right copy of some file; or there is another card.json.
    """
    claim_card(folder / "card.json", "files")
    wanted = [each for file in files for each in (expand(file, log) if isinstance(file, Listing) else [file])]
    for file in wanted:
        if not unverified and may_be_changed(file):
            raise UserError(
                f"{file.name}: comes by plain HTTP only ({file.urls[0]}), so that anybody on the way can change it, "
                "and no checksum of it is known. Get it in a way that you trust and name its folder as the source's "
                "`root`, or give its `sha256`, or set `unverified: true` for this source to allow the download."
            )
    copies = {file.name: fetch(file, folder, log, unverified=unverified) for file in wanted}
    commits = defaultdict(set)
    for file in wanted:
        if commit := copies[file.name].get("commit"):
            commits[file.urls[0].partition("/resolve/")[0]].add(commit)
    for repository, found in commits.items():
        if len(found) > 1:
            raise UserError(
                f"{folder}: its files are of several commits of {repository} ({', '.join(sorted(found))}), which was "
                "changed during the download. Delete them and download them again."
            )
    write_json(folder / "card.json", {**about, "files": copies})


def may_be_changed(file: RemoteFile) -> bool:
    """Whether anybody on the way can change the file unnoticed: plain HTTP only, and no checksum."""
    return not file.checksums and all(map(is_insecure, file.urls))


def downloaded(card: Path) -> dict:
    """The card.json that `download` wrote, after a check that its files are unchanged.

    Raises:
        DamagedFile: a file is missing or has changed.
    """
    document = read_json(card)
    try:
        known = {name: copy["sha256"] for name, copy in document["files"].items()}
    except (AttributeError, KeyError, TypeError) as error:
        raise DamagedFile(card, "not the card of a download") from error
    for name, checksum in known.items():
        if not (path := card.parent / name).exists() or sha256(path) != checksum:
            raise DamagedFile(path, f"is missing or no longer what {card} says", "Delete it and download it again.")
    return document


def fetch(file: RemoteFile, folder: Path, log: Log = print, once: bool = False, unverified: bool = False) -> Copy:
    """Download `file` to `folder`, unless a right copy is there; returns what `verify_copy` does, and whence it came.

    Processes that want the same file wait for each other.

    Args:
        once: try each mirror once, without a pause.
        unverified: it may come by plain HTTP, though no checksum is known.

    Raises:
        NotDownloaded: no mirror gives a right copy (the reasons are listed).
        DiskError: the folder cannot be written or has no room (if the size is known, or all mirrors say so).
    """
    path = folder / file.name
    part = PartialFile(path, file, unverified)

    def attempt(url: str) -> Copy:
        source = resume(part, url, log)
        try:
            copy = verify_copy(part.path, file)
        except Failure:
            part.discard()
            part.may_mix = False  # or the same two mirrors would be mixed again
            raise
        part.finish()
        log(f"{path}: from {url}, {copy['size']:,} bytes")
        return {**copy, **source}

    try:
        folder.mkdir(parents=True, exist_ok=True)
        with Lock(lock_beside(path), f"downloading {path}", log, math.inf).acquire():
            if path.exists():
                try:
                    copy = verify_copy(path, file)
                    part.discard()
                    log(f"{path}: is there, {copy['size']:,} bytes")
                    return copy
                except Failure as failure:
                    log(f"{path}: {failure}; it is downloaded anew, and what was there is kept as {set_aside(path)}")
            by_hand = f"get the file by hand and put it, or a link to it, at {path}, where the same command checks it"
            return try_mirrors(file.urls, attempt, path, by_hand, log, 1 if once else ROUNDS)
    except OSError as error:  # of the disk; those of the network are Failures
        raise DiskError(f"{path}: cannot be written ({error}). Choose another folder, or mend this one.") from error


def try_mirrors(
    urls: Sequence[str], attempt: Callable[[str], Any], what: Path | str, by_hand: str, log: Log, rounds: int
) -> Any:
    """The first success of `attempt(url)`; all `urls` again after a pause, since most failures pass.

    `by_hand` says what else a user can do.

    Raises:
        NotDownloaded: there is none; the reasons are listed.
    """
    failures: dict[str, Failure] = {}
    for i in range(rounds):
        for url in urls:
            try:
                return attempt(url)
            except Failure as failure:
                failures[url] = failure
                log(f"{url}: {failure}")
        if all(isinstance(failure, NoRoom) for failure in failures.values()):  # another round makes none
            raise failures[urls[0]]
        if i < rounds - 1:
            time.sleep(PAUSE * 2**i)
    reasons = {url: str(failure) for url, failure in failures.items()}
    listed = "\n".join(f"  {url}: {reason}" for url, reason in reasons.items())
    raise NotDownloaded(
        f"{what}: could not be downloaded. If this machine has no way to the internet, run this command on one that "
        f"has, or {by_hand}; each address was tried {rounds} times:\n{listed}",
        reasons,
    )


INDEX = TypeAdapter(dict[str, dict[str, list[str]]])


def expand(listing: Listing, log: Log = print) -> tuple[RemoteFile, ...]:
    """The files that an index lists, in its order, as {split}-{number from 0}.parquet.

    Raises:
        UserError: no mirror gives such an index, of one configuration.
    """

    def attempt(url: str) -> tuple[RemoteFile, ...]:
        with open_url(url, {}) as answer:
            if came_insecurely(answer):
                raise Failure("is no https address, and an index has no checksum")
            content = b"".join(read_body(answer, MAX_INDEX_BYTES, url, 0, None, log))
        refuse_html(content)
        try:
            (splits,) = INDEX.validate_json(content).values()
            files = tuple(
                RemoteFile(name=f"{split}-{i:04d}.parquet", urls=(address,))
                for split, addresses in splits.items()
                for i, address in enumerate(addresses)
            )
        except ValueError as error:
            raise Failure("is no index of the parquet files of one configuration") from error
        if not files:
            raise Failure("lists no files")
        if len(files) > MAX_INDEX_FILES:
            raise Failure(f"lists {len(files):,} files, more than {MAX_INDEX_FILES:,}")
        return files

    by_hand = "get the files by hand and say with `root` which folder holds them"
    return try_mirrors(listing.urls, attempt, listing.urls[0], by_hand, log, ROUNDS)


def check_copy(root: Path, file: RemoteFile) -> None:
    """Raise UserError if the copy of `file` in the folder `root`, which is used in place, is not right."""
    try:
        verify_copy(root / file.name, file)
    except Failure as failure:
        raise UserError(
            f"{root / file.name}: {failure}. `root` must name a folder that holds {published_as(file)}."
        ) from failure


def published_as(file: RemoteFile | Listing) -> str:
    """What a right copy is compared with, and where to get one."""
    if isinstance(file, Listing):
        return f"the files that {file.urls[0]} lists"
    size = f" of {file.size:,} bytes" if file.size else ""
    checksums = "".join(f", {kind} {value}" for kind, value in file.checksums.items())
    return f"{file.name}{size}{checksums}, as published at {file.urls[0]}"


@contextmanager
def reading_root(root: Path | None, files: Sequence[RemoteFile | Listing] = ()) -> Iterator[None]:
    """Let a DamagedFile of a user's own `root`, a folder or file, say what to compare and where to get another."""
    try:
        yield
    except DamagedFile as error:
        if root is None or not str(error.path).startswith(str(root)):
            raise
        named = [file for file in files if isinstance(file, RemoteFile) and file.name in str(error.path)]
        source = f" with {published_as((named or files)[0])}" if files else " with where you have it from"
        remedy = f"It is yours and stays as it is: compare it{source}; put a whole copy in its place, or move it away."
        raise DamagedFile(error.path, error.what, remedy) from error


def verify_copy(path: Path, file: RemoteFile) -> Copy:
    """Check that `path` is `file`, as far as that is known; returns its sha256 and its size.

    Raises:
        Failure: it is not, or it is an HTML page.
    """
    size = path.stat().st_size
    if file.size not in (size, None):
        raise Failure(f"has {size:,} bytes, not {file.size:,}")
    with open(path, "rb") as opened:
        refuse_html(opened.read(512))
    found = digests(path, "sha256", *file.checksums)
    for kind, value in file.checksums.items():
        if found[kind] != value:
            raise Failure(f"does not match the known hash: its {kind} is {found[kind]}, not {value}")
    return {"sha256": found["sha256"], "size": size}


def digests(path: Path, *kinds: str) -> dict[str, str]:
    """Checksums of a file by kind (md5, sha256), all in one reading."""
    hashes = {kind: hashlib.new(kind, usedforsecurity=False) for kind in kinds}
    with open(path, "rb") as file:
        while chunk := file.read(2**18):
            for each in hashes.values():
                each.update(chunk)
    return {kind: each.hexdigest() for kind, each in hashes.items()}
