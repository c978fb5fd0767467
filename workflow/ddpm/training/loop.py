"""Algorithm 1: the training loop, with the settings of Appendix B."""

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ddpm.compute import rng
from ddpm.compute.cuda_graph import CUDAGraphCallable
from ddpm.compute.device import compile_if_worthwhile, prepare_model
from ddpm.compute.distributed import SINGLE_PROCESS, Group, check_batch
from ddpm.compute.memory import BatchSplitter
from ddpm.config.errors import UserError
from ddpm.config.experiment import training_fingerprint
from ddpm.config.schema import DiffusionConfig, NetworkConfig, TrainingConfig
from ddpm.data.loading import feed
from ddpm.data.pixels import to_model_range
from ddpm.data.store import Images
from ddpm.diffusion import GaussianDiffusion
from ddpm.jobs.locks import Lock
from ddpm.jobs.signals import Interrupted, stop_signal
from ddpm.storage.checkpoints import folder_for_data, save_weights
from ddpm.storage.files import claim_folder, write_csv, write_json
from ddpm.storage.weights_file import EMA, IN_STATE
from ddpm.training.callbacks import (
    Callback,
    Checkpoints,
    Divergence,
    Progress,
    Snapshots,
    export_snapshots,
    refuse_foreign_snapshots,
)
from ddpm.training.optimizer import clip_by_global_norm_, update_ema_, warmup_rate
from ddpm.training.state import COLUMNS, TrainingState
from ddpm.unet import UNet


@lru_cache(maxsize=2)
def epoch_order(epoch: int, count: int, seed: int) -> np.ndarray:
    """The random order of all `count` images in `epoch`, [count] int64."""
    return np.random.Generator(np.random.PCG64(rng.seed_of(seed, "order", epoch))).permutation(count)


def image_indices(step: int, batch_size: int, count: int, seed: int) -> np.ndarray:
    """The training images of `step`, [batch_size] int64.

    The stream of images is one random order of all `count` after another, cut into batches without regard to
    where an order ends.
    """
    positions = np.arange(step * batch_size, (step + 1) * batch_size)
    epochs, places = np.divmod(positions, count)
    indices = np.empty(batch_size, dtype=np.int64)
    for epoch in np.unique(epochs).tolist():
        in_epoch = epochs == epoch
        indices[in_epoch] = epoch_order(epoch, count, seed)[places[in_epoch]]
    return indices


class Batch(NamedTuple):
    """What Algorithm 1 draws in one step."""

    x0: Tensor  # [B, C, H, W] in [-1, 1]
    t: Tensor  # [B] int64 in 0 .. T-1
    noise: Tensor  # like x0
    dropout_seeds: Tensor  # [B] int32

    def split(self, size: int) -> list["Batch"]:
        """The same in parts of at most `size` images."""
        return [Batch(*part) for part in zip(*(draw.split(size) for draw in self), strict=True)]


def training_batch(
    step: int, pixels: Tensor, config: TrainingConfig, timesteps: int, group: Group = SINGLE_PROCESS
) -> Batch:
    """What Algorithm 1 draws in `step` (lines 2 to 4), or this process's part of it.

    Args:
        pixels: the images of `image_indices`, or this process's part of them, uint8 [B, H, W, C].
    """
    batch, device = config.batch_size, pixels.device
    share = group.part(batch)  # each process draws for the whole batch: their number changes no draw
    x0 = to_model_range(pixels)
    draws = rng.generator(config.seed, "t and flips", step)
    t = torch.randint(timesteps, (batch,), generator=draws)
    flips = torch.rand(batch, generator=draws) < 0.5
    dropout = rng.generator(config.seed, "dropout", step)
    dropout_seeds = torch.randint(2**31, (batch,), generator=dropout, dtype=torch.int32)
    # A copy that blocks would wait for the GPU, and then the GPU for the next step.
    t, flips, dropout_seeds = (draw[share].to(device, non_blocking=True) for draw in (t, flips, dropout_seeds))
    if config.flip:
        x0 = torch.where(flips[:, None, None, None], x0.flip(3), x0)
    noise = rng.normal(
        config.seed, "noise", step, start=share.start, stop=share.stop, shape=x0.shape[1:], device=device
    )
    return Batch(x0, t, noise, dropout_seeds)


