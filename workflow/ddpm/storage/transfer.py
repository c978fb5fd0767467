"""One file from one address by HTTP: all of it, or the rest of what has arrived, if that is of the same version."""

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
from typing import Any

from ddpm.config.base import is_insecure, without_credentials
from ddpm.config.errors import DiskError, UserError
from ddpm.config.sources import RemoteFile
from ddpm.storage.files import Log, read_json, write_json

Answer = Any  # a requests.Response: that package is loaded where something is downloaded
CONNECT_TIMEOUT = 10  # seconds
READ_TIMEOUT = 30  # seconds without a byte
CHUNK = 2**18  # bytes that are read at a time
LOG_EVERY = 5  # seconds
MAX_SIZE_RATIO = 2  # a file of more times its approximate size is another file
HTML_PAGE = "is an HTML page (a login, or a quota that is used up?), not the file"


class Failure(Exception):
    """A mirror does not give the file, or a copy is another file. Another mirror may be better."""


class NoRoom(Failure, DiskError):
    """The disk is full, or smaller than the file is by a mirror's word. Another may say otherwise."""


class PartialFile:
    """The beginning of `file` that has arrived, beside the place `target` of the whole; any later process resumes it.

    Its origin is noted beside it: `url`, `validator` (a strong ETag or a date, or None), `size` (or None).
    """

    def __init__(self, target: Path, file: RemoteFile, unverified: bool):
        self.target = target
        self.path, self.note = (target.with_name(f".{target.name}.part{end}") for end in ("", ".json"))
        self.size, self.max_size = file.size, file.size or (file.about and MAX_SIZE_RATIO * file.about)
        self.may_mix = bool(file.checksums)  # resume what another mirror began: a checksum decides in the end
        self.https_only = not (unverified or file.checksums)

    @property
    def arrived(self) -> int:
        """Bytes."""
        return self.path.stat().st_size if self.path.exists() else 0

    @property
    def origin(self) -> dict:
        try:
            note = read_json(self.note)
        except UserError:
            return {}
        return note if isinstance(note, dict) else {}

    def write(self, chunks: Iterable[bytes], origin: dict, append: bool) -> None:
        """Append `chunks`, or begin with them and note their origin.

        Raises:
            NoRoom: the disk is full, or will be. What has arrived is kept.
        """
        size = origin["size"]
        try:
            if size is not None and size - self.arrived > shutil.disk_usage(self.path.parent).free:
                raise OSError(errno.ENOSPC, "too little room for the rest")
            with open(self.path, "ab" if append else "wb") as file:
                if not append:
                    write_json(self.note, origin)  # not before: a note must never stand beside another file's bytes
                for chunk in chunks:
                    file.write(chunk)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            needed = "more bytes" if size is None else f"{size - self.arrived:,} more bytes"
            free = shutil.disk_usage(self.path.parent).free
            raise NoRoom(
                f"{self.target}: the disk is full ({error.strerror}): {needed} are needed and {free:,} are free. The "
                f"{self.arrived:,} bytes that have arrived are kept: make room (or have a quota raised) and run the "
                "same command again, which goes on from there."
            ) from error

    def finish(self) -> None:
        """Give the complete file its name."""
        with open(self.path, "rb") as file:
            os.fsync(file.fileno())
        os.replace(self.path, self.target)
        self.note.unlink(missing_ok=True)

    def discard(self) -> None:
        self.path.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)


def resume(part: PartialFile, url: str, log: Log) -> dict[str, str]:
    """Fill `part` with all that `url` gives; where that breaks off after some bytes, ask for the rest at once.

    Returns:
        its address after redirects and a hub's commit, where it was asked.

    Raises:
        Failure: the mirror gives no more, or the disk is full; what it gave is kept.
    """
    furthest = part.arrived
    while not part.arrived or part.arrived != (part.size or part.origin.get("size")):
        try:
            if source := request_rest(part, url, log):
                return source
            part.discard()
        except Failure as failure:
            if part.arrived <= furthest or isinstance(failure, NoRoom):
                raise
            furthest = part.arrived
            log(f"{url}: {failure}; asked for the rest after {furthest:,} bytes")
    return {}


