"""A download ends with the right file or with none, fetches nothing twice, and says which address gave what."""

import errno
import gzip
import hashlib
import io
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest
from servers import HTML, serving
from waiting import wait_for

from ddpm.config.errors import DamagedFile, UserError
from ddpm.config.sources import Listing, RemoteFile
from ddpm.storage import download, transfer
from ddpm.storage.download import check_copy, downloaded, expand, fetch

CONTENT = bytes(range(256)) * 40
OTHER = CONTENT[::-1]
HALF = len(CONTENT) // 2
MD5, SHA256 = hashlib.md5(CONTENT).hexdigest(), hashlib.sha256(CONTENT).hexdigest()
KNOWN = [{"md5": MD5}, {"sha256": SHA256}, {"size": len(CONTENT)}, {}]


@pytest.fixture
def server(request, monkeypatch):
    monkeypatch.setattr(download, "ROUNDS", 2)
    monkeypatch.setattr(download, "PAUSE", 0)
    if "stalls" in request.node.name:
        monkeypatch.setattr(transfer, "READ_TIMEOUT", 2)
    monkeypatch.setattr(transfer, "CHUNK", 512)
    with serving() as server:
        yield server


def quiet(message: str) -> None:
    pass


def get(folder: Path, *urls: str, log=quiet, **known) -> Path:
    fetch(RemoteFile(name="file", urls=urls, **known), folder, log)
    return folder / "file"


def left(folder: Path) -> list[str]:
    """What lies in the folder, but for the lock."""
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


def leave(folder: Path, part: bytes, **note: str | int | None) -> None:
    """What a killed download leaves."""
    (folder / ".file.part").write_bytes(part)
    if note:
        (folder / ".file.part.json").write_text(json.dumps({"url": "", "validator": None, "size": None, **note}))


def begin(server, folder: Path, path: str = "f", how: str = "truncated", **known) -> str:
    """Fetch the first half from a server that then breaks off; the address is good after that."""
    url = server.add(path, CONTENT, how)
    with pytest.raises(UserError):
        get(folder, url, **known)
    assert (folder / ".file.part").read_bytes() == CONTENT[:HALF]
    assert not (folder / "file").exists()
    server.how[path] = "good"
    server.requests.clear()
    return url


# --- one address after another ---


def test_a_good_file_is_fetched_once(server, tmp_path):
    url = server.add("f", CONTENT)
    for _ in range(2):
        assert get(tmp_path, url, md5=MD5, sha256=SHA256, size=len(CONTENT)).read_bytes() == CONTENT
    assert server.asked == ["f"]
    assert left(tmp_path) == ["file"]


@pytest.mark.parametrize("known", KNOWN)
@pytest.mark.parametrize("how", ["truncated", "broken", "html", "redirects-to-html", "stalls"])
def test_a_bad_address_is_passed_over(how, known, server, tmp_path):
    bad, good = server.add("bad", CONTENT, how), server.add("good", CONTENT)
    assert get(tmp_path, bad, good, **known).read_bytes() == CONTENT
    assert left(tmp_path) == ["file"]


@pytest.mark.parametrize(
    ("how", "words", "kept"),
    [
        ("truncated", "IncompleteRead", HALF),
        ("stalls", "timed out", HALF),
        ("broken", "503", 0),
        ("html", "HTML page", 0),
        ("redirects-to-html", "HTML page", 0),
    ],
)
def test_bad_addresses_only_leave_no_file_and_are_named(how, words, kept, server, tmp_path):
    url = server.add("bad", CONTENT, how)
    with pytest.raises(UserError, match=rf"(?s)file: could not be downloaded.*{url}: .*{words}"):
        get(tmp_path, url)
    assert left(tmp_path) == ([".file.part", ".file.part.json"] if kept else [])
    if kept:
        assert (tmp_path / ".file.part").read_bytes() == CONTENT[:kept]


@pytest.mark.parametrize(
    ("known", "words"),
    [
        ({"md5": "0" * 32}, "does not match the known hash: its md5"),
        ({"sha256": "0" * 64}, "does not match the known hash: its sha256"),
        ({"md5": MD5, "sha256": "0" * 64}, "its sha256"),
        ({"md5": "0" * 32, "sha256": SHA256}, "its md5"),
        ({"size": 99}, "10,240 bytes, not 99"),
    ],
)
def test_another_file_is_refused(known, words, server, tmp_path):
    url = server.add("other", CONTENT)
    with pytest.raises(UserError, match=words):
        get(tmp_path, url, **known)
    assert not left(tmp_path)
    assert [request.range for request in server.requests] == [None, None]


