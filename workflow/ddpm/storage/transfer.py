"""One file from one address: the rest of what has arrived so far, wherever HTTP and the address allow that."""

import errno
import os
import re
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from itertools import chain
from pathlib import Path

from ddpm.config.base import bare, is_open
from ddpm.config.errors import DiskError, UserError
from ddpm.storage.files import read_json, write_json

TIMEOUT = 30  # seconds without a byte
CONNECT = 10  # seconds for an address to answer at all
CHUNK = 2**18  # bytes that are read at a time
EVERY = 5  # seconds between lines of progress
PAGE = "is an HTML page (a login, or a quota that is used up?), not the file"


class Failure(Exception):
    """An address does not give the file, or a copy is not it; another may be better."""


class NoRoom(Failure):
    """An address says that the file is larger than what is free; another may say otherwise."""

    def __init__(self, error: DiskError):
        super().__init__(str(error))
        self.error = error


class Part:
    """The beginning of a file that has arrived, kept beside its place until the file is whole and found right.

    Whichever attempt comes next, of this process or of a later one, goes on from there.

    Args:
        path: the place of the whole file.
        size: its bytes, where they are known.
        mixing: whether any address may go on with what another one began: a checksum will decide.
        most: bytes beyond which it cannot be the file, where `size` is not known.
        open_way: whether it may come by plain HTTP, on which anybody on the way can change it.
    """

    def __init__(self, path: Path, size: int | None, mixing: bool, most: int | None = None, open_way: bool = True):
        self.whole, self.size, self.mixing, self.open_way = path, size, mixing, open_way
        self.most = size if size is not None else most
        self.source: dict[str, str] = {}  # where the last answer came from: its address, and a hub's commit
        self.path = path.with_name(f".{path.name}.part")
        self.note = path.with_name(f".{path.name}.part.json")

    def arrived(self) -> int:
        """Bytes that are there."""
        return self.path.stat().st_size if self.path.exists() else 0

    def origin(self) -> dict:
        """What it is the beginning of: `url`, `validator` (an ETag or a date, or None), `size` (or None)."""
        try:
            note = read_json(self.note)
        except UserError:
            return {}
        return note if isinstance(note, dict) else {}

    def write(self, chunks: Iterable[bytes], origin: dict, going_on: bool) -> None:
        """Add `chunks`, or begin with them.

        Raises:
            DiskError: the disk is full, or will be; nothing is lost.
            NoRoom: it will be if the address's own word of the size is true.
        """
        began = False
        try:
            if origin["size"] is not None and origin["size"] - self.arrived() > self.free():
                raise OSError(errno.ENOSPC, "too little room for the rest")
            began = True
            with open(self.path, "ab" if going_on else "wb") as file:
                if not going_on:
                    write_json(self.note, origin)  # not before: a note must never stand with another file's bytes
                for chunk in chunks:
                    file.write(chunk)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            there = self.arrived()
            needed = f"{origin['size'] - there:,} more bytes" if origin["size"] is not None else "more bytes"
            full = DiskError(
                f"{self.whole}: the disk is full ({error.strerror}): {needed} are needed and {self.free():,} are free. "
                f"The {there:,} bytes that have arrived are kept: make room (or have a quota raised) and run the same "
                "command again, which goes on from there."
            )
            raise (full if began or self.size is not None else NoRoom(full)) from error

    def free(self) -> int:
        return shutil.disk_usage(self.path.parent).free

    def finish(self) -> None:
        """Give the file its name."""
        with open(self.path, "rb") as file:
            os.fsync(file.fileno())
        os.replace(self.path, self.whole)
        self.note.unlink(missing_ok=True)

    def discard(self) -> None:
        self.path.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)


@contextmanager
def answer_of(url: str, **headers: str) -> Iterator:
    """The answer to a GET of `url`, as `requests` gives it, whose body is still to be read.

    Raises:
        Failure: what the address, or the network while the body is read, does wrong.
    """
    import requests
    from urllib3.exceptions import HTTPError

    try:
        with requests.get(url, headers=headers, stream=True, timeout=(CONNECT, TIMEOUT)) as answer:
            if answer.status_code not in ((200, 206, 416) if "Range" in headers else (200,)):
                raise Failure(f"{answer.status_code} {answer.reason}")
            if answer.headers.get("Content-Type", "").startswith("text/html"):
                raise Failure(PAGE)
            yield answer
    except (requests.RequestException, HTTPError, ValueError) as error:  # ValueError: of headers that make no sense
        raise Failure(without_answers(str(error))) from error


def without_answers(words: str) -> str:
    """An error's words without what follows a question mark in an address, or a name and a password before its host.

    A redirect may lead to an address that lets in whoever has it, and a proxy's may hold a password.
    """
    return re.sub(r"//[^\s/@]+@", "//", re.sub(r"\?[^\s'\")>]+", "?...", words))


def refuse_page(start: bytes) -> None:
    """Raise Failure where the first bytes of a file are those of an HTML page."""
    if start[:512].lstrip().lower().startswith((b"<!doctype html", b"<html")):
        raise Failure(PAGE)


