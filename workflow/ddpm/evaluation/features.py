"""Features and class probabilities of one shard of samples, and of its previews."""

from pathlib import Path

import numpy as np

from ddpm.evaluation.networks import FeatureNetwork
from ddpm.files import read_npz, write_npz
from ddpm.shards import pack_header, read_shard, unpack_header


def write_features(network: FeatureNetwork, samples: Path, path: Path) -> None:
    """Write `features` [n, D], `probabilities` [n, K], and the same of the previews [previews, n, D or K]."""
    shard, drawn = read_shard(samples, "images", "previews", "preview_times", "start")
    features, probabilities = network(shard["images"])
    count, slots = shard["previews"].shape[:2]
    previews = shard["previews"].swapaxes(0, 1).reshape(slots * count, *shard["previews"].shape[2:])
    preview_features, preview_probabilities = network(previews)
    header = {**drawn, "network": {"name": network.name, "sha256": network.sha256}}
    write_npz(
        path,
        features=features,
        probabilities=probabilities,
        preview_features=preview_features.reshape(slots, count, features.shape[1]),
        preview_probabilities=preview_probabilities.reshape(slots, count, probabilities.shape[1]),
        preview_times=shard["preview_times"],
        start=shard["start"],
        header=pack_header(header),
    )


def read_features(shards: list[Path], *keys: str) -> tuple[dict[str, np.ndarray], dict]:
    """The arrays `keys` of all shards in the order of their images, and the header that they share.

    The status of the header is that of the first unstable shard, if there is one.
    """
    loaded = [read_npz(path, *keys, "start", "header") for path in shards]
    loaded.sort(key=lambda shard: int(shard["start"]))
    headers = [unpack_header(shard["header"]) for shard in loaded]
    header = next((h for h in headers if h["status"]["status"] == "unstable"), headers[0])
    axis = {key: 1 if key.startswith("preview") else 0 for key in keys}
    return {key: np.concatenate([shard[key] for shard in loaded], axis[key]) for key in keys}, header
