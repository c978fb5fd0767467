"""A batch that was killed at any step goes on behind it, to the same bytes, whatever samples it."""

import random
from pathlib import Path

import pytest
import torch
from helpers import CPU

from ddpm.config.schema import FewStepsConfig, SamplingConfig, SnapshotsConfig
from ddpm.sampling.ancestral import sample_batch, sample_shard
from ddpm.sampling.ddim import few_steps_shard
from ddpm.sampling.snapshots import snapshot_shard
from ddpm.storage import chunk_cache
from ddpm.storage.files import read_npz


def write(kind: str, trained, folder: Path, log=lambda message: None) -> bytes:
    """A shard of 12 images in batches of 8, as a file's bytes."""
    folder.mkdir(exist_ok=True)
    shared = {"path": folder / "shard.npz", "device": CPU, "log": log, "state": folder / "state"}
    match kind:
        case "samples":
            sample_shard(trained, SamplingConfig(images=12, batch_size=8, previews=4), 1, **shared)
        case "few steps":
            config = FewStepsConfig(images=12, batch_size=8, steps=(5, 3), spacing="quadratic")
            few_steps_shard(trained, config, 1, **shared)
        case "snapshot":
            snapshot_shard(trained, trained, SnapshotsConfig(images=12, batch_size=8, previews=3), **shared)
    return shared["path"].read_bytes()


class Network:
    """In the place of a network's `forward`: counts the images it was given, and dies or is full."""

    def __init__(self, trained, monkeypatch, room: int = 99):
        self.forward, self.room, self.images, self.left = trained.model.forward, room, 0, None
        monkeypatch.setattr(trained.model, "forward", self)

    def __call__(self, x, t):
        if len(x) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        if self.left == 0:
            raise KeyboardInterrupt
        if self.left is not None:
            self.left -= 1
        self.images += len(x)
        return self.forward(x, t)


KINDS = {"samples": 20 * 12, "few steps": 2 * (5 + 3) * 12, "snapshot": 20 * (3 + 12)}  # images through the network


@pytest.mark.parametrize("room", [99, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_no_step_is_repeated_of_a_batch_that_was_killed(kind, room, trained, tmp_path, monkeypatch):
    """Nor where its images do not fit into memory together."""
    monkeypatch.setattr(chunk_cache, "SAVE_EVERY", -1)
    network, chance = Network(trained, monkeypatch, room), random.Random(0)
    undisturbed = write(kind, trained, tmp_path / "undisturbed")
    total, kills = network.images, 0
    network.images = 0
    while True:
        network.left = chance.randrange(4, 16)
        try:
            killed = write(kind, trained, tmp_path / "killed")
            break
        except KeyboardInterrupt:
            kills += 1
    assert kills >= 2
    assert killed == undisturbed
    assert network.images == total
    assert total == KINDS[kind]
    assert not list(tmp_path.rglob("draft-*"))


def test_what_follows_a_quick_batch_may_take_hours(trained, tmp_path, monkeypatch):
    """So that the few images of the other weights are kept first; of work within a minute nothing else is."""
    network = Network(trained, monkeypatch)
    network.left = 20 + 30
    with pytest.raises(KeyboardInterrupt):
        write("snapshot", trained, tmp_path)
    (kept,) = tmp_path.rglob("*.npz")
    assert (kept.name, kept.relative_to(tmp_path).parts[1]) == ("0-3.npz", "raw")


def test_a_batch_that_was_cut_keeps_the_results_that_wait_for_the_others(trained, tmp_path, monkeypatch):
    """Each may be quick, and all of them together are not."""
    network = Network(trained, monkeypatch, room=2)
    network.left = 3 * 20 + 5
    with pytest.raises(KeyboardInterrupt):
        write("samples", trained, tmp_path)
    assert sorted(path.name for path in tmp_path.rglob("*.npz")) == [f"draft-{n}-{n + 2}.npz" for n in (0, 2, 4)]
    network.left, network.images = None, 0
    write("samples", trained, tmp_path)
    assert network.images == 20 * (12 - 6)


def test_a_draft_is_x_t_to_the_last_bit_and_the_previews_from_there_on(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(chunk_cache, "SAVE_EVERY", -1)
    config, chain = SamplingConfig(images=5, batch_size=5, previews=4), []
    p_sample = trained.diffusion.p_sample

    def seen(model, x_t, t, noise):
        if len(chain) == 12:
            raise KeyboardInterrupt
        chain.append(p_sample(model, x_t, t, noise))
        return chain[-1]

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(trained.diffusion, "p_sample", seen)
        sample_shard(trained, config, 1, tmp_path / "1.npz", CPU, lambda message: None, tmp_path)
    (draft,) = tmp_path.rglob("draft-0-5.npz")
    kept = read_npz(draft, "t", "x", "previews")
    assert kept["t"] == 20 - 12
    assert kept["x"].dtype == "float32"
    assert torch.equal(torch.from_numpy(kept["x"]), chain[-1][0])
    _, previews, _ = sample_batch(trained, 0, 5, config, CPU)
    assert (kept["previews"][:, 2:] == previews[:, 2:]).all()  # of the times 10 and 15
    assert not kept["previews"][:, :2].any()


def test_a_damaged_draft_is_begun_again(trained, tmp_path, monkeypatch):
    undisturbed = write("samples", trained, tmp_path / "undisturbed")
    with monkeypatch.context() as patch:
        patch.setattr(chunk_cache, "SAVE_EVERY", -1)
        network = Network(trained, patch)
        network.left = 7
        with pytest.raises(KeyboardInterrupt):
            write("samples", trained, tmp_path / "killed")
    (draft,) = tmp_path.rglob("draft-*")
    content = bytearray(draft.read_bytes())
    content[len(content) // 2] ^= 64
    draft.write_bytes(content)
    said = []
    assert write("samples", trained, tmp_path / "killed", said.append) == undisturbed
    assert str(draft) in said[0]
    assert "the draft of items 0..7, which are begun again" in said[0]


def test_an_unstable_run_leaves_no_draft(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(chunk_cache, "SAVE_EVERY", -1)
    sampling = SamplingConfig(images=12, batch_size=8, limit=0.5)
    sample_shard(trained, sampling, 1, tmp_path / "1.npz", CPU, lambda message: None, tmp_path / "state")
    few = FewStepsConfig(images=12, batch_size=8, steps=(2,), limit=0.5)
    few_steps_shard(trained, few, 1, tmp_path / "2.npz", CPU, lambda message: None, tmp_path / "state")
    assert not list(tmp_path.rglob("state/*/*/*"))
