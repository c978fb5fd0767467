"""What is fed to the training is what the steps name, in order, whoever decodes it; workers end with their parent."""

import multiprocessing
import os
import signal
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import CPU
from published import lsun_images, write_lmdb
from waiting import alive, wait_for

from ddpm.config.errors import UserError
from ddpm.config.registry import resolve
from ddpm.data import loading
from ddpm.data.loading import feed, from_gpu, on_gpu
from ddpm.data.prepare import prepare
from ddpm.data.store import Images


@pytest.fixture(scope="module")
def compressed(tmp_path_factory) -> Images:
    """Twelve images of LSUN in a compressed store."""
    folder = tmp_path_factory.mktemp("lsun")
    write_lmdb(folder / "database", lsun_images(12))
    data = resolve("lsun-church256", {"root": folder / "database", "train": 12})
    prepare(data, None, folder / "prepared", log=lambda message: None)
    return Images(folder / "prepared/train.npy")


def steps(images: Images, count: int, first: int = 0):
    """The same random indices for every step, whatever the first one is."""
    for step in range(first, count):
        yield np.random.Generator(np.random.PCG64(step)).integers(0, len(images), 3)


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_a_compressed_store_gives_what_indexing_gives(workers, compressed):
    batches = list(feed(compressed, steps(compressed, 7), CPU, workers))
    assert len(batches) == 7
    for batch, index in zip(batches, steps(compressed, 7), strict=True):
        assert batch.dtype == torch.uint8
        assert np.array_equal(batch.numpy(), compressed[index])


def test_an_array_gives_what_indexing_gives(train_images):
    assert train_images.resident
    for batch, index in zip(feed(train_images, steps(train_images, 5), CPU), steps(train_images, 5), strict=True):
        assert batch.dtype == torch.uint8
        assert np.array_equal(batch.numpy(), train_images[index])


def test_an_array_on_the_gpu_is_indexed_there(train_images):
    # The same lines on any device; the choice is made below.
    for batch, index in zip(from_gpu(train_images, steps(train_images, 3), CPU), steps(train_images, 3), strict=True):
        assert np.array_equal(batch.numpy(), train_images[index])


def test_a_third_of_the_gpus_free_memory_may_be_taken(train_images, monkeypatch):
    size = len(train_images) * 8 * 8
    for free, fits in ((3 * size, True), (3 * size - 1, False)):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device, free=free: (free, 100 * size))
        assert on_gpu(train_images, torch.device("cuda")) == fits


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("share", [3, 10**12])
def test_a_gpu_is_given_the_same(share, train_images, compressed, monkeypatch):
    monkeypatch.setattr(loading, "SHARE", share)  # into its memory, or from the host's
    for images in (train_images, compressed):
        for batch, index in zip(feed(images, steps(images, 5), torch.device("cuda"), 2), steps(images, 5), strict=True):
            assert batch.device.type == "cuda"
            assert np.array_equal(batch.cpu().numpy(), images[index])


@pytest.mark.parametrize("workers", [0, 2])
def test_going_on_from_a_step_gives_the_rest(workers, compressed):
    everything = list(feed(compressed, steps(compressed, 6), CPU, workers))
    rest = list(feed(compressed, steps(compressed, 6, first=4), CPU, workers))
    assert all(torch.equal(a, b) for a, b in zip(everything[4:], rest, strict=True))


def test_steps_may_be_endless_and_are_drawn_as_needed(compressed):
    drawn = []

    def endless():
        while True:
            drawn.append(len(drawn))
            yield np.array([0])

    assert len(list(islice(feed(compressed, endless(), CPU, 2), 3))) == 3
    assert len(drawn) < 20


@pytest.mark.parametrize("workers", [0, 2])
def test_no_random_number_of_others_is_used_up(workers, compressed):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    list(feed(compressed, steps(compressed, 3), CPU, workers))
    assert torch.equal(torch.get_rng_state(), before)


def test_the_parent_may_read_beside_its_workers(compressed):
    batches = feed(compressed, steps(compressed, 6), CPU, 2)
    for batch, index in zip(batches, steps(compressed, 6), strict=True):
        assert np.array_equal(compressed[index], batch.numpy())


@pytest.mark.parametrize("workers", [0, 2])
def test_an_image_that_cannot_be_read_is_named_in_one_line(workers, tmp_path):
    import lmdb

    images = lsun_images(4)
    write_lmdb(tmp_path / "database", images)
    data = resolve("lsun-church256", {"root": tmp_path / "database", "train": 4})
    prepare(data, None, tmp_path / "prepared", log=lambda message: None)
    store = Images(tmp_path / "prepared/train.npy")
    with lmdb.open(str(tmp_path / "database")) as database, database.begin(write=True) as transaction:
        transaction.delete(sorted(images)[2])
    batches = feed(store, iter([np.array([0, 1]), np.array([3, 2])]), CPU, workers)
    assert np.array_equal(next(batches).numpy(), store[:2])
    with pytest.raises(UserError, match=rf"^[^\n]*image {sorted(images)[2].decode()} cannot be read[^\n]*$"):
        next(batches)


def children(pid: int) -> list[int]:
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in listed]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="asks Linux for the workers")
@pytest.mark.parametrize("state", ["busy", "waiting"])
def test_workers_end_with_a_killed_parent(state, compressed):
    context = multiprocessing.get_context("fork")
    told, tell = context.Pipe(duplex=False)

    def parent():
        endless = (np.arange(12) for _ in iter(int, 1))
        batches = feed(compressed, endless, CPU, 2)
        for _ in range(4):  # of both workers
            next(batches)
        tell.send(os.getpid())
        for _ in batches:
            if state == "waiting":
                signal.pause()

    process = context.Process(target=parent)
    process.start()
    try:
        assert told.poll(600)
        workers = children(process.pid)
        assert len(workers) == 2
        for worker in workers:
            os.kill(worker, signal.SIGSTOP)  # only the kernel ends them so; torch would have them look for themselves
        assert all(alive(worker) for worker in workers)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.join()
    try:
        wait_for(lambda: not any(map(alive, workers)), "the end of the workers", 60)
    finally:
        for worker in filter(alive, workers):
            os.kill(worker, signal.SIGKILL)
