"""What networks compute in: asked for by the environment of a process, found without torch."""

import os
from enum import StrEnum

PRECISION_ENV = "DDPM_PRECISION"  # in the environment: of this process and of those that it starts


class Precision(StrEnum):
    """What the layers of a network compute in. Weights and all else are float32."""

    AUTO = "auto"
    """bf16 where the device has instructions for it and the network is wide enough to gain by it."""
    FP32 = "fp32"
    BF16 = "bf16"


def set_precision_env(precision: Precision) -> None:
    """Of this process and of those that it starts."""
    os.environ[PRECISION_ENV] = precision
