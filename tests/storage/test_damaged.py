"""Files that were cut short or have flipped bits: noticed, named with the way out, and that way works."""

import json
import os

import numpy as np
import pytest
from helpers import CPU, tiny_experiment

from ddpm.config.enums import Selection
from ddpm.config.errors import DamagedFile
from ddpm.config.schema import ClassifierConfig, SamplingConfig
from ddpm.data.store import Images
from ddpm.evaluation.features import write_features
from ddpm.evaluation.likelihood import Bound, likelihood_shard
from ddpm.evaluation.networks import load_network
from ddpm.evaluation.networks.classifier import train_classifier
from ddpm.jobs.locks import Locked
from ddpm.sampling.runner import AncestralSampler, sample_shard
from ddpm.storage import chunk_cache
from ddpm.storage.files import read_npz, rows_of_npz, write_npz
from ddpm.training.loop import train
from ddpm.training.model import load_model
from ddpm.training.selection import select_weights


def flip(path, at: int, bit: int = 0) -> None:
    """Flip a bit of the byte `at`, in place: a second name of the file shows the same."""
    with open(path, "r+b") as file:
        file.seek(at, os.SEEK_SET if at >= 0 else os.SEEK_END)
        (byte,) = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 1 << bit]))


@pytest.mark.parametrize("compressed", [False, True])
def test_no_flipped_bit_of_an_archive_goes_unnoticed(compressed, tmp_path):
    """Also of the array's own header: one that asks for fewer rows would end the reading before the checksum.

    Larger than what zipfile reads ahead; all bits but those of most pixels, of whom one is like another.
    """
    path = tmp_path / "a.npz"
    images = np.random.default_rng(0).integers(0, 256, (3000, 2, 4), dtype=np.uint8)
    write_npz(path, compressed=compressed, images=images)
    size, unnoticed = path.stat().st_size, []
    for at in (*range(200), *range(200, size - 120, 4999), *range(size - 120, size)):
        for bit in range(8):
            flip(path, at, bit)
            for read in (
                lambda: read_npz(path, "images")["images"],
                lambda: np.concatenate(list(rows_of_npz(path, "images", 500))),
            ):
                try:
                    if not np.array_equal(read(), images):
                        unnoticed.append((at, bit))
                except DamagedFile:
                    pass
            flip(path, at, bit)
    assert not unnoticed


