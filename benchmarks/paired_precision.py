"""Samples of one network in bf16, in float32 with TF32, and in float32 without, from the same noise: FID of each pair.

    python benchmarks/paired_precision.py results/glimpse/cifar10-eps-simple/model.safetensors \
        --network results/glimpse/reference/cifar10/classifier.safetensors \
        --reference results/glimpse/reference/cifar10/features.npz --out precision_pairs.csv

The FID between two sets from the same noise says what the precision changes, without the chance of other noise. Beside
it stands the FID of two halves of one set, drawn from different noise.
"""

import os
import time
from itertools import combinations
from pathlib import Path

import common
import numpy as np
import pandas as pd
import torch

from ddpm.config.enums import PRECISION_ENV, Precision
from ddpm.config.schema import FewStepsConfig
from ddpm.evaluation.fid import frechet_distance, statistics
from ddpm.evaluation.networks import load_network
from ddpm.evaluation.reference import read_reference
from ddpm.jobs.gpus import choose_device
from ddpm.sampling.runner import FewStepsSampler
from ddpm.training.model import load_model

WAYS = {"bf16": (Precision.BF16, True), "float32, TF32": (Precision.FP32, True), "float32": (Precision.FP32, False)}


def samples(weights: Path, way: str, config: FewStepsConfig, device: torch.device) -> np.ndarray:
    """Images [N, H, W, C] uint8, drawn by DDIM in one of WAYS."""
    precision, tf32 = WAYS[way]
    os.environ[PRECISION_ENV] = precision
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = tf32
    sampler = FewStepsSampler(load_model(weights, device), config, device)
    batches = []
    for first in range(0, config.images, config.batch_size):
        drawn = sampler.draw(first, min(first + config.batch_size, config.images))
        batches.append(drawn["images"][:, 0])
    return np.concatenate(batches)


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--network", type=Path, required=True, help="Network of the scores.")
    parser.add_argument("--reference", type=Path, required=True, help="features.npz of the real images.")
    parser.add_argument(
        "--out", type=Path, required=True, help="A .csv; the first 64 images of each way lie beside it."
    )
    parser.add_argument("--images", type=int, default=2048)
    parser.add_argument("--batch-size", type=int, default=1024)
    parser.add_argument("--steps", type=int, default=50, help="Of DDIM.")
    parser.add_argument("--eta", type=float, default=0.0)
    args = parser.parse_args()

    device = choose_device(args.device)
    network = load_network(args.network, device)
    real, _ = read_reference(args.reference, network.sha256)
    config = FewStepsConfig(steps=(args.steps,), eta=(args.eta,), images=args.images, batch_size=args.batch_size)
    features, images, rows = {}, {}, []
    about = {"sampler": f"DDIM, {args.steps} steps, eta {args.eta:g}", "images": args.images}
    for way in WAYS:
        began = time.perf_counter()
        images[way] = samples(args.weights, way, config, device)
        taken = time.perf_counter() - began
        features[way] = network(images[way])[0]
        ours = statistics(features[way])
        for split, theirs in real.items():
            fid = frechet_distance(*ours, *theirs)
            rows.append({"of": way, "against": f"{split} images", "fid": fid, "seconds": taken, **about})
        halves = (statistics(features[way][i::2]) for i in range(2))
        fid = frechet_distance(*next(halves), *next(halves))
        rows.append({"of": f"{way}, one half", "against": f"{way}, the other half", "fid": fid, **about})
        print(pd.DataFrame(rows).to_string(), flush=True)
    for one, other in combinations(WAYS, 2):
        fid = frechet_distance(*statistics(features[one]), *statistics(features[other]))
        apart = np.abs(images[one].astype(int) - images[other].astype(int))
        rows.append({"of": one, "against": other, "fid": fid, "mean_levels_apart": apart.mean(), **about})
    table = pd.DataFrame(rows)
    table.to_csv(args.out, index=False, float_format="%.6g")
    np.savez_compressed(args.out.with_suffix(".npz"), **{way: each[:64] for way, each in images.items()})
    print(table.to_string())


if __name__ == "__main__":
    main()
