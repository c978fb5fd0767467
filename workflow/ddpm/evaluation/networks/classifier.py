"""A classifier of the data set: its activations and class probabilities stand for Inception's at small scales."""

import hashlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.adamw import adamw  # the class of that name loads torch's compiler, which takes two seconds
from torch.optim.sgd import sgd

from ddpm.compute import rng
from ddpm.config.enums import Architecture
from ddpm.config.errors import DamagedFile, UserError
from ddpm.config.schema import ClassifierConfig
from ddpm.data.pixels import to_model_range
from ddpm.data.store import Images
from ddpm.evaluation.networks.base import FeatureNetwork
from ddpm.storage.checkpoints import save_weights, unpack
from ddpm.storage.files import Log, read_npz

ADAMW = {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0.05, "amsgrad": False, "maximize": False}
SGD = {"momentum": 0.9, "weight_decay": 5e-4, "dampening": 0.0, "nesterov": True, "maximize": False}
SHIFT = 4  # pixels in each direction by which training moves the images of a ResNet, at random


class ConvNet(nn.Module):
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


class ResNet10(nn.Module):
    """He et al. (2015) with one block per level, for images [N, C, H, W] in [-1, 1] of 32x32 and more."""

    def __init__(self, channels: int, classes: int, config: ClassifierConfig):
        from torchvision.models.resnet import BasicBlock

        super().__init__()
        width = config.width
        levels = []
        for i in range(4):
            c_in, c_out, stride = width << max(i - 1, 0), width << i, 2 if i else 1
            levels.append(BasicBlock(c_in, c_out, stride, shortcut(c_in, c_out, stride) if i else None))
        self.body = nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            *levels,
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        self.head = nn.Linear(8 * width, classes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Activations [N, 8 width] and class logits [N, classes]."""
        features = self.body(x.contiguous(memory_format=torch.channels_last))
        return features, self.head(features)


def shortcut(c_in: int, c_out: int, stride: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(c_in, c_out, 1, stride=stride, bias=False), nn.BatchNorm2d(c_out))


MODELS = {Architecture.CONVNET: ConvNet, Architecture.RESNET10: ResNet10}


class ClassifierNetwork(FeatureNetwork):
    """The classifier as the network of the scores."""

    batch_size = 512

    def __init__(self, model: ConvNet | ResNet10, name: str, sha256: str):
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
    model = MODELS[config.architecture](images.card["channels"], classes, config)
    resnet = config.architecture is Architecture.RESNET10
    name = f"{images.card['name']} {'ResNet-10' if resnet else 'classifier'}"
    model.to(device, memory_format=torch.channels_last if resnet else torch.contiguous_format)
    train(model, x, labels, config, images.card["flip"], log)
    log(f"trained the {name} for {config.epochs} epochs")
    header = {
        "name": name,
        "channels": images.card["channels"],
        "classes": classes,
        "config": config.model_dump(mode="json"),
        "data_sha256": images.sha256,
        "test_accuracy": test_accuracy(ClassifierNetwork(model.eval(), name, ""), data, log),
    }
    save_weights(path, model.state_dict(), header)


def train(
    model: ConvNet | ResNet10, x: Tensor, labels: Tensor, config: ClassifierConfig, flip: bool, log: Log = print
) -> None:
    """Train on x [N, C, H, W] in [-1, 1] and labels [N] int64, each epoch in a random order.

    A ConvNet by AdamW at one rate; a ResNet on moved images, in bf16 on a GPU, by SGD with one cycle of the rate (Smith
    and Topin, 2017).
    """
    weights, resnet = list(model.parameters()), isinstance(model, ResNet10)
    means, squares = ([torch.zeros_like(weight) for weight in weights] for _ in range(2))
    updates, step = [torch.tensor(0.0) for _ in weights], 0
    total = config.epochs * -(-len(x) // config.batch_size)
    for epoch in range(config.epochs):
        order = torch.randperm(len(x), generator=rng.generator(config.seed, "classifier order", epoch))
        for batch in order.to(x.device).split(config.batch_size):
            images = augmented(x[batch], flip, config.seed, step) if resnet else x[batch]
            with torch.autocast(x.device.type, torch.bfloat16, enabled=resnet and x.device.type == "cuda"):
                loss = F.cross_entropy(model(images)[1].float(), labels[batch])
            gradients = list(torch.autograd.grad(loss, weights))
            with torch.no_grad():
                if resnet:
                    rate = config.learning_rate * min(step / (0.25 * total), (total - step) / (0.75 * total))
                    sgd(weights, gradients, means, lr=rate, has_sparse_grad=False, foreach=True, **SGD)
                else:
                    adamw(weights, gradients, means, squares, [], updates, lr=config.learning_rate, **ADAMW)
            step += 1
        log(f"classifier: epoch {epoch + 1}/{config.epochs} loss {loss.item():.3f}")


def augmented(x: Tensor, flip: bool, seed: int, step: int) -> Tensor:
    """The images [N, C, H, W], each moved by up to SHIFT pixels over black, and mirrored or not."""
    count, _, height, width = x.shape
    draws = rng.generator(seed, "classifier shifts", step)
    down, right = torch.randint(2 * SHIFT + 1, (2, count, 1), generator=draws).to(x.device)
    rows, columns = down + torch.arange(height, device=x.device), right + torch.arange(width, device=x.device)
    if flip:
        mirrored = (torch.rand(count, 1, generator=draws) < 0.5).to(x.device)
        columns = torch.where(mirrored, columns.flip(1), columns)
    padded = F.pad(x, (SHIFT, SHIFT, SHIFT, SHIFT), value=-1.0).permute(0, 2, 3, 1)
    images = torch.arange(count, device=x.device)[:, None, None]
    return padded[images, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def test_accuracy(network: ClassifierNetwork, data: Path, log=print) -> float | None:
    """The part of the test images whose class the network finds; None where there are none."""
    images = Images(data / "test.npy")
    if not len(images):
        return None
    labels = read_npz(data / "labels.npz", "test")["test"]
    right = float((network(images[:])[1].argmax(1) == labels).mean())
    log(f"{right:.2%} of the {len(images):,} test images are classified right")
    return right


def load_classifier(path: Path, device: torch.device | str = "cpu") -> FeatureNetwork:
    """The feature network that `train_classifier` wrote."""
    content = path.read_bytes()
    tensors, header = unpack(content, path)
    try:
        config = ClassifierConfig(**header["config"])
        model = MODELS[config.architecture](header["channels"], header["classes"], config)
        model.load_state_dict(tensors)
    except (KeyError, RuntimeError, ValueError) as error:
        raise DamagedFile(path, f"is not a classifier of this project ({error})") from error
    return ClassifierNetwork(model.to(device).eval(), header["name"], hashlib.sha256(content).hexdigest())