def span(answer) -> tuple[int | None, int | None]:
    """Where in the file an answer's bytes begin, and how many bytes the whole file has; None where it does not say."""
    if answer.status_code == 200:
        return 0, number(answer.headers.get("Content-Length"))
    found = re.match(r"bytes (?:([0-9]+)-[0-9]+|\*)/([0-9]+)?", answer.headers.get("Content-Range", ""))
    first, total = found.groups() if found else (None, None)
    return number(first), number(total)


def number(digits: str | None) -> int | None:
    """A number of a header; None where there is none. Raises Failure where no file can have so many bytes."""
    if digits is None or not re.fullmatch("[0-9]+", digits):
        return None
    if len(digits) > 15:
        raise Failure(f"says that it has {digits[:20]}... bytes, as many as no file has")
    return int(digits)


def at_most(limit: int | None, chunks: Iterable[bytes], done: int) -> Iterator[bytes]:
    """Pass `chunks` on, which follow `done` bytes. Raises Failure as soon as there are more than `limit`."""
    for chunk in chunks:
        done += len(chunk)
        if limit is not None and done > limit:
            raise Failure(f"gives more than the {limit:,} bytes that it can have, and was stopped there")
        yield chunk


def validator_of(answer) -> str | None:
    """What changes when the file at an address does: its strong ETag, or its date where it has no ETag."""
    etag = answer.headers.get("ETag")
    if etag is None:
        return answer.headers.get("Last-Modified")
    return None if etag.startswith("W/") else etag  # a weak one promises the same meaning, not the same bytes


def came_from(answer) -> dict[str, str]:
    """The address that gave the answer at last, and the commit of a hub's file, as it says it."""
    heads = [each.headers.get("X-Repo-Commit", "") for each in (*answer.history, answer)]
    commit = next((head for head in heads if re.fullmatch("[0-9a-f]{40}", head)), None)
    return {"url": bare(answer.url), **({"commit": commit} if commit else {})}


def download_resumable(part: Part, url: str, log) -> None:
    """Fill `part` with all that `url` gives; where that breaks off after some bytes, ask for the rest at once.

    Raises:
        Failure: the address gives no more; what it gave is kept.
        DiskError: the disk is full.
    """
    furthest = part.arrived()
    while True:
        try:
            return transfer(part, url, log)
        except Failure as failure:
            if part.arrived() <= furthest:
                raise
            furthest = part.arrived()
            log(f"{url}: {failure}; asked for the rest after {furthest:,} bytes")


def transfer(part: Part, url: str, log) -> None:
    """Ask `url` once for what `part` lacks: the rest, or all where the rest need not be of the same file."""
    arrived, origin = part.arrived(), part.origin()
    if arrived and arrived == (part.size or origin.get("size")):
        return None
    if_range = origin.get("validator") if origin.get("url") == url else None
    headers = {"Accept-Encoding": "identity"}
    if arrived and (if_range or part.mixing):
        headers |= {"Range": f"bytes={arrived}-", **({"If-Range": if_range} if if_range else {})}
    with answer_of(url, **headers) as answer:
        part.source = came_from(answer)
        if not part.open_way and any(is_open(each.url) for each in (*answer.history, answer)):
            raise Failure(f"is_main to {bare(answer.url)}, plain HTTP, and no checksum of the file is known")
        first, total = span(answer)
        validator = validator_of(answer)
        if answer.status_code == 416 and total == arrived:
            return None
        if first not in (0, arrived) or (first and if_range and validator not in (if_range, None)):
            part.discard()  # it is no beginning of what is there now
            return transfer(part, url, log)
        if part.size is not None and total not in (part.size, None):
            raise Failure(f"has {total:,} bytes, not {part.size:,}")
        if part.most is not None and total is not None and total > part.most:
            raise Failure(f"says that it has {total:,} bytes, where at most {part.most:,} can be")
        # As they are, unpacked by nobody: archives are sometimes labelled as compressed on the way.
        limit = part.most if total is None else total
        body = at_most(limit, answer.raw.stream(CHUNK, decode_content=False), first)
        chunks = reported(body, part.whole, first, total, log)
        start = next(chunks, b"")
        if first == 0:
            refuse_page(start)
        part.write(chain([start], chunks), {"url": url, "validator": validator, "size": total}, going_on=first > 0)
    if total is not None and part.arrived() != total:
        raise Failure(f"gives {part.arrived():,} of {total:,} bytes")
    return None


def reported(chunks: Iterable[bytes], path: Path, done: int, total: int | None, log) -> Iterator[bytes]:
    """Pass `chunks` on, and log every few seconds how far and how fast; `done` bytes were there before."""
    started = said = time.monotonic()
    before = done
    for chunk in chunks:
        yield chunk
        done += len(chunk)
        if (now := time.monotonic()) - said >= EVERY:
            said, rate = now, (done - before) / (now - started)
            left = f" of {total:,} bytes, {timedelta(seconds=round((total - done) / rate))} left" if total else " bytes"
            log(f"{path}: {done:,}{left}, {rate / 1e6:.1f} MB/s")
