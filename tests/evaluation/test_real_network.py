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
    """Features [16, 2048] and probabilities [16, 1008]."""
    return network(IMAGES)


@pytest.fixture(scope="module")
def theirs(file, tmp_path_factory) -> np.ndarray:
    """What clean-fid's `legacy_tensorflow` makes of a folder of the same images, features [16, 2048]."""
    from cleanfid.fid import get_folder_features
    from cleanfid.inception_torchscript import InceptionV3W

    folder = tmp_path_factory.mktemp("images")
    for i, image in enumerate(IMAGES):
        Image.fromarray(image).save(folder / f"{i:02d}.png")
    # `build_feature_extractor` does the same with a file that it looks for in a shared temporary folder.
    model = InceptionV3W(str(file.parent), download=False, resize_inside=True).eval()
    settings = {"num_workers": 0, "device": torch.device("cpu"), "mode": "legacy_tensorflow", "verbose": False}
    return get_folder_features(str(folder), model, **settings)


@pytest.mark.parametrize("file", [pytest.param("published", marks=pytest.mark.network)], indirect=True)
def test_the_published_file_is_the_one_whose_hash_is_known(file):
    assert sha256(file) == SHA256
    assert load_stand_in(file).name == NAME


def test_features_are_clean_fids(ours, theirs):
    assert theirs.shape == (16, 2048)
    np.testing.assert_allclose(ours[0], theirs, rtol=1e-3, atol=1e-4)


def test_probabilities_are_the_files_own_without_its_bias(file, ours):
    model = torch.jit.load(file).eval()
    x = torch.from_numpy(IMAGES).permute(0, 3, 1, 2).float()
    with torch.inference_mode():
        expected, with_bias = model(x, no_output_bias=True).numpy(), model(x).numpy()
    assert expected.shape == (16, 1008)
    np.testing.assert_allclose(ours[1], expected, rtol=1e-3, atol=1e-6)
    assert np.abs(with_bias - expected).max() > 10 * np.abs(ours[1] - expected).max(), "which the bias would change"


def test_the_fid_of_both_is_the_same(ours, theirs):
    """Between the first and the second half of the images."""
    first, second = (
        frechet_distance(*statistics(features[:8]), *statistics(features[8:])) for features in (ours[0], theirs)
    )
    assert first > 0
    assert first == pytest.approx(second, rel=1e-6)
