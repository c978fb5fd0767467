"""A few steps of training and sampling, timed: the one part of planning that computes."""

import time
from collections.abc import Callable, Iterable
from pathlib import Path

import torch

from ddpm.compute.device import prepare_for_inference, prepare_model
from ddpm.compute.flops import network_cost, training_flops, training_state
from ddpm.config.experiment import Experiment
from ddpm.config.schema import NetworkConfig
from ddpm.diffusion import GaussianDiffusion
from ddpm.planning.plan import Plan, threads_of
from ddpm.planning.rates import RATES, Kind, fingerprint, keep_rates
from ddpm.sampling.ancestral import sample_ancestral
from ddpm.sampling.base import initial_noise, named_noise
from ddpm.training.model import TrainedModel
from ddpm.unet import UNet

SECONDS = 2.0  # that a measurement takes, or one step where that is longer
BATCH = 128  # at most
CPU_STEP = 2e11  # operations of a training step on a CPU: a second or a few


def measure_plan(plan: Plan, device: torch.device, log=print) -> None:
    """Time every network of a plan on `device`, and keep the rates in its RATES."""
    memory = plan.machine.memory if device.type == "cpu" else plan.machine.gpus[0].memory
    torch.set_num_threads(threads_of(plan.config, plan.machine))
    measure(plan.config.scale_config.experiments.values(), device, plan.device, memory, plan.root / RATES, log)


def measure(
    experiments: Iterable[Experiment],
    device: torch.device,
    name: str,
    memory: int | None,
    path: Path,
    log=print,
) -> None:
    """Time every distinct network of `experiments` on `device`; `path` keeps the rates, beside other devices'.

    Args:
        name: what the file calls the device.
        memory: its bytes, where known; networks that do not fit are left out.
    """
    known = {}
    for network, experiment in {experiment.network: experiment for experiment in experiments}.items():
        what = f"{network.image_size}x{network.image_size}, {network_cost(network).parameters:,} weights"
        batch = batch_that_fits(network, device, memory)
        if not batch:
            log(f"{what}: does not fit into the memory of {name}; not measured")
            continue
        diffusion = GaussianDiffusion.from_config(experiment.diffusion).to(device)
        known[fingerprint(network)] = rates = measure_network(network, diffusion, batch, device)
        speeds = ", ".join(f"{kind} {rate / 1e12:.3g} TFLOP/s" for kind, rate in rates.items())
        log(f"{what}: {speeds} in batches of {batch}")
    keep_rates(path, name, known)


def batch_that_fits(network: NetworkConfig, device: torch.device, memory: int | None) -> int:
    """Images per step; 0 where not even one fits. Half the memory is left to what a step needs beside."""
    room = (memory // 2 - training_state(network)) // network_cost(network).kept if memory else BATCH
    if device.type == "cpu":
        room = min(room, max(1, int(CPU_STEP / training_flops(network))))
    return max(0, min(room, BATCH))


def measure_network(
    network: NetworkConfig, diffusion: GaussianDiffusion, batch: int, device: torch.device
) -> dict[str, float]:
    """Operations per second by kind. The update of the weights, which does not depend on the batch, is left out."""
    model = prepare_model(UNet(network), device).train()
    x0 = torch.rand(batch, network.channels, network.image_size, network.image_size, device=device) * 2 - 1
    t = torch.randint(diffusion.num_timesteps, (batch,), device=device)
    noise = torch.randn_like(x0)
    training = seconds(lambda: diffusion.training_losses(model, x0, t, noise).mean().backward(), device)

    trained = TrainedModel(prepare_for_inference(model), diffusion, {}, "", model.precision)
    with torch.inference_mode():
        x = initial_noise(trained, 0, 0, batch)
        noise = named_noise(x, 0, "z")
        sampling = seconds(lambda: sample_ancestral(trained, x, [0], noise), device)
    return {
        Kind.TRAINING.value: batch * training_flops(network) / training,
        Kind.SAMPLING.value: batch * network_cost(network).flops / sampling,
    }


def seconds(step: Callable[[], object], device: torch.device) -> float:
    """Of one call, on average. The first, in which libraries start, counts only if a CPU needs long for it."""

    def timed(calls: int) -> float:
        began = time.monotonic()
        for _ in range(calls):
            step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.monotonic() - began

    first = timed(1)
    if device.type == "cpu" and first > SECONDS:
        return first
    calls, taken = 1, timed(1)
    while taken < SECONDS:
        more = max(1, int(min(calls, (SECONDS - taken) * calls / taken)))
        taken += timed(more)
        calls += more
    return taken / calls
