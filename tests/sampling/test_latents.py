"""Figure 7: one chain per row, split at T, 3T/4, T/2 and T/4 into continuations that share x_t and nothing else."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from helpers import CPU
from oracle import ABAR, C1, C2, GAUSSIAN, SIGMA2, trained_oracle
from typer.testing import CliRunner

from ddpm.cli import app
from ddpm.compute import rng
from ddpm.config.errors import UserError
from ddpm.data.pixels import to_uint8
from ddpm.sampling.ancestral import reverse_process
from ddpm.sampling.chains import write_latents
from ddpm.sampling.latents import continuations, latents, split_times
from ddpm.storage.files import read_npz
from ddpm.storage.shards import LATENTS, read_shard

OUTCOME = {"status": "unstable", "step": 7, "reason": "the loss was nan"}


def written(trained, folder, batch_size: int = 32, **changes) -> dict[str, np.ndarray]:
    path = folder / f"{batch_size}.npz"
    settings = {"chains": 3, "samples": 4, "seed": 0, **changes}
    write_latents(trained, **settings, batch_size=batch_size, path=path, device=CPU, log=lambda message: None)
    return read_npz(path, "times", "latents", "images")


def test_chains_are_split_at_the_papers_times():
    assert split_times(1000) == [1000, 750, 500, 250]
    assert split_times(20) == [20, 15, 10, 5]
    with pytest.raises(UserError, match="3 timesteps"):
        split_times(3)


def test_latents_lie_on_the_chains_of_the_first_samples(trained):
    """x_T is the draw itself; x_t is there after the step of the 0-based index t, that is, after T - t steps."""
    chain = {}
    reverse_process(trained, 0, 3, 5, lambda step: chain.update({step.t: step.x}))
    found = dict(latents(trained, 3, seed=5))
    assert list(found) == [20, 15, 10, 5]
    assert torch.equal(found[20], rng.normal(5, "x_T", start=0, stop=3, shape=(1, 8, 8)))
    for t in (15, 10, 5):
        assert torch.equal(found[t], chain[t])


def test_a_continuation_makes_the_steps_that_are_left(trained):
    """From x_t (1-based) with the 0-based indices t-1 .. 0, which for t = T is the whole process."""
    seen = []

    def model(x, t):
        seen.append(t[0].item())
        return trained.model(x, t)

    spied = dataclasses.replace(trained, model=model)
    x = torch.zeros(2, 1, 8, 8)
    continuations(spied, x, 15, samples=3, first=1, last=5, seed=0)
    assert seen == list(range(14, -1, -1))


def linear(t: int) -> tuple[torch.Tensor, torch.Tensor]:
    """K and V, [D], with which t steps from x_t make N(m + K (x_t - sqrt(abar) m), V) along the axes of GAUSSIAN."""
    K, V = torch.ones(4, dtype=torch.float64), torch.zeros(4, dtype=torch.float64)
    for i in reversed(range(t)):
        a = C1[i] * GAUSSIAN.gain(ABAR[i].item()) + C2[i]
        K, V = a * K, a**2 * V + (SIGMA2["fixedlarge"][i] if i else 0)
    return K, V


@pytest.mark.parametrize("t", [200, 40])
def test_continuations_share_the_latent_and_nothing_else(t):
    """With the oracle for data N(m, S), the mean, the variance and the covariance of continuations are known."""
    chains, samples = 3000, 3
    generator = torch.Generator().manual_seed(1)
    shape, abar = GAUSSIAN.shape, ABAR[t - 1].item()
    x0 = GAUSSIAN.sample(chains, seed=2).float()
    x_t = math.sqrt(abar) * x0 + math.sqrt(1 - abar) * torch.randn(chains, *shape, generator=generator)
    drawn = continuations(trained_oracle(GAUSSIAN), x_t, t, samples, 0, chains * samples, seed=3).double()
    along = (drawn.flatten(1) @ GAUSSIAN.axes).reshape(chains, samples, 4)
    K, V = linear(t)
    mean = GAUSSIAN.mean_y + K * (x_t.double().flatten(1) @ GAUSSIAN.axes - math.sqrt(abar) * GAUSSIAN.mean_y)
    residual = (along - mean[:, None]) / V.sqrt()
    assert residual.mean((0, 1)).abs().max() < 5 / math.sqrt(chains * samples)
    covariance = torch.einsum("nsd,nud->sud", residual, residual) / chains
    expected = torch.eye(samples)[:, :, None].expand(-1, -1, 4)
    assert (covariance - expected).abs().max() < 5 * math.sqrt(2 / chains)
    # What they share is x_t: the means over the continuations of a chain spread by more than their own noise.
    shared, own = K**2 * (abar * GAUSSIAN.values + 1 - abar), V / samples
    measured = along.mean(1).var(0) - along.var(1).mean(0) / samples
    assert ((measured - shared).abs() < 5 * (shared + 2 * own) * math.sqrt(2 / chains)).all()


def test_continuations_from_other_times_and_of_other_numbers_have_other_noise(trained):
    """What a network that predicts no noise makes of zeros is its steps' noise alone."""
    silent = dataclasses.replace(trained, model=lambda x, t: torch.zeros_like(x))
    x, count = torch.zeros(1, 1, 8, 8), 50
    one, other = (continuations(silent, x, t, samples=count, first=0, last=count, seed=0) for t in (10, 9))
    pairs = torch.stack([one.flatten(), other.flatten(), one.roll(1, 0).flatten()])
    assert (torch.corrcoef(pairs) - torch.eye(3)).abs().max() < 5 / math.sqrt(64 * count)


