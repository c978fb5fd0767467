"""Others' statistics of the real images: fetched if that is possible, compared with ours, and never in the way."""

import json

import numpy as np
import pytest
from servers import serving
from stand_in import StandIn, load_stand_in, pictures, write_data_set, write_torchscript
from typer.testing import CliRunner

from ddpm.cli import app
from ddpm.config.errors import DamagedFile, UserError
from ddpm.config.registry import DATASETS, resolve
from ddpm.data.prepare import prepare
from ddpm.evaluation import published
from ddpm.evaluation.fid import frechet_distance
from ddpm.evaluation.published import download_statistics, write_comparison
from ddpm.evaluation.reference import write_reference
from ddpm.storage import download
from ddpm.storage.files import read_json, read_npz, sha256

TRAIN, TEST = pictures(80), pictures(70, seed=1)  # more than the stand-in has features
QUIET = {"log": lambda message: None}


@pytest.fixture
def server(monkeypatch):
    def no_pause(seconds):
        raise AssertionError("nothing is tried again")

    monkeypatch.setattr(download.time, "sleep", no_pause)
    with serving() as server:
        yield server


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """Our features of TRAIN and TEST, and the folder that they are in."""
    folder = tmp_path_factory.mktemp("reference")
    write_torchscript(StandIn(), folder / "network.pt")
    data = write_data_set(folder / "data", TRAIN, TEST)
    write_reference(load_stand_in(folder / "network.pt"), data, 4, folder / "features.npz", folder / "reference.json")
    return folder


@pytest.fixture
def known(reference, monkeypatch):
    """As if the stand-in were the published network."""
    monkeypatch.setattr(published, "SHA256", sha256(reference / "network.pt"))


def content(folder, mu, sigma, **more) -> bytes:
    """An .npz as clean-fid writes it."""
    path = folder / "content.npz"
    np.savez_compressed(path, mu=mu, sigma=sigma, **more)
    return path.read_bytes()


def listed(server, **contents: bytes):
    """CIFAR-10 with statistics of each split at these contents on the server."""
    files = {split: {"name": f"{split}.npz", "urls": [server.add(split, of)]} for split, of in contents.items()}
    return resolve("cifar10", {"statistics": files})


def compare(reference, data, folder) -> dict:
    """The comparisons by split, after a download to `folder`."""
    download_statistics(data, folder, **QUIET)
    write_comparison(reference / "features.npz", folder / "card.json", folder / "published.json")
    document = read_json(folder / "published.json")
    assert document["data"] == "pictures"
    return {comparison["split"]: comparison for comparison in document["comparisons"]}


def test_the_difference_is_the_frechet_distance_and_that_of_the_means(server, reference, known, tmp_path):
    ours = read_npz(reference / "features.npz", "train_mu", "train_sigma", "test_mu", "test_sigma")
    shifted = ours["train_mu"].copy()
    shifted[3] += 0.5
    scaled = ours["test_sigma"] * 4
    data = listed(
        server,
        test=content(tmp_path, ours["test_mu"], scaled),
        train=content(tmp_path, shifted, ours["train_sigma"]),
    )
    found = compare(reference, data, tmp_path / "statistics")
    assert list(found) == ["train", "test"]
    train, test = found.values()
    assert (train["status"], train["reason"], train["images"]) == ("compared", None, 80)
    assert train["sha256"] == sha256(reference / "data/train.npy")
    assert train["url"] == f"{server.url}/train"
    assert train["frechet_distance"] == pytest.approx(0.25, rel=1e-6)
    assert train["mean_difference"] == pytest.approx(0.5, rel=1e-12)
    # |m - m|^2 + tr(S + 4S - 2 (4 S S)^(1/2)) = tr(S)
    assert test["frechet_distance"] == pytest.approx(np.trace(ours["test_sigma"]), rel=1e-6)
    assert test["mean_difference"] == 0
    assert test["images"] == 70


def test_our_own_statistics_are_no_distance_away(server, reference, known, tmp_path):
    features = np.load(reference / "features.npz")["train_features"].astype(np.float64)
    mu, sigma = features.mean(0), np.cov(features, rowvar=False)
    found = compare(reference, listed(server, train=content(tmp_path, mu, sigma)), tmp_path / "statistics")["train"]
    assert found["status"] == "compared"
    assert abs(found["frechet_distance"]) < 1e-6 * np.trace(sigma)
    assert found["mean_difference"] < 1e-9
    assert frechet_distance(mu, sigma, mu + 1, sigma) == pytest.approx(64), "such a shift would be seen"


