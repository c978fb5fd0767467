"""The bound is eq. 5 with all T terms, the same however the work is cut; rate and distortion are its sums."""

import dataclasses

import numpy as np
import pytest
import torch
from helpers import CPU

from ddpm.compute import rng
from ddpm.config.schema import LikelihoodConfig
from ddpm.data.pixels import to_model_range
from ddpm.data.store import Images
from ddpm.evaluation.likelihood import Bound, likelihood_shard
from ddpm.evaluation.rate_distortion import likelihood_summary, rate_distortion, read_bounds, rmse
from ddpm.storage import chunk_cache

T = 20


def bound(trained, digits, folder, split="test", count=20, shards=1, batch_size=20):
    config = LikelihoodConfig(shards=shards, batch_size=batch_size)
    images = Images(digits / f"{split}.npy")
    paths = [folder / f"{split}-{batch_size}-{i}-of-{shards}.npz" for i in range(1, shards + 1)]
    for i, path in enumerate(paths, 1):
        likelihood_shard(Bound(trained, images, split, count, config, CPU), i, path, log=lambda message: None)
    return read_bounds(paths)[split]


def test_bound_is_the_sum_of_its_terms(trained, digits, tmp_path):
    """Against the process itself, image by image and time by time, with the noise that the job names."""
    got = bound(trained, digits, tmp_path, count=3)
    assert got["terms"].shape == got["squared_errors"].shape == (3, T)
    x0 = to_model_range(np.load(digits / "test.npy")[:3])
    for t in (0, 1, T - 1):
        noise = rng.normal(0, "likelihood", "test", t, start=0, stop=3, shape=(1, 8, 8))
        with torch.no_grad():
            terms, errors = trained.diffusion.bound_terms(trained.model, x0, torch.full((3,), t), noise)
        np.testing.assert_allclose(got["terms"][:, t], terms.numpy(), rtol=1e-6)
        np.testing.assert_allclose(got["squared_errors"][:, t], errors.numpy(), rtol=1e-6)
    np.testing.assert_allclose(got["prior"], trained.diffusion.prior_bits(x0).numpy(), rtol=1e-6)
    summary = likelihood_summary(got)
    totals = got["prior"] + got["terms"].sum(1)
    assert summary["bits_per_dim"] == pytest.approx(totals.mean())
    assert summary["standard_error"] == pytest.approx(totals.std(ddof=1) / np.sqrt(3))
    assert (
        likelihood_summary({key: got[key][:1] for key in ("terms", "prior", "squared_errors")})["standard_error"]
        is None
    )
    assert summary["rate"] + summary["distortion_bits"] == pytest.approx(summary["bits_per_dim"])


@pytest.mark.parametrize(("shards", "batch_size"), [(3, 20), (1, 6), (20, 1)])
def test_bound_is_the_same_however_the_work_is_cut(shards, batch_size, trained, digits, tmp_path):
    whole = bound(trained, digits, tmp_path)
    parts = bound(trained, digits, tmp_path, shards=shards, batch_size=batch_size)
    for key in ("terms", "squared_errors", "prior"):
        # The draws are the same; products of another batch size may be rounded otherwise in the last bit.
        np.testing.assert_allclose(parts[key], whole[key], rtol=2e-5)


def test_a_killed_call_goes_on_to_the_same_bytes(trained, digits, tmp_path, monkeypatch):
    """Not in the batches that another one of the split, or of the same weights, has made."""
    monkeypatch.setattr(chunk_cache, "SAVE_EVERY", -1)
    config, said = LikelihoodConfig(shards=1, batch_size=6), []

    def write(name: str, log=said.append, state=None, split="test") -> bytes:
        path = tmp_path / f"{name}.npz"
        images = Images(digits / f"{split}.npy")
        likelihood_shard(Bound(trained, images, split, 20, config, CPU), 1, path, log, state)
        return path.read_bytes()

    def kill(message: str) -> None:
        if "images 12..17" in message:
            raise KeyboardInterrupt

    whole = write("whole")
    write("other", state=tmp_path / "state", split="train")
    with pytest.raises(KeyboardInterrupt):
        write("killed", kill, tmp_path / "state")
    said.clear()
    assert write("killed", state=tmp_path / "state") == whole
    assert [line.partition(",")[0] for line in said] == [
        "items 0..5 were kept from earlier work",
        "items 6..11 were kept from earlier work",
        "test images 12..17 of 0..19",
        "test images 18..19 of 0..19",
    ]


def test_training_and_test_images_have_noise_of_their_own(trained, digits, tmp_path):
    noises = [rng.normal(0, "likelihood", split, 3, start=0, stop=1, shape=(8,)) for split in ("test", "train")]
    assert not torch.equal(*noises)
    train = bound(trained, digits, tmp_path, split="train", count=5)
    assert train["header"]["split"] == "train"


def test_rate_and_distortion_follow_table_4():
    """Row t = 1 is the total without the last term, row t = T the prior alone (paper.md's index mapping)."""
    given = {
        "terms": np.array([[1.0, 2.0, 4.0], [3.0, 2.0, 0.0]]),
        "squared_errors": np.array([[0.0, 0.04, 0.16], [0.02, 0.04, 0.36]]),
        "prior": np.array([0.5, 0.1]),
    }
    curve = rate_distortion(given)
    assert curve["t"].tolist() == [1, 2, 3]
    assert curve["reverse_time"].tolist() == [3, 2, 1]
    np.testing.assert_allclose(curve["rate"], [0.3 + 2 + 2, 0.3 + 2, 0.3])
    np.testing.assert_allclose(curve["distortion"], 127.5 * np.sqrt([0.01, 0.04, 0.26]))
    np.testing.assert_allclose(curve["distortion_mean"], 127.5 * np.array([np.sqrt(0.02) / 2, 0.2, 0.5]))


def test_error_is_on_the_scale_of_pixels():
    assert rmse(np.array((2 / 255) ** 2)) == pytest.approx(1.0)  # one level of 255


def test_unstable_training_has_no_bound(trained, digits, tmp_path):
    outcome = {"status": "unstable", "step": 7, "reason": "the loss was nan"}
    unstable = dataclasses.replace(trained, header={**trained.header, "outcome": outcome})
    assert likelihood_summary(bound(unstable, digits, tmp_path)) is None