def test_a_wrong_size_is_noticed_before_anything_is_written(server, tmp_path):
    url, other = begin(server, tmp_path), server.add("other", OTHER + b"more")
    assert get(tmp_path, other, url, size=len(CONTENT)).read_bytes() == CONTENT
    assert [request.range for request in server.requests] == [None, f"bytes={HALF}-"]


def test_a_passing_failure_is_tried_again_after_growing_pauses(server, tmp_path, monkeypatch):
    pauses = []
    monkeypatch.setattr(download, "PAUSE", 5)
    monkeypatch.setattr(download.time, "sleep", pauses.append)
    assert get(tmp_path, server.add("f", CONTENT, "recovers"), md5=MD5).read_bytes() == CONTENT
    assert server.asked == ["f", "f"]
    monkeypatch.setattr(download, "ROUNDS", 4)
    with pytest.raises(UserError, match="each address was tried 4 times"):
        get(tmp_path / "2", server.add("f", CONTENT, "broken"))
    assert pauses == [5, 5, 10, 20]


@pytest.mark.parametrize("damaged", [CONTENT[:100], OTHER, HTML])
def test_a_damaged_copy_is_fetched_anew(damaged, server, tmp_path):
    url = server.add("f", CONTENT)
    (tmp_path / "file").write_bytes(damaged)
    assert get(tmp_path, url, md5=MD5).read_bytes() == CONTENT


def test_a_page_that_claims_to_be_a_file_is_one(server, tmp_path):
    with pytest.raises(UserError, match="HTML page"):
        get(tmp_path, server.add("f", b"\n" + HTML))
    assert not left(tmp_path)


def test_an_archive_is_not_unpacked_on_the_way(server, tmp_path):
    packed = gzip.compress(CONTENT)
    assert get(tmp_path, server.add("f.gz", packed, "labelled"), size=len(packed)).read_bytes() == packed
    assert server.requests[0].encodings == "identity"


def test_a_folder_that_cannot_be_written_is_named(server, tmp_path):
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(UserError, match=r"taken.*cannot be written"):
        get(tmp_path / "taken", server.add("f", CONTENT))


def test_progress_is_logged(server, tmp_path, monkeypatch):
    monkeypatch.setattr(transfer, "LOG_EVERY", 0)
    leave(tmp_path, CONTENT[:HALF])
    lines = []
    get(tmp_path, server.add("f", CONTENT), md5=MD5, log=lines.append)
    assert lines[0].startswith(f"{tmp_path}/file: 5,632 of 10,240 bytes, 0:00:00 left, ")
    assert lines[9].startswith(f"{tmp_path}/file: 10,240 of 10,240 bytes, 0:00:00 left, ")
    assert all(line.endswith(" MB/s") for line in lines[:10])
    assert lines[10:] == [f"{tmp_path}/file: from {server.url}/f, 10,240 bytes"]


# --- going on ---


@pytest.mark.parametrize("validator", [("ETag", '"{}"'), ("Last-Modified", "Sun, 06 Nov 1994 08:49:37 GMT")])
@pytest.mark.parametrize("known", KNOWN)
def test_the_same_address_gives_only_the_rest(known, validator, server, tmp_path):
    server.validator = validator
    url = begin(server, tmp_path, **known)
    assert get(tmp_path, url, **known).read_bytes() == CONTENT
    assert left(tmp_path) == ["file"]
    (request,) = server.requests
    assert (request.range, request.sent) == (f"bytes={HALF}-", len(CONTENT) - HALF)
    assert request.if_range == validator[1].format(MD5)


@pytest.mark.parametrize("validator", [None, ("ETag", 'W/"{}"')])
@pytest.mark.parametrize("known", KNOWN)
def test_an_address_that_names_no_version_goes_on_only_where_a_checksum_decides(known, validator, server, tmp_path):
    server.validator = validator
    url = begin(server, tmp_path, **known)
    assert get(tmp_path, url, **known).read_bytes() == CONTENT
    (request,) = server.requests
    assert request.range == (f"bytes={HALF}-" if "md5" in known or "sha256" in known else None)
    assert request.if_range is None


