"""The Inception network of the paper's scores, as others published it for PyTorch (no torch to import this)."""

import hashlib
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np

from ddpm.config.errors import DamagedFile, UserError
from ddpm.config.sources import RemoteFile
from ddpm.evaluation.networks.base import CLEAN, FeatureNetwork

if TYPE_CHECKING:
    import torch
    from cleanfid.inception_torchscript import InceptionV3W
    from torch import Tensor

# NVIDIA's translation to TorchScript of the graph that OpenAI's Inception Score and TTUR's FID load
# (http://download.tensorflow.org/models/image/imagenet/inception-2015-12-05.tgz). It resizes images as that graph does.
# NVIDIA publishes no checksum. This one is of k-diffusion (evaluation.py), which refuses any other file.
SHA256 = "f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4"
INCEPTION = RemoteFile(
    name="inception-2015-12-05.pt",
    urls=("https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics/inception-2015-12-05.pt",),
    sha256=SHA256,
)
NAME = "Inception (2015-12-05)"
AGREEMENT = 1e-3  # largest difference between two ways to the same probabilities
ANOTHER = f"Compare it with its publisher's, or give {INCEPTION.name} itself."  # it is a user's own
ARGUMENTS = {"return_features", "no_output_bias"}


class Inception(FeatureNetwork):
    """The features of FID, and the Inception Score's softmax without bias, in one pass; those of clean-FID in another.

    The first has the graph's own resize (clean-fid's mode `legacy_tensorflow`), the second clean-fid's (`clean`).
    """

    batch_size = 128  # some 2 GB at the network's own 299x299
    kinds = (*FeatureNetwork.kinds, CLEAN)

    def __init__(self, model: "InceptionV3W", path: Path, device: "torch.device | str", checksum: str):
        self.model, self.path, self.device, self.sha256 = model, path, device, checksum
        # Whatever else has the same interface is not called by Inception's name.
        self.name = NAME if self.sha256 == SHA256 else f"TorchScript network {self.sha256[:8]}"
        self.output: Tensor | None = None  # [K, D], known after the first pass

    def batch(self, images: np.ndarray) -> tuple["Tensor", "Tensor"]:
        x = self.on_device(images)
        features = self.model.base(x, return_features=True)
        if self.output is None:
            self.output = self.output_weight(x, features)
        return features, (features @ self.output.T).softmax(1)

    def arrays(self, images: np.ndarray) -> dict[str, np.ndarray]:
        (clean,) = self.run(self.clean_batch, images, self.batch_size)
        return {**super().arrays(images), CLEAN: clean}

    def clean_batch(self, images: np.ndarray) -> tuple["Tensor"]:
        """One pass over images that clean-fid resizes: uint8 [n, H, W, C], n > 0 -> features [n, D]."""
        import torch
        from cleanfid.resize import build_resizer

        colour = np.broadcast_to(images, (*images.shape[:3], 3))
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:  # Pillow holds no lock while it resizes
            x = self.on_device(np.stack(list(pool.map(build_resizer("clean"), colour))))
        return (self.model.layers((x - 128) / 128).flatten(1),)  # as InceptionV3W, but of any width

    def on_device(self, images: np.ndarray) -> "Tensor":
        """Images [n, H, W, 1 or 3] as float [n, 3, H, W], 0..255: a grey image's channel stands for three."""
        import torch

        x = torch.from_numpy(np.array(images)).to(self.device).permute(0, 3, 1, 2).float()  # channels_last, as it lies
        return x.expand(-1, 3, -1, -1)

    def output_weight(self, x: "Tensor", features: "Tensor") -> "Tensor":
        """The weight [K, D] of the last layer, after a check that the probabilities are those of `model` itself."""
        found = [
            p
            for p in self.model.base.parameters()
            if features.dim() == p.dim() == 2 and p.shape[1] == features.shape[1]
        ]
        if len(found) != 1:
            raise DamagedFile(self.path, "has no last layer that could be Inception's", ANOTHER)
        probabilities, expected = (features @ found[0].T).softmax(1), self.model.base(x, no_output_bias=True)
        if probabilities.shape != expected.shape or (probabilities - expected).abs().max() > AGREEMENT:
            raise DamagedFile(self.path, "gives other probabilities than its features and its last layer", ANOTHER)
        return found[0]


def load_inception(path: Path, device: "torch.device | str" = "cpu", trusted: str | None = None) -> Inception:
    """The network in the TorchScript file `path`.

    TorchScript is a program. It can call nothing but torch's own operators, but these read and write files, as soon as
    it is opened. So no file is opened that is not known by its checksum.

    Args:
        trusted: sha256 of another file than the published one, for which the caller answers.

    Raises:
        UserError: it is another file.
        DamagedFile: it is no TorchScript file, or takes other arguments than Inception. (Its last layer is checked when
            the first images come.)
    """
    import torch
    from cleanfid.inception_torchscript import InceptionV3W  # clean-fid's other modules load torchvision: 3 CPU seconds

    content, expected = path.read_bytes(), trusted or SHA256  # read once: what is compared is what is opened
    if (found := hashlib.sha256(content).hexdigest()) != expected:
        whose = "the one that you trust" if trusted else f"the published {INCEPTION.name}"
        raise UserError(
            f"{path}: is not {whose}: its sha256 is {found}, not {expected}. A TorchScript file can do whatever you "
            "can, so it was not opened. Download it again; if you know where this one comes from, and trust it, name "
            "its sha256: sources.inception.sha256 in config.yaml, or --network-sha256."
        )
    try:
        with warnings.catch_warnings():  # torch would have the file in another format; it is published in this one
            warnings.simplefilter("ignore", FutureWarning)
            with TemporaryDirectory() as folder:  # clean-fid opens a file of this name in a folder
                (Path(folder) / INCEPTION.name).write_bytes(content)
                model = InceptionV3W(folder, download=False).eval()
        model = model.to(device=device, memory_format=torch.channels_last)
        arguments = {argument.name for argument in model.base.forward.schema.arguments}
    except (RuntimeError, AttributeError) as error:
        raise DamagedFile(path, f"not a TorchScript network ({str(error).splitlines()[0]})", ANOTHER) from error
    if not arguments >= ARGUMENTS:
        raise DamagedFile(path, f"does not take {', '.join(sorted(ARGUMENTS - arguments))}: not Inception", ANOTHER)
    return Inception(model, path, device, found)
