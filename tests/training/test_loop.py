"""The loop is Algorithm 1 with the authors' settings; it resumes exactly, and ends what cannot go on."""

import json
import shutil

import numpy as np
import pytest
import torch
from helpers import CPU, tiny_experiment

from ddpm.compute.memory import OutOfMemory
from ddpm.config.errors import DamagedFile, UserError
from ddpm.config.schema import TrainingConfig
from ddpm.data.pixels import to_model_range
from ddpm.storage.checkpoints import load_state, saved_states
from ddpm.storage.weights_file import EMA, RAW, snapshot_file
from ddpm.training import loop
from ddpm.training.loop import Trainer, image_indices, train, training_batch
from ddpm.training.model import load_model


def run(config, images, folder, log=lambda message: None):
    """Train into `folder`; returns the bytes of the weights."""
    weights = folder / "model.safetensors"
    outputs = (weights, folder / "t.csv", folder / "t.json", folder / "snapshots")
    train(config, images, folder / "state", *outputs, CPU, log=log)
    return weights.read_bytes()


def drawn(step, images, config, timesteps):
    """What Algorithm 1 draws in `step`."""
    pixels = torch.from_numpy(images[image_indices(step, config.batch_size, len(images), config.seed)])
    return training_batch(step, pixels, config, timesteps)


def outcome(folder):
    return json.loads((folder / "t.json").read_text())