@pytest.mark.parametrize("known", KNOWN)
def test_a_mirror_goes_on_only_where_a_checksum_decides(known, server, tmp_path):
    begin(server, tmp_path, **known)
    assert get(tmp_path, server.add("mirror", CONTENT), **known).read_bytes() == CONTENT
    (request,) = server.requests
    assert request.range == (f"bytes={HALF}-" if "md5" in known or "sha256" in known else None)
    assert request.if_range is None  # it knows nothing of the other one's versions


def test_two_addresses_of_different_files_are_mixed_once_only(server, tmp_path):
    bad, good = server.add("bad", OTHER, "truncated"), server.add("good", CONTENT)
    assert get(tmp_path, bad, good, md5=MD5).read_bytes() == CONTENT
    ranges = [request.range for request in server.requests if request.path == "good"]
    assert ranges == [f"bytes={HALF}-", None]


def test_what_breaks_off_is_asked_for_the_rest_at_once(server, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "ROUNDS", 1)
    assert get(tmp_path, server.add("f", CONTENT, "dies-halfway")).read_bytes() == CONTENT
    assert [request.range for request in server.requests] == [None, f"bytes={HALF}-"]


def test_a_server_that_gives_a_little_at_a_time_is_asked_until_it_has_given_all(server, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "ROUNDS", 1)
    assert get(tmp_path, server.add("f", CONTENT, "small-ranges")).read_bytes() == CONTENT
    eighth = len(CONTENT) // 8
    assert [request.range for request in server.requests[1:]] == [f"bytes={i * eighth}-" for i in range(4, 8)]


@pytest.mark.parametrize("known", KNOWN)
def test_a_server_that_ignores_ranges_starts_over(known, server, tmp_path):
    url = begin(server, tmp_path, **known)
    server.how["f"] = "no-range"
    assert get(tmp_path, url, **known).read_bytes() == CONTENT
    (request,) = server.requests
    assert (request.range, request.sent) == (f"bytes={HALF}-", len(CONTENT))


@pytest.mark.parametrize("heeds_if_range", [True, False])
def test_a_file_that_changed_meanwhile_starts_over(heeds_if_range, server, tmp_path):
    server.heeds_if_range = heeds_if_range
    assert get(tmp_path, server.add("f", CONTENT, "changes")).read_bytes() == OTHER
    assert [request.if_range for request in server.requests[:2]] == [None, f'"{MD5}"']
    assert len(server.requests) == (2 if heeds_if_range else 3)


@pytest.mark.parametrize("known", [{"md5": MD5}, {}])
def test_a_server_that_gives_another_range_is_asked_for_all(known, server, tmp_path):
    url = begin(server, tmp_path, **known)
    server.how["f"] = "wrong-ranges"
    with pytest.raises(UserError, match="IncompleteRead"):
        get(tmp_path, url, **known)
    assert (tmp_path / ".file.part").read_bytes() == CONTENT[:HALF]
    assert {request.range for request in server.requests} == {None, f"bytes={HALF}-"}


@pytest.mark.parametrize(
    ("known", "note", "asked"),
    [
        ({"size": len(CONTENT)}, {}, 0),
        ({}, {"size": len(CONTENT)}, 0),
        ({"md5": MD5}, {}, 1),  # 416: there is no more
    ],
)
def test_a_part_that_is_complete_is_only_checked(known, note, asked, server, tmp_path):
    leave(tmp_path, CONTENT, **note)
    assert get(tmp_path, server.add("f", CONTENT), **known).read_bytes() == CONTENT
    assert [request.sent for request in server.requests] == [0] * asked
    assert left(tmp_path) == ["file"]


@pytest.mark.parametrize("part", [CONTENT + b"more", OTHER[:HALF], HTML], ids=["too long", "another", "page"])
@pytest.mark.parametrize("known", [{"md5": MD5}, {"sha256": SHA256, "size": len(CONTENT)}])
def test_a_wrong_part_heals(known, part, server, tmp_path):
    leave(tmp_path, part)
    assert get(tmp_path, server.add("f", CONTENT), **known).read_bytes() == CONTENT
    assert server.requests[0].range == f"bytes={len(part)}-"
    assert server.requests[-1].range is None
    assert left(tmp_path) == ["file"]


