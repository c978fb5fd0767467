"""A small classifier of the data set: its activations and class probabilities stand for Inception's at demo scale."""

import hashlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.adamw import adamw  # the class of that name loads torch's compiler, which takes two seconds

from ddpm import rng
from ddpm.config import ClassifierConfig
from ddpm.data.pixels import to_model_range
from ddpm.data.store import Images
from ddpm.evaluation.networks import FeatureNetwork
from ddpm.files import DamagedFile, UserError, read_npz
from ddpm.training.state import save_weights, unpack

ADAMW = {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0.05, "amsgrad": False, "maximize": False}


class Classifier(nn.Module):
    """Three convolutions and two dense layers, for images [N, C, H, W] in [-1, 1] of any size."""

    def __init__(self, channels: int, classes: int, config: ClassifierConfig):
        super().__init__()
        width = config.width
        self.convolutions = nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, padding=1, stride=2),
            nn.ReLU(),
            nn.Conv2d(2 * width, 2 * width, 3, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(4),
            nn.Flatten(),
            nn.Dropout(0.5),
        )
        self.dense = nn.Linear(2 * width * 16, config.features)
        self.head = nn.Linear(config.features, classes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Activations [N, config.features] and class logits [N, classes]."""
        features = F.relu(self.dense(self.convolutions(x)))
        return features, self.head(features)


class ClassifierNetwork(FeatureNetwork):
    """The classifier as the network of the scores."""

    batch_size = 512

    def __init__(self, model: Classifier, name: str, sha256: str):
        self.model, self.name, self.sha256 = model, name, sha256
        self.device = next(model.parameters()).device

    def batch(self, images: np.ndarray) -> tuple[Tensor, Tensor]:
        features, logits = self.model(to_model_range(images).to(self.device))
        return features, logits.softmax(1)


def train_classifier(config: ClassifierConfig, data: Path, path: Path, device: torch.device, log=print) -> None:
    """Train on the labelled training set in folder `data` and write the weights to `path`."""
    images = Images(data / "train.npy")
    classes = len(images.card["classes"])
    if not classes:
        raise UserError(f"{data}: this data set has no labels to train a classifier on.")
    labels = torch.from_numpy(read_npz(data / "labels.npz", "train")["train"]).to(device)
    x = to_model_range(images[:]).to(device)
    torch.manual_seed(rng.seed_of(config.seed, "classifier"))
    model = Classifier(images.card["channels"], classes, config).to(device)
    weights = list(model.parameters())
    means, squares = ([torch.zeros_like(weight) for weight in weights] for _ in range(2))
    steps = [torch.tensor(0.0) for _ in weights]
    for epoch in range(config.epochs):
        order = torch.randperm(len(x), generator=rng.generator(config.seed, "classifier order", epoch))
        for batch in order.to(device).split(config.batch_size):
            gradients = torch.autograd.grad(F.cross_entropy(model(x[batch])[1], labels[batch]), weights)
            with torch.no_grad():
                adamw(weights, list(gradients), means, squares, [], steps, lr=config.learning_rate, **ADAMW)
    log(f"trained the {images.card['name']} classifier for {config.epochs} epochs")
    header = {
        "name": f"{images.card['name']} classifier",
        "channels": images.card["channels"],
        "classes": classes,
        "config": config.model_dump(mode="json"),
        "data_sha256": images.sha256,
    }
    save_weights(path, model.state_dict(), header)


def load_classifier(path: Path, device: torch.device | str = "cpu") -> FeatureNetwork:
    """The feature network that `train_classifier` wrote."""
    content = path.read_bytes()
    tensors, header = unpack(content, path)
    try:
        model = Classifier(header["channels"], header["classes"], ClassifierConfig(**header["config"]))
        model.load_state_dict(tensors)
    except (KeyError, RuntimeError, ValueError) as error:
        raise DamagedFile(path, f"is not a classifier of this project ({error})") from error
    return ClassifierNetwork(model.to(device).eval(), header["name"], hashlib.sha256(content).hexdigest())
