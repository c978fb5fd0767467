"""A notebook's model draws the workflow's images and measures the workflow's bound."""

import subprocess
import sys

import numpy as np
import pytest
from helpers import CPU

from ddpm import load
from ddpm.config.errors import UserError
from ddpm.config.schema import FewStepsConfig, LikelihoodConfig, SamplingConfig
from ddpm.data.store import Images
from ddpm.evaluation.likelihood import Bound, likelihood_shard
from ddpm.evaluation.rate_distortion import likelihood_summary, read_bounds
from ddpm.sampling.runner import AncestralSampler, FewStepsSampler, sample_shard


@pytest.fixture(scope="module")
def model(weights):
    return load(weights, "cpu")


def quiet(message: str) -> None:
    pass


def test_import_of_the_package_alone_loads_no_torch():
    code = "import sys, ddpm; print(*{name.partition('.')[0] for name in sys.modules} & {'torch', 'numpy', 'pydantic'})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_samples_and_previews_are_those_of_the_workflow(model, trained, tmp_path):
    config = SamplingConfig(images=20, batch_size=8, previews=4, seed=3)
    sample_shard(AncestralSampler(trained, config, CPU), 1, tmp_path / "1-of-1.npz", quiet)
    images, previews = model.sample(20, seed=3, previews=4)
    with np.load(tmp_path / "1-of-1.npz") as shard:
        np.testing.assert_array_equal(images, shard["images"])
        np.testing.assert_array_equal(previews, shard["previews"])
    assert images.dtype == np.uint8
    assert images.shape == (20, 8, 8, 1)


def test_image_i_depends_on_the_seed_and_i_alone(model, monkeypatch):
    images = model.sample(20)
    np.testing.assert_array_equal(model.sample(20), images)
    np.testing.assert_array_equal(model.sample(5), images[:5])
    assert (model.sample(5, seed=1) != images[:5]).any()
    monkeypatch.setattr("ddpm.evaluation.loaded.BATCH", 7)
    np.testing.assert_array_equal(model.sample(20), images)


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_few_steps_are_those_of_the_workflow(eta, model, trained, tmp_path):
    config = FewStepsConfig(images=12, steps=(5,), eta=(eta,), seed=2)
    sample_shard(FewStepsSampler(trained, config, CPU), 1, tmp_path / "1-of-1.npz", quiet)
    with np.load(tmp_path / "1-of-1.npz") as shard:
        np.testing.assert_array_equal(model.sample(12, seed=2, steps=5, eta=eta), shard["images"][:, 0])


def test_bound_is_that_of_the_workflow(model, trained, digits, tmp_path):
    config = LikelihoodConfig(batch_size=7, seed=4)
    likelihood_shard(Bound(trained, Images(digits / "test.npy"), "test", 9, config, CPU), 1, tmp_path / "b.npz", quiet)
    bound = read_bounds([tmp_path / "b.npz"])["test"]
    got = model.bits_per_dim(np.load(digits / "test.npy")[:9], seed=4)
    assert got.shape == (9,)
    np.testing.assert_allclose(got, bound["prior"] + bound["terms"].sum(1), rtol=1e-5)
    assert got.mean() == pytest.approx(likelihood_summary(bound)["bits_per_dim"], rel=1e-5)


def test_card_says_what_was_trained_and_how_it_is_computed(model, trained):
    card = model.card
    assert card["name"] == "digits-eps-simple-test"
    assert (card["data"], card["step"], card["status"], card["weights"]) == ("digits", 12, "trained", "ema")
    assert (card["trained_in"], card["computed_in"], card["device"]) == ("fp32", "fp32", "cpu")
    assert card["scale"] == trained.header["scale"]
    assert card["image_shape"] == (8, 8, 1)
    assert card["diffusion"]["timesteps"] == 20
    assert card["sha256"] == trained.sha256
    assert repr(model) == "<digits-eps-simple-test, trained, step 12, on cpu in fp32>"


def test_an_experiments_folder_is_its_model(weights, trained):
    assert load(str(weights.parent)).card["sha256"] == trained.sha256


def test_what_cannot_be_done_is_said(model, weights, tmp_path):
    digits = np.zeros((2, 8, 8, 1), np.uint8)
    for wrong in (digits[:0], digits[:, :4], digits.astype(float)):
        with pytest.raises(UserError, match="this network's are uint8"):
            model.bits_per_dim(wrong)
    for settings, key in (({"n": 0}, "images"), ({"n": 1, "previews": -1}, "previews"), ({"n": 1, "seed": -1}, "seed")):
        with pytest.raises(UserError, match=f"sample: {key}: -?\\d: Input should be greater than"):
            model.sample(**settings)
    with pytest.raises(UserError, match=r"sample: eta\.0: 1\.5: Input should be less than or equal to 1"):
        model.sample(1, steps=5, eta=1.5)
    with pytest.raises(UserError, match="has 20 timesteps"):
        model.sample(1, steps=21)
    with pytest.raises(UserError, match="leave `steps` out"):
        model.sample(1, steps=5, previews=2)
    with pytest.raises(UserError, match=r"nothing\.safetensors: no such file"):
        load(tmp_path / "nothing.safetensors")
    for device in ("nonsense", "cuda:99"):
        with pytest.raises(UserError, match="torch cannot use it"):
            load(weights, device)
    broken = load(weights, "cpu")
    broken.trained.model.conv_out.bias.fill_(float("nan"))
    for steps in (None, 5):
        with pytest.raises(UserError, match="unstable"):
            broken.sample(1, steps=steps)
