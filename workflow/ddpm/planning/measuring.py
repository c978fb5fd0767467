"""A few steps of training and sampling, timed: the one part of planning that computes."""

from collections.abc import Callable

import torch
from torch.utils.benchmark import Timer

from ddpm.compute.device import prepare_for_inference, prepare_model
from ddpm.compute.flops import network_cost, training_flops, training_state
from ddpm.config.schema import NetworkConfig
from ddpm.diffusion import GaussianDiffusion
from ddpm.planning.plan import Plan
from ddpm.planning.rates import Kind, fingerprint, save_rates
from ddpm.sampling.ancestral import sample_ancestral
from ddpm.sampling.base import initial_noise, named_noise
from ddpm.training.model import TrainedModel
from ddpm.unet import UNet

SECONDS = 2.0  # that a measurement takes, or two steps where those take longer
BATCH = 128  # at most
CPU_STEP = 2e11  # operations of a training step on a CPU: a second or a few


def measure_plan(plan: Plan, device: torch.device, log=print) -> None:
    """Time every network of a plan on `device`, and save the rates in RATES, beside other devices'.

    Networks that do not fit into the memory are left out.
    """
    memory = plan.machine.memory if device.type == "cpu" else plan.machine.gpus[0].memory
    torch.set_num_threads(plan.machine.threads(plan.compute))
    found = {}
    experiments = plan.config.scale_config.experiments.values()
    for network, experiment in {experiment.network: experiment for experiment in experiments}.items():
        what = f"{network.image_size}x{network.image_size}, {network_cost(network).parameters:,} weights"
        batch = batch_that_fits(network, device, memory)
        if not batch:
            log(f"{what}: does not fit into the memory of {plan.device}; not measured")
            continue
        diffusion = GaussianDiffusion.from_config(experiment.diffusion).to(device)
        found[fingerprint(network)] = rates = measure_network(network, diffusion, batch, device)
        speeds = ", ".join(f"{kind} {rate / 1e12:.3g} TFLOP/s" for kind, rate in rates.items())
        log(f"{what}: {speeds} in batches of {batch}")
    save_rates(plan.device, found)


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
    training = seconds_per_call(lambda: diffusion.training_losses(model, x0, t, noise).mean().backward())

    trained = TrainedModel(prepare_for_inference(model), diffusion, {}, "", model.precision)
    with torch.inference_mode():
        x = initial_noise(trained, 0, 0, batch)
        noise = named_noise(x, 0, "z")
        sampling = seconds_per_call(lambda: sample_ancestral(trained, x, [0], noise))
    return {
        Kind.TRAINING.value: batch * training_flops(network) / training,
        Kind.SAMPLING.value: batch * network_cost(network).flops / sampling,
    }


def seconds_per_call(step: Callable[[], object]) -> float:
    """On average, without the first call, in which libraries start."""
    timer = Timer("step()", globals={"step": step}, num_threads=torch.get_num_threads())
    return timer.blocked_autorange(min_run_time=SECONDS).mean