@pytest.mark.parametrize("clip_shards", [1, 4, 8])
def test_training_is_the_published_formulas(clip_shards, train_images):
    """Against a plain loop: per-tensor TF-style Adam, warm-up from zero, clipping by shard, constant average."""
    training = {"clip_shards": clip_shards, "grad_clip": 0.05}
    config = tiny_experiment(training=training, network={"dropout": 0.2}).stage_config("training")
    trainer = Trainer(config, train_images, CPU)
    reference = Trainer(config, train_images, CPU)  # the same initial network, trained below by hand
    model, diffusion = reference.model, reference.diffusion
    weights = {name: p.detach().clone().double() for name, p in model.named_parameters()}
    average = {name: w.clone() for name, w in weights.items()}
    m = {name: torch.zeros_like(w) for name, w in weights.items()}
    v = {name: torch.zeros_like(w) for name, w in weights.items()}
    clipped, batches = 0, trainer.batches()
    for step in range(8):
        x0, t, noise, seeds = drawn(step, train_images, trainer.config, diffusion.num_timesteps)
        total = {name: torch.zeros_like(w) for name, w in weights.items()}
        for shard in range(clip_shards):
            rows = slice(shard * 8 // clip_shards, (shard + 1) * 8 // clip_shards)
            x_t = diffusion.q_sample(x0[rows], t[rows], noise[rows])
            for p in model.parameters():
                p.grad = None
            (model(x_t, t[rows], seeds[rows]) - noise[rows]).square().mean().backward()
            gradients = {name: p.grad.double() for name, p in model.named_parameters()}
            norm = torch.sqrt(sum(g.square().sum() for g in gradients.values()))
            clipped += norm > 0.05
            for name, g in gradients.items():
                total[name] += g * (0.05 / max(norm.item(), 0.05)) / clip_shards
        rate = 2e-4 * min(step / 4, 1) * (1 - 0.999 ** (step + 1)) ** 0.5 / (1 - 0.9 ** (step + 1))
        for name, p in model.named_parameters():
            m[name] = 0.9 * m[name] + 0.1 * total[name]
            v[name] = 0.999 * v[name] + 0.001 * total[name] ** 2
            weights[name] = weights[name] - rate * m[name] / (v[name].sqrt() + 1e-8)
            average[name] = weights[name] if step == 0 else 0.9 * average[name] + 0.1 * weights[name]
            p.data.copy_(weights[name])
        trainer.training_step(next(batches))
    assert clipped > 0, "the test must exercise the clipping"
    for vector, expected in ((trainer.state.parameters.values, weights), (trainer.state.ema, average)):
        for name, got in trainer.state.parameters.split(vector).items():
            torch.testing.assert_close(got.double(), expected[name], rtol=1e-4, atol=1e-7)


def test_the_first_update_changes_nothing(train_images):
    trainer = Trainer(tiny_experiment().stage_config("training"), train_images, CPU)
    before, batches = trainer.state.parameters.values.clone(), trainer.batches()
    trainer.training_step(next(batches))
    assert torch.equal(trainer.state.parameters.values, before)
    trainer.training_step(next(batches))
    assert not torch.equal(trainer.state.parameters.values, before)


def test_image_order_is_one_permutation_after_another():
    count, batch = 10, 4
    stream = np.concatenate([image_indices(step, batch, count, seed=0) for step in range(10)])
    epochs = stream.reshape(4, count)
    assert all(sorted(epoch) == list(range(count)) for epoch in epochs.tolist())
    assert len({tuple(epoch) for epoch in epochs.tolist()}) == 4
    assert not np.array_equal(stream, np.concatenate([image_indices(s, batch, count, seed=1) for s in range(10)]))


def test_batches_are_named_by_step(train_images):
    config = TrainingConfig(steps=5, batch_size=24, flip=True)
    first, again, next_step = (drawn(step, train_images, config, 1000) for step in (3, 3, 4))
    for a, b, c in zip(first, again, next_step, strict=True):
        assert torch.equal(a, b)
        assert not torch.equal(a, c)


def test_half_of_the_images_are_flipped_and_only_where_asked(train_images):
    def flipped(flip: bool) -> float:
        config = TrainingConfig(steps=1, batch_size=400, flip=flip)
        x0, *_ = drawn(0, train_images, config, 1000)
        plain = to_model_range(train_images[image_indices(0, 400, len(train_images), 0)])
        same, mirrored = ((x0 == other).flatten(1).all(1) for other in (plain, plain.flip(3)))
        assert (same | mirrored).all()
        return (~same).float().mean().item()

    assert flipped(False) == 0
    assert 0.4 < flipped(True) < 0.6


def test_times_are_uniform_over_all_steps(train_images):
    config = TrainingConfig(steps=1, batch_size=4000, flip=False)
    _, t, noise, _ = drawn(0, train_images, config, 20)
    assert set(t.tolist()) == set(range(20))
    assert t.bincount().min() > 120  # 200 expected, six standard deviations
    assert noise.std().item() == pytest.approx(1, abs=0.01)


def test_times_are_independent_between_images(train_images):
    """Of all pairs of images in 400 batches, one in T has equal times, and as many have any other sum."""
    config = TrainingConfig(steps=1, batch_size=8, flip=False)
    t = torch.stack([drawn(step, train_images, config, 20)[1] for step in range(400)])
    for i in range(8):
        for j in range(i):
            for share in ((t[:, i] == t[:, j]).float().mean(), (t[:, i] + t[:, j] == 19).float().mean()):
                assert abs(share.item() - 1 / 20) < 6 * (0.05 * 0.95 / 400) ** 0.5


def test_a_finished_run_is_a_no_op(train_images, tmp_path, monkeypatch):
    config = tiny_experiment().stage_config("training")
    first = run(config, train_images, tmp_path)
    monkeypatch.setattr(Trainer, "training_step", lambda self, pixels: pytest.fail("trained again"))
    assert run(config, train_images, tmp_path) == first
    assert outcome(tmp_path) == {"status": "trained", "step": 12, "reason": None}


def test_weights_are_the_average(train_images, tmp_path):
    config = tiny_experiment().stage_config("training")
    run(config, train_images, tmp_path)
    trainer = Trainer(config, train_images, CPU)
    trainer.run()
    loaded = load_model(tmp_path / "model.safetensors")
    for name, tensor in trainer.state.parameters.split(trainer.state.ema).items():
        assert torch.equal(loaded.model.state_dict()[name], tensor)
    assert not torch.equal(trainer.state.ema, trainer.state.parameters.values)


def test_a_state_of_another_config_is_refused(train_images, tmp_path):
    run(tiny_experiment().stage_config("training"), train_images, tmp_path)
    other = tiny_experiment(training={"learning_rate": 0.5}).stage_config("training")
    before = {path: path.read_bytes() for path in (tmp_path / "state").iterdir()}
    with pytest.raises(UserError, match=r"another configuration.*--state"):
        run(other, train_images, tmp_path)
    assert {path: path.read_bytes() for path in (tmp_path / "state").iterdir()} == before


def test_other_data_are_trained_on_anew_and_the_state_of_the_first_is_kept(train_images, tmp_path, monkeypatch):
    config = tiny_experiment().stage_config("training")
    first = run(config, train_images, tmp_path)
    state = load_state(tmp_path / "state", tiny_experiment().fingerprint(), train_images.sha256)
    before = {path: path.read_bytes() for path in saved_states(tmp_path / "state")}
    monkeypatch.setattr(train_images, "sha256", "0" * 64)
    second = run(config, train_images, tmp_path)
    assert len(saved_states(tmp_path / "state" / f"data-{'0' * 16}")) == 2
    assert {path: path.read_bytes() for path in saved_states(tmp_path / "state")} == before
    with pytest.raises(UserError, match=f"data {train_images.sha256}, yours is 1111"):
        load_state(tmp_path / "state" / f"data-{'0' * 16}", state.fingerprint, "1" * 64)
    monkeypatch.setattr(Trainer, "training_step", lambda self, pixels: pytest.fail("trained again"))
    assert run(config, train_images, tmp_path) == second
    monkeypatch.setattr(train_images, "sha256", state.data)
    assert run(config, train_images, tmp_path) == first


def test_the_save_interval_changes_nothing(train_images, tmp_path):
    one, other = tiny_experiment(), tiny_experiment(training={"save_every": 3})
    assert one.fingerprint() == other.fingerprint()
    weights = []
    for name, experiment in (("a", one), ("b", other)):
        (tmp_path / name).mkdir()
        run(experiment.stage_config("training"), train_images, tmp_path / name)
        weights.append(load_model(tmp_path / name / "model.safetensors").model.state_dict())
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


@pytest.mark.parametrize("damage", ["cut", "empty", "flipped"])
@pytest.mark.parametrize("good", [6, 0])
def test_a_damaged_state_falls_back_to_the_one_before_and_says_what_is_lost(damage, good, train_images, tmp_path):
    """Of two states, the newer one is damaged, or both are: then the training starts anew."""
    config = tiny_experiment().stage_config("training")
    first = run(config, train_images, tmp_path)
    states = saved_states(tmp_path / "state")
    assert len(states) == 2
    damaged = states[-1:] if good else states
    for state in damaged:
        content = bytearray(state.read_bytes())
        content[len(content) // 2] ^= 1
        state.write_bytes({"cut": content[: len(content) // 2], "empty": b"", "flipped": content}[damage])
    messages = []
    assert run(config, train_images, tmp_path, messages.append) == first
    for state, step in zip(reversed(damaged), (12, 6), strict=False):
        assert [m for m in messages if str(state) in m and "damaged" in m and f"from step {step} to {good}" in m]
    assert any("resuming" in message and "step 6" in message for message in messages) == bool(good)
    assert saved_states(tmp_path / "state") == states
    assert load_state(tmp_path / "state", tiny_experiment().fingerprint(), train_images.sha256).step == 12


@pytest.mark.parametrize("damage", ["cut", "foreign", "empty"])
def test_damaged_weights_are_named(damage, train_images, tmp_path):
    weights = run(tiny_experiment().stage_config("training"), train_images, tmp_path)
    path = tmp_path / "model.safetensors"
    path.write_bytes({"cut": weights[: len(weights) // 2], "foreign": b"<html>" * 99, "empty": b""}[damage])
    with pytest.raises(DamagedFile, match=r"model\.safetensors: .*Delete it"):
        load_model(path)


@pytest.mark.parametrize(
    ("training", "words"),
    [({"loss_limit": 0.01}, "limit 0.01"), ({"learning_rate": 1e30, "warmup": 0}, "nan|inf|limit")],
)
def test_a_loss_out_of_range_is_a_result(training, words, train_images, tmp_path):
    experiment = tiny_experiment(training=training)
    run(experiment.stage_config("training"), train_images, tmp_path)
    result = outcome(tmp_path)
    assert result["status"] == "unstable"
    assert 1 <= result["step"] <= 12
    assert any(word in result["reason"] for word in words.split("|"))
    assert load_model(tmp_path / "model.safetensors").outcome == result
    run(experiment.stage_config("training"), train_images, tmp_path)
    assert outcome(tmp_path) == result, "and running again keeps it"


@pytest.mark.parametrize(
    "method",
    ["mu-vlb-learned", "mu-vlb-fixedlarge", "mu-simple-fixedlarge", "eps-vlb-learned", "eps-vlb-fixedlarge",
     "eps-simple-fixedlarge", "x0-simple-fixedsmall"],
)  # fmt: skip
def test_every_row_of_table_2_trains_by_the_same_loop(method, train_images):
    trainer = Trainer(tiny_experiment(method).stage_config("training"), train_images, CPU)
    trainer.run()
    assert trainer.state.outcome["status"] == "trained"
    assert np.isfinite(trainer.state.ema.numpy()).all()


def test_training_lowers_the_loss(train_images):
    training = {"steps": 150, "log_every": 10, "learning_rate": 2e-3, "batch_size": 32}
    trainer = Trainer(tiny_experiment(training=training).stage_config("training"), train_images, CPU)
    trainer.run()
    losses = [row[1] for row in trainer.state.history]
    assert np.mean(losses[-3:]) < 0.7 * losses[0]


def out_of_memory_above(count: int, trainer: Trainer, monkeypatch) -> list[int]:
    """Let the network fail like a full GPU for more than `count` images; returns the batches that it is given."""
    forward, seen = trainer.model.forward, []

    def limited(x, *rest, **options):
        seen.append(len(x))
        if len(x) > count:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(x, *rest, **options)

    monkeypatch.setattr(trainer.model, "forward", limited)
    return seen


@pytest.mark.parametrize("clip_shards", [1, 2])
@pytest.mark.parametrize("micro_batch", [1, 3, 4])
def test_micro_batches_add_up_to_the_batch(micro_batch, clip_shards, train_images):
    """To rounding: 1e-6 of the largest weight after all steps, with dropout and clipping."""
    training = {"clip_shards": clip_shards, "grad_clip": 0.05, "learning_rate": 1e-3}
    trainers = []
    for micro in (None, micro_batch):
        experiment = tiny_experiment(training={**training, "micro_batch": micro}, network={"dropout": 0.2})
        trainers.append(Trainer(experiment.stage_config("training"), train_images, CPU))
        before = trainers[-1].state.parameters.values.clone()
        trainers[-1].run()
    whole, parts = (trainer.state.parameters.values for trainer in trainers)
    assert (whole - before).abs().max() > 1e-3
    assert (whole - parts).abs().max() < 1e-6 * whole.abs().max()
    for one, other in zip(*(trainer.state.history for trainer in trainers), strict=True):
        assert one == pytest.approx(other, rel=1e-5)


def test_a_full_gpu_halves_the_micro_batch_and_loses_no_step(train_images, monkeypatch):
    config = tiny_experiment(network={"dropout": 0.2}).stage_config("training")
    said = []
    undisturbed, limited = (Trainer(config, train_images, CPU, log=said.append) for _ in range(2))
    undisturbed.run()
    seen = out_of_memory_above(3, limited, monkeypatch)
    limited.run()
    assert limited.micro_batch == 2
    assert seen[:3] == [8, 4, 2]
    assert set(seen[3:]) == {2}, "it does not try again what did not fit"
    assert [line.partition(" images")[0] for line in said] == ["8", "4"]
    assert "from here on 2; training.micro_batch: 2 in the configuration would begin with that" in said[1]
    difference = (limited.state.parameters.values - undisturbed.state.parameters.values).abs().max()
    assert difference < 1e-6 * undisturbed.state.parameters.values.abs().max()


def test_what_fits_into_memory_is_recorded(train_images, monkeypatch):
    """By a stand-in for a CUDA graph, which calls what it was given."""
    config, recorded, played = tiny_experiment().stage_config("training"), [], []

    class StandIn:
        def __init__(self, work, inputs):
            work(*inputs)
            recorded.append(trainer.micro_batch)
            self.work = work

        def __call__(self, *inputs):
            played.append(len(inputs[0]))
            return self.work(*inputs)

    monkeypatch.setattr(loop, "CUDAGraphCallable", StandIn)
    trainer, undisturbed = (Trainer(config, train_images, CPU, log=lambda words: None) for _ in range(2))
    undisturbed.run()
    trainer.use_cuda_graph = True
    out_of_memory_above(3, trainer, monkeypatch)
    trainer.run()
    assert recorded == [2], "only what fits, once"
    assert played == [8] * config["training"]["steps"]
    assert (trainer.state.parameters.values - undisturbed.state.parameters.values).abs().max() < 1e-6


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("settings", [{}, {"clip_shards": 2}, {"micro_batch": 3}])
def test_a_recorded_training_is_the_same(settings, train_images):
    """To rounding; in float32, with dropout, and images that a step of the recording must not keep."""
    config = tiny_experiment(training=settings, network={"dropout": 0.2}).stage_config("training")
    plain, trainer = (Trainer(config, train_images, torch.device("cuda")) for _ in range(2))
    before = plain.state.parameters.values.clone()
    plain.run()
    trainer.use_cuda_graph = True
    trainer.run()
    assert trainer.cuda_graph is not None
    assert (plain.state.parameters.values - before).abs().max() > 1e-3
    assert (plain.state.parameters.values - trainer.state.parameters.values).abs().max() < 1e-4
    for one, other in zip(plain.state.history, trainer.state.history, strict=True):
        assert one == pytest.approx(other, rel=1e-3)


def test_a_gpu_that_holds_no_image_is_named(train_images, monkeypatch):
    trainer = Trainer(tiny_experiment().stage_config("training"), train_images, CPU)
    out_of_memory_above(0, trainer, monkeypatch)
    with pytest.raises(OutOfMemory, match="not even one image of the training fits"):
        trainer.run()


def test_micro_batches_leave_the_fingerprint(train_images):
    assert tiny_experiment().fingerprint() == tiny_experiment(training={"micro_batch": 2}).fingerprint()


SNAPSHOTS = {"training": {"snapshot_every": 6, "steps": 14, "log_every": 2}, "snapshots": {"images": 20}}


def test_snapshots_are_the_weights_along_the_way(train_images, tmp_path):
    """Both kinds, after every 6 steps and at the end, as trainings of so many steps have them."""
    run(tiny_experiment(**SNAPSHOTS).stage_config("training"), train_images, tmp_path)
    steps = {step: [snapshot_file(tmp_path / "snapshots", step, kind) for kind in (EMA, RAW)] for step in (6, 12, 14)}
    assert set((tmp_path / "snapshots").iterdir()) == {file for files in steps.values() for file in files}
    for step, files in steps.items():
        trainer = Trainer(tiny_experiment(training={"steps": step}).stage_config("training"), train_images, CPU)
        trainer.run()
        for file, vector, kind in zip(
            files, (trainer.state.ema, trainer.state.parameters.values), ("ema", "raw"), strict=True
        ):
            loaded = load_model(file)
            assert loaded.outcome == {"status": "trained", "step": step, "reason": None}
            assert loaded.header["weights"] == kind
            for name, tensor in trainer.state.parameters.split(vector).items():
                assert torch.equal(loaded.model.state_dict()[name], tensor)


def test_snapshots_outlive_a_kill(train_images, tmp_path):
    """A training that goes on after its last state hands over the snapshots from before, too."""
    config = tiny_experiment(**SNAPSHOTS).stage_config("training")
    run(config, train_images, tmp_path)
    before = {path.name: path.read_bytes() for path in (tmp_path / "snapshots").iterdir()}
    assert len(before) == 6
    newest = saved_states(tmp_path / "state")[-1]
    newest.unlink()
    shutil.rmtree(tmp_path / "snapshots")  # as Snakemake removes what a failed job was to make
    snapshot_file(tmp_path / "state/snapshots", 14).unlink()
    run(config, train_images, tmp_path)
    assert {path.name: path.read_bytes() for path in (tmp_path / "snapshots").iterdir()} == before


def test_an_unstable_training_leaves_no_snapshot_of_its_end(train_images, tmp_path):
    unstable = {**SNAPSHOTS, "training": {**SNAPSHOTS["training"], "snapshot_every": 2, "loss_limit": 1e-6}}
    run(tiny_experiment(**unstable).stage_config("training"), train_images, tmp_path)
    assert outcome(tmp_path)["status"] == "unstable"
    assert not list((tmp_path / "snapshots").iterdir())