def test_a_part_that_is_longer_than_the_file_starts_over(server, tmp_path):
    url = server.add("f", CONTENT)
    leave(tmp_path, CONTENT + b"more", url=url, validator=f'"{MD5}"')
    assert get(tmp_path, url).read_bytes() == CONTENT
    assert [request.range for request in server.requests] == [f"bytes={len(CONTENT) + 4}-", None]


@pytest.mark.parametrize("note", ["", "[]", "{", '{"url": "http://127.0.0.1/elsewhere", "validator": "x"}'])
def test_a_part_of_unknown_origin_starts_over(note, server, tmp_path):
    leave(tmp_path, OTHER[:HALF])
    (tmp_path / ".file.part.json").write_text(note)
    assert get(tmp_path, server.add("f", CONTENT)).read_bytes() == CONTENT
    assert [request.range for request in server.requests] == [None]


@pytest.mark.parametrize("how", ["html", "redirects-to-html", "good"])
def test_a_page_never_touches_what_has_arrived(how, server, tmp_path):
    url, page = begin(server, tmp_path), server.add("page", HTML, how)
    assert get(tmp_path, page, url).read_bytes() == CONTENT
    assert server.requests[-1].range == f"bytes={HALF}-"


@pytest.mark.parametrize("linked", [False, True])
def test_a_failed_download_says_where_to_put_the_file_by_hand_and_that_works(linked, server, tmp_path):
    url, folder = begin(server, tmp_path / "weights"), tmp_path / "weights"
    server.how["f"] = "broken"
    with pytest.raises(UserError, match=f"get the file by hand and put it, or a link to it, at {folder}/file, where"):
        get(folder, url)
    server.requests.clear()
    mine = tmp_path / "mine" if linked else folder / "file"
    mine.write_bytes(CONTENT)
    if linked:
        (folder / "file").symlink_to(mine)
    get(folder, url, md5=MD5)
    assert left(folder) == ["file"]
    assert not server.requests
    mine.write_bytes(OTHER)
    server.how["f"] = "good"
    get(folder, url, md5=MD5)
    assert (folder / "file").read_bytes() == CONTENT
    assert (folder / "file.aside-1").read_bytes() == OTHER, "a wrong one is kept"
    assert not linked or mine.read_bytes() == OTHER


# --- no room ---


class FullDisk(io.FileIO):
    """A file that has room for so many bytes."""

    room, error = 3000, errno.ENOSPC

    def write(self, data) -> int:
        if self.tell() + len(data) > self.room:
            raise OSError(self.error, os.strerror(self.error))
        return super().write(data)


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_that_fills_up_keeps_what_has_arrived(error, server, tmp_path, monkeypatch):
    url = server.add("f", CONTENT)
    with monkeypatch.context() as full:
        full.setattr(FullDisk, "error", error)
        full.setattr(transfer, "open", lambda path, mode: FullDisk(path, mode), raising=False)
        words = rf"file: the disk is full \({os.strerror(error)}\): 7,680 more bytes are needed and [\d,]+ are free\. "
        with pytest.raises(
            UserError, match=rf"{words}The 2,560 bytes that have arrived are kept: .*goes on from there"
        ):
            get(tmp_path, url)
    assert server.asked == ["f"]
    assert get(tmp_path, url).read_bytes() == CONTENT
    assert server.requests[1].range == "bytes=2560-"


@pytest.mark.parametrize("arrived", [0, HALF])
def test_a_disk_without_room_is_noticed_before_anything_is_written(arrived, server, tmp_path, monkeypatch):
    url = begin(server, tmp_path) if arrived else server.add("f", CONTENT)
    lacking = len(CONTENT) - arrived
    usage = namedtuple("usage", "free")
    with monkeypatch.context() as full:
        full.setattr(shutil, "disk_usage", lambda path: usage(lacking - 1))
        words = (
            f"file: the disk is full .* {lacking:,} more bytes are needed and {lacking - 1:,} are free. The {arrived:,}"
        )
        with pytest.raises(UserError, match=words):
            get(tmp_path, url)
        assert left(tmp_path) == ([".file.part", ".file.part.json"] if arrived else [])
        full.setattr(shutil, "disk_usage", lambda path: usage(lacking))
        assert get(tmp_path, url).read_bytes() == CONTENT


