"""What comes from the network is what was asked for, as far as that can be known, and ends where it should."""

import hashlib
import itertools
import threading
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from ddpm.config import base
from ddpm.config.errors import UserError
from ddpm.config.registry import DATASETS, resolve
from ddpm.config.resolving import load
from ddpm.config.sources import Listing, RemoteFile
from ddpm.planning.advising import warnings
from ddpm.planning.plan import make_plan
from ddpm.storage import download, transfer
from ddpm.storage.download import NotDownloaded, expand, fetch
from ddpm.storage.files import read_json

CONTENT = bytes(range(256)) * 40
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def quiet(message: str) -> None:
    pass


@contextmanager
def answering(answers: dict):
    """A server on loopback: by path, a status, headers, and an iterable of bytes, which may have no end."""
    sent = dict.fromkeys(answers, 0)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            path = self.path.lstrip("/").partition("?")[0]
            status, headers, body = answers[path]
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            with suppress(ConnectionError):
                for piece in body:
                    self.wfile.write(piece)
                    sent[path] += len(piece)

        def log_message(self, *arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", sent
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(download, "ROUNDS", 1)


GOOD = (200, {"Content-Length": str(len(CONTENT))}, [CONTENT])
ENDLESS = (200, {}, itertools.repeat(bytes(2**16)))


# Would fail if a source that anybody on the way can change were taken without a checksum or a word of the user's.
def test_plain_http_needs_a_checksum_or_the_users_word(tmp_path, monkeypatch):
    assert [base.is_insecure(a) for a in ("http://x/y", "https://x/y", "http://127.0.0.1:1/y")] == [True, False, False]
    monkeypatch.setattr(download, "is_insecure", lambda address: True)
    monkeypatch.setattr(transfer, "is_insecure", lambda address: True)
    with answering({"x": GOOD}) as (url, _):
        file = RemoteFile(name="x", urls=(f"{url}/x",))
        with pytest.raises(UserError, match=r"x: comes by plain HTTP only .*unverified: true"):
            download.download([file], tmp_path, {}, quiet)
        assert not (tmp_path / "x").exists()
        download.download([file], tmp_path / "a", {}, quiet, unverified=True)
        download.download([file.model_copy(update={"sha256": SHA256})], tmp_path / "b", {}, quiet)
    assert (tmp_path / "a/x").read_bytes() == (tmp_path / "b/x").read_bytes() == CONTENT


def test_every_source_over_plain_http_has_a_checksum_but_one():
    open_ones = {
        (data.name, bool(file.checksums))
        for data in DATASETS.values()
        for file in data.files
        if isinstance(file, RemoteFile) and any(map(base.is_insecure, file.urls))
    }
    assert open_ones == {
        ("fashionmnist", True), ("lsun-bedroom256", True), ("lsun-church256", True), ("lsun-cat256", False)
    }  # fmt: skip
    assert resolve("lsun-cat256", {"unverified": True}).unverified
    assert "unverified" not in DATASETS["lsun-cat256"].model_dump(), "or everything prepared would be made anew"


def test_the_plan_says_what_would_not_be_downloaded(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def warned(**source) -> bool:
        plan = make_plan(load({"scale": "paper", "sources": {"lsun-cat256": source} if source else {}}))
        return any("No download of lsun-cat256" in line for line in warnings(plan))

    assert warned()
    assert not warned(unverified=True)
    assert not warned(root=str(tmp_path))


# Would fail if only the address that was asked for were looked at.
def test_a_redirect_that_leaves_https_needs_a_checksum(tmp_path, monkeypatch):
    monkeypatch.setattr(transfer, "is_insecure", lambda address: "/plain" in address)
    redirect = (302, {"Location": "/plain?token=x", "Content-Length": "0"}, [])
    with answering({"x": redirect, "plain": GOOD}) as (url, _):
        with pytest.raises(NotDownloaded, match=r"leads to .*/plain, plain HTTP, and no checksum of the file is known"):
            fetch(RemoteFile(name="x", urls=(f"{url}/x",)), tmp_path, quiet)
        copy = fetch(RemoteFile(name="x", urls=(f"{url}/x",), sha256=SHA256), tmp_path, quiet)
    assert copy["url"] == f"{url}/plain", "where it came from is recorded, without what follows the question mark"


# Would fail if the body were written before it is counted.
@pytest.mark.parametrize("known", [{"size": len(CONTENT)}, {"about": len(CONTENT)}])
def test_a_body_without_an_end_is_stopped(known, tmp_path):
    with answering({"x": ENDLESS, "y": GOOD}) as (url, sent):
        file = RemoteFile(name="x", urls=(f"{url}/x", f"{url}/y"), **known)
        assert fetch(file, tmp_path, quiet)["sha256"] == SHA256
        assert sent["x"] < 10**8
    with answering({"x": ENDLESS}) as (url, _), pytest.raises(NotDownloaded, match="and was stopped there"):
        fetch(file.model_copy(update={"urls": (f"{url}/x",)}), tmp_path / "alone", quiet)
    part = tmp_path / "alone/.x.part"
    assert not part.exists() or part.stat().st_size <= 2 * len(CONTENT)


# Would fail if an address's own word of its size ended the work, as a full disk does.
def test_a_size_that_is_a_lie_leads_to_the_next_address(tmp_path):
    lie = (200, {"Content-Length": str(10**14)}, [b"x"])
    with answering({"x": lie, "y": GOOD}) as (url, _):
        assert fetch(RemoteFile(name="x", urls=(f"{url}/x", f"{url}/y")), tmp_path, quiet)["sha256"] == SHA256


# Would fail if a number of a header were an int() away from a traceback.
@pytest.mark.parametrize("length", ["9" * 5000, "²", "1e9", "-5", "0x10", "1" * 400, ""])
def test_absurd_numbers_are_an_answer_like_any_other(length, tmp_path):
    odd = (200, {"Content-Length": length.encode().decode("latin-1")}, [b"x" * 10])
    far = (206, {"Content-Range": f"bytes {'9' * 5000}-{'9' * 5001}/{'9' * 5002}"}, [b"x"])
    with answering({"x": odd, "far": far, "y": GOOD}) as (url, _):
        (tmp_path / ".x.part").write_bytes(CONTENT[:100])
        file = RemoteFile(name="x", urls=(f"{url}/far", f"{url}/x", f"{url}/y"), sha256=SHA256)
        assert fetch(file, tmp_path, quiet)["sha256"] == SHA256


# Would fail if an index were read to its end, wherever that is, or could name what it likes.
def test_an_index_is_bounded(tmp_path):
    with answering({"x": ENDLESS}) as (url, sent):
        with pytest.raises(NotDownloaded, match="and was stopped there"):
            expand(Listing(urls=(f"{url}/x",)), quiet)
        assert sent["x"] < 10**8
    many = b'{"default": {"train": [' + b",".join([b'"http://x/y"'] * 20_000) + b"]}}"
    secret = b'{"default": {"train": ["https://user:password@x/y"]}}'
    for body in (many, secret, b'{"default": {"../x": ["https://x/y"]}}', b"[" * 100_000):
        with answering({"x": (200, {}, [body])}) as (url, _), pytest.raises(NotDownloaded, match=r"is no index|lists"):
            expand(Listing(urls=(f"{url}/x",)), quiet)


# Would fail if files of one repository could be of two states of it.
def test_files_of_a_hub_are_of_one_commit(tmp_path):
    def of(commit: str) -> tuple:
        return (200, {"X-Repo-Commit": commit * 40, "Content-Length": "1"}, [b"x"])

    with answering({"resolve/main/a": of("a"), "resolve/main/b": of("b"), "resolve/main/c": of("a")}) as (url, _):
        a, b, c = (RemoteFile(name=name, urls=(f"{url}/resolve/main/{name}",)) for name in "abc")
        download.download([a, c], tmp_path / "same", {}, quiet)
        assert read_json(tmp_path / "same/card.json")["files"]["a"]["commit"] == "a" * 40
        with pytest.raises(UserError, match="of several commits"):
            download.download([a, b], tmp_path / "other", {}, quiet)
    assert not (tmp_path / "other/card.json").exists()
