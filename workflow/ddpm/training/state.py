"""What a training carries from one step to the next, and what a checkpoint of it holds."""

import torch
from torch import Tensor, nn

from ddpm.storage.checkpoints import State
from ddpm.training.optimizer import Adam, FlatParameters

COLUMNS = ("step", "loss", "gradient_norm", "learning_rate")


class TrainingState:
    """The parameters of `model`, their EMA, Adam's moments, and how the training has gone so far."""

    def __init__(self, model: nn.Module):
        self.parameters = FlatParameters(model)
        self.adam = Adam(self.parameters.values)
        self.ema = self.parameters.values.clone()
        self.step = 0  # updates so far
        self.history: list[tuple[float, ...]] = []  # rows of COLUMNS
        self.pending: list[tuple[Tensor, Tensor]] = []  # loss and gradient norm of each step since the last row
        self.outcome: dict | None = None  # {"status": "trained" | "unstable", "step": ..., "reason": ...} at the end

    def pending_stats(self) -> Tensor:
        """Losses and gradient norms of the steps since the last row, float64 [2, steps], on the device."""
        if not self.pending:
            return torch.zeros(2, 0, dtype=torch.float64)
        return torch.stack([torch.stack(column) for column in zip(*self.pending, strict=True)]).double()

    def checkpoint(self, fingerprint: str, data: str) -> State:
        """All of it, as a file holds it.

        Args:
            fingerprint, data: of the configuration and of the images, which who goes on from it must share.
        """
        tensors = {
            f"{kind}/{name}": tensor
            for kind, vector in self._vectors().items()
            for name, tensor in self.parameters.split(vector).items()
        }
        tensors["history"] = torch.tensor(self.history, dtype=torch.float64).reshape(-1, len(COLUMNS))
        tensors["row"] = self.pending_stats()
        return State(tensors, self.step, fingerprint, data, self.outcome)

    def restore(self, checkpoint: State) -> None:
        """Go on from `checkpoint`, which must be of the same network."""
        for kind, vector in self._vectors().items():
            for name, tensor in self.parameters.split(vector).items():
                tensor.copy_(checkpoint.tensors[f"{kind}/{name}"])
        self.history = [tuple(row) for row in checkpoint.tensors["history"].tolist()]
        # Earlier versions saved at the end of a row only, and had no "row". Its numbers were float32 when they came.
        row = checkpoint.tensors.get("row", torch.zeros(2, 0))
        self.pending = list(zip(*row.to(self.ema.device, torch.float32), strict=True))
        self.step, self.outcome = checkpoint.step, checkpoint.outcome

    def _vectors(self) -> dict[str, Tensor]:
        """By the names that they have in files, the vectors of as many numbers as the network has parameters."""
        return {"weights": self.parameters.values, "average": self.ema, "m": self.adam.m, "v": self.adam.v}
