"""How fast a device computes the networks, in operations (FLOP) per second: measured here, or stated in the paper."""

from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from importlib.metadata import version
from math import nan
from pathlib import Path

from ddpm.compute.flops import network_cost
from ddpm.config.base import short_hash
from ddpm.config.errors import DamagedFile
from ddpm.config.registry import NETWORK_32, NETWORK_256
from ddpm.config.schema import NetworkConfig
from ddpm.storage.files import read_json, write_json

RATES = Path("resources/rates.json")
MEASURED = "measured on this machine"


class Kind(StrEnum):
    """What the network is computed for."""

    TRAINING = "training"
    SAMPLING = "sampling"
    """And all else that needs no gradient."""


@dataclass(frozen=True)
class Rate:
    flops: float
    """Per second, of a whole job: what the device could do is more. nan: not known."""
    source: str


# Appendix B: 21 steps per second at batch 128 and 2.2 at batch 64; 256 images in 17 s and 128 in 300 s, T = 1000.
# A training step computes each image's output and, for twice its price, the gradient.
TPU = "stated: the paper's TPU v3-8"
PASSES = {
    (Kind.TRAINING, 32): 21 * 128 * 3,
    (Kind.TRAINING, 256): 2.2 * 64 * 3,
    (Kind.SAMPLING, 32): 256 * 1000 / 17,
    (Kind.SAMPLING, 256): 128 * 1000 / 300,
}
PAPERS = {32: NetworkConfig(**NETWORK_32), 256: NetworkConfig(**NETWORK_256)}


def papers_tpu(kind: Kind, image_size: int) -> Rate:
    """The paper's rate at the nearest of its two image sizes."""
    nearest = min(PAPERS, key=lambda size: abs(size - image_size))
    return Rate(PASSES[kind, nearest] * network_cost(PAPERS[nearest]).flops, TPU)


# To tell minutes from months; and of a device that was not measured and should not be guessed at.
SLOW_CPU = Rate(1e11, "stated: 0.1 TFLOP/s, a guess at a CPU")
NO_RATE = Rate(nan, "unmeasured: `python -m ddpm plan --measure` does it")


@dataclass(frozen=True)
class Rates:
    """The rates of one device: `measured` ones by network and kind, and a `stated` one for the rest."""

    measured: dict[str, dict]
    stated: Rate | None = None
    """None: the paper's."""
    side_by_side: int = 1
    """Jobs that each compute at the measured rate at the same time."""

    def of(self, kind: Kind, network: NetworkConfig | None) -> Rate:
        """The rate of one of our networks, or of Inception (None)."""
        if network and (found := self.measured.get(fingerprint(network))):
            return Rate(self.side_by_side * found[kind], MEASURED)
        return self.stated or papers_tpu(kind, network.image_size if network else 299)


def fingerprint(network: NetworkConfig) -> str:
    """Names a network by its sizes."""
    return short_hash(network.model_dump(mode="json"))


def save_rates(device: str, networks: dict[str, dict]) -> None:
    """Have RATES say these rates of `device`, by a network's fingerprint; what it says of others stays."""
    known = read_json(RATES) if RATES.exists() else {}
    networks = read_rates(device) | networks
    about = {"torch": version("torch"), "date": date.today().isoformat(), "networks": networks}
    write_json(RATES, {**known, device: about})


def read_rates(device: str) -> dict[str, dict]:
    """What `plan --measure` found for that device: by a network's fingerprint, rates by kind. Empty if it never ran.

    Raises:
        DamagedFile: the file is none of these.
    """
    if not RATES.exists():
        return {}
    try:
        networks = read_json(RATES).get(device, {}).get("networks", {})
        return {name: {kind: float(rates[kind]) for kind in Kind} for name, rates in networks.items()}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DamagedFile(RATES, "holds no rates of devices", "Delete it and run `plan --measure` again.") from error
