"""Sampling is Algorithm 2 with clipped x0-hat, and image i is the same however the work is cut."""

import dataclasses
import itertools
import json

import numpy as np
import pytest
import torch
from helpers import CPU, run_ddpm, tiny_experiment
from published import picture
from typer.testing import CliRunner

from ddpm.cli import app
from ddpm.compute import rng
from ddpm.config.registry import resolve
from ddpm.config.schema import SamplingConfig
from ddpm.data.pixels import to_uint8
from ddpm.data.prepare import prepare
from ddpm.data.store import Images
from ddpm.sampling.ancestral import reverse_process
from ddpm.sampling.chains import trajectory_times, write_trajectory
from ddpm.sampling.runner import AncestralSampler, Unstable, preview_times, sample_shard
from ddpm.storage.files import read_npz
from ddpm.storage.shards import shard_range, unpack_header

KEYS = ("images", "previews", "preview_times", "start", "status", "header")


def samples(trained, folder, images: int = 40, shards: int = 1, batch_size: int = 40, **changes) -> list[dict]:
    """All shards of a run, as the evaluation reads them."""
    config = SamplingConfig(images=images, shards=shards, batch_size=batch_size, previews=4, **changes)
    read = []
    for shard in range(1, shards + 1):
        path = folder / f"{shard}-of-{shards}-{batch_size}.npz"
        sample_shard(AncestralSampler(trained, config, CPU), shard, path, log=lambda message: None)
        read.append(read_npz(path, *KEYS))
    return read


