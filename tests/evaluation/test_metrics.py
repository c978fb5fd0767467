"""Features, scores and neighbours of a tiny run, and the record of what they were computed from."""

import dataclasses
import json
import subprocess
import sys
from itertools import product

import numpy as np
import pytest
from documents import CHECKED_HEADERS, COPIES, harmless_key, leaves
from helpers import CPU, tiny_experiment
from records import read_records
from stand_in import StandIn, load_stand_in, write_data_set, write_torchscript

from ddpm.config.errors import DamagedFile, UserError
from ddpm.config.schema import ClassifierConfig, EvaluationConfig, FewStepsConfig, SamplingConfig
from ddpm.data.store import Images
from ddpm.evaluation.curves import write_few_steps, write_progressive, write_rate_distortion, write_snapshot_scores
from ddpm.evaluation.features import write_features
from ddpm.evaluation.fid import frechet_distance, statistics
from ddpm.evaluation.inception_score import inception_score
from ddpm.evaluation.kid import kernel_distance
from ddpm.evaluation.likelihood import Bound, likelihood_shard
from ddpm.evaluation.metrics import write_metrics
from ddpm.evaluation.neighbours import write_neighbours
from ddpm.evaluation.networks.classifier import load_classifier, train_classifier
from ddpm.evaluation.precision_recall import precision_recall
from ddpm.evaluation.protocol import HARMLESS
from ddpm.evaluation.reference import write_reference
from ddpm.sampling.runner import AncestralSampler, FewStepsSampler, sample_shard
from ddpm.sampling.snapshots import SnapshotSampler
from ddpm.storage.files import read_json, read_npz, sha256
from ddpm.storage.tables import read_curve

QUIET = {"log": lambda message: None}
CONFIG = EvaluationConfig(splits=4, replicates=10, neighbour_rows=3, neighbours=2)


@pytest.fixture(scope="module")
def network(digits, tmp_path_factory):
    path = tmp_path_factory.mktemp("classifier") / "classifier.safetensors"
    train_classifier(ClassifierConfig(width=8, features=16, epochs=10, learning_rate=3e-3), digits, path, CPU, **QUIET)
    return load_classifier(path)


@pytest.fixture(scope="module")
def reference(network, digits, tmp_path_factory):
    folder = tmp_path_factory.mktemp("reference")
    write_reference(network, digits, 10, folder / "features.npz", folder / "reference.json")
    return folder


def evaluated(trained, network, reference, digits, folder):
    """Run the whole evaluation of `trained` in `folder`, as the workflow does."""
    experiment = tiny_experiment()
    samples = [folder / f"samples-{i}.npz" for i in (1, 2)]
    features = [folder / f"features-{i}.npz" for i in (1, 2)]
    for i in (1, 2):
        sample_shard(AncestralSampler(trained, experiment.sampling, CPU), i, samples[i - 1], **QUIET)
        write_features(network, samples[i - 1], features[i - 1])
    bounds = []
    for split, count in (("test", 20), ("train", 12)):
        bounds.append(folder / f"{split}.npz")
        config = experiment.likelihood.model_copy(update={"shards": 1})
        images = Images(digits / f"{split}.npy")
        bound = Bound(trained, images, split, min(count, len(images)), config, CPU)
        likelihood_shard(bound, 1, bounds[-1], **QUIET)
    arrays, card = reference / "features.npz", digits / "card.json"
    write_metrics(CONFIG, "demo", features, bounds, arrays, card, folder / "metrics.json")
    write_rate_distortion(bounds, folder / "rate_distortion.csv")
    write_progressive(CONFIG, features, arrays, folder / "progressive.csv")
    write_neighbours(CONFIG, samples[0], features[0], digits / "train.npy", arrays, folder / "neighbours.npz")
    return samples, features


