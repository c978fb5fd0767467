"""Finished pieces: what is kept is not made again, whatever was killed, extended, cut otherwise or damaged."""

import numpy as np
import pytest

from ddpm.jobs.locks import Locked
from ddpm.storage import chunk_cache, files
from ddpm.storage.chunk_cache import ChunkCache
from ddpm.storage.files import write_npz

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


def test_ranges_are_planned_around_what_is_kept(tmp_path):
    def planned(*span):
        return [(chunk.start, chunk.stop, chunk.path and chunk.path.name) for chunk in work.parts.plan(*span)]

    work = Work(tmp_path / "state")
    assert planned(3, 28, 10) == [(3, 13, None), (13, 23, None), (23, 28, None)]
    assert planned(3, 3, 10) == []
    for start, stop in ((10, 20), (15, 40), (50, 55)):
        Work(tmp_path / "state").shard(tmp_path / f"{start}.npz", start, stop)
    assert planned(0, 60, 8) == [
        (0, 8, None), (8, 10, None), (10, 20, "10-20.npz"), (20, 40, "15-40.npz"),
        (40, 48, None), (48, 50, None), (50, 55, "50-55.npz"), (55, 60, None),
    ]  # fmt: skip
    assert planned(16, 30, 8) == [(16, 30, "15-40.npz")]
    assert np.array_equal(work.run(0, 60), np.arange(60) ** 2)
    assert work.made == [*range(10), *range(40, 50), *range(55, 60)]


def test_a_damaged_part_behind_others_is_planned_anew(tmp_path):
    """What else holds its items is taken then."""
    for start, stop in ((10, 25), (15, 20)):
        Work(tmp_path / "state").shard(tmp_path / f"{start}.npz", start, stop)
    (tmp_path / "10.npz").write_bytes(b"")  # and so its second name in the state
    work = Work(tmp_path / "state")
    assert np.array_equal(work.run(0, 30), np.arange(30) ** 2)
    assert work.made == [*range(15), *range(20, 30)]


def test_drafts_of_earlier_versions_are_not_read_and_go_with_their_source(tmp_path):
    work = Work(tmp_path)
    work.run(0, 20)
    draft = work.parts.folder / "draft-10-20.npz"
    write_npz(draft, x=np.zeros(10))
    work.parts.release()
    again = Work(tmp_path)
    assert np.array_equal(again.run(0, 20), np.arange(20) ** 2)
    assert again.made == [*range(10, 20)]
    assert draft.exists()
    again.parts.release()
    Work(tmp_path, source="b" * 64).run(0, 20)
    assert not draft.exists()