class Trainer:
    """One training: the network, the process, the images, and the state that goes from step to step.

    Several processes hold the same weights and share each batch; only sums of gradients pass between them.
    """

    def __init__(self, config: dict, images: Images, device: torch.device, group: Group = SINGLE_PROCESS, log=print):
        """`config` is the training document of `Experiment.stage_config`."""
        self.config = TrainingConfig(**config["training"])
        check_batch(self.config.batch_size, self.config.clip_shards, group)
        self.group = group
        self.images = images
        self.device = device
        self.log = log
        self.micro_batch = self.config.micro_batch or self.config.batch_size
        self.use_cuda_graph = False  # set for long jobs on a GPU
        self.cuda_graph: CUDAGraphCallable | None = None
        self.diffusion = GaussianDiffusion.from_config(DiffusionConfig(**config["diffusion"])).to(device)
        torch.manual_seed(rng.seed_of(self.config.seed, "initial weights"))
        self.model = prepare_model(UNet(NetworkConfig(**config["network"])), device).train()
        self.state = TrainingState(self.model)

    def run(self, callbacks: Sequence[Callback] = (), should_stop: Callable[[], bool] = lambda: False) -> bool:
        """Train to the last step, or until the loss diverges; returns False where `should_stop` ended it before.

        Args:
            callbacks: called at the end of each row of training.csv, after it is checked for divergence.
            should_stop: called after each step; with several processes, which must all end after the same step, at
                the end of each row.
        """
        state, group = self.state, self.group
        steps = self.config.steps
        callbacks = (Divergence(self.config.loss_limit, self.config.log_every), *callbacks)
        for pixels in self.batches() if state.outcome is None else ():
            state.pending.append(self.training_step(pixels))
            row_ends = state.step % self.config.log_every == 0 or state.step == steps
            if row_ends:
                stats = self.log_row()
                if state.step == steps:
                    state.outcome = trained(steps)
                for callback in callbacks:
                    callback(state, stats)
                if state.outcome is not None:
                    return True
            if (row_ends or group.size == 1) and group.any(should_stop()):
                return False
        state.outcome = state.outcome or trained(steps)  # nothing was left to do, or no steps were asked for
        return True

    def training_step(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """One step of Algorithm 1, with Adam and the EMA of Appendix B.

        Args:
            pixels: the next of `batches`.

        Returns:
            This process's loss, and the norm of the gradient before clipping; 0-d tensors on the device.
        """
        config, state = self.config, self.state
        batch = training_batch(state.step, pixels, config, self.diffusion.num_timesteps, self.group)  # lines 2 to 4
        loss, gradient, grad_norm = self.clipped_gradient(batch)  # line 5
        learning_rate = warmup_rate(state.step, config.learning_rate, config.warmup)
        state.adam.update_(state.parameters.values, gradient, state.step, learning_rate)
        update_ema_(state.ema, state.parameters.values, state.step, config.ema_decay)
        state.step += 1
        return loss, grad_norm

    def clipped_gradient(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """The gradient of the mean loss over the whole batch, of which this process has the part `batch`.

        It is clipped as a whole. With `clip_shards`, as on the authors' TPU, it is the mean of so many gradients, of a
        part of the batch each, which are clipped one by one.

        Returns:
            This process's loss, the clipped gradient of all processes, and the norm before clipping.
        """
        config, group = self.config, self.group
        shard_gradient = self.state.parameters.gradient
        shards = max(config.clip_shards // group.size, 1)  # of this process
        gradient = shard_gradient if shards == 1 else torch.zeros_like(shard_gradient)
        loss, grad_norm = torch.zeros(2, device=self.device)
        for shard in batch.split(len(batch.x0) // shards):
            loss += self.compute_gradient(shard) / shards
            if config.clip_shards > 1:
                grad_norm += clip_by_global_norm_(shard_gradient, config.grad_clip) / shards
            if shards > 1:
                gradient.add_(shard_gradient, alpha=1 / shards)
        group.sum_(gradient.div_(group.size))
        if config.clip_shards == 1:
            grad_norm = clip_by_global_norm_(gradient, config.grad_clip)
        return loss, gradient, grad_norm

    def compute_gradient(self, batch: Batch) -> Tensor:
        """Leave the gradient of the mean loss over `batch` in `parameters.gradient`; returns that loss.

        Where the GPU's memory is too small for `micro_batch` images at once, half as many from here on.

        Raises:
            OutOfMemory: not even one image fits.
        """

        def make() -> Tensor:
            if not self.use_cuda_graph:
                return self.forward_backward(*batch)
            if self.cuda_graph is None:
                self.cuda_graph = CUDAGraphCallable(self.forward_backward, batch)
            return self.cuda_graph(*batch)

        splitter = BatchSplitter("training.micro_batch", self.log)
        while (loss := splitter.attempt(make, min(self.micro_batch, len(batch.x0)), "image of the training")) is None:
            self.micro_batch = splitter.limit
        return loss

    def forward_backward(self, x0: Tensor, t: Tensor, noise: Tensor, dropout_seeds: Tensor) -> Tensor:
        """What `compute_gradient` does, without its remedy: `micro_batch` images at once, whose gradients add up."""
        self.state.parameters.gradient.zero_()
        loss = torch.zeros((), device=self.device)
        for part in Batch(x0, t, noise, dropout_seeds).split(self.micro_batch):
            model = partial(self.model, dropout_seeds=part.dropout_seeds)
            losses = self.diffusion.training_losses(model, part.x0, part.t, part.noise)
            part_loss = losses.sum() / len(x0)
            part_loss.backward()
            loss += part_loss.detach()
        return loss

    def log_row(self) -> Tensor:
        """Add a row to the history; returns its losses and gradient norms over all processes, float64 [2, steps]."""
        state, config = self.state, self.config
        stats = self.group.sum_(state.pending_stats()).cpu() / self.group.size
        losses, norms = stats
        learning_rate = warmup_rate(state.step - 1, config.learning_rate, config.warmup)
        state.history.append((state.step, losses.mean().item(), norms.mean().item(), learning_rate))
        state.pending = []
        return stats

    def batches(self) -> Iterator[Tensor]:
        """The images of the steps from this one to the last, of this process; uint8 [B, H, W, C] on its device."""
        config, share = self.config, self.group.part(self.config.batch_size)
        indices = (
            image_indices(step, config.batch_size, len(self.images), config.seed)[share]
            for step in range(self.state.step, config.steps)
        )
        return feed(self.images, indices, self.device, workers=torch.get_num_threads())

    def compile(self) -> bool:
        """Compile the network, and record a step as a CUDA graph, if what is left is long enough to gain by it."""
        images_left = (self.config.steps - self.state.step) * self.config.batch_size / self.group.size
        compiled = compile_if_worthwhile(self.model, 3 * images_left, self.device, self.log)
        self.use_cuda_graph = compiled and self.device.type == "cuda"
        return compiled


def trained(steps: int) -> dict:
    """The outcome of a training that got to its last step."""
    return {"status": "trained", "step": steps, "reason": None}


def write_history(path: Path, history: list[tuple[float, ...]]) -> None:
    """One row per `log_every` steps: the number of updates so far, means of loss and norm, the last rate."""
    write_csv(path, COLUMNS, ((int(step), *rest) for step, *rest in history))


def train(
    config: dict,
    images: Images,
    state_folder: Path,
    weights: Path,
    history: Path,
    outcome: Path,
    snapshots: Path,
    device: torch.device,
    scale: str = "",
    log=print,
    group: Group = SINGLE_PROCESS,
) -> None:
    """Train, or go on training, and write the averaged weights, the loss curve, how it ended, and snapshots.

    Of several processes all train, and the first one writes; all of them read the state, which lies where all can.
    No other call trains on the same state at the same time: it waits for this one, and then finds its work done.

    Args:
        config: the training document of an experiment.
        state_folder: where checkpoints are kept; new, empty, or marked as a training's. Those of other images stay
            there, and these get a folder in it.
        weights, history, outcome: final.safetensors, training.csv and training.json.
        snapshots: folder for the weights of every `snapshot_every` steps; without such steps nothing comes into it.

    Raises:
        UserError: the checkpoints in `state_folder` belong to another configuration, or somebody else is training
            there; or a folder is somebody else's.
        Interrupted: this job has to end; what it did is saved, and the same call goes on from there.
    """
    fingerprint = training_fingerprint(config)
    snapshot_steps = TrainingConfig(**config["training"]).snapshot_steps
    if group.is_main:
        claim_folder(state_folder, "the state of a training", unmarked=IN_STATE)
        refuse_foreign_snapshots(snapshots, snapshot_steps, fingerprint)
    lock = Lock(state_folder / "lock", f"training {config['name']}", log)
    group.acquire(lock)
    with lock:
        if (own := folder_for_data(state_folder, images.sha256)) != state_folder:
            state_folder = own
            if group.is_main:
                claim_folder(state_folder, "the state of a training")
                log(f"the states there are of other images, and are kept; those of these are in {state_folder}")
        trainer = Trainer(config, images, device, group, log)
        checkpoints = Checkpoints(state_folder, fingerprint, images.sha256, trainer.config.save_every, lock)
        header = {"config": config, "fingerprint": fingerprint, "data_sha256": images.sha256, "scale": scale}
        header["precision"] = trainer.model.precision
        snapshot_folder = state_folder / "snapshots"
        train_to_outcome(trainer, checkpoints, Snapshots(snapshot_folder, snapshot_steps, header))
        if group.is_main:
            state = trainer.state
            export_snapshots(snapshot_folder, snapshots)
            write_history(history, state.history)
            write_json(outcome, state.outcome)
            final = {**header, "weights": EMA, "outcome": state.outcome}
            save_weights(weights, state.parameters.split(state.ema), final)


def train_to_outcome(trainer: Trainer, checkpoints: Checkpoints, snapshots: Snapshots) -> None:
    """Run `trainer` from its newest checkpoint to its outcome. Raises what `train` does."""
    state, group, steps = trainer.state, trainer.group, trainer.config.steps
    log = trainer.log if group.is_main else lambda message: None
    if checkpoints.restore(state, trainer.log, group.is_main):
        log(f"resuming {snapshots.header['config']['name']} at step {state.step}")
    if group.any(state.step != group.broadcast(state.step)):
        raise UserError(
            f"{checkpoints.folder}: not all processes find the same state there. It must be on a shared disk."
        )
    compiled = trainer.compile()
    log(f"computing in {trainer.model.precision}{', compiled' if compiled else ''}")
    callbacks = (snapshots, checkpoints, Progress(state, steps, log)) if group.is_main else ()
    with stop_signal.ending(at_once=False):
        finished = trainer.run(callbacks, stop_signal.should_stop)
        if group.is_main and not finished:
            checkpoints.save(state)
    group.broadcast()  # all wait for the checkpoint: where one process ends, all are ended
    if not finished:
        message = (
            f"interrupted at step {state.step} by {stop_signal.why}, saved; the next submission goes on from there"
        )
        raise Interrupted(message if group.is_main else "")
    if trainer.micro_batch < trainer.config.batch_size // group.size:
        log(f"trained in micro-batches of {trainer.micro_batch}")
    if state.outcome["status"] == "unstable":
        log(f"unstable at step {state.outcome['step']}: {state.outcome['reason']}")