@pytest.mark.parametrize(("count", "test_images"), [(12, 0), (12, 1), (5, 5), (1, 0)])
def test_a_set_of_a_few_pictures_is_evaluated(count, test_images, trained, network, digits, tmp_path):
    """All commands get through, in JSON that is valid; what there are too few images for is left out with a reason."""
    pictures = Images(digits / "train.npy")[:40]
    data = write_data_set(tmp_path / "data", pictures[:count], pictures[20 : 20 + test_images])
    write_reference(network, data, 10, tmp_path / "features.npz", tmp_path / "reference.json")
    samples, _ = evaluated(trained, network, tmp_path, data, tmp_path)
    metrics = json.loads((tmp_path / "metrics.json").read_text(), parse_constant=pytest.fail)
    for split, images in (("train", count), ("test", test_images)):
        assert (metrics["fid"][split] is None) == (f"fid_{split}" in metrics["left_out"]) == (images < 2)
        assert (metrics["nll"][split] is None) == (images == 0)
    assert metrics["inception_score"]["mean"] >= 1
    assert (metrics["precision_recall"] is None) == (metrics["kid"] is None) == (count == 1)
    assert metrics["left_out"]["clean_fid"] == f"clean-FID is of Inception's features, not of {network.name}"
    assert read_npz(tmp_path / "neighbours.npz", "pixel")["pixel"].shape[1] == min(count, CONFIG.neighbours)
    rows = read_records(tmp_path / "progressive.csv", "fid_test", "inception_score")
    assert len(rows) == tiny_experiment().sampling.previews
    assert all((row["fid_test"] == "nan") == (test_images < 2) for row in rows)
    write_snapshot_scores(CONFIG, network, samples, tmp_path / "features.npz", tmp_path / "snapshots.csv")
    assert len(read_records(tmp_path / "snapshots.csv")) == 2


def test_features_of_an_earlier_version_have_no_clean_fid(run, reference, digits, tmp_path):
    _, _, features = run
    for path in features:
        arrays = dict(np.load(path))
        header = json.loads(str(arrays["header"]))
        del header["kinds"]
        np.savez(tmp_path / path.name, **arrays | {"header": np.array(json.dumps(header))})
    earlier = [tmp_path / path.name for path in features]
    write_metrics(
        CONFIG, "demo", earlier, [], reference / "features.npz", digits / "card.json", tmp_path / "metrics.json"
    )
    metrics = read_json(tmp_path / "metrics.json")
    assert metrics["clean_fid"] is None and metrics["left_out"]["clean_kid"].startswith("features of an earlier")


