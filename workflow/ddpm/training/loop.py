"""Algorithm 1: the training loop."""

import os
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ddpm.compute import rng
from ddpm.compute.cuda_graph import CUDAGraphCallable
from ddpm.compute.device import compile_if_worthwhile, prepare_model
from ddpm.compute.distributed import SINGLE_PROCESS, Group, check_batch
from ddpm.compute.memory import OutOfMemory, halved, too_small
from ddpm.config.errors import DamagedFile, UserError
from ddpm.config.experiment import training_fingerprint
from ddpm.config.schema import DiffusionConfig, NetworkConfig, TrainingConfig
from ddpm.data.loading import feed
from ddpm.data.pixels import to_model_range
from ddpm.data.store import Images
from ddpm.diffusion import GaussianDiffusion
from ddpm.jobs.failures import first_line, gpu_is_full
from ddpm.jobs.locks import Lock
from ddpm.jobs.signals import Interrupted, stop_signal
from ddpm.storage.checkpoints import State, load_state, save_state, save_weights, unpack
from ddpm.storage.files import atomic_write, claim_folder, write_csv, write_json
from ddpm.storage.weights_file import EMA, IN_STATE, RAW, SNAPSHOT, read_header, snapshot_file
from ddpm.training.optimizer import Adam, FlatParameters, clip_by_global_norm_, update_average_, warmup_rate
from ddpm.unet import UNet

SLOW_DISK = 50e6  # bytes per second: how fast a state is expected to be saved, before the first one is
COLUMNS = ("step", "loss", "gradient_norm", "learning_rate")


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
        here = epochs == epoch
        indices[here] = epoch_order(epoch, count, seed)[places[here]]
    return indices