def test_algorithm_2(trained):
    """Against the equations written out: eq. 15 for x0-hat, clipped, eq. 7 for the mean, and sigma_t z."""
    count, seed = 6, 5
    betas = np.linspace(1e-4, 0.02, 20)
    alphas = 1 - betas
    abar = np.cumprod(alphas)
    shape = trained.image_shape
    x = rng.normal(seed, "x_T", start=0, stop=count, shape=shape).double()
    steps = []
    images = reverse_process(trained, 0, count, seed, steps.append)
    assert [step.t for step in steps] == list(range(19, -1, -1))
    assert torch.equal(steps[-1].x, images)
    for t, got, got_x0 in ((step.t, step.x, step.x0) for step in steps):
        with torch.no_grad():
            eps = trained.model(x.float(), torch.full((count,), t)).double()
        x0 = ((x - np.sqrt(1 - abar[t]) * eps) / np.sqrt(abar[t])).clamp(-1, 1)
        before = abar[t - 1] if t else 1.0
        mean = np.sqrt(before) * betas[t] * x0 + np.sqrt(alphas[t]) * (1 - before) * x
        mean = mean / (1 - abar[t])
        z = rng.normal(seed, "z", t, start=0, stop=count, shape=shape).double() if t else 0.0
        x = mean + np.sqrt(betas[t]) * z
        torch.testing.assert_close(got_x0.double(), x0, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(got.double(), x, rtol=1e-4, atol=1e-4)
        x = got.double()  # so that errors do not add up


@pytest.mark.parametrize(("shards", "batch_size"), [(2, 40), (1, 7), (5, 3), (40, 1)])
def test_image_i_is_the_same_however_the_work_is_cut(shards, batch_size, trained, tmp_path):
    (whole,) = samples(trained, tmp_path)
    parts = samples(trained, tmp_path, shards=shards, batch_size=batch_size)
    for key in ("images", "previews"):
        assert np.array_equal(np.concatenate([part[key] for part in parts]), whole[key])
    assert [int(part["start"]) for part in parts] == [shard_range(40, i, shards)[0] for i in range(1, shards + 1)]


def test_more_images_extend_fewer(trained, tmp_path):
    (few,), (many,) = (samples(trained, tmp_path, images=n, batch_size=n) for n in (10, 25))
    assert np.array_equal(many["images"][:10], few["images"])


def test_another_seed_gives_other_images(trained, tmp_path):
    one, other = (samples(trained, tmp_path, images=10, batch_size=10, seed=seed)[0] for seed in (0, 1))
    assert not np.array_equal(one["images"], other["images"])


def test_shards_cut_the_images_evenly():
    for items, shards in ((10, 3), (7, 7), (50_000, 64)):
        cuts = [shard_range(items, i, shards) for i in range(1, shards + 1)]
        assert cuts[0][0] == 0
        assert cuts[-1][1] == items
        assert all(a[1] == b[0] for a, b in itertools.pairwise(cuts))
        sizes = {stop - start for start, stop in cuts}
        assert max(sizes) - min(sizes) <= 1
        assert min(sizes) > 0


def test_previews_are_x0_hat_at_the_authors_times(trained, tmp_path):
    assert preview_times(1000, 20) == list(range(0, 1000, 50))
    (shard,) = samples(trained, tmp_path)
    assert shard["preview_times"].tolist() == [0, 5, 10, 15]
    steps = []
    reverse_process(trained, 0, 40, 0, steps.append)
    for step in steps:
        if step.t in (0, 5, 10, 15):
            assert np.array_equal(shard["previews"][:, step.t // 5], to_uint8(step.x0))
    # At the end of the chain the mean is x0-hat itself: slot 0 is the sample.
    assert np.array_equal(shard["previews"][:, 0], shard["images"])


def test_a_shard_says_what_it_was_made_from(trained, tmp_path):
    (shard,) = samples(trained, tmp_path)
    header = unpack_header(shard["header"])
    assert header["weights"] == "ema"
    assert header["weights_sha256"] == trained.sha256
    assert header["training"]["diffusion"]["variance"] == "fixedlarge"
    assert header["sampling"]["seed"] == 0
    assert unpack_header(shard["status"])["status"] == "sampled"


def test_truncated_images_are_at_most_a_level_below_and_say_so(trained, tmp_path):
    (rounded,) = samples(trained, tmp_path)
    (truncated,) = samples(trained, tmp_path, quantisation="truncate")
    for key in ("images", "previews"):
        below = rounded[key].astype(int) - truncated[key]
        assert set(np.unique(below)) == {0, 1}
    assert unpack_header(rounded["header"])["quantisation"] == "rounded to the nearest of 256 levels"
    assert unpack_header(truncated["header"])["quantisation"] == "truncated to 256 levels"


def test_samples_out_of_range_are_a_result(trained, tmp_path):
    for shard in samples(trained, tmp_path, shards=2, limit=0.5):
        status = unpack_header(shard["status"])
        assert status["status"] == "unstable"
        assert status["step"] == 1  # the tiny chain is looked at once, at its end
        assert "limit 0.5" in status["reason"]
        assert shard["images"].shape == (0, 8, 8, 1)


def test_a_batch_out_of_range_empties_its_shard(trained, tmp_path):
    """Whatever was drawn before it, and nothing is kept for longer work."""
    failure = {"status": "unstable", "step": 3, "reason": "too large"}

    class Failing(AncestralSampler):
        def draw(self, start, stop):
            if start:
                raise Unstable(failure)
            return super().draw(start, stop)

    sampler = Failing(trained, SamplingConfig(images=8, batch_size=4), CPU)
    sample_shard(sampler, 1, tmp_path / "1-of-1.npz", lambda message: None, tmp_path / "state")
    arrays = read_npz(tmp_path / "1-of-1.npz", "images", "status")
    assert unpack_header(arrays["status"]) == failure
    assert len(arrays["images"]) == 0
    assert not list(tmp_path.glob("state/*/*/*"))


def count_drawn(monkeypatch) -> list[int]:
    """The numbers of the images that are drawn from here on."""
    drawn, draw = [], AncestralSampler.draw

    def counted(sampler, start, stop):
        drawn.extend(range(start, stop))
        return draw(sampler, start, stop)

    monkeypatch.setattr(AncestralSampler, "draw", counted)
    return drawn


def test_more_images_and_other_shards_draw_only_what_is_new(trained, tmp_path, monkeypatch):
    def run(folder, state, images, shards):
        config, read = SamplingConfig(images=images, shards=shards, batch_size=8, previews=4), []
        for shard in range(1, shards + 1):
            path = folder / f"{shard}-of-{shards}.npz"
            path.unlink(missing_ok=True)  # as Snakemake does before a job
            sample_shard(AncestralSampler(trained, config, CPU), shard, path, log=lambda message: None, state=state)
            read.append(read_npz(path, "images", "previews"))
        return {key: np.concatenate([part[key] for part in read]) for key in read[0]}

    drawn = count_drawn(monkeypatch)
    run(tmp_path, tmp_path / "state", 16, 1)
    assert drawn == list(range(16))
    for images, shards, new in ((40, 1, range(16, 40)), (40, 3, []), (48, 3, range(40, 48))):
        drawn.clear()
        extended = run(tmp_path, tmp_path / "state", images, shards)
        assert drawn == list(new)
        fresh = run(tmp_path / "fresh", None, images, shards)
        assert all(np.array_equal(extended[key], fresh[key]) for key in fresh)


def test_images_of_another_seed_or_other_weights_are_not_taken(trained, tmp_path, monkeypatch):
    drawn = count_drawn(monkeypatch)
    other = dataclasses.replace(trained, sha256="f" * 64)
    quiet, config = {"log": lambda message: None, "state": tmp_path / "state"}, SamplingConfig(images=8, batch_size=8)
    for which, changes in ((trained, {}), (trained, {"seed": 1}), (trained, {"limit": 50.0}), (other, {})):
        drawn.clear()
        sample_shard(
            AncestralSampler(which, config.model_copy(update=changes), CPU), 1, tmp_path / "1-of-1.npz", **quiet
        )
        assert drawn == list(range(8))


def test_samples_that_are_no_numbers_are_a_result(trained):
    def model(x, t):
        return torch.full_like(x, float("nan"))

    model.config = trained.model.config  # which says the shape of the images
    broken = dataclasses.replace(trained, model=model)
    config = SamplingConfig(images=4, previews=4)
    with pytest.raises(Unstable, match="nan") as outcome:
        AncestralSampler(broken, config, CPU).draw(0, 4)
    assert outcome.value.status["status"] == "unstable"


def test_unstable_training_gives_empty_shards_that_say_so(trained, tmp_path):
    outcome = {"status": "unstable", "step": 7, "reason": "the loss was nan"}
    unstable = dataclasses.replace(trained, header={**trained.header, "outcome": outcome})
    for shard in samples(unstable, tmp_path, shards=2):
        assert unpack_header(shard["status"]) == outcome
        assert len(shard["images"]) == len(shard["previews"]) == 0


def test_trajectory_runs_from_noise_to_image(trained, digits, tmp_path):
    write_trajectory(trained, Images(digits / "test.npy"), count=3, frames=6, seed=0, path=tmp_path / "t.npz")
    arrays = read_npz(tmp_path / "t.npz", "times", "q", "p", "x0")
    times = arrays["times"].tolist()
    assert times == trajectory_times(20, 6)
    assert times == sorted(times, reverse=True)
    assert (times[0], times[-1]) == (20, 0)
    assert arrays["q"].shape == arrays["p"].shape == (3, len(times), 8, 8, 1)
    assert np.array_equal(arrays["q"][:, -1], np.load(digits / "test.npy")[:3])
    assert np.array_equal(arrays["p"][:, -1], to_uint8(reverse_process(trained, 0, 3, 0)))
    predicted = {}
    reverse_process(trained, 0, 3, 0, lambda step: predicted.update({step.t + 1: to_uint8(step.x0)}))
    for k, t in enumerate(times[:-1]):
        assert np.array_equal(arrays["x0"][:, k], predicted[t])
    assert np.array_equal(arrays["x0"][:, -1], arrays["p"][:, -1])


@pytest.mark.parametrize(("test", "taken"), [(2, "test"), (0, "train")])
def test_a_trajectory_of_few_images_takes_those_that_there_are(test, taken, weights, tmp_path):
    for i in range(3 + test):
        path = tmp_path / f"pictures/{'train' if i < 3 else 'test'}/{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(i, 8, 8, "L").save(path)
    source = {"root": tmp_path / "pictures", "image_size": 8, "channels": 1}
    prepare(resolve("mine", source), None, data := tmp_path / "mine", log=lambda line: None)
    out = tmp_path / "t.npz"
    words = ["trajectory", "--weights", weights, "--data", data / "test.npy", "--out", out, "--device", "cpu"]
    CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    arrays = read_npz(out, "q", "p")
    assert len(arrays["q"]) == len(arrays["p"]) == (test or 3)
    assert np.array_equal(arrays["q"][:, -1], np.load(data / f"{taken}.npy"))


def test_bad_input_is_named_by_the_command(tmp_path):
    config = tmp_path / "sampling.json"
    config.write_text(json.dumps(tiny_experiment().stage_config("sampling")))
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(b"<html>not weights</html>")
    out = tmp_path / "out.npz"
    common = ["--config", config, "--weights", weights, "--out", out, "--device", "cpu"]
    done = run_ddpm("sample", *common, "--shard", 3)
    assert done.returncode == 1
    assert "allowed: 1..2" in done.stderr
    done = run_ddpm("sample", *common, "--shard", 1)
    assert done.returncode == 1
    assert f"ERROR: {weights}: not a whole file" in done.stderr
    assert "Traceback" not in done.stderr
    assert not out.exists()
