"""Compile the paper's CIFAR-10 network for sampling and for the bound, into the cache that later jobs read."""

import os
import sys

import torch

from ddpm.bench import speed
from ddpm.compiling import COMPILED
from ddpm.precision import Precision

os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(COMPILED.resolve()))
device = torch.device("cuda")
for work, batch in (("sampling", 1024), ("likelihood", 500)):
    step = getattr(speed, work)(speed.paper(), batch, device, Precision.BF16, True)
    for _ in range(2):
        step()
    torch.cuda.synchronize()
    print(work, batch, "compiled", flush=True)
sys.stdout.flush()
