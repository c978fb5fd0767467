"""Finished pieces: what is kept is not made again, whatever was killed, extended, cut otherwise or damaged."""

import numpy as np
import pytest

from ddpm.jobs.locks import Locked
from ddpm.storage import chunk_cache, files
from ddpm.storage.chunk_cache import ChunkCache
from ddpm.storage.files import pid_namespace, write_npz

SQUARES = {"x": 2, "seed": 0}


class Work:
    """Squares of item numbers, and a record of which were computed."""

    def __init__(self, folder, source="a" * 64, settings=SQUARES, fail_at=None):
        self.said = []
        self.parts = ChunkCache(folder, source, settings, ("squares",), self.said.append)
        self.made, self.fail_at = [], fail_at

    def make(self, first, last):
        if self.fail_at is not None and last > self.fail_at:
            raise KeyboardInterrupt
        self.made += range(first, last)
        return {"squares": np.arange(first, last) ** 2}

    def run(self, start, stop, size=10):
        return np.concatenate([piece["squares"] for piece in self.parts.each(start, stop, size, self.make)])

    def shard(self, path, start, stop):
        """The whole piece of work, to a file that may then be deleted, as Snakemake does before a job."""
        write_npz(path, squares=self.run(start, stop), start=np.array(start))
        self.parts.finish(start, stop, path)


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    """Every piece is kept as soon as it is made."""
    monkeypatch.setattr(chunk_cache, "SAVE_EVERY", -1)


@pytest.mark.parametrize("killed_at", [1, 10, 25, 39, 60])
def test_a_killed_job_goes_on_behind_its_last_piece(tmp_path, killed_at):
    killed = Work(tmp_path, fail_at=killed_at)
    with pytest.raises(KeyboardInterrupt):
        killed.run(3, 63)
    again = Work(tmp_path)
    assert np.array_equal(again.run(3, 63), np.arange(3, 63) ** 2)
    assert again.made == [i for i in range(3, 63) if i not in killed.made]


def test_little_is_kept_of_work_that_is_quick(tmp_path, monkeypatch):
    monkeypatch.setattr(chunk_cache, "SAVE_EVERY", 60)
    work = Work(tmp_path / "state", fail_at=35)
    with pytest.raises(KeyboardInterrupt):
        work.run(0, 100)
    assert work.parts.kept() == []


def test_pieces_between_two_saves_are_kept_together(tmp_path, monkeypatch):
    monkeypatch.setattr(chunk_cache, "SAVE_EVERY", 25)
    clock = iter(range(0, 1000, 10))  # each look at the clock is ten seconds later
    monkeypatch.setattr(chunk_cache.time, "monotonic", lambda: next(clock))
    work = Work(tmp_path, fail_at=85)
    with pytest.raises(KeyboardInterrupt):
        work.run(0, 100)
    kept = [(first, stop) for first, stop, _ in work.parts.kept()]
    assert kept == [(0, 30), (30, 60)]
    assert Work(tmp_path).run(0, 100).tolist() == [i**2 for i in range(100)]


def test_what_is_made_around_a_kept_piece_is_kept_apart_from_it(tmp_path, monkeypatch):
    """At once, since more may follow than a minute's work; and no item of the kept piece is made again."""
    Work(tmp_path / "state").shard(tmp_path / "shard.npz", 20, 30)
    monkeypatch.setattr(chunk_cache, "SAVE_EVERY", 35)
    clock = iter(range(0, 1000, 10))  # four looks, and so four pieces, between two saves
    monkeypatch.setattr(chunk_cache.time, "monotonic", lambda: next(clock))
    work = Work(tmp_path / "state", fail_at=95)
    with pytest.raises(KeyboardInterrupt):
        work.run(0, 100, size=15)
    assert work.made == [i for i in range(90) if not 20 <= i < 30]
    assert [(first, stop) for first, stop, _ in work.parts.kept()] == [(0, 20), (20, 30), (30, 90)]
    again = Work(tmp_path / "state")
    assert np.array_equal(again.run(0, 100), np.arange(100) ** 2)


