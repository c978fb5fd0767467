"""What happens at the end of each row, one callback at a time."""

import pytest
import torch
from torch import nn

from ddpm.training import callbacks
from ddpm.training.callbacks import Divergence, Progress
from ddpm.training.state import TrainingState


@pytest.fixture
def state() -> TrainingState:
    return TrainingState(nn.Linear(2, 2))


@pytest.mark.parametrize(
    ("losses", "norms", "expected"),
    [
        ([1, 9, 2], [1, 1, 1], None),
        ([11, 1e9, 10], [1, 1, 1], None),
        ([13, 11.5, 12], [1, 1, 1], (30, "the loss was 11.5 or more for 3 steps (limit 10)")),
        ([13, 11.5], [1, 1], None),  # the training's end is no whole row
        ([1, float("nan"), 11], [1, 1, 1], (29, "the loss was nan, gradient norm 1")),
        ([float("inf"), 1, 1], [1, 1, 1], (28, "the loss was inf, gradient norm 1")),
        ([1, 1, 1], [float("inf"), 1, 1], (28, "the loss was 1, gradient norm inf")),
    ],
)
def test_divergence_is_a_number_that_is_not_finite_or_a_row_above_the_limit(losses, norms, expected, state):
    state.step = 30
    Divergence(10, log_every=3)(state, torch.tensor([losses, norms], dtype=torch.float64))
    assert (state.outcome and (state.outcome["step"], state.outcome["reason"])) == expected


def test_progress_is_a_line_every_few_seconds(state, monkeypatch):
    """Its speed is that since this process began, at step 10."""
    clock, lines = [100.0], []
    monkeypatch.setattr(callbacks.time, "monotonic", lambda: clock[0])
    state.step = 10
    progress = Progress(state, 100, lines.append)
    for now in range(101, 113):
        clock[0], state.step, state.history = now, state.step + 5, [(0, 0.25, 0, 0)]
        progress(state, torch.zeros(2, 5))
    assert lines == [
        "step 40/100 loss 0.2500 5.0 steps/s 12 s left",
        "step 70/100 loss 0.2500 5.0 steps/s 6 s left",
    ]
