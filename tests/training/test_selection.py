"""The weights that are scored are the last ones, or those of the lowest FID, and say which."""

import pytest
from helpers import CPU, tiny_experiment

from ddpm.config.enums import Selection
from ddpm.config.errors import UserError
from ddpm.storage.weights_file import snapshot_file
from ddpm.training.loop import train
from ddpm.training.model import load_model
from ddpm.training.selection import select_weights

SCORES = "step,images,inception_score,inception_score_std,fid_train,fid_test\n"


@pytest.fixture(scope="module")
def folder(train_images, tmp_path_factory):
    folder = tmp_path_factory.mktemp("training")
    config = tiny_experiment(training={"snapshot_every": 3}, snapshots={"images": 20}).stage_config("training")
    names = ("final.safetensors", "t.csv", "t.json", "weights")
    train(config, train_images, folder / "state", *(folder / name for name in names), CPU, log=lambda message: None)
    return folder


def chosen(folder, selection, out, scores=None):
    if scores is not None:
        (out / "snapshots.csv").write_text(SCORES + scores)
    path = out / "model.safetensors"
    scored = out / "snapshots.csv" if scores is not None else None
    select_weights(folder / "final.safetensors", selection, path, folder / "weights", scored)
    return load_model(path)


def same_weights(one, other) -> bool:
    pairs = zip(one.model.parameters(), other.model.parameters(), strict=True)
    return all((a == b).all() for a, b in pairs)


def test_the_final_weights_are_passed_on_and_say_so(folder, tmp_path):
    trained = chosen(folder, Selection.FINAL, tmp_path)
    assert same_weights(trained, load_model(folder / "final.safetensors"))
    assert trained.outcome == {"status": "trained", "step": 12, "reason": None, "checkpoint": "final"}


@pytest.mark.parametrize("best", [3, 6, 9, 12])
def test_the_lowest_fid_is_chosen_and_says_among_how_many(best, folder, tmp_path):
    rows = [f"{step},20,2.0,0.1,{5.0 if step == best else 7.0 + step},1.0\n" for step in (3, 6, 9, 12)]
    trained = chosen(folder, Selection.LOWEST_FID, tmp_path, "".join(rows))
    assert same_weights(trained, load_model(snapshot_file(folder / "weights", best)))
    said = {"checkpoint": "lowest-fid", "snapshots": 4, "snapshot_images": 20}
    assert trained.outcome == {"status": "trained", "step": best, "reason": None, **said}
    assert trained.header["weights"] == "ema"


def test_the_choice_says_in_how_many_steps_the_images_were_drawn(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(__name__ + ".SCORES", "step,images,evaluations,fid_train\n")
    trained = chosen(folder, Selection.LOWEST_FID, tmp_path, "3,20,5,7.0\n6,20,5,4.0\n")
    said = {"checkpoint": "lowest-fid", "snapshots": 2, "snapshot_images": 20, "snapshot_evaluations": 5}
    assert trained.outcome == {"status": "trained", "step": 6, "reason": None, **said}


def test_no_scores_are_named(folder, tmp_path):
    with pytest.raises(UserError, match="--snapshots and --scores"):
        select_weights(folder / "final.safetensors", Selection.LOWEST_FID, tmp_path / "m", folder / "weights")
    with pytest.raises(UserError, match=r"snapshots\.csv: holds no snapshot"):
        chosen(folder, Selection.LOWEST_FID, tmp_path, "")
    with pytest.raises(UserError, match=r"000000005-ema.*no such file"):
        chosen(folder, Selection.LOWEST_FID, tmp_path, "5,20,2.0,0.1,5.0,1.0\n")
    assert not (tmp_path / "model.safetensors").exists()


def test_an_unstable_training_passes_its_last_weights_on(train_images, tmp_path):
    sections = {"training": {"snapshot_every": 3, "loss_limit": 1e-6}, "snapshots": {"images": 20}}
    config = tiny_experiment(**sections).stage_config("training")
    names = ("final.safetensors", "t.csv", "t.json", "weights")
    train(config, train_images, tmp_path / "state", *(tmp_path / name for name in names), CPU, log=lambda message: None)
    trained = chosen(tmp_path, Selection.LOWEST_FID, tmp_path, "")
    assert trained.outcome == load_model(tmp_path / "final.safetensors").outcome
    assert trained.outcome["status"] == "unstable"