def test_no_flipped_bit_of_weights_goes_unnoticed(weights, tmp_path):
    path, chosen = tmp_path / "final.safetensors", tmp_path / "model.safetensors"
    path.write_bytes(content := weights.read_bytes())
    header = int.from_bytes(content[:8], "little")
    first = load_model(path)
    for at in (*range(8), *range(8, header, 997), header + 8, len(content) // 2, len(content) - 1):
        flip(path, at, bit=2)
        for use in (load_model, lambda path: select_weights(path, Selection.FINAL, chosen)):
            with pytest.raises(DamagedFile, match=r"final\.safetensors: .*Delete it and run the same command again"):
                use(path)
        assert not chosen.exists()
        flip(path, at, bit=2)
    select_weights(path, Selection.FINAL, chosen)
    assert first.sha256 != load_model(chosen).sha256, "the choice is in the header, whose checksum is its own"
    flip(chosen, -1)
    with pytest.raises(DamagedFile, match=r"model\.safetensors: .*checksum"):
        load_model(chosen)


def test_a_classifier_with_a_flipped_bit_is_named(digits, tmp_path):
    path = tmp_path / "classifier.safetensors"
    train_classifier(ClassifierConfig(width=4, features=4, epochs=1), digits, path, CPU, log=lambda message: None)
    load_network(path)
    flip(path, -1)
    with pytest.raises(DamagedFile, match=r"classifier\.safetensors: .*checksum"):
        load_network(path)


@pytest.mark.parametrize("at", [200, -1])
def test_prepared_images_with_a_flipped_bit_are_named(at, digits, tmp_path):
    for name in ("train.npy", "card.json"):
        (tmp_path / name).write_bytes((digits / name).read_bytes())
    Images(tmp_path / "train.npy")
    flip(tmp_path / "train.npy", at)
    with pytest.raises(DamagedFile, match=r"train\.npy: its sha256 is .*Delete it"):
        Images(tmp_path / "train.npy")


@pytest.fixture(scope="module")
def network(digits, tmp_path_factory):
    path = tmp_path_factory.mktemp("network") / "classifier.safetensors"
    train_classifier(ClassifierConfig(width=4, features=4, epochs=1), digits, path, CPU, log=lambda message: None)
    return load_network(path)


SAMPLING = SamplingConfig(images=12, batch_size=4, shards=2, previews=2)


def shards(trained, digits, network):
    """By name, what makes a shard of 6 items: called with its path, a folder for the state, and a log."""
    config = tiny_experiment(likelihood={"test": 12, "batch_size": 4}).likelihood
    bound = Bound(trained, Images(digits / "test.npy"), "test", 12, config, CPU)

    def features(path, state, log):
        if not (samples := path.with_name("drawn.npz")).exists():
            sample_shard(AncestralSampler(trained, SAMPLING, CPU), 2, samples, log)
        write_features(network, samples, path, state, log)

    return {
        "samples": lambda path, state, log: sample_shard(AncestralSampler(trained, SAMPLING, CPU), 2, path, log, state),
        "features": features,
        "likelihood": lambda path, state, log: likelihood_shard(bound, 2, path, log, state),
    }


@pytest.mark.parametrize("name", ["samples", "features", "likelihood"])
@pytest.mark.parametrize("deleted", [True, False])
def test_a_damaged_shard_is_not_handed_out_under_its_second_name(deleted, name, trained, digits, network, tmp_path):
    """The state keeps the same file, with the same damage; Snakemake may also start a job with the shard in place."""
    make, said = shards(trained, digits, network)[name], []
    path, state = tmp_path / "2-of-2.npz", tmp_path / "state"
    make(path, state, said.append)
    undisturbed, (kept,) = path.read_bytes(), state.rglob("6-12.npz")
    assert kept.samefile(path)
    flip(path, 150)
    if deleted:
        path.unlink()
    make(path, state, said.append)
    assert path.read_bytes() == undisturbed
    assert any(str(kept) in line and "was a finished part, which is made again" in line for line in said)
    (kept,) = state.rglob("6-12.npz")
    assert kept.samefile(path)


def test_damaged_samples_are_named_and_the_way_out_works(trained, digits, network, tmp_path):
    samples, state, said = tmp_path / "2-of-2.npz", tmp_path / "state", []
    draw = shards(trained, digits, network)["samples"]
    draw(samples, state, said.append)
    good = samples.read_bytes()
    flip(samples, good.index(b"images.npy") + 64)  # among the pixels: between arrays are bits that mean nothing
    with pytest.raises(DamagedFile, match=r"2-of-2\.npz: .*Delete it and run the same command again"):
        write_features(network, samples, tmp_path / "features.npz", log=said.append)
    samples.unlink()
    draw(samples, state, said.append)
    write_features(network, samples, tmp_path / "features.npz", log=said.append)
    assert samples.read_bytes() == good


@pytest.mark.parametrize("name", ["samples", "features", "likelihood"])
@pytest.mark.parametrize("damage", ["flipped", "cut", "empty"])
def test_a_damaged_piece_is_made_again(damage, name, trained, digits, network, tmp_path, monkeypatch):
    make, said = shards(trained, digits, network)[name], []
    monkeypatch.setattr(network, "batch_size", 4)
    make(tmp_path / "a.npz", None, said.append)
    monkeypatch.setattr(chunk_cache, "SAVE_EVERY", -1)
    monkeypatch.setattr(chunk_cache.ChunkCache, "finish", lambda *_: None)  # as if it was killed before the end
    make(tmp_path / "b.npz", tmp_path / "state", said.append)
    (piece,) = tmp_path.joinpath("state").rglob("6-10.npz")
    if damage == "flipped":
        flip(piece, piece.stat().st_size // 2)
    else:
        os.truncate(piece, piece.stat().st_size // 2 if damage == "cut" else 0)
    make(tmp_path / "c.npz", tmp_path / "state", said.append)
    assert any(str(piece) in line and "was a finished part, which is made again" in line for line in said)
    arrays = [np.load(tmp_path / f"{name}.npz") for name in "ac"]
    for key in arrays[0].files:
        assert np.array_equal(arrays[0][key], arrays[1][key]), key


def test_a_damaged_snapshot_is_not_handed_on(train_images, tmp_path):
    """The state behind it cannot make it again; the message says what can."""
    config = tiny_experiment(training={"snapshot_every": 6}, snapshots={"images": 20}).stage_config("training")
    names, said = ("final.safetensors", "training.csv", "training.json", "weights"), []

    def run():
        train(config, train_images, tmp_path / "state", *(tmp_path / name for name in names), CPU, log=said.append)

    run()
    snapshot = tmp_path / "weights/000000006-ema.safetensors"
    good = snapshot.read_bytes()
    flip(snapshot, -1)
    with pytest.raises(DamagedFile, match="checksum"):
        load_model(snapshot)
    snapshot.unlink()
    with pytest.raises(DamagedFile, match=rf"Only another training .* delete {tmp_path / 'state'} and run this again"):
        run()
    for file in sorted((tmp_path / "state").rglob("*"), reverse=True):
        file.rmdir() if file.is_dir() else file.unlink()
    run()
    assert snapshot.read_bytes() == good


def test_a_lock_of_garbage_says_what_to_do(train_images, tmp_path, monkeypatch):
    monkeypatch.setenv("DDPM_LOCK_WAIT", "0")
    config = tiny_experiment().stage_config("training")
    names, lock = ("final.safetensors", "training.csv", "training.json", "weights"), tmp_path / "state/lock"
    lock.parent.mkdir()
    arguments = (config, train_images, lock.parent, *(tmp_path / name for name in names), CPU)
    for garbage in (b"", b"\xff\x00garbage", json.dumps({"pid": 1}).encode(), b"[1]"):
        lock.write_bytes(garbage)
        with pytest.raises(Locked, match=rf"{lock}: somebody who has left no name .*delete {lock}"):
            train(*arguments, log=lambda message: None)
        os.utime(lock, (1, 1))  # nobody has come to write its name for long
        train(*arguments, log=lambda message: None)
        assert not lock.exists()