def request_rest(part: PartialFile, url: str, log: Log) -> dict[str, str] | None:
    """Ask `url` once for what is missing, as `resume` does; None where `part` is of another version than the answer."""
    arrived, origin = part.arrived, part.origin
    version = origin.get("validator") if origin.get("url") == url else None
    headers = {}
    if arrived and (version or part.may_mix):
        headers = {"Range": f"bytes={arrived}-", **({"If-Range": version} if version else {})}
    with open_url(url, headers) as answer:
        if part.https_only and came_insecurely(answer):
            raise Failure(
                f"leads to {without_credentials(answer.url)}, plain HTTP, and no checksum of the file is known"
            )
        begin, total = byte_range(answer)
        if answer.status_code == 416 and total == arrived:  # there is no more
            return source_of(answer)
        if begin not in (0, arrived) or (begin and version and validator_of(answer) not in (version, None)):
            return None
        if part.size and total not in (part.size, None):
            raise Failure(f"has {total:,} bytes, not {part.size:,}")
        if total and part.max_size and total > part.max_size:
            raise Failure(f"says that it has {total:,} bytes, where at most {part.max_size:,} can be")
        chunks = read_body(answer, part.max_size if total is None else total, part.target, begin, total, log)
        first = next(chunks, b"")
        if not begin:
            refuse_html(first)
        part.write(chain([first], chunks), {"url": url, "validator": validator_of(answer), "size": total}, begin > 0)
    if total is not None and part.arrived != total:
        raise Failure(f"gives {part.arrived:,} of {total:,} bytes")
    return source_of(answer)


@contextmanager
def open_url(url: str, headers: dict[str, str]) -> Iterator:
    """The answer of `requests` to a GET; its body is still to be read.

    Raises:
        Failure: what the mirror, or the network while the body is read, does wrong.
    """
    import requests
    from urllib3.exceptions import HTTPError

    headers = {"Accept-Encoding": "identity", **headers}
    try:
        with requests.get(url, headers=headers, stream=True, timeout=(CONNECT_TIMEOUT, READ_TIMEOUT)) as answer:
            if answer.status_code not in ((200, 206, 416) if "Range" in headers else (200,)):
                raise Failure(f"{answer.status_code} {answer.reason}")
            if answer.headers.get("Content-Type", "").startswith("text/html"):
                raise Failure(HTML_PAGE)
            yield answer
    except (requests.RequestException, HTTPError, ValueError) as error:  # ValueError: of headers that make no sense
        raise Failure(redact(str(error))) from error


def redact(words: str) -> str:
    """The words of an error without the query of an address, and without a name and a password before its host.

    A redirect may lead to an address that lets in whoever has it, and a proxy's may hold a password.
    """
    return re.sub(r"//[^\s/@]+@", "//", re.sub(r"\?[^\s'\")>]+", "?...", words))


def came_insecurely(answer: Answer) -> bool:
    """Whether any address on the way to the answer is plain HTTP."""
    return any(is_insecure(each.url) for each in (*answer.history, answer))


def source_of(answer: Answer) -> dict[str, str]:
    """The address after redirects, and the commit of a hub's file where it says so."""
    heads = [each.headers.get("X-Repo-Commit", "") for each in (*answer.history, answer)]
    commit = next((head for head in heads if re.fullmatch("[0-9a-f]{40}", head)), None)
    return {"url": without_credentials(answer.url), **({"commit": commit} if commit else {})}


def validator_of(answer: Answer) -> str | None:
    """What changes when the file does: its strong ETag, or its date where it has no ETag."""
    etag = answer.headers.get("ETag")
    if etag is None:
        return answer.headers.get("Last-Modified")
    return None if etag.startswith("W/") else etag  # a weak one promises the same meaning, not the same bytes


def byte_range(answer: Answer) -> tuple[int | None, int | None]:
    """Where in the file the body begins, and how many bytes the file has; None where the answer does not say."""
    if answer.status_code == 200:
        found = re.fullmatch("()([0-9]+)", answer.headers.get("Content-Length", ""))
        return 0, int(found[2]) if found else None
    found = re.match(r"bytes (?:([0-9]+)-[0-9]+|\*)/([0-9]+)?", answer.headers.get("Content-Range", ""))
    begin, total = found.groups() if found else (None, None)
    return int(begin) if begin else None, int(total) if total else None


def read_body(
    answer: Answer, limit: int | None, what: Path | str, begin: int, total: int | None, log: Log
) -> Iterator[bytes]:
    """The bytes as they were sent (archives may be labelled as compressed on the way); logs every few seconds.

    Raises:
        Failure: with the `begin` bytes before them, they are more than `limit`.
    """
    started = logged = time.monotonic()
    done = begin
    for chunk in answer.raw.stream(CHUNK, decode_content=False):
        done += len(chunk)
        if limit is not None and done > limit:
            raise Failure(f"gives more than the {limit:,} bytes that it can have, and was stopped there")
        yield chunk
        if (now := time.monotonic()) - logged >= LOG_EVERY:
            logged, rate = now, (done - begin) / (now - started)
            left = f" of {total:,} bytes, {timedelta(seconds=round((total - done) / rate))} left" if total else " bytes"
            log(f"{what}: {done:,}{left}, {rate / 1e6:.1f} MB/s")


def refuse_html(start: bytes) -> None:
    """Raise Failure where the first bytes of a file are those of an HTML page."""
    if start[:512].lstrip().lower().startswith((b"<!doctype html", b"<html")):
        raise Failure(HTML_PAGE)