def test_the_source_says_whose_and_of_how_many(server, reference, tmp_path):
    data = DATASETS["lsun-cat256"]
    file = data.statistics["train"].model_copy(update={"urls": (f"{server.url}/missing",)})
    found = compare(reference, data.model_copy(update={"statistics": {"train": file}}), tmp_path)["train"]
    assert found["source"] == "lsun_cat_legacy_tensorflow_train_256.npz, clean-fid, 50,000 images"
    assert "first 200,000" in found["notes"]
    found = compare(reference, listed(server, train=b"x"), tmp_path / "other")["train"]
    assert (found["source"], found["notes"]) == ("train.npz", "")


def test_another_network_is_not_compared(server, reference, tmp_path):
    data = listed(server, train=content(tmp_path, np.zeros(64), np.eye(64)))
    found = compare(reference, data, tmp_path / "statistics")["train"]
    assert (found["status"], found["frechet_distance"], found["mean_difference"]) == ("not compared", None, None)
    assert "features of Inception (2015-12-05), ours of those of TorchScript network" in found["reason"]


@pytest.mark.parametrize("how", ["broken", "html", "truncated", "absent", "dead"])
def test_what_cannot_be_fetched_is_said_and_tried_once(how, server, reference, known, tmp_path):
    data = listed(server, train=content(tmp_path, np.zeros(64), np.eye(64)), test=content(tmp_path, [1.0], [[1.0]]))
    server.how["train"] = how
    if how == "absent":
        del server.files["train"]
    if how == "dead":
        nowhere = {"name": "train.npz", "urls": ["http://127.0.0.1:9/train"]}
        data = resolve("cifar10", {"statistics": {"train": nowhere}})
    found = compare(reference, data, tmp_path / "statistics")["train"]
    words = {"broken": "503", "html": "HTML page", "truncated": "bytes", "absent": "404", "dead": "refused"}[how]
    assert found["status"] == "not compared"
    assert found["reason"].startswith("not fetched: http://127.0.0.1:") and words in found["reason"]
    card = read_json(tmp_path / "statistics/card.json")
    assert card["to_try_again"].endswith("--forcerun download_statistics")
    assert card["statistics"]["train"]["status"] == "not fetched"
    assert card["statistics"]["train"]["url"] in found["reason"]
    # What broke off may go on where it was, in the same try.
    assert server.asked.count("train") == {"dead": 0, "truncated": 2}.get(how, 1)
    if how != "dead":
        assert card["statistics"]["test"]["status"] == "fetched", "the others are fetched nevertheless"


def test_an_address_that_does_not_answer_is_waited_for_ten_seconds(monkeypatch, tmp_path):
    import requests

    def get(url, timeout, **options):
        assert timeout == (10, 30)
        raise requests.ConnectTimeout("no answer")

    monkeypatch.setattr(requests, "get", get)
    download_statistics(DATASETS["cifar10"], tmp_path, **QUIET)
    reasons = [file["reason"] for file in read_json(tmp_path / "card.json")["statistics"].values()]
    assert len(reasons) == 5 and all(reason.endswith(": no answer") for reason in reasons)


def test_a_second_try_fetches_what_was_missing_and_nothing_else(server, reference, known, tmp_path):
    of = content(tmp_path, np.zeros(64), np.eye(64))
    data = listed(server, train=of, test=of)
    server.how["train"] = "broken"
    assert compare(reference, data, tmp_path / "s")["train"]["status"] == "not compared"
    server.how["train"] = "good"
    server.requests.clear()
    found = compare(reference, data, tmp_path / "s")
    assert server.asked == ["train"]
    assert [found[split]["status"] for split in ("train", "test")] == ["compared", "compared"]
    card = read_json(tmp_path / "s/card.json")["statistics"]["train"]
    assert (card["file"], card["sha256"], card["reason"]) == ("train.npz", sha256(tmp_path / "s/train.npz"), None)


