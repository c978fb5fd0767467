"""What the scripts of this folder share."""

import argparse

import torch

from ddpm.jobs.processor import processor_name
from ddpm.planning.machine import some_cores


def parser(about: str) -> argparse.ArgumentParser:
    """Of a script's options, which all have --device."""
    made = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--device", default="auto", help="cpu, cuda, or auto: CUDA where there is a GPU.")
    return made


def device_name(device: torch.device) -> str:
    """What a table calls `device`, on which this process computes."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return some_cores(processor_name(), torch.get_num_threads())
