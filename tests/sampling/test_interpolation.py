"""Figures 8 and 9: diffuse, mix, denoise; x_t is the same for every lambda, and 0 steps mix pixels."""

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
from ddpm.data.pixels import to_model_range
from ddpm.sampling.chains import write_interpolations
from ddpm.sampling.interpolation import LAMBDAS, diffused, interpolations, steps_here
from ddpm.storage.files import read_npz
from ddpm.storage.shards import INTERPOLATION, read_shard

KEYS = ("steps", "timesteps", "lambdas", "sources", "images")


def written(trained, images, folder, batch_size: int = 32, **changes) -> dict[str, np.ndarray]:
    path = folder / f"{batch_size}.npz"
    settings = {"pairs": 3, "steps": [1000, 500, 0], "seed": 0, **changes}
    write_interpolations(
        trained, images, **settings, batch_size=batch_size, path=path, device=CPU, log=lambda message: None
    )
    return read_npz(path, *KEYS)


def spied(trained):
    """The network, and what it is given: (t, x) in order."""
    seen = []

    def model(x, t):
        seen.append((t[0].item(), x.clone()))
        return trained.model(x, t)

    model.config = trained.model.config
    return dataclasses.replace(trained, model=model), seen


def test_lambda_runs_from_one_source_to_the_other_in_tenths():
    assert LAMBDAS.tolist() == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]


def test_steps_are_the_nearest_part_of_the_networks():
    rows = range(0, 1001, 125)
    assert [steps_here(n, 1000) for n in rows] == list(rows)
    assert [steps_here(n, 20) for n in rows] == [0, 3, 5, 8, 10, 13, 15, 18, 20]
    assert steps_here(1, 20) == 1
    for wrong in (-1, 1001):
        with pytest.raises(UserError, match=rf"--steps {wrong}.*0\.\.1000"):
            steps_here(wrong, 1000)


def test_n_steps_diffuse_to_the_index_before_n_and_come_back_from_there(trained, train_images):
    """The authors' t = n - 1 (0-based), where t = 0 means diffused for one step."""
    x0 = to_model_range(train_images[:2]).unflatten(0, (1, 2))
    model, seen = spied(trained)
    interpolations(model, x0, 13, 0, 11, seed=4)
    assert [t for t, _ in seen] == list(range(12, -1, -1))
    abar = math.prod(1 - beta for beta in np.linspace(1e-4, 0.02, 20)[:13])
    for source in (0, 1):
        eps = rng.normal(4, "interpolation x_t", source, start=0, stop=1, shape=(1, 8, 8))
        x_t = math.sqrt(abar) * x0[:, source] + math.sqrt(1 - abar) * eps
        torch.testing.assert_close(seen[0][1][[-source]], x_t)  # lambda 0 is first and 1 is last


def test_mixing_is_linear_in_what_is_fixed_for_all_lambdas(trained, train_images):
    x0 = to_model_range(train_images[:4]).unflatten(0, (2, 2))
    model, seen = spied(trained)
    interpolations(model, x0, 10, 0, 22, seed=0)
    for x in seen[0][1].split(11):
        for k in range(11):
            torch.testing.assert_close(x[k], (1 - k / 10) * x[0] + k / 10 * x[10])


def test_mixed_noise_has_the_variance_of_independent_ends(trained):
    """(1 - lambda)^2 + lambda^2 times that of x_t, so 1/2 in the middle: ends with the same noise would keep 1."""
    pairs, steps, seen = 200, 15, []

    def model(x, t):
        seen.append((t[0].item(), x.clone()))
        return torch.zeros_like(x)

    x0 = torch.zeros(pairs, 2, 1, 8, 8)
    interpolations(dataclasses.replace(trained, model=model), x0, steps, 0, 11 * pairs, seed=0)
    abar = math.prod(1 - beta for beta in np.linspace(1e-4, 0.02, 20)[:steps])
    measured = seen[0][1].reshape(pairs, 11, -1).var((0, 2)) / (1 - abar)
    expected = torch.tensor([(1 - k / 10) ** 2 + (k / 10) ** 2 for k in range(11)])
    assert (measured / expected - 1).abs().max() < 5 * math.sqrt(2 / (pairs * 64))