def test_the_file_holds_every_tile(trained, tmp_path):
    arrays = written(trained, tmp_path)
    assert arrays["times"].tolist() == [20, 15, 10, 5]
    assert arrays["latents"].shape == (3, 4, 8, 8, 1)
    assert arrays["images"].shape == (3, 4, 4, 8, 8, 1)
    for j, (t, x_t) in enumerate(latents(trained, 3, seed=0)):
        assert np.array_equal(arrays["latents"][:, j], to_uint8(x_t))
        for c in range(3):
            own = continuations(trained, x_t, t, 4, 4 * c, 4 * c + 4, seed=0)
            assert np.array_equal(arrays["images"][c, j], to_uint8(own))
    _, header = read_shard(tmp_path / "32.npz", sampler=LATENTS)
    assert header["status"]["status"] == "sampled"
    assert header["weights_sha256"] == trained.sha256
    assert header["sampling"]["chains"] == 3
    with pytest.raises(UserError, match="shared latents sampler, where the ancestral"):
        read_shard(tmp_path / "32.npz")


@pytest.mark.parametrize("batch_size", [1, 5, 12])
def test_the_batch_size_changes_no_image(batch_size, trained, tmp_path):
    one, other = (written(trained, tmp_path, batch_size=size) for size in (32, batch_size))
    for key in one:
        assert np.array_equal(one[key], other[key])


def test_fewer_chains_are_the_first_of_more(trained, tmp_path):
    many, few = written(trained, tmp_path), written(trained, tmp_path, batch_size=31, chains=2)
    for key in ("latents", "images"):
        assert np.array_equal(many[key][:2], few[key])


def test_an_unstable_network_gives_empty_arrays_that_say_so(trained, tmp_path):
    def model(x, t):
        return torch.full_like(x, float("nan"))

    model.config = trained.model.config
    untrained = dataclasses.replace(trained, header={**trained.header, "outcome": OUTCOME})
    for broken, reason in ((untrained, "the loss was nan"), (dataclasses.replace(trained, model=model), "nan")):
        arrays = written(broken, tmp_path)
        assert arrays["latents"].shape == (0, 4, 8, 8, 1)
        assert arrays["images"].shape == (0, 4, 4, 8, 8, 1)
        assert arrays["times"].tolist() == [20, 15, 10, 5]
        _, header = read_shard(tmp_path / "32.npz", sampler=LATENTS)
        assert header["status"]["status"] == "unstable"
        assert reason in header["status"]["reason"]


def test_the_command_writes_the_file(weights, tmp_path):
    out = tmp_path / "latents.npz"
    words = ["shared-latents", "--weights", str(weights), "--out", str(out), "--chains", "2", "--device", "cpu"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert read_npz(out, "images")["images"].shape == (2, 4, 3, 8, 8, 1)