# --- processes ---

LARGE = random.Random(0).randbytes(3_000_000)


def process(folder: Path, url: str, **known) -> subprocess.Popen:
    """Another process that fetches the file, and prints what it logs."""
    code = (
        "import json, sys; from pathlib import Path; from ddpm.config.sources import RemoteFile;"
        "from ddpm.storage.download import fetch;"
        "fetch(RemoteFile(**json.loads(sys.argv[1])), Path(sys.argv[2]), lambda line: print(line, flush=True))"
    )
    file = json.dumps({"name": "file", "urls": [url], **known})
    environment = {**os.environ, "PYTHONPATH": str(Path(download.__file__).parents[2])}
    command = [sys.executable, "-c", code, file, str(folder)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


@pytest.mark.parametrize("known", [{}, {"sha256": hashlib.sha256(LARGE).hexdigest()}], ids=["", "sha256"])
def test_a_killed_download_goes_on_in_another_process(known, server, tmp_path):
    server.go.clear()
    url = server.add("f", LARGE, "stalls")
    killed = process(tmp_path, url, **known)
    part = tmp_path / ".file.part"
    wait_for(lambda: part.exists() and part.stat().st_size > 1_000_000, "a third of the file")
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    killed.stdout.close()
    arrived = part.stat().st_size
    assert left(tmp_path) == [".file.part", ".file.part.json"]
    server.how["f"] = "good"
    with process(tmp_path, url, **known) as resumed:
        assert resumed.wait(600) == 0
    assert (tmp_path / "file").read_bytes() == LARGE
    assert server.requests[1].range == f"bytes={arrived}-"
    assert server.requests[1].sent == len(LARGE) - arrived
    assert len(server.requests) == 2
    assert left(tmp_path) == ["file"]


def test_two_processes_fetch_one_file_once(server, tmp_path):
    url = server.add("f", LARGE, "stalls")
    with process(tmp_path, url) as one:
        wait_for(lambda: server.requests, "the first request")
        with process(tmp_path, url) as other:
            assert re.search(
                rf"process {one.pid} .*is downloading {tmp_path}/file .*waiting for it", other.stdout.readline()
            )
            server.go.set()
            assert other.wait(600) == one.wait(600) == 0
            assert "file: is there, 3,000,000 bytes" in other.stdout.readline()
    assert [request.sent for request in server.requests] == [len(LARGE)]
    assert (tmp_path / "file").read_bytes() == LARGE


# --- cards ---


def publish(server, *names: str, **known) -> list[RemoteFile]:
    return [RemoteFile(name=name, urls=(server.add(name, CONTENT),), **known) for name in names]


def test_a_card_says_what_was_downloaded(server, tmp_path, monkeypatch):
    hashed = []
    digests = download.digests
    monkeypatch.setattr(download, "digests", lambda path, *kinds: hashed.append(kinds) or digests(path, *kinds))
    download.download(publish(server, "b", "a", md5=MD5), tmp_path, {"data": "x"}, quiet)
    assert hashed == [("sha256", "md5")] * 2  # each file is read once
    document = downloaded(tmp_path / "card.json")
    assert (document["data"], list(document["files"])) == ("x", ["b", "a"])
    assert document["files"]["a"] == {"sha256": SHA256, "size": len(CONTENT), "url": f"{server.url}/a"}


def test_a_card_of_an_earlier_version_is_read(server, tmp_path):
    """It kept the time of each file as well."""
    download.download(publish(server, "a"), tmp_path, {}, quiet)
    document = json.loads((tmp_path / "card.json").read_text())
    document["files"]["a"]["mtime_ns"] = 1
    (tmp_path / "card.json").write_text(json.dumps(document))
    assert downloaded(tmp_path / "card.json") == document


@pytest.mark.parametrize("change", ["content", "size", "missing", "content of the same age"])
def test_a_file_that_changed_is_noticed(change, server, tmp_path):
    download.download(publish(server, "a"), tmp_path, {}, quiet)
    card, file = tmp_path / "card.json", tmp_path / "a"
    recorded = file.stat().st_mtime_ns
    if change == "missing":
        file.unlink()
    else:
        file.write_bytes(OTHER[:-1] if change == "size" else OTHER)
        os.utime(file, ns=(recorded, recorded + (change == "content")))
    with pytest.raises(DamagedFile, match=rf"{file}: is missing or no longer what {card} says"):
        downloaded(card)


@pytest.mark.parametrize("document", ["[]", "{}", '{"files": 1}', '{"files": {"a": {"size": 1}}}', '{"sha256": {}}'])
def test_another_document_is_no_card(document, tmp_path):
    (tmp_path / "card.json").write_text(document)
    with pytest.raises(DamagedFile, match="not the card of a download"):
        downloaded(tmp_path / "card.json")


# --- a copy in place ---

EVERYTHING = {"md5": MD5, "sha256": SHA256, "size": len(CONTENT)}


@pytest.mark.parametrize("known", [*KNOWN, EVERYTHING])
def test_a_right_copy_in_place_is_accepted(known, server, tmp_path):
    (tmp_path / "a").write_bytes(CONTENT)
    check_copy(tmp_path, *publish(server, "a", **known))
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert not server.requests


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (CONTENT[:-1], "a: has 10,239 bytes, not 10,240"),
        (OTHER, "a: does not match the known hash: its md5"),
        (HTML, "a: is an HTML page"),
    ],
)
def test_a_wrong_copy_is_named_with_what_belongs_there(content, words, server, tmp_path):
    (tmp_path / "root").mkdir()
    (tmp_path / "root/a").write_bytes(content)
    known = EVERYTHING if content != HTML else {}
    (file,) = publish(server, "a", **known)
    expected = rf" of 10,240 bytes, md5 {MD5}, sha256 {SHA256}" if known else ""
    remedy = rf"`root` must name a folder that holds a{expected}, as published at {server.url}/a\."
    with pytest.raises(UserError, match=rf"{tmp_path}/root/{words}.*\. {remedy}"):
        check_copy(tmp_path / "root", file)
    assert not server.requests