def test_interpolations_have_the_moments_of_the_linear_chain():
    """With the oracle for data N(m, S), every step is linear in x along the axes of S, so that an interpolation is

    m + K ((1 - lambda) (x_t - sqrt(abar) m) + lambda (x'_t - sqrt(abar) m)) + noise of variance V,

    and its residual from what the sources say has the covariance K^2 (1 - abar) c + V [lambda = lambda'] between two
    lambdas, c = (1 - lambda) (1 - lambda') + lambda lambda': the noise of x_t is shared by all, the reverse's by none.
    """
    pairs, steps = 3000, 60
    abar = ABAR[steps - 1].item()
    x0 = GAUSSIAN.sample(2 * pairs, seed=1).float().unflatten(0, (pairs, 2))
    drawn = interpolations(trained_oracle(GAUSSIAN), x0, steps, 0, 11 * pairs, seed=2).double()
    K, V = torch.ones(4, dtype=torch.float64), torch.zeros(4, dtype=torch.float64)
    for i in reversed(range(steps)):
        a = C1[i] * GAUSSIAN.gain(ABAR[i].item()) + C2[i]
        K, V = a * K, a**2 * V + (SIGMA2["fixedlarge"][i] if i else 0)

    along = (drawn.flatten(1) @ GAUSSIAN.axes).reshape(pairs, 11, 4)
    one, other = (x0.double().flatten(2) @ GAUSSIAN.axes - GAUSSIAN.mean_y).unbind(1)
    weight = torch.from_numpy(LAMBDAS)
    told = math.sqrt(abar) * ((1 - weight)[:, None] * one[:, None] + weight[:, None] * other[:, None])
    residual = along - GAUSSIAN.mean_y - K * told
    c = torch.outer(1 - weight, 1 - weight) + torch.outer(weight, weight)
    expected = (K**2 * (1 - abar))[:, None, None] * c + V[:, None, None] * torch.eye(11)
    covariance = torch.einsum("nkd,nld->dkl", residual, residual) / pairs
    spread = (torch.einsum("dkk,dll->dkl", expected, expected) + expected**2).sqrt()
    assert ((covariance - expected).abs() < 5 * spread / math.sqrt(pairs)).all()
    assert (residual.mean(0).abs() < 5 * (torch.einsum("dkk->kd", expected) / pairs).sqrt()).all()


def test_zero_steps_mix_pixels_and_ask_no_network(trained, train_images, tmp_path):
    arrays = written(trained, train_images, tmp_path, steps=[0])
    sources = train_images[:6].reshape(3, 2, 8, 8, 1)
    assert np.array_equal(arrays["sources"], sources)
    assert np.array_equal(arrays["images"][:, 0, 0], sources[:, 0])
    assert np.array_equal(arrays["images"][:, 0, 10], sources[:, 1])
    for k in range(11):
        exact = (1 - k / 10) * sources[:, 0] + k / 10 * sources[:, 1]
        assert np.abs(arrays["images"][:, 0, k] - exact).max() <= 0.5 + 1e-4  # rounded to the nearest level
    model, seen = spied(trained)
    written(model, train_images, tmp_path, steps=[0])
    assert not seen


def test_few_steps_reconstruct_the_source_and_all_steps_do_not(trained, train_images):
    x0 = to_model_range(train_images[:32]).unflatten(0, (16, 2))
    noise = rng.normal(0, "interpolation x_t", 0, start=0, stop=16, shape=(1, 8, 8))
    close = diffused(trained, x0[:, 0], 1, 0, 0, seed=0)
    torch.testing.assert_close(close, math.sqrt(1 - 1e-4) * x0[:, 0] + 0.01 * noise)
    correlation = [
        torch.corrcoef(torch.stack([interpolations(trained, x0, n, 0, 176, 0)[::11].flatten(), x0[:, 0].flatten()]))
        for n in (1, 20)
    ]
    assert correlation[0][0, 1] > 0.99
    assert correlation[1][0, 1] < 0.9


