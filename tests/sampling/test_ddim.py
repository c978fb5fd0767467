"""Few steps are DDIM's equations, step by step those of diffusers, and never taken for the paper's sampling."""

import dataclasses
import json
import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from helpers import CPU, run_ddpm, tiny_experiment

from ddpm.compute import rng
from ddpm.config.errors import UserError
from ddpm.config.schema import FewStepsConfig
from ddpm.data.pixels import to_uint8
from ddpm.diffusion import GaussianDiffusion, linear_betas
from ddpm.sampling.ancestral import reverse_process
from ddpm.sampling.base import named_noise
from ddpm.sampling.ddim import ddim_step, ddim_times, sample_ddim
from ddpm.sampling.runner import FewStepsSampler, sample_shard
from ddpm.storage.documents import read_section
from ddpm.storage.files import read_npz
from ddpm.storage.shards import DDIM, SETTINGS, read_few_steps, read_shard, shard_range

T = 1000
ASKED = {"eta": (0.0, 1.0), "steps": (2, 5, 20)}
QUIET = {"log": lambda message: None}


def pairs(times: list[int]) -> list[tuple[int, int]]:
    """(t, t_prev) in the order in which they are sampled."""
    return [(t, t_prev) for t_prev, t in reversed(list(pairwise([-1, *times])))]


