"""What happens at the end of each row of training.csv: divergence is noticed, snapshots and checkpoints are written.

A callback is called with the training's state and with the row's losses and gradient norms, float64 [2, steps].
"""

import os
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from ddpm.config.errors import DamagedFile, UserError
from ddpm.jobs.locks import Lock
from ddpm.storage.checkpoints import load_state, save_state, save_weights, unpack
from ddpm.storage.files import atomic_write
from ddpm.storage.weights_file import EMA, RAW, SNAPSHOT, read_header, snapshot_file
from ddpm.training.state import TrainingState

Callback = Callable[[TrainingState, Tensor], None]
PROGRESS_EVERY = 5  # seconds between two lines


class Divergence:
    """Ends the training as `unstable` where a number is not finite, or all losses of a whole row are above the limit.

    A single one may be: the bound of an untrained network is a hundred bits/dim, and that of some images a thousand.
    """

    def __init__(self, loss_limit: float, log_every: int):
        self.loss_limit, self.log_every = loss_limit, log_every

    def __call__(self, state: TrainingState, stats: Tensor) -> None:
        losses, norms = stats
        infinite = torch.nonzero(~stats.isfinite().all(0)).flatten()
        if len(infinite):
            i = int(infinite[0])
            step = state.step - len(losses) + i + 1
            reason = f"the loss was {losses[i]:.4g}, gradient norm {norms[i]:.4g}"
        elif len(losses) == self.log_every and (losses > self.loss_limit).all():
            step = state.step
            reason = f"the loss was {losses.min():.4g} or more for {len(losses)} steps (limit {self.loss_limit:g})"
        else:
            return
        state.outcome = {"status": "unstable", "step": step, "reason": reason}


class Progress:
    """Prints a line every few seconds: step, loss, speed and time left."""

    def __init__(self, state: TrainingState, steps: int, log=print):
        self.steps, self.log = steps, log
        self.first_step = state.step
        self.started = self.printed = time.monotonic()

    def __call__(self, state: TrainingState, stats: Tensor) -> None:
        now = time.monotonic()
        if now - self.printed > PROGRESS_EVERY:
            self.printed = now
            rate = (state.step - self.first_step) / (now - self.started)
            left = (self.steps - state.step) / rate
            loss = state.history[-1][1]
            self.log(f"step {state.step}/{self.steps} loss {loss:.4f} {rate:.1f} steps/s {left:.0f} s left")


class Checkpoints:
    """Saves the state every `save_every` steps and at the end, in `folder`, as long as this process holds `lock`.

    Args:
        fingerprint, data: of the configuration and of the images; a checkpoint of others is refused.
    """

    def __init__(self, folder: Path, fingerprint: str, data: str, save_every: int, lock: Lock):
        self.folder, self.fingerprint, self.data = folder, fingerprint, data
        self.save_every, self.lock = save_every, lock
        self.saved_step = 0

    def restore(self, state: TrainingState, log=print, is_main: bool = True) -> bool:
        """Go on from the newest undamaged checkpoint; returns whether there is one.

        Args:
            is_main: whether this process, of several that read it, sets damaged files aside.

        Raises:
            UserError: the checkpoint belongs to another configuration or other data.
        """
        if checkpoint := load_state(self.folder, self.fingerprint, self.data, log, is_main):
            state.restore(checkpoint)
        self.saved_step = state.step
        return checkpoint is not None

    def __call__(self, state: TrainingState, stats: Tensor) -> None:
        if state.outcome or state.step - self.saved_step >= self.save_every:
            self.save(state)

    def save(self, state: TrainingState) -> None:
        """Save the state, unless that of this step is saved.

        Raises:
            UserError: this process has lost the lock, and so the right to write here.
        """
        if state.step != self.saved_step:
            self.lock.check()
            save_state(self.folder, state.checkpoint(self.fingerprint, self.data))
            self.saved_step = state.step


class Snapshots:
    """Writes the weights and their EMA after each of `steps`, beside the checkpoints; a divergence has none.

    Args:
        header: what all weights of this training say of themselves.
    """

    def __init__(self, folder: Path, steps: list[int], header: dict):
        self.folder, self.steps, self.header = folder, set(steps), header

    def __call__(self, state: TrainingState, stats: Tensor) -> None:
        if state.step not in self.steps or (state.outcome or {}).get("status") == "unstable":
            return
        header = {**self.header, "outcome": {"status": "trained", "step": state.step, "reason": None}}
        for kind, vector in ((EMA, state.ema), (RAW, state.parameters.values)):
            path = snapshot_file(self.folder, state.step, kind)
            save_weights(path, state.parameters.split(vector), {**header, "weights": kind})


def refuse_foreign_snapshots(folder: Path, steps: list[int], fingerprint: str) -> None:
    """Raise UserError where a snapshot of one of `steps` would replace a file that is none of this very training's."""
    for step in steps:
        for path in (snapshot_file(folder, step, kind) for kind in (EMA, RAW)):
            if os.path.lexists(path) and (read_header(path) or {}).get("fingerprint") != fingerprint:
                raise UserError(
                    f"{path}: is there already, and is no snapshot of this training, so that it is not overwritten. "
                    "Give another --snapshots folder, or move it away."
                )


def export_snapshots(source: Path, target: Path) -> None:
    """Put the snapshots that lie beside the checkpoints into the folder `target`, as links where the disk allows."""
    target.mkdir(parents=True, exist_ok=True)
    for file in sorted(path for path in source.glob("*.safetensors") if re.fullmatch(SNAPSHOT, path.name)):
        check_snapshot(file)
        with atomic_write(target / file.name) as part:
            try:
                os.link(file, part)
            except OSError:  # another disk, or one without links
                shutil.copyfile(file, part)


def check_snapshot(file: Path) -> None:
    """Raise DamagedFile if a snapshot beside the checkpoints is damaged: no later checkpoint can make it again."""
    try:
        unpack(file.read_bytes(), file)
    except DamagedFile as error:
        remedy = f"Only another training would make it again: for that, delete {file.parent.parent} and run this again."
        raise DamagedFile(file, "this snapshot of the training is damaged", remedy) from error