def test_the_file_says_what_it_holds(trained, train_images, tmp_path):
    arrays = written(trained, train_images, tmp_path)
    assert arrays["steps"].tolist() == [20, 10, 0]
    assert int(arrays["timesteps"]) == 20
    assert arrays["lambdas"].tolist() == LAMBDAS.tolist()
    assert arrays["sources"].shape == (3, 2, 8, 8, 1)
    assert arrays["images"].shape == (3, 3, 11, 8, 8, 1)
    assert arrays["images"].dtype == np.uint8
    _, header = read_shard(tmp_path / "32.npz", sampler=INTERPOLATION)
    assert header["status"]["status"] == "sampled"
    assert header["weights_sha256"] == trained.sha256
    assert header["sampling"]["steps"] == [1000, 500, 0]
    with pytest.raises(UserError, match="interpolation sampler, where the ancestral"):
        read_shard(tmp_path / "32.npz")


@pytest.mark.parametrize("batch_size", [1, 7, 33])
def test_the_batch_size_changes_no_image(batch_size, trained, train_images, tmp_path):
    one, other = (written(trained, train_images, tmp_path, batch_size=size) for size in (32, batch_size))
    for key in KEYS:
        assert np.array_equal(one[key], other[key])


def test_a_row_does_not_depend_on_the_others(trained, train_images, tmp_path):
    all_rows = written(trained, train_images, tmp_path)
    alone = written(trained, train_images, tmp_path, batch_size=31, steps=[500], pairs=1)
    assert np.array_equal(alone["images"][:, 0], all_rows["images"][:1, 1])


def test_an_unstable_network_gives_empty_arrays_that_say_so(trained, train_images, tmp_path):
    def model(x, t):
        return torch.full_like(x, float("nan"))

    model.config = trained.model.config
    outcome = {"status": "unstable", "step": 7, "reason": "the loss was nan"}
    untrained = dataclasses.replace(trained, header={**trained.header, "outcome": outcome})
    for broken, reason in ((untrained, "the loss was nan"), (dataclasses.replace(trained, model=model), "nan")):
        arrays = written(broken, train_images, tmp_path)
        assert arrays["sources"].shape == (0, 2, 8, 8, 1)
        assert arrays["images"].shape == (0, 3, 11, 8, 8, 1)
        _, header = read_shard(tmp_path / "32.npz", sampler=INTERPOLATION)
        assert header["status"]["status"] == "unstable"
        assert reason in header["status"]["reason"]


def test_of_few_images_fewer_pairs_are_taken(trained, train_images, tmp_path):
    few = written(trained, train_images[:5], tmp_path, pairs=4)
    assert (len(few["sources"]), len(few["images"])) == (2, 2)
    _, header = read_shard(tmp_path / "32.npz", sampler=INTERPOLATION)
    assert header["sampling"]["pairs"] == 2


def test_data_that_do_not_fit_are_refused(trained, train_images, tmp_path):
    with pytest.raises(UserError, match=r"an interpolation needs two images, and the data hold 1"):
        written(trained, train_images[:1], tmp_path)
    with pytest.raises(UserError, match=r"images of \(32, 32, 3\), where the network makes \(8, 8, 1\)"):
        written(trained, np.zeros((6, 32, 32, 3), np.uint8), tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_command_writes_the_file_and_500_steps_are_its_default(weights, digits, tmp_path):
    out = tmp_path / "interpolation.npz"
    common = ["interpolate", "--weights", weights, "--data", digits / "train.npy", "--out", out, "--device", "cpu"]
    for steps, expected in (([], [10]), (["--steps", 1000, "--steps", 0], [20, 0])):
        done = CliRunner().invoke(app, [str(word) for word in (*common, *steps)])
        assert done.exit_code == 0, done.output
        assert read_npz(out, "steps")["steps"].tolist() == expected
