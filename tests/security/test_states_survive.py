"""A training's states survive damage, and no state is removed because of another one's name."""

import hashlib

import pytest
import torch

from ddpm.storage.checkpoints import State, load_state, save_state
from ddpm.storage.weights_file import saved_states, step_of


def state(step: int) -> State:
    return State({"w": torch.full((100,), float(step))}, step, "f", "d")


def steps(folder) -> list[int]:
    return [step_of(path)[0] for path in saved_states(folder)]


# Would fail if a saved state were removed for having the lowest step: with two damaged ones of higher steps, that was
# the fate of each new one as it was written, and weeks of training were lost.
def test_damaged_states_cost_no_later_one(tmp_path):
    for step in (10, 20, 30, 40):
        save_state(tmp_path, state(step))
    for path in saved_states(tmp_path):
        path.write_bytes(path.read_bytes()[:-1])
    said = []
    assert load_state(tmp_path, "f", "d", said.append) is None
    assert sum("is damaged" in line and "aside-1" in line for line in said) == 2
    assert len(list(tmp_path.glob("*.aside-1"))) == 2, "what was damaged is kept under another name"
    for step in (5, 10, 15):
        save_state(tmp_path, state(step))
        assert load_state(tmp_path, "f", "d", said.append).step == step
    assert steps(tmp_path) == [10, 15]


# Would fail if higher steps could push the state out that was just written; also where nothing was set aside.
def test_the_state_just_written_stays(tmp_path):
    for step in (100, 200, 5):
        save_state(tmp_path, state(step))
    assert steps(tmp_path) == [5, 100, 200]
    for _ in range(3):
        save_state(tmp_path, state(7))
    assert steps(tmp_path) == [5, 7, 100, 200]


# Would fail if names were matched by a pattern that others' files fit.
@pytest.mark.parametrize(
    "name",
    [
        "000000001-my-weights.safetensors",
        "1-aaaaaaaaaaaaaaaa.safetensors",
        "000000001-aaaaaaaaaaaaaaaa.safetensors.bak",
    ],
)
def test_files_of_other_names_are_left_alone(name, tmp_path):
    (tmp_path / name).write_text("of the user")
    for step in (10, 20, 30, 40):
        save_state(tmp_path, state(step))
    assert load_state(tmp_path, "f", "d", lambda _: None).step == 40
    assert (tmp_path / name).read_text() == "of the user"
    assert steps(tmp_path) == [30, 40]


# Would fail if a process that holds no lock set files aside, or stumbled over what the first one has set aside.
def test_only_the_first_process_sets_aside(tmp_path, monkeypatch):
    save_state(tmp_path, state(10))
    save_state(tmp_path, state(20))
    newest = saved_states(tmp_path)[-1]
    newest.write_bytes(b"damaged")
    assert load_state(tmp_path, "f", "d", lambda _: None, is_main=False).step == 10
    assert newest.exists()
    listed = saved_states(tmp_path)
    assert load_state(tmp_path, "f", "d", lambda _: None).step == 10
    monkeypatch.setattr("ddpm.storage.checkpoints.saved_states", lambda folder: listed)
    assert load_state(tmp_path, "f", "d", lambda _: None, is_main=False).step == 10


# Would fail if a file set aside replaced another one.
def test_what_is_set_aside_twice_is_kept_twice(tmp_path):
    for content in (b"once", b"again"):
        path = tmp_path / f"000000010-{hashlib.sha256(b'x').hexdigest()[:16]}.safetensors"
        path.write_bytes(content)
        load_state(tmp_path, "f", "d", lambda _: None)
    assert sorted(path.read_bytes() for path in tmp_path.glob("*.aside-*")) == [b"again", b"once"]