def test_a_file_in_the_root_is_used_in_place(server, reference, known, tmp_path, monkeypatch):
    (root := tmp_path / "root").mkdir()
    data = listed(server, train=b"", test=content(tmp_path, np.zeros(64), np.eye(64)))
    (root / "train.npz").write_bytes(server.files["test"])
    monkeypatch.chdir(tmp_path)
    data = data.model_copy(update={"root": root.relative_to(tmp_path)})
    found = compare(reference, data, tmp_path / "statistics")
    assert found["train"]["status"] == "compared"
    assert server.asked == ["test"]
    assert sorted(path.name for path in root.iterdir()) == ["train.npz"]
    wrong = data.statistics["train"].model_copy(update={"md5": "0" * 32})
    data = data.model_copy(update={"statistics": {"train": wrong}})
    reason = compare(reference, data, tmp_path / "statistics")["train"]["reason"]
    assert "not fetched: train.npz: does not match the known hash" in reason


def test_a_foreign_file_is_not_compared(server, reference, known, tmp_path):
    unfit = {
        b"not an archive": "not a whole .npz archive",
        content(tmp_path, np.zeros(3), np.eye(3)): r"shapes (3,) and (3, 3), not of 64 features",
        content(tmp_path, np.full(64, np.nan), np.eye(64)): "no numbers",
        content(tmp_path, np.zeros(64), np.full((64, 64), np.inf)): "no numbers",
    }
    for i, (of, words) in enumerate(unfit.items()):
        found = compare(reference, listed(server, train=of), tmp_path / f"statistics-{i}")["train"]
        assert (found["status"], found["frechet_distance"]) == ("not compared", None)
        assert words in found["reason"]


def test_a_file_that_was_changed_since_is_not_compared(server, reference, known, tmp_path):
    data = listed(server, train=content(tmp_path, np.zeros(64), np.eye(64)))
    compare(reference, data, tmp_path / "s")
    other = content(tmp_path, np.ones(64), np.eye(64))
    for change in (lambda path: path.write_bytes(other), lambda path: path.unlink()):
        change(tmp_path / "s/train.npz")
        write_comparison(reference / "features.npz", tmp_path / "s/card.json", tmp_path / "out.json")
        (found,) = read_json(tmp_path / "out.json")["comparisons"]
        assert "no longer what was fetched" in found["reason"] and "--forcerun download_statistics" in found["reason"]


def test_a_split_without_images_is_not_compared(server, reference, known, tmp_path):
    data = write_data_set(tmp_path / "data", TRAIN)
    network = load_stand_in(reference / "network.pt")
    write_reference(network, data, 4, tmp_path / "features.npz", tmp_path / "reference.json")
    found = compare(tmp_path, listed(server, test=content(tmp_path, np.zeros(64), np.eye(64))), tmp_path / "s")["test"]
    assert (found["images"], found["sha256"], found["reason"]) == (None, None, "there are no test images here")


def test_our_own_files_are_no_reason_to_go_on(server, reference, known, tmp_path):
    """What others published may be missing; what the workflow made may not."""
    data = listed(server, train=content(tmp_path, np.zeros(64), np.eye(64)))
    download_statistics(data, tmp_path, **QUIET)
    arrays = read_npz(reference / "features.npz", "header", "train_features")
    np.savez(tmp_path / "features.npz", **arrays)
    with pytest.raises(DamagedFile, match="train_mu"):
        write_comparison(tmp_path / "features.npz", tmp_path / "card.json", tmp_path / "out.json")
    with pytest.raises(UserError, match=r"card\.json: no such file"):
        write_comparison(reference / "features.npz", tmp_path / "none/card.json", tmp_path / "out.json")


def test_by_hand(server, reference, known, tmp_path):
    data = listed(server, train=content(tmp_path, np.zeros(64), np.eye(64)))
    (tmp_path / "source.json").write_text(data.model_dump_json())
    folder = tmp_path / "statistics"
    for arguments in (
        ["download-statistics", tmp_path / "source.json", "--out", folder],
        ["compare-reference", reference / "features.npz", "--statistics", folder / "card.json"],
    ):
        arguments += ["--out", tmp_path / "published.json"] if arguments[0] == "compare-reference" else []
        done = CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)
        assert done.exit_code == 0, done.output
    (found,) = read_json(tmp_path / "published.json")["comparisons"]
    assert found["status"] == "compared"


def test_prepared_data_do_not_know_of_them(tmp_path, monkeypatch):
    """Statistics of others are no part of what a data set is prepared from, or of its card."""
    data = DATASETS["digits"].model_copy(update={"statistics": DATASETS["cifar10"].statistics})
    for name, each in (("with", data), ("without", DATASETS["digits"])):
        prepare(each, None, tmp_path / name, **QUIET)
    cards = [json.loads((tmp_path / name / "card.json").read_text()) for name in ("with", "without")]
    assert cards[0] == cards[1]