def training_batch(
    step: int, pixels: Tensor, config: TrainingConfig, timesteps: int, group: Group = SINGLE_PROCESS
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What Algorithm 1 draws in `step`, or this process's part of it.

    Args:
        pixels: the images of `image_indices`, or this process's part of them, uint8 [B, H, W, C].

    Returns:
        x0 [B, C, H, W] in [-1, 1], t [B] in 0 .. T-1, noise like x0, and dropout_seeds [B] int32.
    """
    batch, device = config.batch_size, pixels.device
    mine = group.part(batch)
    x0 = to_model_range(pixels)
    draws = rng.generator(config.seed, "t and flips", step)
    t = torch.randint(timesteps, (batch,), generator=draws)
    flips = torch.rand(batch, generator=draws) < 0.5
    dropout = rng.generator(config.seed, "dropout", step)
    dropout_seeds = torch.randint(2**31, (batch,), generator=dropout, dtype=torch.int32)
    # Else each copy waits for the GPU, which would wait for the next step in turn.
    t, flips, dropout_seeds = (draw[mine].to(device, non_blocking=True) for draw in (t, flips, dropout_seeds))
    if config.flip:
        x0 = torch.where(flips[:, None, None, None], x0.flip(3), x0)
    noise = rng.normal(config.seed, "noise", step, start=mine.start, stop=mine.stop, shape=x0.shape[1:], device=device)
    return x0, t, noise, dropout_seeds


class Trainer:
    """One training: the network, its optimiser and its average, and what has happened so far.

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
        self.parameters = FlatParameters(self.model)
        self.adam = Adam(self.parameters.values)
        self.average = self.parameters.values.clone()
        self.step = 0
        self.history: list[tuple[float, ...]] = []  # rows of COLUMNS
        self.pending_stats = torch.zeros(2, 0, dtype=torch.float64)  # losses and norms of the steps since the last row
        self.outcome: dict | None = None

    def batches(self) -> Iterator[Tensor]:
        """The images of the steps from this one to the last, of this process; uint8 [B, H, W, C] on its device."""
        config, mine = self.config, self.group.part(self.config.batch_size)
        indices = (
            image_indices(step, config.batch_size, len(self.images), config.seed)[mine]
            for step in range(self.step, config.steps)
        )
        return feed(self.images, indices, self.device, workers=torch.get_num_threads())

    def update(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """One step of Algorithm 1; returns this process's loss and the gradient's norm, 0-d tensors on the device.

        The gradient is clipped as a whole, or, as on the authors' TPU, in `clip_shards` parts of the batch.

        Args:
            pixels: the next of `batches`.
        """
        config, step, group = self.config, self.step, self.group
        *draws, dropout_seeds = training_batch(step, pixels, config, self.diffusion.num_timesteps, group)
        shards = max(config.clip_shards // group.size, 1)  # of this process
        gradient = self.parameters.gradient if shards == 1 else torch.zeros_like(self.parameters.gradient)
        loss, norm = torch.zeros(2, device=self.device)
        for *part, part_seeds in zip(*(draw.chunk(shards) for draw in (*draws, dropout_seeds)), strict=True):
            loss += self.compute_gradients(part, part_seeds) / shards
            if config.clip_shards > 1:
                norm += clip_by_global_norm_(self.parameters.gradient, config.grad_clip) / shards
            if shards > 1:
                gradient.add_(self.parameters.gradient, alpha=1 / shards)
        group.mean_(gradient)
        if config.clip_shards == 1:
            norm = clip_by_global_norm_(gradient, config.grad_clip)
        rate = warmup_rate(step, config.learning_rate, config.warmup)
        self.adam.update_(self.parameters.values, gradient, step, rate)
        update_average_(self.average, self.parameters.values, step, config.ema_decay)
        self.step += 1
        return loss, norm

    def compute_gradients(self, draws: Sequence[Tensor], dropout_seeds: Tensor) -> Tensor:
        """Leave the gradient of the mean loss over all of `draws` in `parameters.gradient`; returns that loss.

        At most `micro_batch` images go through the network at once; where they do not fit into the GPU's memory,
        half as many from here on.
        """
        while True:
            try:
                if not self.use_cuda_graph:
                    return self.forward_backward(*draws, dropout_seeds)
                if self.cuda_graph is None:
                    self.cuda_graph = CUDAGraphCallable(self.forward_backward, (*draws, dropout_seeds))
                return self.cuda_graph(*draws, dropout_seeds)
            except RuntimeError as error:
                if not gpu_is_full(error):
                    raise
                words, tried = first_line(error), min(self.micro_batch, len(dropout_seeds))
                if tried == 1:
                    raise OutOfMemory(too_small("image of the training", words)) from error
            self.micro_batch = halved(tried, words, "training.micro_batch", self.log)

    def forward_backward(self, *draws_and_seeds: Tensor) -> Tensor:
        """What `compute_gradients` does, with the micro-batch as it is."""
        self.parameters.gradient.zero_()
        loss = torch.zeros((), device=self.device)
        for *part, seeds in zip(*(draw.split(self.micro_batch) for draw in draws_and_seeds), strict=True):
            losses = self.diffusion.training_losses(partial(self.model, dropout_seeds=seeds), *part)
            share = losses.sum() / len(draws_and_seeds[0])
            share.backward()
            loss += share.detach()
        return loss

    def run(self, after_row=lambda: None, should_stop=lambda: False) -> bool:
        """Train to the last step, or to where the loss leaves its range; `after_row` follows every logged row.

        Args:
            should_stop: whether to end early. Called after each step; with several processes, which must all end after
                the same step, after each row, where they communicate anyway.

        Returns:
            Whether it got there; False where it was told to end early.
        """
        steps = self.config.steps
        batches, alone, ended = self.batches(), self.group.size == 1, False
        while self.step < steps and self.outcome is None and not ended:
            first, rows = self.step - self.pending_stats.shape[1], []
            end = min(first + self.config.log_every, steps)
            while self.step < end and not ended:
                rows.append(self.update(next(batches)))
                ended = alone and should_stop()
            fresh = torch.stack([torch.stack(column) for column in zip(*rows, strict=True)]).double().flatten()
            vote = fresh.new_full((1,), float(ended if alone else should_stop()))
            *shared, votes = self.group.sum_(torch.cat([fresh, vote])).cpu().split([len(rows), len(rows), 1])
            ended = bool(votes > 0)
            self.pending_stats = torch.cat([self.pending_stats, torch.stack(shared) / self.group.size], 1)
            if self.step < end:
                break
            losses, norms = self.pending_stats
            self.pending_stats = self.pending_stats[:, :0]
            rate = warmup_rate(self.step - 1, self.config.learning_rate, self.config.warmup)
            self.history.append((self.step, losses.mean().item(), norms.mean().item(), rate))
            # The comparison is false for NaN too.
            beyond = torch.nonzero(~((losses <= self.config.loss_limit) & norms.isfinite())).flatten()
            if len(beyond):
                i = int(beyond[0])
                reason = (
                    f"the loss was {losses[i]:.4g} (limit {self.config.loss_limit:g}), gradient norm {norms[i]:.4g}"
                )
                self.outcome = {"status": "unstable", "step": first + i + 1, "reason": reason}
            elif self.step == steps:
                self.outcome = {"status": "trained", "step": steps, "reason": None}
            after_row()
        if self.outcome is None and self.step == steps:  # no steps were asked for
            self.outcome = {"status": "trained", "step": steps, "reason": None}
        return self.outcome is not None

    def vectors(self) -> dict[str, Tensor]:
        """The four vectors of the state, by name."""
        return {
            "weights": self.parameters.values,
            "average": self.average,
            "m": self.adam.m,
            "v": self.adam.v,
        }

    def state(self, fingerprint: str, data: str) -> State:
        tensors = {
            f"{vector}/{name}": tensor
            for vector, values in self.vectors().items()
            for name, tensor in self.parameters.split(values).items()
        }
        tensors["history"] = torch.tensor(self.history, dtype=torch.float64).reshape(-1, len(COLUMNS))
        tensors["row"] = self.pending_stats
        return State(tensors, self.step, fingerprint, data, self.outcome)

    def restore(self, state: State) -> None:
        for vector, values in self.vectors().items():
            for name, tensor in self.parameters.split(values).items():
                tensor.copy_(state.tensors[f"{vector}/{name}"])
        self.history = [tuple(row) for row in state.tensors["history"].tolist()]
        self.pending_stats = state.tensors.get(
            "row", self.pending_stats
        )  # earlier versions saved at the end of a row only
        self.step, self.outcome = state.step, state.outcome


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
        state_folder: where the resumable state is kept; new, empty, or marked as a training's.
        weights, history, outcome: final.safetensors, training.csv and training.json.
        snapshots: folder for the weights of every `snapshot_every` steps; without such steps nothing comes into it.

    Raises:
        UserError: the state in `state_folder` belongs to another configuration or other data, or somebody else is
            training it, or there is no time to; or a folder is somebody else's.
        Interrupted: this job has to end; what it did is saved, and the same call goes on from there.
    """
    stop_signal.require_time()
    fingerprint = training_fingerprint(config)
    about = {"config": config, "fingerprint": fingerprint, "data_sha256": images.sha256, "scale": scale}
    if group.is_main:
        claim_folder(state_folder, "the state of a training", unmarked=IN_STATE)
        refuse_snapshots_of_others(snapshots, config, fingerprint)
    lock = Lock(state_folder / "lock", f"training {config['name']}", log)
    group.acquire(lock)
    with lock:
        trainer = Trainer(config, images, device, group, log)
        header = {**about, "precision": trainer.model.precision}
        train_until_done(trainer, lock, state_folder, header)
        if not group.is_main:
            return
        export_snapshots(state_folder / "snapshots", snapshots)
        write_history(history, trainer.history)
        write_json(outcome, trainer.outcome)
        final = {**header, "weights": EMA, "outcome": trainer.outcome}
        save_weights(weights, trainer.parameters.split(trainer.average), final)


def train_until_done(trainer: Trainer, lock: Lock, state_folder: Path, header: dict) -> None:
    """Run `trainer` from its saved state to its outcome, saving on the way, while its first process holds `lock`.

    Args:
        header: what all weights of this training say of themselves.

    Raises: what `train` does.
    """
    fingerprint, data = header["fingerprint"], header["data_sha256"]
    group, log = trainer.group, trainer.log
    state = load_state(state_folder, fingerprint, data, log, group.is_main)
    if state is not None:
        trainer.restore(state)
    if not group.all_equal(trainer.step):
        raise UserError(f"{state_folder}: not all processes find the same state there. It must be on a shared disk.")
    images = (trainer.config.steps - trainer.step) * trainer.config.batch_size / group.size
    compiled = compile_if_worthwhile(trainer.model, 3 * images, trainer.device, log)
    trainer.use_cuda_graph = compiled and trainer.device.type == "cuda"
    stop_signal.save_takes = sum(vector.nbytes for vector in trainer.vectors().values()) / SLOW_DISK
    if not group.is_main:
        with stop_signal.ending(at_once=False):
            done = trainer.run(should_stop=stop_signal.should_stop)
        if not group.broadcast(done):
            raise Interrupted
        return
    if state is not None:
        log(f"resuming {header['config']['name']} at step {trainer.step}")
    log(f"computing in {trainer.model.precision}{', compiled' if compiled else ''}")

    started, first_step, said, saved = time.monotonic(), trainer.step, time.monotonic(), trainer.step
    wanted, kept = set(trainer.config.snapshot_steps), state_folder / "snapshots"

    def save() -> None:
        nonlocal saved
        lock.check()
        with stop_signal.saving():
            save_state(state_folder, trainer.state(fingerprint, data))
        saved = trainer.step

    def after_row() -> None:
        nonlocal said
        step = trainer.step
        if step in wanted and (trainer.outcome or {}).get("status") != "unstable":
            so_far = {**header, "outcome": {"status": "trained", "step": step, "reason": None}}
            for kind, vector in ((EMA, trainer.average), (RAW, trainer.parameters.values)):
                tensors = trainer.parameters.split(vector)
                save_weights(snapshot_file(kept, step, kind), tensors, {**so_far, "weights": kind})
        if trainer.outcome or step - saved >= trainer.config.save_every:
            save()
        if time.monotonic() - said > 5:
            said = time.monotonic()
            rate = (step - first_step) / (said - started)
            left = (trainer.config.steps - step) / rate
            loss = trainer.history[-1][1]
            log(f"step {step}/{trainer.config.steps} loss {loss:.4f} {rate:.1f} steps/s {left:.0f} s left")

    with stop_signal.ending(at_once=False):
        done = trainer.run(after_row, stop_signal.should_stop)
        if not done and saved != trainer.step:
            save()
    group.broadcast(done)  # the others wait for the save: where one process ends, all are ended
    if not done:
        raise Interrupted(
            f"interrupted at step {trainer.step} by {stop_signal.why}, saved; the next submission goes on from there"
        )
    if trainer.micro_batch < trainer.config.batch_size // group.size:
        log(f"trained in micro-batches of {trainer.micro_batch}")
    if trainer.outcome["status"] == "unstable":
        log(f"unstable at step {trainer.outcome['step']}: {trainer.outcome['reason']}")


def refuse_snapshots_of_others(folder: Path, config: dict, fingerprint: str) -> None:
    """Raise UserError where a snapshot would replace a file that is none of this very training's."""
    for step in TrainingConfig(**config["training"]).snapshot_steps:
        for path in (snapshot_file(folder, step, kind) for kind in (EMA, RAW)):
            if os.path.lexists(path) and (read_header(path) or {}).get("fingerprint") != fingerprint:
                raise UserError(
                    f"{path}: is there already, and is no snapshot of this training, so that it is not overwritten. "
                    "Give another --snapshots folder, or move it away."
                )


def export_snapshots(kept: Path, snapshots: Path) -> None:
    """Put the snapshots that the state keeps into the folder `snapshots`, as links where the disk allows."""
    snapshots.mkdir(parents=True, exist_ok=True)
    for file in sorted(path for path in kept.glob("*.safetensors") if re.fullmatch(SNAPSHOT, path.name)):
        check_snapshot(file)
        with atomic_write(snapshots / file.name) as part:
            try:
                os.link(file, part)
            except OSError:  # another disk, or one without links
                shutil.copyfile(file, part)


def check_snapshot(file: Path) -> None:
    """Raise DamagedFile if a snapshot beside the state is damaged, from which no later state can make it again."""
    try:
        unpack(file.read_bytes(), file)
    except DamagedFile as error:
        remedy = f"Only another training would make it again: for that, delete {file.parent.parent} and run this again."
        raise DamagedFile(file, "this snapshot of the training is damaged", remedy) from error
