"""A TorchScript file is a program: none is opened that is not known by its checksum."""

import shutil
import zipfile

import pytest
import torch
from servers import serving
from stand_in import StandIn, write_torchscript
from torch import Tensor, nn
from typer.testing import CliRunner

from ddpm.cli import app
from ddpm.config.errors import DamagedFile, UserError
from ddpm.config.resolving import resolve_sources
from ddpm.evaluation.networks import load_network
from ddpm.evaluation.networks.inception import INCEPTION, SHA256
from ddpm.storage import download
from ddpm.storage.files import sha256


class Hostile(nn.Module):
    """Writes a file as soon as it is opened, by torch's own `from_file`."""

    def __init__(self, path: str):
        super().__init__()
        self.path = path

    def forward(
        self, img: Tensor, return_features: bool = False, use_fp16: bool = False, no_output_bias: bool = False
    ) -> Tensor:
        return img

    @torch.jit.export
    def __getstate__(self) -> tuple[str, bool]:
        return self.path, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[str, bool]) -> None:
        self.path = state[0]
        self.training = bool(torch.from_file(self.path, True, 16).sum() == 1)


@pytest.fixture
def hostile(tmp_path):
    path, mark = tmp_path / "there" / INCEPTION.name, tmp_path / "it ran"
    path.parent.mkdir()
    mark.write_bytes(b"")  # scripting it runs nothing
    write_torchscript(Hostile(str(mark)), path)
    mark.unlink()
    return path, mark


def test_the_attack_is_one(hostile):
    path, mark = hostile
    with pytest.warns(FutureWarning):
        torch.jit.load(path)
    assert mark.exists(), "what the tests below hold would be nothing"


# Would fail if a file were opened before its checksum was compared, or the checksum were not demanded.
@pytest.mark.parametrize("command", ["reference", "features"])
def test_no_other_file_is_opened(command, hostile, digits, tmp_path):
    path, mark = hostile
    words = {
        "reference": ["--data", digits, "--summary", tmp_path / "x.json"],
        "features": ["--samples", tmp_path / "samples.npz"],
    }[command]
    words = [command, "--network", path, *words, "--out", tmp_path / "x.npz", "--device", "cpu"]
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert isinstance(done.exception, UserError)
    assert f"its sha256 is {sha256(path)}, not {SHA256}" in str(done.exception)
    assert "sources.inception.sha256" in str(done.exception)
    assert not mark.exists()


# Would fail if the checksum were demanded of the published address alone, and not of mirrors.
def test_a_download_of_another_file_is_refused(hostile, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "ROUNDS", 1)
    path, mark = hostile
    with serving() as server:
        address = server.add("file", path.read_bytes())
        done = CliRunner().invoke(app, ["download-network", "--url", address, "--out", str(tmp_path / "to")])
    assert "does not match the known hash" in str(done.exception)
    assert not (tmp_path / "to" / INCEPTION.name).exists()
    assert not mark.exists()


def test_another_file_needs_its_own_checksum(tmp_path):
    path = tmp_path / "net.pt"
    write_torchscript(StandIn(), path)
    for trusted in (None, "0" * 64):
        with pytest.raises(UserError, match="it was not opened"):
            load_network(path, trusted=trusted)
    assert load_network(path, trusted=sha256(path)).name == f"TorchScript network {sha256(path)[:8]}"
    _, inception = resolve_sources({"inception": {"root": str(tmp_path), "sha256": sha256(path)}})
    assert inception.sha256 == sha256(path)


# Would fail if what is compared were read before what is opened, so that another file could come between.
def test_what_is_compared_is_what_is_opened(hostile, tmp_path, monkeypatch):
    path, mark = hostile
    good = tmp_path / "good.pt"
    write_torchscript(StandIn(), good)
    known = sha256(good)
    load = torch.jit.load

    def swapped(file, **options):
        shutil.copy(path, good)
        return load(file, **options)

    monkeypatch.setattr(torch.jit, "load", swapped)
    load_network(good, trusted=known)
    assert not mark.exists()


def test_a_trusted_file_that_is_no_network_is_named(tmp_path):
    path = tmp_path / "net.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x", "y")
    with pytest.raises(DamagedFile, match="not a TorchScript network"):
        load_network(path, trusted=sha256(path))
