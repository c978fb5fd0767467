"""The networks of the scores: one interface, the Inception file read as it was meant, and nothing else for it."""

import numpy as np
import pytest
import torch
from servers import serving
from stand_in import StandIn, load_stand_in, pictures, write_torchscript
from torch import Tensor, nn
from typer.testing import CliRunner

from ddpm.cli import app
from ddpm.config.errors import DamagedFile, UserError
from ddpm.config.sources import RemoteFile
from ddpm.evaluation.networks import inception, load_network
from ddpm.storage.files import read_json, sha256


@pytest.fixture
def file(tmp_path):
    return tmp_path / "inception-2015-12-05.pt"


def test_one_pass_gives_what_two_calls_of_the_module_would(file):
    module = write_torchscript(StandIn(), file)
    images = pictures(10)
    features, probabilities = load_stand_in(file)(images, batch_size=4)  # which does not divide 10
    x = torch.from_numpy(images).permute(0, 3, 1, 2).float()
    with torch.inference_mode():
        np.testing.assert_allclose(features, module(x, return_features=True), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(probabilities, module(x, no_output_bias=True), rtol=1e-4, atol=1e-6)
        assert not np.allclose(probabilities, module(x), atol=1e-3)  # OpenAI's score has no bias
    assert features.dtype == probabilities.dtype == np.float32
    assert (features.shape, probabilities.shape) == ((10, 64), (10, 20))


def test_grey_images_stand_for_three_channels(file):
    write_torchscript(StandIn(), file)
    grey = pictures(6, channels=1)
    for ours, theirs in zip(load_stand_in(file)(grey), load_stand_in(file)(grey.repeat(3, 3)), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5)


def test_no_images_have_features_of_the_right_width(file):
    write_torchscript(StandIn(), file)  # which takes no empty batch, as the published file does not
    features, probabilities = load_stand_in(file)(pictures(0))
    assert (features.shape, probabilities.shape) == ((0, 64), (0, 20))


def test_only_the_published_file_is_called_inception(file, monkeypatch):
    write_torchscript(StandIn(), file)
    network = load_stand_in(file)
    assert network.sha256 == sha256(file)
    assert network.name == f"TorchScript network {network.sha256[:8]}"
    monkeypatch.setattr(inception, "SHA256", sha256(file))
    assert load_stand_in(file).name == "Inception (2015-12-05)"


class TwoLayers(StandIn):
    """Its probabilities come from features that it does not give."""

    def __init__(self):
        super().__init__()
        self.hidden = nn.Linear(64, 64)


class Sharper(StandIn):
    """Its probabilities are not the softmax of its last layer."""

    def forward(
        self, img: Tensor, return_features: bool = False, use_fp16: bool = False, no_output_bias: bool = False
    ) -> Tensor:
        features = self.layers((img - 128) / 128)
        if return_features:
            return features
        return (2 * torch.matmul(features, self.output.weight.t())).softmax(1)


class Plain(nn.Module):
    """Gives probabilities of a batch and nothing else."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Identity()
        self.output = nn.Linear(3, 20)

    def forward(self, img: Tensor) -> Tensor:
        return self.output(img.mean([2, 3])).softmax(1)


def test_a_network_with_another_head_is_refused_at_the_first_batch(file):
    for model, words in ((TwoLayers(), "no last layer"), (Sharper(), "other probabilities")):
        write_torchscript(model, file)
        network = load_stand_in(file)
        with pytest.raises(DamagedFile, match=rf"inception-2015-12-05\.pt: .*{words}"):
            network(pictures(2))


def test_what_is_no_such_network_is_refused_before_any_batch(file, tmp_path):
    write_torchscript(Plain(), file)
    with pytest.raises(DamagedFile, match="does not take no_output_bias, return_features"):
        load_stand_in(file)
    torch.save({"weight": torch.zeros(2)}, file)
    with pytest.raises(DamagedFile, match="not a TorchScript network"):
        load_stand_in(file)
    file.write_bytes(b"<html>" * 100)
    with pytest.raises(DamagedFile, match="not a TorchScript network"):
        load_stand_in(file)
    (tmp_path / "net.onnx").touch()
    with pytest.raises(UserError, match=r"\.safetensors.*\.pt"):
        load_network(tmp_path / "net.onnx")
    with pytest.raises(UserError, match="no such file"):
        load_network(tmp_path / "absent.pt")


def test_the_network_is_downloaded_with_a_card(file, tmp_path, monkeypatch):
    write_torchscript(StandIn(), file)
    with serving() as server:
        server.add("file", file.read_bytes())
        remote = RemoteFile(name=file.name, urls=(f"{server.url}/file",), sha256=sha256(file))
        monkeypatch.setattr(inception, "INCEPTION", remote)
        done = CliRunner().invoke(app, ["download-network", "--out", str(tmp_path / "to")])
    assert done.exit_code == 0, done.output
    card = read_json(tmp_path / "to" / "card.json")
    assert card["network"] == "Inception (2015-12-05)"
    assert card["files"][file.name]["sha256"] == sha256(file)
    assert load_stand_in(tmp_path / "to" / file.name).sha256 == sha256(file)