def noise(count: int, seed: int) -> torch.Tensor:
    return torch.randn(count, 1, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def network(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """Some function of x and t whose predicted images often leave [-1, 1]."""
    return 1.5 * torch.sin(2 * x) + (t / T).reshape(-1, 1, 1, 1)


def at(t: int, count: int) -> torch.Tensor:
    return torch.full((count,), t)


# The times


def test_uniform_times_are_equally_spaced_from_zero():
    assert ddim_times(1000, 5, "uniform") == [0, 200, 400, 600, 800]
    assert ddim_times(20, 20, "uniform") == list(range(20))
    assert ddim_times(1000, 300, "uniform") == list(range(0, 900, 3))  # as many as asked for, where T/S is no integer


def test_quadratic_times_are_the_authors_without_repeats():
    assert ddim_times(1000, 10, "quadratic") == [0, 9, 39, 88, 158, 246, 355, 483, 632, 800]
    authors = [int(t) for t in list(np.linspace(0, np.sqrt(1000 * 0.8), 100) ** 2)]  # ddim, runners/diffusion.py
    times = ddim_times(1000, 100, "quadratic")
    assert len(authors) == 100 > len(times) == len(set(times))
    assert times == list(dict.fromkeys(authors))


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_a_repeated_time_changes_nothing(eta):
    """Which is why none is visited twice."""
    x = noise(3, seed=1)
    again, _ = ddim_step(GaussianDiffusion(linear_betas(T)), network, x, at(7, 3), at(7, 3), eta, noise(3, seed=2))
    torch.testing.assert_close(again, x, rtol=0, atol=1e-12)


# The steps


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("spacing", ["uniform", "quadratic"])
@pytest.mark.parametrize(("parameterization", "prediction"), [("eps", "epsilon"), ("x0", "sample")])
@pytest.mark.parametrize("steps", [2, 7, 50])
def test_steps_are_those_of_diffusers(steps, parameterization, prediction, spacing, eta):
    """Every step from the same x_t with the same noise, to 1e-10: the two differ in the order of roundings only."""
    from diffusers import DDIMScheduler  # three CPU seconds

    diffusion = GaussianDiffusion(linear_betas(T), parameterization)
    scheduler = DDIMScheduler(
        trained_betas=linear_betas(T).tolist(), prediction_type=prediction, clip_sample=False,
        set_alpha_to_one=True, timestep_spacing="leading", steps_offset=0,
    )  # fmt: skip
    # Its table is float32, which would hide differences below 1e-6: it is given ours instead.
    torch.testing.assert_close(scheduler.alphas_cumprod.double(), diffusion.alphas_cumprod, rtol=1e-6, atol=0)
    scheduler.alphas_cumprod = diffusion.alphas_cumprod
    scheduler.set_timesteps(steps)
    times = ddim_times(T, steps, spacing)
    if spacing == "uniform":
        assert scheduler.timesteps.tolist() == times[::-1]
    count, largest, x = 4, 0.0, noise(4, seed=0)
    for t, t_prev in pairs(times):
        if spacing == "quadratic":  # diffusers goes from t to t - num_train_timesteps // num_inference_steps
            scheduler.register_to_config(num_train_timesteps=t - t_prev)
            scheduler.num_inference_steps = 1
        z = noise(count, seed=1 + t)
        expected = scheduler.step(network(x, at(t, count)), t, x, eta=eta, variance_noise=z)
        x, x0 = ddim_step(diffusion, network, x, at(t, count), at(t_prev, count), eta, z)
        torch.testing.assert_close(x, expected.prev_sample, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(x0, expected.pred_original_sample, rtol=1e-10, atol=1e-10)
        largest = max(largest, x0.abs().max().item())
    assert largest > 1.2  # or clipping would go unnoticed


@pytest.mark.parametrize("parameterization", ["eps", "mu", "x0"])
@pytest.mark.parametrize("variance", ["fixedlarge", "learned"])
def test_what_the_network_predicts_and_its_variance_make_no_difference(parameterization, variance):
    """The same x0-hat gives the same step, whether the network says it as eps, mu or x0."""
    diffusion = GaussianDiffusion(linear_betas(T), parameterization, variance, "vlb")

    def model(x_t, t):
        x0 = network(x_t, t)
        said = {
            "eps": lambda: diffusion.predict_eps_from_x0(x_t, t, x0),
            "mu": lambda: diffusion.q_posterior(x0, x_t, t)[0],
            "x0": lambda: x0,
        }[parameterization]()
        return torch.cat([said, torch.full_like(said, 9.0)], 1) if variance == "learned" else said

    x, z = noise(4, seed=1), noise(4, seed=2)
    reference = GaussianDiffusion(linear_betas(T), "x0")
    for t, t_prev in ((999, 500), (500, 499), (7, 0), (0, -1)):
        moves = [
            ddim_step(process, net, x, at(t, 4), at(t_prev, 4), 0.7, z)
            for process, net in ((diffusion, model), (reference, network))
        ]
        for got, expected in zip(*moves, strict=True):
            torch.testing.assert_close(got, expected, rtol=0, atol=1e-8)


def test_eta_one_with_all_steps_is_ancestral_sampling():
    """With the posterior's variance (fixedsmall), and x0-hat unclipped: the same mean and the same variance."""
    diffusion = GaussianDiffusion(linear_betas(T), "eps", "fixedsmall")
    x, one = noise(3, seed=1), torch.ones(3, 1, 4, 4, dtype=torch.float64)
    for t in range(T):
        mean, variance, *_ = diffusion.p_mean_variance(network, x, at(t, 3), clip_denoised=False)
        still, moved = (ddim_step(diffusion, network, x, at(t, 3), at(t - 1, 3), 1.0, z)[0] for z in (0 * one, one))
        torch.testing.assert_close(still, mean, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(moved - still, variance.sqrt(), rtol=1e-7, atol=1e-10)


def test_eta_zero_uses_no_noise_and_the_last_step_none_ever():
    diffusion, x = GaussianDiffusion(linear_betas(T)), noise(3, seed=1)
    for t, t_prev, eta in ((999, 500, 0.0), (0, -1, 0.0), (0, -1, 1.0)):
        one, other = (ddim_step(diffusion, network, x, at(t, 3), at(t_prev, 3), eta, noise(3, s))[0] for s in (2, 3))
        assert torch.equal(one, other)
    last, x0 = ddim_step(diffusion, network, x, at(0, 3), at(-1, 3), 1.0, noise(3, seed=2))
    assert torch.equal(last, x0)


@pytest.mark.parametrize(("mean", "std", "close"), [(0.2, 0.3, 0.01), (-0.5, 0.05, 0.05), (0.0, 1.0, 0.005)])
def test_eta_zero_carries_the_noise_onto_gaussian_data(mean, std, close):
    """For x0 ~ N(mean, std^2), E[x0 | x_t] is known and each step is linear: all T of them map N(0, 1) onto the data.

    The line through two images says what becomes of N(0, 1). The exact flow ends at the data's mean and standard
    deviation, but for what is left of the image at T; T steps come close, the less so the sharper the data.
    """
    diffusion = GaussianDiffusion(linear_betas(T), "x0")

    def exact(x_t, t):
        abar = diffusion.alphas_cumprod[t].reshape(-1, 1, 1, 1)
        gain = abar.sqrt() * std**2 / (abar * std**2 + 1 - abar)
        return mean + gain * (x_t - abar.sqrt() * mean)

    x = torch.tensor([0.0, 1.0], dtype=torch.float64).reshape(2, 1, 1, 1)
    for t, t_prev in pairs(list(range(T))):
        x, _ = ddim_step(diffusion, exact, x, at(t, 2), at(t_prev, 2), 0.0, torch.zeros_like(x))
    at_zero, at_one = x.flatten().tolist()
    left = math.sqrt(diffusion.alphas_cumprod[-1].item())  # of the image in x_T
    assert at_zero == pytest.approx(mean - left * std * mean, abs=close * std)
    assert at_one - at_zero == pytest.approx(std, rel=close)


# Shards


def shards(trained, folder, images: int = 40, parts: int = 1, batch_size: int = 40, **changes) -> list[tuple]:
    """Arrays and header of all shards of a run."""
    config = FewStepsConfig(images=images, shards=parts, batch_size=batch_size, **ASKED | changes)
    read = []
    for part in range(1, parts + 1):
        path = folder / f"{part}-of-{parts}-{batch_size}.npz"
        sample_shard(FewStepsSampler(trained, config, CPU), part, path, **QUIET)
        read.append(read_shard(path, "images", "eta", "steps", "evaluations", "start", sampler=DDIM))
    return read


@pytest.mark.parametrize(("parts", "batch_size"), [(2, 40), (1, 7), (5, 3)])
def test_image_i_is_the_same_however_the_work_is_cut(parts, batch_size, trained, tmp_path):
    ((whole, _),) = shards(trained, tmp_path)
    cut = [arrays for arrays, _ in shards(trained, tmp_path, parts=parts, batch_size=batch_size)]
    assert np.array_equal(np.concatenate([arrays["images"] for arrays in cut]), whole["images"])
    assert [int(arrays["start"]) for arrays in cut] == [shard_range(40, i, parts)[0] for i in range(1, parts + 1)]


def test_a_shard_holds_every_setting_and_says_how_it_was_made(trained, tmp_path):
    shards(trained, tmp_path, spacing=("quadratic", "uniform"))
    arrays, header = read_few_steps(tmp_path / "1-of-1-40.npz")
    assert arrays["images"].shape == (40, 12, 8, 8, 1)
    assert arrays["spacing"].tolist() == ["quadratic"] * 6 + ["uniform"] * 6
    assert arrays["eta"].tolist() == [0, 0, 0, 1, 1, 1] * 2
    assert arrays["steps"].tolist() == [2, 5, 20] * 4
    assert arrays["evaluations"].tolist() == [2, 5, len(ddim_times(20, 20, "quadratic"))] * 2 + [2, 5, 20] * 2
    for slot, (spacing, eta, steps) in enumerate(zip(*(arrays[key].tolist() for key in SETTINGS[:3]), strict=True)):
        x = rng.normal(0, "x_T", start=0, stop=40, shape=trained.image_shape)
        times = ddim_times(20, steps, spacing)[::-1]
        x = sample_ddim(trained, x, times, named_noise(x, 0, "few-steps z"), eta=eta)
        assert np.array_equal(arrays["images"][:, slot], to_uint8(x))
    assert header["sampler"].startswith("DDIM")
    assert header["status"]["status"] == "sampled"
    assert header["weights_sha256"] == trained.sha256
    assert header["sampling"]["spacing"] == ["quadratic", "uniform"]


def first_inputs(trained, draw) -> list[torch.Tensor]:
    """The x_T of every chain that `draw` samples: what the network is given the first time after a smaller t."""
    seen = []

    def model(x, t):
        seen.append((int(t[0]), x))
        return trained.model(x, t)

    model.config = trained.model.config
    draw(dataclasses.replace(trained, model=model))
    return [x for (before, _), (t, x) in pairwise([(-1, None), *seen]) if t > before]


def test_every_setting_of_an_image_starts_from_the_noise_of_ancestral_sampling(trained):
    config = FewStepsConfig(images=3, **ASKED)
    starts = first_inputs(trained, lambda spied: FewStepsSampler(spied, config, CPU).draw(0, 3))
    (ancestral,) = first_inputs(trained, lambda spied: reverse_process(spied, 0, 3, config.seed))
    assert len(starts) == 6
    assert all(torch.equal(start, ancestral) for start in starts)


def test_a_chain_is_its_steps_with_noise_named_by_seed_time_and_image(trained):
    times, x = [0, 3, 11, 18], rng.normal(5, "x_T", start=2, stop=8, shape=trained.image_shape)
    made = []
    images = sample_ddim(trained, x, times[::-1], named_noise(x, 5, "few-steps z", start=2), made.append, eta=0.5)
    assert [step.t for step in made] == times[::-1]
    for (t, t_prev), step in zip(pairs(times), made, strict=True):
        z = rng.normal(5, "few-steps z", t, start=2, stop=8, shape=trained.image_shape)
        x, x0 = ddim_step(trained.diffusion, trained.model, x, at(t, 6), at(t_prev, 6), 0.5, z)
        assert torch.equal(step.x, x)
        assert torch.equal(step.x0, x0)
    assert torch.equal(images, x)


def test_another_seed_gives_other_images(trained, tmp_path):
    one, other = (shards(trained, tmp_path, seed=seed)[0][0]["images"] for seed in (0, 1))
    assert all((one[:, slot] != other[:, slot]).any() for slot in range(6))


def test_images_out_of_range_are_a_result(trained, tmp_path):
    for arrays, header in shards(trained, tmp_path, parts=2, limit=0.5):
        assert header["status"]["status"] == "unstable"
        assert "eta 0, 2 steps: |x_t| reached" in header["status"]["reason"]
        assert arrays["images"].shape == (0, 6, 8, 8, 1)


def test_unstable_training_gives_empty_shards_that_say_so(trained, tmp_path):
    outcome = {"status": "unstable", "step": 7, "reason": "the loss was nan"}
    unstable = dataclasses.replace(trained, header={**trained.header, "outcome": outcome})
    ((arrays, header),) = shards(unstable, tmp_path)
    assert header["status"] == outcome
    assert arrays["images"].shape == (0, 6, 8, 8, 1)


# Refusals


@pytest.mark.parametrize("steps", [1, 21])
def test_steps_that_the_network_does_not_have_are_refused(steps, trained, tmp_path):
    config = FewStepsConfig.model_construct(images=4, shards=1, batch_size=4, steps=(steps,), eta=(0.0,),
                                            spacing=("uniform",), limit=100.0, seed=0)  # fmt: skip
    with pytest.raises(UserError, match=rf"few_steps\.steps: {steps}: .*allowed: 2\.\.20"):
        sample_shard(FewStepsSampler(trained, config, CPU), 1, tmp_path / "out.npz", **QUIET)
    assert not list(tmp_path.iterdir())


def test_the_samplers_files_are_never_taken_for_one_another(trained, tmp_path):
    shards(trained, tmp_path)
    path = tmp_path / "1-of-1-40.npz"
    with pytest.raises(UserError, match=r"1-of-1-40\.npz: .*DDIM sampler, where the ancestral sampler's belong"):
        read_shard(path, "images")
    arrays = read_npz(path, "images", "status", "header")
    header = json.loads(str(arrays["header"])) | {"sampler": "ancestral, all T steps"}
    np.savez(path, **arrays | {"header": np.array(json.dumps(header))})
    with pytest.raises(UserError, match="ancestral sampler, where the DDIM sampler's belong"):
        read_shard(path, "images", sampler=DDIM)


def test_bad_input_is_named(tmp_path):
    experiment = tiny_experiment(few_steps={"steps": [2, 5], "images": 20})
    path = tmp_path / "few_steps.json"
    path.write_text(json.dumps(experiment.stage_config("sampling")))
    with pytest.raises(UserError, match=r"few_steps\.json: has no few_steps"):
        read_section(path, "few_steps")
    document = experiment.stage_config("few_steps")
    path.write_text(json.dumps(document | {"few_steps": {"eta": [1.5]}}))
    with pytest.raises(UserError, match=r"few_steps\.json: few_steps: eta\.0: 1\.5: .*less than or equal to 1"):
        read_section(path, "few_steps")
    path.write_text(json.dumps(document))
    out = tmp_path / "out.npz"
    files = ("--config", path, "--weights", tmp_path / "none.safetensors", "--out", out)
    done = run_ddpm("few-steps", *files, "--shard", 2, "--device", "cpu")
    assert done.returncode == 1
    assert f"ERROR: --shard 2: {path} asks for 1 shards; allowed: 1..1" in done.stderr
    assert not out.exists()
