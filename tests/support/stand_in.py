"""Small stand-ins for what is too large for tests: a network like the Inception file, and data sets of few images."""

import warnings
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ddpm.evaluation.networks import load_network
from ddpm.storage.files import sha256, write_json, write_npy, write_npz


class StandIn(nn.Module):
    """Takes and gives what the published Inception file does, and as little: colour images, and at least one."""

    def __init__(self, features: int = 64, classes: int = 20):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(
            nn.Conv2d(3, features, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        )
        self.output = nn.Linear(features, classes)
        nn.init.normal_(self.output.weight)
        nn.init.normal_(self.output.bias)

    def forward(
        self, img: Tensor, return_features: bool = False, use_fp16: bool = False, no_output_bias: bool = False
    ) -> Tensor:
        assert img.shape[0] > 0 and img.shape[1] == 3
        features = self.layers((img - 128) / 128)
        if return_features:
            return features
        logits = torch.matmul(features, self.output.weight.t())
        if not no_output_bias:
            logits = logits + self.output.bias
        return logits.softmax(1)


def write_torchscript(model: nn.Module, path: Path) -> nn.Module:
    """Write `model` as a TorchScript file, and give it back."""
    with warnings.catch_warnings():  # that torch would rather have another format
        warnings.simplefilter("ignore", FutureWarning)
        torch.jit.script(model).save(path)
    return model


def load_stand_in(path: Path):
    """The network in `path`, which a test has written and trusts."""
    return load_network(path, trusted=sha256(path))


class Counting:
    """A network that counts the images it sees; after `until` of them it is killed."""

    def __init__(self, network, until=np.inf, batch_size=4):
        self.network, self.until, self.seen, self.batch_size = network, until, 0, batch_size
        self.name, self.sha256, self.device = network.name, network.sha256, network.device
        self.kinds = network.kinds

    def __call__(self, images):
        return self.count(images, self.network)

    def arrays(self, images):
        return self.count(images, self.network.arrays)

    def count(self, images, compute):
        self.seen += len(images)
        if self.seen > self.until:
            raise KeyboardInterrupt
        return compute(images)


def write_data_set(folder: Path, train: np.ndarray, test: np.ndarray | None = None, **card) -> Path:
    """A prepared data set of these images [N, H, W, C], without labels unless `card` has classes: then all are 0."""
    test = train[:0] if test is None else test
    for split, images in (("train", train), ("test", test)):
        write_npy(folder / f"{split}.npy", images)
    labels = {split: np.zeros(len(images), np.int64) for split, images in (("train", train), ("test", test))}
    write_npz(folder / "labels.npz", **labels)
    sizes = {"image_size": train.shape[1], "channels": train.shape[3], "train": len(train), "test": len(test)}
    checksums = {split: sha256(folder / f"{split}.npy") for split in ("train", "test")}
    names = {"name": "pictures", "title": "Pictures", "classes": [], "store": "array"}
    write_json(folder / "card.json", {**names, **sizes, "sha256": checksums, **card})
    return folder


def pictures(count: int, size: int = 16, channels: int = 3, seed: int = 0) -> np.ndarray:
    """Random smooth images [count, size, size, channels], uint8."""
    coarse = np.random.default_rng(seed).integers(0, 256, (count, size // 4, size // 4, channels), np.uint8)
    return coarse.repeat(4, 1).repeat(4, 2)