def test_more_items_make_only_the_new_ones(tmp_path):
    shard = tmp_path / "1-of-1.npz"
    Work(tmp_path / "state").shard(shard, 0, 40)
    shard.unlink()
    longer = Work(tmp_path / "state")
    longer.shard(shard, 0, 100)
    assert longer.made == list(range(40, 100))
    assert np.array_equal(np.load(shard)["squares"], np.arange(100) ** 2)


def test_other_shards_are_made_of_the_same_items(tmp_path):
    for start, stop in ((0, 33), (33, 66), (66, 100)):
        Work(tmp_path / "state").shard(tmp_path / f"{start}.npz", start, stop)
    for start, stop in ((0, 50), (50, 100), (20, 80), (0, 100)):
        again = Work(tmp_path / "state")
        assert np.array_equal(again.run(start, stop), np.arange(start, stop) ** 2)
        assert again.made == []


def test_a_finished_shard_takes_the_place_of_its_pieces_and_no_space(tmp_path):
    state, shard = tmp_path / "state", tmp_path / "1-of-1.npz"
    work = Work(state)
    work.shard(shard, 0, 40)
    ((first, stop, kept),) = work.parts.kept()
    assert (first, stop) == (0, 40)
    assert kept.samefile(shard)


def test_a_disk_without_links_keeps_the_shard_alone(tmp_path, monkeypatch):
    def refuse(source, target):
        raise OSError("no links here")

    monkeypatch.setattr(chunk_cache.os, "link", refuse)
    work = Work(tmp_path / "state")
    work.shard(tmp_path / "1-of-1.npz", 0, 40)
    assert work.parts.kept() == []
    assert "no links here" in work.said[-1]


def test_parts_of_another_source_are_removed_and_of_other_settings_not_used(tmp_path):
    Work(tmp_path).run(0, 40)
    other = Work(tmp_path, settings={"x": 2, "seed": 1})
    other.run(0, 40)
    assert other.made == list(range(40))
    same = Work(tmp_path)
    assert same.run(0, 30).tolist() == [i**2 for i in range(30)]
    assert same.made == []
    another = Work(tmp_path, source="b" * 64)
    another.run(0, 10)
    assert Work(tmp_path).parts.kept(), "somebody is still at them"
    for work in (other, same):
        work.parts.release()
    another.run(10, 20)
    another.parts.release()
    assert (again := Work(tmp_path)).run(0, 10).size == 10
    assert again.made == list(range(10))


def test_two_jobs_may_remove_the_same_parts(tmp_path, monkeypatch):
    Work(tmp_path).run(0, 40)
    names = list(files.files_in(tmp_path))
    monkeypatch.setattr(files, "files_in", lambda folder: names)  # as it was before the other job was faster
    assert Work(tmp_path, source="b" * 64).run(0, 10).size == 10
    assert Work(tmp_path, source="c" * 64).run(0, 10).size == 10


