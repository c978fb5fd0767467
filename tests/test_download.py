"""A download ends with the right file or with none, and says which address gave what."""

import hashlib

import pytest
from servers import serving

from ddpm import download
from ddpm.download import fetch
from ddpm.files import UserError

CONTENT = bytes(range(256)) * 40
MD5 = hashlib.md5(CONTENT).hexdigest()


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(download, "ROUNDS", 2)
    monkeypatch.setattr(download, "TIMEOUT", 0.5)
    with serving() as server:
        yield server


def get(folder, *urls, **known):
    return fetch("file", urls, folder, log=lambda message: None, **known)


def test_a_good_file_is_fetched_once(server, tmp_path):
    url = server.add("f", CONTENT)
    for _ in range(2):
        assert get(tmp_path, url, md5=MD5, size=len(CONTENT)).read_bytes() == CONTENT
    assert server.asked == ["f"]
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("known", [{"md5": MD5}, {"size": len(CONTENT)}, {}], ids=str)
@pytest.mark.parametrize("how", ["truncated", "broken", "html"])
def test_a_bad_address_is_passed_over(how, known, server, tmp_path):
    bad, good = server.add("bad", CONTENT, how), server.add("good", CONTENT)
    assert get(tmp_path, bad, good, **known).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("how", "words"),
    [("truncated", "IncompleteRead"), ("broken", "503"), ("html", "HTML page"), ("stalls", "timed out")],
)
def test_bad_addresses_only_leave_nothing_and_are_named(how, words, server, tmp_path):
    class Slow(bytes):
        """Claims more bytes than it sends, so that the connection stalls."""

        def __len__(self):
            return super().__len__() + (10 if how == "stalls" else 0)

    url = server.add("bad", Slow(CONTENT), how)
    with pytest.raises(UserError, match=rf"(?s)file: could not be downloaded.*{url}: .*{words}"):
        get(tmp_path, url)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("known", "words"), [({"md5": "0" * 32}, "does not match the known hash"), ({"size": 99}, "10,240 bytes, not 99")]
)
def test_another_file_is_refused(known, words, server, tmp_path):
    url = server.add("other", CONTENT)
    with pytest.raises(UserError, match=words):
        get(tmp_path, url, **known)
    assert not list(tmp_path.iterdir())


def test_a_passing_failure_is_tried_again(server, tmp_path):
    assert get(tmp_path, server.add("f", CONTENT, "recovers"), md5=MD5).read_bytes() == CONTENT
    assert server.asked == ["f", "f"]


def test_a_damaged_copy_is_fetched_anew(server, tmp_path):
    url = server.add("f", CONTENT)
    (tmp_path / "file").write_bytes(CONTENT[:100])
    assert get(tmp_path, url, md5=MD5).read_bytes() == CONTENT


def test_a_folder_that_cannot_be_written_is_named(server, tmp_path):
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(UserError, match=r"taken.*cannot be written"):
        get(tmp_path / "taken", server.add("f", CONTENT))
