"""A shard that was killed goes on behind its last finished batch, to the same bytes, whatever samples it."""

from pathlib import Path

import pytest
import torch
from helpers import CPU

from ddpm.config.schema import FewStepsConfig, SamplingConfig, SnapshotsConfig
from ddpm.sampling.runner import AncestralSampler, FewStepsSampler, sample_shard
from ddpm.sampling.snapshots import snapshot_shard
from ddpm.storage import chunk_cache


def write(kind: str, trained, folder: Path, log=lambda message: None) -> bytes:
    """A shard of 12 images in batches of 8, as a file's bytes."""
    folder.mkdir(exist_ok=True)
    path, state = folder / "shard.npz", folder / "state"
    match kind:
        case "samples":
            config = SamplingConfig(images=12, batch_size=8, previews=4)
            sample_shard(AncestralSampler(trained, config, CPU), 1, path, log, state)
        case "few steps":
            config = FewStepsConfig(images=12, batch_size=8, steps=(5, 3), spacing="quadratic")
            sample_shard(FewStepsSampler(trained, config, CPU), 1, path, log, state)
        case "snapshot":
            config = SnapshotsConfig(images=12, batch_size=8, previews=3)
            snapshot_shard(trained, trained, config, path, CPU, log, state)
    return path.read_bytes()


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


# Images through the network, and calls of it for a batch.
KINDS = {"samples": (20 * 12, 20), "few steps": (2 * (5 + 3) * 12, 16), "snapshot": (20 * (3 + 12), 20)}


@pytest.mark.parametrize("room", [99, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_no_finished_batch_is_repeated(kind, room, trained, tmp_path, monkeypatch):
    """Also where its images do not fit into memory together."""
    monkeypatch.setattr(chunk_cache, "SAVE_EVERY", -1)
    network = Network(trained, monkeypatch, room)
    undisturbed = write(kind, trained, tmp_path / "undisturbed")
    (total, calls), kills = KINDS[kind], 0
    assert network.images == total
    network.images = 0
    calls_of_8 = calls * (4 if room < 8 else 1)  # two by two
    while True:
        network.left = calls_of_8 + 1 if kills else calls_of_8 // 2
        try:
            killed = write(kind, trained, tmp_path / "killed")
            break
        except KeyboardInterrupt:
            kills += 1
    assert kills >= 2
    assert killed == undisturbed
    assert total < network.images <= total + kills * 8 * calls


def test_what_follows_a_quick_batch_may_take_hours(trained, tmp_path, monkeypatch):
    """So that the few images of the other weights are kept first; of work within a minute nothing else is."""
    network = Network(trained, monkeypatch)
    network.left = 20 + 30
    with pytest.raises(KeyboardInterrupt):
        write("snapshot", trained, tmp_path)
    (kept,) = tmp_path.rglob("*.npz")
    assert (kept.name, kept.relative_to(tmp_path).parts[1]) == ("0-3.npz", "raw")


def test_an_unstable_run_keeps_nothing(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(chunk_cache, "SAVE_EVERY", -1)
    sampling = SamplingConfig(images=12, batch_size=8, limit=0.5)
    sample_shard(
        AncestralSampler(trained, sampling, CPU), 1, tmp_path / "1.npz", lambda message: None, tmp_path / "state"
    )
    few = FewStepsConfig(images=12, batch_size=8, steps=(2,), limit=0.5)
    sample_shard(FewStepsSampler(trained, few, CPU), 1, tmp_path / "2.npz", lambda message: None, tmp_path / "state")
    assert not list(tmp_path.rglob("state/*/*/*"))
