"""How near the pass over a shard of samples comes to the speed of the network of the scores itself."""

import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ddpm.evaluation.features import write_features
from ddpm.evaluation.inception import Inception, load_inception
from ddpm.files import sha256, write_csv, write_npz
from ddpm.processor import processor_name
from ddpm.shards import ANCESTRAL, pack_header

COLUMNS = ("network", "device", "size", "images", "network_images_per_s", "pass_images_per_s", "share")


class Untrained(nn.Module):
    """torchvision's Inception v3 at random weights behind the published file's interface: the same work, no scores."""

    def __init__(self):
        from torchvision.models import inception_v3

        super().__init__()
        trunk = inception_v3(weights=None, init_weights=False, aux_logits=False)
        trunk.fc = trunk.dropout = nn.Identity()
        self.layers = torch.jit.trace(trunk.eval(), torch.zeros(2, 3, 299, 299))
        self.output = nn.Linear(2048, 1008)

    def forward(
        self, img: Tensor, return_features: bool = False, use_fp16: bool = False, no_output_bias: bool = False
    ) -> Tensor:
        x = nn.functional.interpolate(img, size=[299, 299], mode="bilinear")
        features = self.layers((x - 128) / 128)
        if return_features:
            return features
        logits = torch.matmul(features, self.output.weight.t())
        if not no_output_bias:
            logits = logits + self.output.bias
        return logits.softmax(1)


def write_untrained(path: Path) -> Path:
    """The TorchScript file of `Untrained`."""
    with warnings.catch_warnings():  # torch would have the file in another format
        warnings.simplefilter("ignore", FutureWarning)
        torch.jit.script(Untrained().eval()).save(path)
    return path


def write_samples(path: Path, count: int, size: int) -> None:
    """A shard of `count` random images, as the sampler writes it."""
    images = np.random.default_rng(0).integers(0, 256, (count, size, size, 3), np.uint8)
    header = {
        "weights_sha256": "",
        "sampler": f"{ANCESTRAL}, none",
        "quantisation": "",
        "device": "",
        "sampling": {},
    }
    write_npz(
        path,
        images=images,
        previews=images[:, None][:, :0],
        preview_times=np.zeros(0, np.int64),
        start=np.array(0),
        status=pack_header({"status": "sampled"}),
        header=pack_header(header),
    )


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """Of wall time on a GPU; on a CPU those that this process computed, which other jobs do not change."""
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    began = clock()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return clock() - began


def untrained_network(device: torch.device) -> Inception:
    """Inception's architecture at random weights, as its file would be loaded."""
    with tempfile.TemporaryDirectory() as folder:
        file = write_untrained(Path(folder) / "untrained.pt")
        return load_inception(file, device, sha256(file))  # which was made here


def benchmark_features(
    file: Path | None,
    count: int,
    size: int,
    device: torch.device,
    out: Path | None,
    log=print,
    trusted: str | None = None,
) -> None:
    """Time the network on images that are in memory, and the whole pass from a shard's file to its features' file.

    Args:
        file: the network; Inception's architecture at random weights if None. count: images. size: of each.
        trusted: sha256 of a file that is not the published one.
    """
    with tempfile.TemporaryDirectory() as folder:
        network = load_inception(file, device, trusted) if file else untrained_network(device)
        name = network.name if file else "Inception v3 of torchvision, untrained"
        samples, features = Path(folder) / "samples.npz", Path(folder) / "features.npz"
        write_samples(samples, count, size)
        batch = torch.randint(0, 256, (min(network.batch_size, count), 3, size, size), device=device).float()
        batch = batch.contiguous(memory_format=torch.channels_last)

        def whole_pass() -> None:
            write_features(network, samples, features, log=lambda line: None)

        whole_pass()  # what is slower the first time
        # In turns, so that whatever else the machine does meets both.
        alone, passes = [], []
        for _ in range(3):
            alone.append(seconds(lambda: run(network, batch, count), device) / count)
            passes.append(seconds(whole_pass, device) / count)
    rates = [1 / min(alone), 1 / min(passes)]
    row = (name, device.type, size, count, *(round(rate, 2) for rate in rates), round(rates[1] / rates[0], 3))
    machine = torch.cuda.get_device_name() if device.type == "cuda" else processor_name()
    log(f"{machine}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    per = "images/s" if device.type == "cuda" else "images/s of a core"
    log(f"| Network | Device | Images | Network alone, {per} | Pass over a shard, {per} | Share |")
    log("|---|---|---|---|---|---|")
    log(f"| {name} | {device.type} | {count:,} of {size}x{size} | {rates[0]:,.1f} | {rates[1]:,.1f} | {row[-1]:.0%} |")
    if out:
        write_csv(out, COLUMNS, [row])


@torch.inference_mode()
def run(network: Inception, batch: Tensor, count: int) -> None:
    """The network alone, over and over the same batch, until it has seen `count` images."""
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        for first in range(0, count, len(batch)):
            network.model(batch[: count - first], return_features=True)