@pytest.fixture(scope="module")
def run(trained, network, reference, digits, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    return folder, *evaluated(trained, network, reference, digits, folder)


def test_classifier_knows_the_digits(reference):
    document = read_json(reference / "reference.json")
    assert document["accuracy"] > 0.8
    assert document["network"] == "digits classifier"
    assert 5 < document["inception_score"]["test"]["mean"] <= 10


def test_classifier_is_named_by_its_seed(network, digits, tmp_path):
    config = ClassifierConfig(width=8, features=16, epochs=10, learning_rate=3e-3)
    train_classifier(config, digits, tmp_path / "again", CPU, **QUIET)
    assert sha256(tmp_path / "again") == network.sha256


def test_classifier_is_trained_without_torchs_compiler(digits, tmp_path):
    """Which torch's optimisers load as they are made: that takes longer than the training."""
    out = tmp_path / "classifier.safetensors"
    code = f"""
import sys
from pathlib import Path
from ddpm.evaluation.networks.classifier import ClassifierConfig, train_classifier
train_classifier(ClassifierConfig(width=4, epochs=1), Path({str(digits)!r}), Path({str(out)!r}), "cpu")
sys.exit("torch._dynamo" in sys.modules)"""
    subprocess.run([sys.executable, "-c", code], check=True)
    assert out.exists()


def test_damaged_classifier_is_named(tmp_path):
    (tmp_path / "classifier.safetensors").write_bytes(b"not weights" * 10)
    with pytest.raises(DamagedFile, match=r"classifier\.safetensors"):
        load_classifier(tmp_path / "classifier.safetensors")


def test_features_are_per_image(network, digits):
    images = np.load(digits / "test.npy")[:20]
    features, probabilities = network(images)
    alone, _ = network(images[7:8])
    np.testing.assert_allclose(features[7:8], alone, rtol=1e-5, atol=1e-6)
    in_batches, _ = network(images, batch_size=7)  # which does not divide 20
    np.testing.assert_allclose(in_batches, features, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-6)


def test_scores_are_those_of_all_samples(run, network, digits):
    folder, samples, _ = run
    metrics = read_json(folder / "metrics.json")
    images = np.concatenate([read_npz(path, "images")["images"] for path in samples])
    features, probabilities = network(images)
    assert metrics["experiment"] == "digits-eps-simple-test"
    assert metrics["status"] == "measured"
    score = metrics["inception_score"]
    assert (score["mean"], score["std"]) == pytest.approx(inception_score(probabilities, 4), rel=1e-5)
    for split in ("train", "test"):
        real, _ = network(np.load(digits / f"{split}.npy"))
        expected = frechet_distance(*statistics(features), *statistics(real))
        assert metrics["fid"][split] == pytest.approx(expected, rel=1e-4)
    assert metrics["nll"]["test"]["images"] == 20
    assert metrics["nll"]["train"]["images"] == 12


def test_every_number_says_what_it_was_computed_from(run, trained, network, reference, digits):
    folder, _, _ = run
    metrics = read_json(folder / "metrics.json")
    made = metrics["made_from"]
    assert made["images"] == 40
    assert made["weights"] == {"kind": "ema", "sha256": trained.sha256, "status": "trained", "step": 12, "reason": None}
    assert made["reference"]["file_sha256"] == sha256(reference / "features.npz")
    assert made["reference"]["train"] == {"images": 1437, "sha256": sha256(digits / "train.npy")}
    assert metrics["features"] == {"network": "digits classifier", "sha256": network.sha256}
    for key in ("sampler", "quantisation", "process", "sampling", "training", "device", "packages", "code", "machine"):
        assert made[key], key
    words = " ".join(deviation["text"] for deviation in metrics["deviations"])
    for word in (
        "ch 8, not 128",
        "ema_decay 0.9, not 0.9999",
        "not CIFAR-10",
        "not Inception",
        "12 training steps",
        "40 sample images",
        "4 splits",
        "20 of the 360",
    ):
        assert word in words


def test_every_key_of_made_from_is_checked_or_harmless(run):
    """Those of the stages' documents are walked over in test_departures."""
    folder, _, _ = run
    made = read_json(folder / "metrics.json")["made_from"]
    chosen = ("checkpoint", "snapshots", "snapshot_images", "snapshot_evaluations")  # by `select_weights`
    names = {name for name, _, _ in leaves(made | {"weights": {**made["weights"], **dict.fromkeys(chosen)}})}
    names = {name for name in names if not name.startswith(tuple(f"{copy}." for copy in COPIES))}
    harmless = {name: harmless_key(f"made_from.{name}") for name in names}
    assert {name for name in names if not harmless[name]} == CHECKED_HEADERS
    assert {key for key in HARMLESS if key.startswith("made_from.")} <= set(harmless.values())


def test_fewer_shards_are_fewer_images(run, reference, digits, tmp_path):
    """What counts is what was scored, not what was asked for."""
    _, _, features = run
    card, out = digits / "card.json", tmp_path / "metrics.json"
    write_metrics(CONFIG, "demo", features[:1], [], reference / "features.npz", card, out)
    metrics = read_json(out)
    assert metrics["made_from"]["images"] == 20
    assert "20 sample images, not 50,000" in [deviation["text"] for deviation in metrics["deviations"]]


def test_curves_end_at_the_samples(run, network, digits):
    folder, samples, _ = run
    metrics = read_json(folder / "metrics.json")
    header, *rows = [line.split(",") for line in (folder / "progressive.csv").read_text().splitlines()]
    last = dict(zip(header, map(float, rows[0]), strict=True))  # slot 0: the final sample
    assert [int(row[0]) for row in rows] == [1, 6, 11, 16]
    assert last["reverse_steps"] == 19
    assert last["fid_train"] == pytest.approx(metrics["fid"]["train"], rel=1e-6)
    assert last["inception_score"] == pytest.approx(metrics["inception_score"]["mean"], rel=1e-6)
    training = statistics(network(np.load(digits / "train.npy"))[0])
    previews = np.concatenate([read_npz(path, "previews")["previews"] for path in samples])
    for slot, row in enumerate(rows):
        features, probabilities = network(previews[:, slot])
        at_t = dict(zip(header, map(float, row), strict=True))
        assert at_t["fid_train"] == pytest.approx(frechet_distance(*statistics(features), *training), rel=1e-4)
        assert at_t["inception_score"] == pytest.approx(inception_score(probabilities, 4)[0], rel=1e-5)
    header, *rows = [line.split(",") for line in (folder / "rate_distortion.csv").read_text().splitlines()]
    assert len(rows) == 20
    assert float(rows[0][header.index("rate")]) == pytest.approx(metrics["nll"]["test"]["rate"], rel=1e-6)


def test_neighbours_are_the_nearest_training_images(run, network, digits):
    folder, samples, _ = run
    arrays = read_npz(folder / "neighbours.npz", "samples", "pixel", "feature")
    training = np.load(digits / "train.npy")
    images = read_npz(samples[0], "images")["images"][:3]
    assert np.array_equal(arrays["samples"], images)
    for space, of, among in (
        ("pixel", images.reshape(3, -1).astype(float), training.reshape(len(training), -1).astype(float)),
        ("feature", network(images)[0], network(training)[0]),
    ):
        distances = np.linalg.norm(of[:, None] - among[None], axis=2)
        assert np.array_equal(arrays[space], training[np.argsort(distances, axis=1, kind="stable")[:, :2]])


def test_an_unstable_run_is_recorded_through_the_whole_evaluation(trained, network, reference, digits, tmp_path):
    outcome = {"status": "unstable", "step": 7, "reason": "the loss was nan"}
    unstable = dataclasses.replace(trained, header={**trained.header, "outcome": outcome})
    evaluated(unstable, network, reference, digits, tmp_path)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert (metrics["status"], metrics["step"], metrics["reason"]) == ("unstable", 7, "the loss was nan")
    assert metrics["inception_score"] is None
    assert all(metrics[key] is None for key in ("fid", "fid_spread", "kid", "precision_recall"))
    assert metrics["nll"] == {"test": None, "train": None}
    for curve in ("progressive.csv", "rate_distortion.csv"):
        assert len((tmp_path / curve).read_text().splitlines()) == 1
    assert len(read_npz(tmp_path / "neighbours.npz", "pixel")["pixel"]) == 0


@pytest.fixture(scope="module")
def digits_without_test(digits, tmp_path_factory):
    """The digits with neither a test set nor labels, as the paper's photographs are."""
    folder = tmp_path_factory.mktemp("digits")
    return write_data_set(folder, np.load(digits / "train.npy"), name="digits", title="Scans")


def test_a_data_set_without_test_images_has_no_score_against_them(
    run, few_steps, network, reference, digits_without_test, tmp_path
):
    folder, samples, features = run
    arrays, card = tmp_path / "features.npz", digits_without_test / "card.json"
    write_reference(network, digits_without_test, 10, arrays, tmp_path / "reference.json")
    write_metrics(CONFIG, "demo", features, [], arrays, card, tmp_path / "metrics.json")
    write_progressive(CONFIG, features, arrays, tmp_path / "progressive.csv")
    write_few_steps(CONFIG, network, few_steps, arrays, tmp_path / "few_steps.csv")
    write_snapshot_scores(CONFIG, network, samples, arrays, tmp_path / "snapshots.csv")
    metrics, whole = read_json(tmp_path / "metrics.json"), read_json(folder / "metrics.json")
    assert metrics["fid"] == {"train": pytest.approx(whole["fid"]["train"], rel=1e-6), "test": None}
    assert (metrics["fid_spread"]["train"], metrics["fid_spread"]["test"]) == (whole["fid_spread"]["train"], None)
    assert metrics["nll"] is None
    for name in ("progressive", "few_steps", "snapshots"):
        curve = read_curve(tmp_path / f"{name}.csv", "fid_train", "fid_test")
        assert np.isnan(curve["fid_test"]).all() and np.isfinite(curve["fid_train"]).all() and len(curve["fid_train"])


def test_scores_against_features_of_another_network_are_refused(run, reference, digits, tmp_path):
    _, samples, _ = run
    write_torchscript(StandIn(features=16), tmp_path / "other.pt")
    other = load_stand_in(tmp_path / "other.pt")
    arrays, card, out = reference / "features.npz", digits / "card.json", tmp_path / "out"
    write_features(other, samples[0], tmp_path / "features.npz")
    for write in (
        lambda: write_metrics(CONFIG, "demo", [tmp_path / "features.npz"], [], arrays, card, out),
        lambda: write_progressive(CONFIG, [tmp_path / "features.npz"], arrays, out),
        lambda: write_snapshot_scores(CONFIG, other, samples, arrays, out),
    ):
        with pytest.raises(UserError, match=r"features\.npz: these are features of digits classifier"):
            write()
    assert not out.exists()


def test_scores_against_other_data_are_refused(run, network, digits_without_test, tmp_path):
    """The wrong statistics file, of the same network: its images are told by their hash."""
    _, _, features = run
    images = np.load(digits_without_test / "train.npy")[:100]
    other = write_data_set(tmp_path / "other", images, name="digits", title="Scans")
    write_reference(network, other, 10, tmp_path / "features.npz", tmp_path / "reference.json")
    card = digits_without_test / "card.json"
    with pytest.raises(UserError, match=r"features\.npz: features of other train images \(digits\) than those of"):
        write_metrics(CONFIG, "demo", features, [], tmp_path / "features.npz", card, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_metrics_say_how_certain_they_are(run, network, reference, digits):
    folder, samples, _ = run
    metrics = read_json(folder / "metrics.json")
    images = np.concatenate([read_npz(path, "images")["images"] for path in samples])
    ours, training = network(images)[0], network(np.load(digits / "train.npy"))[0]
    for split in ("train", "test"):
        spread = metrics["fid_spread"][split]
        low, high = spread["interval"]
        assert low < metrics["fid"][split] < high
        assert 0 < spread["std"] < metrics["fid"][split]
        assert spread["replicates"] == CONFIG.replicates
        assert spread["infinity"] is None  # 40 images are fewer than four times its 16 features
        assert "too few" in spread["note"]
    assert metrics["kid"]["subset_size"] == 40
    assert metrics["kid"]["mean"] == pytest.approx(kernel_distance(ours, training, CONFIG.seed)["mean"], rel=1e-4)
    expected = precision_recall(ours, training)
    assert metrics["precision_recall"] == pytest.approx(expected, abs=0.05)
    assert metrics["precision_recall"]["images"] == 40


def test_snapshots_are_scored_in_the_order_of_their_steps(trained, network, reference, digits, tmp_path):
    config = SamplingConfig(images=24, batch_size=16)
    shards = []
    for step in (300, 20, 100, 50):
        outcome = {**trained.outcome, "step": step}
        if step == 100:
            outcome = {"status": "unstable", "step": step, "reason": "the loss was nan"}
        snapshot = dataclasses.replace(trained, header={**trained.header, "outcome": outcome})
        shards.append(tmp_path / f"{step}.npz")
        seed = SamplingConfig(images=24, batch_size=16, seed=step) if step == 50 else config
        sampler = AncestralSampler(snapshot, seed, CPU)
        if step == 300:
            few = FewStepsConfig(images=24, batch_size=16, steps=(5,), eta=(0.0,))
            sampler = SnapshotSampler(FewStepsSampler(snapshot, few, CPU), "images")
        sample_shard(sampler, 1, shards[-1], **QUIET)
    write_snapshot_scores(CONFIG, network, shards, reference / "features.npz", tmp_path / "snapshots.csv")
    columns = ["step", "images", "evaluations", "inception_score", "inception_score_std", "fid_train", "fid_test"]
    rows = read_records(tmp_path / "snapshots.csv")
    assert list(rows[0]) == columns
    assert [(row["step"], row["images"], row["evaluations"]) for row in rows] == [
        *((step, "24", "5" if step == "300" else "20") for step in ("20", "50", "300"))
    ]
    for row in rows:
        features, probabilities = network(read_npz(tmp_path / f"{row['step']}.npz", "images")["images"])
        score = float(row["inception_score"]), float(row["inception_score_std"])
        assert score == pytest.approx(inception_score(probabilities, 4), rel=1e-6)
        for split in ("train", "test"):
            expected = frechet_distance(
                *statistics(features), *statistics(network(np.load(digits / f"{split}.npy"))[0])
            )
            assert float(row[f"fid_{split}"]) == pytest.approx(expected, rel=1e-4)


def test_one_unstable_shard_makes_the_run_unstable(trained, network, reference, digits, tmp_path):
    paths, config = [], SamplingConfig(images=40, shards=2, previews=0)
    outcome = {"status": "unstable", "step": 7, "reason": "the samples left their range"}
    for i, of in ((1, trained), (2, dataclasses.replace(trained, header={**trained.header, "outcome": outcome}))):
        sample_shard(AncestralSampler(of, config, CPU), i, tmp_path / f"s{i}.npz", **QUIET)
        write_features(network, tmp_path / f"s{i}.npz", tmp_path / f"f{i}.npz")
        paths.append(tmp_path / f"f{i}.npz")
    arrays, card = reference / "features.npz", digits / "card.json"
    write_metrics(CONFIG, "demo", paths, [], arrays, card, tmp_path / "metrics.json")
    assert read_json(tmp_path / "metrics.json")["status"] == "unstable"


@pytest.fixture(scope="module")
def few_steps(trained, tmp_path_factory):
    """Three shards of few-step samples, of unequal sizes: both spacings, eta 0 and 1, in 2 and 5 steps."""
    folder = tmp_path_factory.mktemp("few_steps")
    config = FewStepsConfig(images=40, shards=3, batch_size=16, steps=(2, 5), spacing=("quadratic", "uniform"))
    for i in (1, 2, 3):
        sample_shard(FewStepsSampler(trained, config, CPU), i, folder / f"{i}-of-3.npz", **QUIET)
    return [folder / f"{i}-of-3.npz" for i in (1, 2, 3)]


def test_few_step_scores_are_those_of_each_setting(few_steps, network, reference, digits, tmp_path):
    write_few_steps(CONFIG, network, few_steps[::-1], reference / "features.npz", tmp_path / "few_steps.csv")
    rows = read_records(tmp_path / "few_steps.csv")
    assert [(row["spacing"], row["eta"], row["steps"]) for row in rows] == [
        *product(("quadratic", "uniform"), ("0.0", "1.0"), ("2", "5"))
    ]
    images = np.concatenate([read_npz(path, "images")["images"] for path in few_steps])
    for slot, row in enumerate(rows):
        features, probabilities = network(images[:, slot])
        assert (row["evaluations"], row["images"]) == (row["steps"], "40")
        score = float(row["inception_score"]), float(row["inception_score_std"])
        assert score == pytest.approx(inception_score(probabilities, 4), rel=1e-6)
        for split in ("train", "test"):
            real, _ = network(np.load(digits / f"{split}.npy"))
            expected = frechet_distance(*statistics(features), *statistics(real))
            assert float(row[f"fid_{split}"]) == pytest.approx(expected, rel=1e-4)


def test_few_steps_of_an_earlier_version_have_the_spacing_of_their_header(trained, network, reference, tmp_path):
    """Their files have no array of it."""
    config = FewStepsConfig(images=40, steps=(2, 5), spacing="quadratic")
    sample_shard(FewStepsSampler(trained, config, CPU), 1, tmp_path / "new.npz", **QUIET)
    arrays = dict(np.load(tmp_path / "new.npz"))
    assert json.loads(str(arrays["header"]))["sampling"]["spacing"] == "quadratic"
    assert arrays.pop("spacing").tolist() == ["quadratic"] * 4
    np.savez(tmp_path / "old.npz", **arrays)
    for name in ("new", "old"):
        write_few_steps(
            CONFIG, network, [tmp_path / f"{name}.npz"], reference / "features.npz", tmp_path / f"{name}.csv"
        )
    assert (tmp_path / "old.csv").read_text() == (tmp_path / "new.csv").read_text()
    assert [row["spacing"] for row in read_records(tmp_path / "old.csv")] == ["quadratic"] * 4


def test_unstable_few_steps_give_no_scores(trained, few_steps, network, reference, tmp_path):
    config = FewStepsConfig(images=40, shards=3, steps=(2, 5), limit=0.1)
    sample_shard(FewStepsSampler(trained, config, CPU), 3, tmp_path / "3-of-3.npz", **QUIET)
    shards = [*few_steps[:2], tmp_path / "3-of-3.npz"]
    write_few_steps(CONFIG, network, shards, reference / "features.npz", tmp_path / "few_steps.csv")
    assert read_records(tmp_path / "few_steps.csv", "eta", "fid_train") == []


def test_few_step_samples_are_never_scored_as_the_papers(run, few_steps, network, reference, digits, tmp_path):
    _, samples, features = run
    arrays, out = reference / "features.npz", tmp_path / "out"
    belongs = "DDIM sampler, where the ancestral sampler's belong"
    with pytest.raises(UserError, match=belongs):
        write_features(network, few_steps[0], out)
    with pytest.raises(UserError, match=belongs):
        write_neighbours(CONFIG, few_steps[0], features[0], digits / "train.npy", arrays, out)
    with pytest.raises(UserError, match=r"1-of-3\.npz: holds .*'count', 'preview_times'"):
        write_metrics(CONFIG, "demo", few_steps, [], arrays, digits / "card.json", out)
    with pytest.raises(UserError, match="ancestral sampler, where the DDIM sampler's belong"):
        write_few_steps(CONFIG, network, samples, arrays, out)
    assert not out.exists()
