"""Anybody's images get clean-fid's numbers, from a folder or an .npz; too few images get what scores there can be."""

import json

import numpy as np
import pytest
from PIL import Image
from servers import serving
from stand_in import StandIn, load_stand_in, pictures, write_data_set, write_torchscript
from typer.testing import CliRunner

from ddpm.cli import app
from ddpm.config.errors import UserError
from ddpm.config.registry import resolve
from ddpm.config.schema import EvaluationConfig
from ddpm.evaluation import published
from ddpm.evaluation.foreign import score_images
from ddpm.evaluation.published import download_statistics
from ddpm.evaluation.reference import write_reference
from ddpm.storage.files import read_json, read_npz, sha256

TRAIN, TEST, OURS = pictures(60), pictures(60, seed=1), pictures(60, seed=2) // 2 + 100
CONFIG = EvaluationConfig(splits=4, replicates=3)
FEATURES = 16


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A network, the features of TRAIN and TEST, and TRAIN and OURS as picture files."""
    folder = tmp_path_factory.mktemp("foreign")
    write_torchscript(StandIn(FEATURES), folder / "network.pt")
    data = write_data_set(folder / "data", TRAIN, TEST)
    write_reference(load_stand_in(folder / "network.pt"), data, 4, folder / "features.npz", folder / "reference.json")
    for name, images in (("train", TRAIN), ("ours", OURS)):
        (folder / name).mkdir()
        for i, image in enumerate(images):
            Image.fromarray(image).save(folder / name / f"{i:03d}.png")
    np.savez(folder / "ours.npz", OURS)  # as arr_0
    np.savez(folder / "workflow.npz", images=OURS, status=np.array("{}"))
    return folder


@pytest.fixture(scope="module")
def network(folder):
    return load_stand_in(folder / "network.pt")


@pytest.fixture
def score(folder, network):
    def run(images, statistics=None):
        card = folder / "data/card.json"
        return score_images(folder / images, network, folder / "features.npz", card, statistics, CONFIG)

    return run


@pytest.fixture(scope="module")
def cleanfid(folder):
    """clean-fid with the stand-in for its network, whose features are fewer."""
    from cleanfid import fid
    from cleanfid.inception_torchscript import InceptionV3W

    (folder / "inception-2015-12-05.pt").symlink_to(folder / "network.pt")
    with pytest.MonkeyPatch.context() as patch, pytest.warns(FutureWarning):
        model = InceptionV3W(str(folder), download=False).eval()

        def build(mode, device, use_dataparallel):
            if mode == "legacy_tensorflow":
                return lambda x: model.base(x, return_features=True)
            return lambda x: model.layers((x - 128) / 128)

        patch.setattr(fid, "build_feature_extractor", build)
        yield fid


@pytest.mark.filterwarnings("ignore:The `disp` argument:DeprecationWarning")  # of clean-fid
@pytest.mark.parametrize(("mode", "name"), [("legacy_tensorflow", "fid"), ("clean", "clean_fid")])
def test_distances_are_those_of_clean_fid_from_folders(mode, name, folder, score, cleanfid):
    folders, settings = (str(folder / "ours"), str(folder / "train")), {"num_workers": 0, "device": "cpu"}
    settings |= {"mode": mode, "verbose": False, "batch_size": 60}
    found = score("ours")
    assert found[name]["train"] == pytest.approx(cleanfid.compute_fid(*folders, **settings), rel=1e-6)
    # Every subset is a whole set here. clean-fid computes the kernel in float32.
    kid = found[name.replace("fid", "kid")]
    assert kid["subset_size"] == 60
    assert kid["mean"] == pytest.approx(cleanfid.compute_kid(*folders, **settings), rel=1e-4)


def test_both_resizes_differ(score):
    found = score("ours")
    assert abs(found["fid"]["train"] - found["clean_fid"]["train"]) > 1e-3 * found["fid"]["train"]
    assert found["clean_fid"]["test"] != found["clean_fid"]["train"]


def test_a_folder_and_archives_of_the_same_images_have_the_same_scores(score, folder, tmp_path):
    of_folder = score("ours")
    assert of_folder["images"] == 60
    assert score("ours.npz") == score("workflow.npz") == of_folder
    for i, part in enumerate(np.split(OURS, [7, 30])):
        np.savez(tmp_path / f"{i}-of-3.npz", images=part)
    split = score(tmp_path)
    assert split["clean_fid"] == pytest.approx(of_folder["clean_fid"], rel=1e-5)
    said = [deviation["text"] for deviation in of_folder["deviations"]]
    assert "60 sample images, not 50,000" in said and "Inception Score over 4 splits, not 10" in said


def test_hidden_files_are_left_out_and_links_followed(score, folder, tmp_path):
    (tmp_path / "ours").symlink_to(folder / "ours")
    (tmp_path / "._000.png").write_bytes(b"of macOS")
    (tmp_path / ".thumbnails").mkdir()
    (tmp_path / ".thumbnails/0.png").write_bytes(b"of a viewer")
    assert score(tmp_path)["images"] == len(OURS)
    (tmp_path / "lost.png").symlink_to("nowhere")
    with pytest.raises(UserError, match=r"cannot be read as a whole:\n  .*lost.png .a link to nowhere: No such file"):
        score(tmp_path)


def test_a_damaged_archive_of_a_users_own_is_never_to_be_deleted(score, tmp_path):
    (tmp_path / "0.npz").write_bytes(b"PK")
    with pytest.raises(UserError, match=r"0\.npz: .*It is yours and stays as it is"):
        score(tmp_path)


def test_what_cannot_be_scored_is_said(score, folder, tmp_path):
    with pytest.raises(UserError, match="no images"):
        score(tmp_path)
    Image.fromarray(OURS[0, :8]).save(tmp_path / "small.png")
    with pytest.raises(UserError, match=r"small\.png: images uint8 \(8, 16, 3\), where .* uint8 \(16, 16, 3\)"):
        score(tmp_path)
    np.savez(tmp_path / "floats.npz", images=OURS / 255)
    with pytest.raises(UserError, match=r"floats\.npz: images float64"):
        score(tmp_path / "floats.npz")
    (tmp_path / "small.png").write_bytes(b"<html>")
    (tmp_path / "floats.npz").unlink()
    with pytest.raises(
        UserError, match=r"small\.png: is an HTML or XML page and no image.* \([^(]*\)\. It is yours and stays as it is"
    ):
        score(tmp_path)


@pytest.mark.parametrize("count", [1, 3, 12])
def test_of_few_images_there_are_the_scores_that_there_can_be(count, score, tmp_path):
    np.savez(tmp_path / "few.npz", images=OURS[:count])
    found = score(tmp_path / "few.npz")
    json.dumps(found, allow_nan=False)
    missing = {name for name in ("inception_score", "kid", "clean_kid", "precision_recall") if found[name] is None}
    expected = {
        1: {"inception_score", "kid", "clean_kid", "precision_recall"},
        3: {"inception_score", "precision_recall"},
    }
    assert missing == expected.get(count, set())
    assert (found["fid"]["train"] is None) == (found["clean_fid"]["test"] is None) == (count == 1)
    assert missing <= set(found["left_out"])
    if count == 3:
        assert found["left_out"]["inception_score"] == "3 images cannot be split into 4 parts"


@pytest.mark.parametrize("test_images", [0, 1, 5])
def test_a_real_set_of_few_images_leaves_out_its_own_scores(test_images, network, tmp_path):
    data = write_data_set(tmp_path / "data", TRAIN[:12], TEST[:test_images])
    write_reference(network, data, 10, tmp_path / "features.npz", tmp_path / "reference.json")
    np.savez(tmp_path / "ours.npz", images=OURS)
    found = score_images(tmp_path / "ours.npz", network, tmp_path / "features.npz", data / "card.json")
    assert found["fid"]["train"] > 0 and found["precision_recall"]["precision"] >= 0
    assert (found["fid"]["test"] is None) == ("fid_test" in found["left_out"]) == (test_images < 2)
    assert set(read_json(tmp_path / "reference.json")["inception_score"]) == {"train"}


def test_scores_by_published_statistics(folder, score, network, tmp_path, monkeypatch):
    """Of the training images themselves the distance is that of a shift; of what was not fetched there is a reason."""
    monkeypatch.setattr(published, "SHA256", network.sha256)
    names = ("train_mu", "train_sigma", "train_clean_mu", "train_clean_sigma")
    mu, sigma, clean_mu, clean_sigma = read_npz(folder / "features.npz", *names).values()
    files = {"train-ttur": (mu + 0.5, sigma), "train-clean": (clean_mu + 0.25, clean_sigma)}
    with serving() as server:
        statistics = {"test": {"name": "test.npz", "urls": [f"{server.url}/missing"]}}
        for key, (mean, covariance) in files.items():
            np.savez_compressed(tmp_path / f"{key}.npz", mu=mean, sigma=covariance)
            content = (tmp_path / f"{key}.npz").read_bytes()
            statistics[key] = {"name": f"{key}.npz", "urls": [server.add(key, content)], "publisher": key}
        data = resolve("cifar10", {"statistics": statistics})
        download_statistics(data, tmp_path / "statistics", log=lambda line: None)
    found = {each["source"]: each for each in score("train", tmp_path / "statistics/card.json")["published"]}
    ttur, clean, missing = (
        found[name] for name in ("train-ttur.npz, train-ttur", "train-clean.npz, train-clean", "test.npz")
    )
    assert (ttur["score"], ttur["split"], ttur["reason"]) == ("FID", "train", None)
    assert ttur["value"] == pytest.approx(0.25 * FEATURES, rel=1e-6)
    assert clean["score"] == "clean-FID" and clean["value"] == pytest.approx(0.0625 * FEATURES, rel=1e-6)
    assert missing["value"] is None and missing["reason"].startswith("not fetched: http://127.0.0.1:")


def test_by_hand(folder, tmp_path, monkeypatch):
    """The files are where the workflow has them; a reference that is missing is said with the command that makes it."""
    monkeypatch.chdir(tmp_path)
    real = tmp_path / "results/glimpse/reference/pictures"
    real.mkdir(parents=True)
    (tmp_path / "resources/inception").mkdir(parents=True)
    (tmp_path / "resources/inception/inception-2015-12-05.pt").symlink_to(folder / "network.pt")
    (tmp_path / "resources/pictures").symlink_to(folder / "data")
    words = ["score", str(folder / "ours"), "--data", "pictures", "--scale", "glimpse", "--device", "cpu"]
    words += ["--network-sha256", sha256(folder / "network.pt"), "--out", "scores.json"]
    with pytest.raises(UserError, match=r"features\.npz: no such file.*scale=glimpse"):
        CliRunner().invoke(app, words, catch_exceptions=False)
    (real / "features.npz").symlink_to(folder / "features.npz")
    done = CliRunner().invoke(app, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert read_json("scores.json") == json.loads(done.stdout)
    assert read_json("scores.json")["clean_fid"]["train"] > 0
