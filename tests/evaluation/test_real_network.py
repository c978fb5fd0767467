"""The scores' network beside clean-fid's use of the same file: a stand-in of it here, and the published one if asked.

    ./run tests -m network tests/evaluation/test_real_network.py                  downloads it
    DDPM_INCEPTION=/data/inception-2015-12-05.pt ./run tests -m network ...       takes it from there

Whatever stands for it, the code of the comparison is the same.
"""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from stand_in import StandIn, load_stand_in, write_torchscript
from typer.testing import CliRunner

from ddpm.cli import app
from ddpm.evaluation.fid import frechet_distance, statistics
from ddpm.evaluation.networks.inception import INCEPTION, NAME, SHA256
from ddpm.storage.download import downloaded
from ddpm.storage.files import sha256

# clean-fid, and a test below, load it as it is published; torch would have it in another format.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.load` is deprecated:FutureWarning")

IMAGES = np.random.default_rng(0).integers(0, 256, (16, 32, 32, 3), np.uint8)


@pytest.fixture(scope="module", params=["stand-in", pytest.param("published", marks=pytest.mark.network)])
def file(request, tmp_path_factory) -> Path:
    """The network under its published name, alone in a folder: clean-fid takes a folder."""
    path = tmp_path_factory.mktemp("inception") / INCEPTION.name
    if request.param == "stand-in":
        write_torchscript(StandIn(features=2048, classes=1008), path)
    elif own := os.environ.get("DDPM_INCEPTION"):
        path.symlink_to(Path(own).absolute())
    else:
        done = CliRunner().invoke(app, ["download-network", "--out", str(path.parent)])
        assert done.exit_code == 0, done.output
        assert downloaded(path.parent / "card.json")["network"] == NAME
    return path


@pytest.fixture(scope="module")
def network(file):
    return load_stand_in(file)


@pytest.fixture(scope="module")
def ours(network):
    """Features [16, 2048] and probabilities [16, 1008], and the features of clean-FID."""
    return network.arrays(IMAGES)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The images as files, in a folder for each half."""
    folder = tmp_path_factory.mktemp("images")
    for i, image in enumerate(IMAGES):
        (half := folder / "ab"[i // 8]).mkdir(exist_ok=True)
        Image.fromarray(image).save(half / f"{i:02d}.png")
    return folder


@pytest.fixture(scope="module", params=["features", "clean_features"])
def kind(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def settings(file, kind) -> dict:
    """How clean-fid is called for these features; what `build_feature_extractor` makes of a file that it downloads."""
    from cleanfid.inception_torchscript import InceptionV3W

    model = InceptionV3W(str(file.parent), download=False, resize_inside=kind == "features").eval()
    mode = "legacy_tensorflow" if kind == "features" else "clean"
    return {"model": model, "num_workers": 0, "device": torch.device("cpu"), "mode": mode, "verbose": False}


@pytest.fixture(scope="module")
def theirs(folder, settings) -> np.ndarray:
    """clean-fid's features of a folder of the same images, [16, 2048]."""
    from cleanfid.fid import get_folder_features

    return get_folder_features(str(folder), **settings)


@pytest.mark.parametrize("file", [pytest.param("published", marks=pytest.mark.network)], indirect=True)
def test_the_published_file_is_the_one_whose_hash_is_known(file):
    assert sha256(file) == SHA256
    assert load_stand_in(file).name == NAME


def test_features_are_clean_fids(ours, theirs, kind):
    assert theirs.shape == (16, 2048)
    np.testing.assert_allclose(ours[kind], theirs, rtol=1e-3, atol=1e-4)


def test_probabilities_are_the_files_own_without_its_bias(file, ours):
    model = torch.jit.load(file).eval()
    x = torch.from_numpy(IMAGES).permute(0, 3, 1, 2).float()
    with torch.inference_mode():
        expected, with_bias = model(x, no_output_bias=True).numpy(), model(x).numpy()
    assert expected.shape == (16, 1008)
    np.testing.assert_allclose(ours["probabilities"], expected, rtol=1e-3, atol=1e-6)
    assert np.abs(with_bias - expected).max() > 10 * np.abs(ours["probabilities"] - expected).max(), (
        "which the bias would change"
    )


def test_the_fid_of_both_is_the_same(ours, theirs, kind):
    """Between the first and the second half of the images."""
    first, second = (
        frechet_distance(*statistics(features[:8]), *statistics(features[8:])) for features in (ours[kind], theirs)
    )
    assert first > 0
    assert first == pytest.approx(second, rel=1e-6)


@pytest.mark.parametrize("file", [pytest.param("published", marks=pytest.mark.network)], indirect=True)
def test_the_fid_is_clean_fids_of_two_folders(ours, folder, settings, kind):
    """Whose root of a singular matrix, of 8 images and 2,048 features, is exact to some thousandths only."""
    from cleanfid.fid import compute_fid

    call = {key: value for key, value in settings.items() if key != "model"}
    theirs = compute_fid(str(folder / "a"), str(folder / "b"), custom_feat_extractor=settings["model"], **call)
    mine = frechet_distance(*statistics(ours[kind][:8]), *statistics(ours[kind][8:]))
    assert mine == pytest.approx(theirs, rel=1e-2)