# --- listings ---


def listing(server, path: str = "index", **splits: int) -> str:
    """Serve so many files of each split, which hold their own names, and their index."""
    addresses = {
        split: [server.add(f"{split}/{i}.parquet", f"{split} {i}".encode()) for i in range(count)]
        for split, count in splits.items()
    }
    return server.add(path, json.dumps({"default": addresses}).encode())


def test_a_listing_becomes_files_in_its_order(server, tmp_path):
    files = [Listing(urls=(listing(server, train=11, validation=2),)), *publish(server, "a")]
    download.download(files, tmp_path, {}, quiet)
    names = [*(f"train-{i:04d}.parquet" for i in range(11)), "validation-0000.parquet", "validation-0001.parquet"]
    assert list(downloaded(tmp_path / "card.json")["files"]) == [*names, "a"]
    assert (tmp_path / "train-0010.parquet").read_text() == "train 10"
    assert (tmp_path / "validation-0001.parquet").read_text() == "validation 1"


@pytest.mark.parametrize("how", ["broken", "html", "redirects-to-html", "truncated", "recovers", "stalls"])
def test_a_listings_addresses_are_tried_in_turn(how, server):
    good = listing(server, "good", train=1)
    bad = server.add("bad", server.files["good"], how)
    (file,) = expand(Listing(urls=(bad, good)), quiet)
    assert (file.name, file.urls) == ("train-0000.parquet", (f"{server.url}/train/0.parquet",))


@pytest.mark.parametrize(
    ("index", "words"),
    [
        (HTML, "is an HTML page"),
        (b'{"error": "The dataset is gated."}', "is no index of the parquet files of one configuration"),
        (b'{"a": {"train": ["u"]}, "b": {"train": ["u"]}}', "is no index of the parquet files of one configuration"),
        (b'{"default": {"../train": ["u"]}}', "is no index of the parquet files of one configuration"),
        (b"PAR1", "is no index of the parquet files of one configuration"),
        (b'{"default": {"train": []}}', "lists no files"),
    ],
)
def test_what_is_no_index_is_named(index, words, server, tmp_path):
    url = server.add("index", index)
    with pytest.raises(
        UserError, match=rf"(?s){url}: could not be downloaded.*`root`.*tried 2 times:\n  {url}: {words}"
    ):
        download.download([Listing(urls=(url,))], tmp_path, {}, quiet)
    assert not left(tmp_path)