@pytest.mark.parametrize("damage", ["cut", "empty", "flipped"])
def test_a_damaged_part_is_made_again_and_said(damage, tmp_path):
    Work(tmp_path).run(0, 40)
    (_, _, path), *_ = Work(tmp_path).parts.kept()
    content = bytearray(path.read_bytes())
    content[-150] ^= 1  # of the items' numbers
    path.write_bytes({"cut": content[: len(content) // 2], "empty": b"", "flipped": content}[damage])
    work = Work(tmp_path)
    assert np.array_equal(work.run(0, 40), np.arange(40) ** 2)
    assert work.made == [*range(10), *range(30, 40)]  # the last piece is never kept by itself
    assert str(path) in work.said[0]
    assert "made again" in work.said[0]


def test_a_range_is_made_by_one_at_a_time_and_other_ranges_beside_it(tmp_path, monkeypatch):
    monkeypatch.setenv("DDPM_LOCK_WAIT", "0")
    first, second, other = (Work(tmp_path) for _ in range(3))
    pieces = first.parts.each(0, 40, 10, first.make)
    next(pieces)
    with pytest.raises(Locked, match=r"making the items 0\.\.39"):
        second.run(0, 40)
    assert other.run(40, 60).size == 20
    list(pieces)
    with pytest.raises(Locked):  # its file is not written yet
        second.run(0, 40)
    write_npz(shard := tmp_path / "shard.npz", squares=np.arange(40) ** 2)
    first.parts.finish(0, 40, shard)
    assert second.run(0, 40).size == 40
    assert second.made == []


def test_a_range_that_was_given_up_is_free(tmp_path, monkeypatch):
    monkeypatch.setenv("DDPM_LOCK_WAIT", "0")
    broken, left = Work(tmp_path, fail_at=25), Work(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        broken.run(0, 40)
    pieces = left.parts.each(0, 40, 10, left.make)
    next(pieces)
    pieces.close()
    assert Work(tmp_path).run(0, 40).size == 40


def test_nothing_is_kept_without_a_folder(tmp_path):
    work = Work(None)
    work.shard(tmp_path / "1-of-1.npz", 0, 40)
    assert work.made == list(range(40))
    assert [path.name for path in tmp_path.iterdir()] == ["1-of-1.npz"]


class Sums(Work):
    """Each item is the sum of 0 .. 19, added up by steps, which are recorded as (piece's first item, number)."""

    def make(self, first, last, cut=False):
        with self.parts.draft(first, last, cut) as draft:
            kept = draft.load("next", "x") or {"next": 0, "x": np.zeros(last - first, np.float32)}
            x = kept["x"]
            for number in range(int(kept["next"]), 20):
                if self.fail_at == (first, number):
                    raise KeyboardInterrupt
                self.made.append((first, number))
                x = x + np.float32(number)
                if draft.should_save(done=number == 19):
                    draft.keep(next=np.array(number + 1), x=x)
        return {"squares": x}


def drafts(folder) -> list[str]:
    return sorted(path.name for path in folder.rglob("draft-*"))


@pytest.mark.parametrize("killed_at", [(0, 0), (0, 1), (10, 0), (10, 13), (20, 19)])
def test_within_a_piece_no_step_is_repeated(killed_at, tmp_path):
    killed, again = Sums(tmp_path / "state", fail_at=killed_at), Sums(tmp_path / "state")
    with pytest.raises(KeyboardInterrupt):
        killed.run(0, 25)
    first, number = killed_at
    assert drafts(tmp_path) == ([f"draft-{first}-{min(first + 10, 25)}.npz"] if number else [])
    again.shard(tmp_path / "shard.npz", 0, 25)
    assert np.load(tmp_path / "shard.npz")["squares"].tolist() == [190] * 25
    assert killed.made + again.made == [(first, number) for first in (0, 10, 20) for number in range(20)]
    assert not drafts(tmp_path)


def test_a_draft_is_replaced_once_a_minute_with_all_that_was_made_before_it(tmp_path, monkeypatch):
    """Quick pieces have none; the minute counts from what is not kept yet, whichever piece that is of."""
    monkeypatch.setattr(chunk_cache, "SAVE_EVERY", 295)
    clock = iter(range(0, 10000, 10))  # twenty looks while a piece is made, one at its end, and one at each save
    monkeypatch.setattr(chunk_cache.time, "monotonic", lambda: next(clock))
    work, written = Sums(tmp_path, fail_at=(20, 18)), []
    write = work.parts.write

    def recorded(name, arrays):
        written.append((name, len(work.made)))
        write(name, arrays)

    monkeypatch.setattr(work.parts, "write", recorded)
    with pytest.raises(KeyboardInterrupt):
        work.run(0, 40)
    assert written == [("0-10.npz", 29), ("draft-10-20.npz", 29), ("10-20.npz", 58), ("draft-20-30.npz", 58)]
    assert drafts(tmp_path) == ["draft-20-30.npz"]


def test_a_draft_belongs_to_its_items_source_and_settings(tmp_path):
    killed = Sums(tmp_path, fail_at=(10, 5))
    with pytest.raises(KeyboardInterrupt):
        killed.run(0, 20)
    for other in (Sums(tmp_path, settings={"x": 2, "seed": 1}), Sums(tmp_path)):
        items = (0, 20) if other.parts.folder != killed.parts.folder else (10, 15)
        other.run(*items)
        other.parts.release()
        assert {number for _, number in other.made} == {*range(20)}
        assert "draft-10-20.npz" in drafts(killed.parts.folder)
    Sums(tmp_path, source="b" * 64).run(0, 20)
    assert not drafts(tmp_path / ("a" * 16))


def test_drafts_of_other_ranges_stay(tmp_path):
    """They may be another job's, or another process's."""
    for fail_at in ((30, 5), (40, 5)):
        with pytest.raises(KeyboardInterrupt):
            Sums(tmp_path / "state", fail_at=fail_at).run(fail_at[0], 50)
    Sums(tmp_path / "state").shard(tmp_path / "a.npz", 0, 30)
    Sums(tmp_path / "state").shard(tmp_path / "b.npz", 30, 40)
    assert drafts(tmp_path) == ["draft-40-50.npz"]
    Sums(tmp_path / "state").parts.drop_drafts(0, 41)  # as the others' of a run that was unstable
    assert not drafts(tmp_path)


@pytest.mark.parametrize("damage", ["cut", "empty", "flipped", "other"])
def test_a_damaged_draft_is_said_and_begun_again(damage, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        Sums(tmp_path, fail_at=(0, 5)).run(0, 10)
    (path,) = tmp_path.rglob("draft-*")
    content = bytearray(path.read_bytes())
    content[content.index(b"x.npy") + 140] ^= 1  # within x
    path.write_bytes({"cut": content[: len(content) // 2], "empty": b"", "flipped": content, "other": b""}[damage])
    if damage == "other":
        write_npz(path, x=np.zeros(10))
    work = Sums(tmp_path)
    assert work.run(0, 10).tolist() == [190] * 10
    assert len(work.made) == 20
    assert str(path) in work.said[0]
    assert "begun again" in work.said[0]


def test_a_result_that_waits_for_others_of_its_piece_is_kept(tmp_path, monkeypatch):
    """Where a piece was cut: together they may take hours, each of them seconds."""
    monkeypatch.setattr(chunk_cache, "SAVE_EVERY", 60)
    work, again = Sums(tmp_path), Sums(tmp_path)
    for cut in (False, True):
        work.make(0, 5, cut)
        assert drafts(tmp_path) == ["draft-0-5.npz"] * cut
    assert again.make(0, 5)["squares"].tolist() == [190] * 5
    assert not again.made


def test_what_a_killed_writer_of_a_draft_left_is_removed(tmp_path, monkeypatch):
    """Also by one that is through before it writes a draft itself."""
    with pytest.raises(KeyboardInterrupt):
        Sums(tmp_path, fail_at=(0, 5)).run(0, 10)
    (path,) = tmp_path.rglob("draft-*")
    left = path.with_name(f".{path.stem}.{pid_namespace()}.{2**22 + 1}.part.npz")  # no process has this number
    left.write_bytes(b"half")
    monkeypatch.setattr(chunk_cache, "SAVE_EVERY", 60)
    Sums(tmp_path).run(0, 10)
    assert not left.exists()


def test_no_draft_is_kept_without_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    work = Sums(None)
    assert work.run(0, 10).tolist() == [190] * 10
    assert not list(tmp_path.iterdir())
