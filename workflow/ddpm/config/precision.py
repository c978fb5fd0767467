"""In which precision networks compute, and how a process is told so."""

from enum import StrEnum

PRECISION_ENV = "DDPM_PRECISION"  # the environment variable that jobs read


class Precision(StrEnum):
    """What the layers of a network compute in. Their weights, and everything else, are float32."""

    AUTO = "auto"
    """bf16 where the device has instructions for it and the network is wide enough to gain by it."""
    FP32 = "fp32"
    BF16 = "bf16"
