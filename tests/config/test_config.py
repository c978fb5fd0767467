"""A wrong configuration is refused before any job, with path, value and what is allowed."""

import re
from pathlib import Path

import pytest
from helpers import tiny_experiment

from ddpm.config.base import ConfigError
from ddpm.config.errors import UserError
from ddpm.config.experiment import Experiment, Repeat, training_fingerprint
from ddpm.config.registry import is_authors, resolve
from ddpm.config.resolving import SCALES, load
from ddpm.storage.documents import read_repeat, read_stage_config
from ddpm.storage.files import write_json

EXPERIMENT = "experiments.digits-eps-simple"


def document(**override) -> dict:
    return {"scale": "demo", "override": override}


def with_key(path: str, value) -> dict:
    """An override that sets one key, given by its dotted path."""
    nested = value
    for key in reversed(path.split(".") if path else []):
        nested = {key: nested}
    return document(**nested)


@pytest.mark.parametrize("scale", [path.stem for path in sorted(SCALES.glob("*.yaml"))])
def test_shipped_scales_are_valid(scale):
    config = load({"scale": scale})
    assert config.tables
    assert config.figures


WRONG = {
    # an override: (its dotted path, value): words that the message must hold
    "unknown key": (f"{EXPERIMENT}.training.learning_rat", 1e-3, ["learning_rat", "unknown key", "learning_rate"]),
    "unknown section": (f"{EXPERIMENT}.trainin", {}, ["trainin", "unknown key", "training"]),
    "unknown top key": ("computer", {}, ["computer", "unknown key", "compute"]),
    "type": (f"{EXPERIMENT}.training.steps", "many", ["training.steps", "'many'", "integer"]),
    "whole numbers": (f"{EXPERIMENT}.training.steps", 10.5, ["training.steps", "10.5", "integer"]),
    "bound": (f"{EXPERIMENT}.training.learning_rate", -1, ["training.learning_rate", "-1", "greater than 0"]),
    "upper bound": (f"{EXPERIMENT}.network.dropout", 1.0, ["network.dropout", "1.0", "less than 1"]),
    "enum": (f"{EXPERIMENT}.diffusion.variance", "huge", ["diffusion.variance", "'huge'", "'fixedlarge'", "'learned'"]),
    "not a mapping": (f"{EXPERIMENT}.training", 7, ["training", "7", "mapping"]),
    "null experiment": ("experiments", 7, ["experiments", "mapping"]),
    "data set": (f"{EXPERIMENT}.data", "digit", ["digit", "no data set", "digits"]),
    "stand-in": ("stand_ins.cifar10", "cats", ["stand_ins.cifar10", "'cats'", "digits"]),
    "learned and simple": (
        f"{EXPERIMENT}.diffusion.variance", "learned", ["variance: learned", "objective: simple", "fixedlarge"],
    ),
    "attention": (f"{EXPERIMENT}.network.attn_resolutions", [4, 16], ["attn_resolutions", "16x16", "[8, 4]"]),
    "too many levels": (f"{EXPERIMENT}.network.ch_mult", [1, 1, 1, 1, 1], ["ch_mult", "5 levels", "at most 4"]),
    "groups": (f"{EXPERIMENT}.network.groups", 5, ["16 channels", "5 equal groups"]),
    "image size": (f"{EXPERIMENT}.network.image_size", 32, ["network.image_size", "32", "have 8"]),
    "shards": (f"{EXPERIMENT}.sampling.shards", 9999, ["sampling", "shards: 9999", "allowed: 1.."]),
    "splits": (f"{EXPERIMENT}.sampling.images", 15, ["images: 15", "splits: 10"]),
    "previews": (f"{EXPERIMENT}.sampling.previews", 7, ["previews: 7", "timesteps: 1000"]),
    "few steps": (f"{EXPERIMENT}.few_steps.steps", [10, 1001], ["few_steps.steps: 1001", "allowed: 2..1000"]),
    "one step": (f"{EXPERIMENT}.few_steps.steps", [1, 10], ["few_steps.steps.0", "1", "greater than or equal to 2"]),
    "no steps": (f"{EXPERIMENT}.few_steps.steps", [], ["few_steps.steps", "at least 1"]),
    "steps twice": (f"{EXPERIMENT}.few_steps.steps", [10, 10], ["few_steps", "steps: [10, 10] names a value twice"]),
    "eta": (f"{EXPERIMENT}.few_steps.eta", [0, 1.5], ["few_steps.eta.1", "1.5", "less than or equal to 1"]),
    "spacing": (f"{EXPERIMENT}.few_steps.spacing", "quad", ["few_steps.spacing", "'quad'", "'quadratic'"]),
    "spacing twice": (f"{EXPERIMENT}.few_steps.spacing", ["uniform", "uniform"], ["spacing: [uniform, uniform]"]),
    "no spacing": (f"{EXPERIMENT}.few_steps.spacing", [], ["few_steps.spacing", "at least 1"]),
    "few-step shards": (f"{EXPERIMENT}.few_steps.shards", 257, ["few_steps", "shards: 257", "allowed: 1..256"]),
    "few-step splits": (f"{EXPERIMENT}.few_steps.images", 15, ["few_steps.images: 15", "splits: 10"]),
    "few-step key": (f"{EXPERIMENT}.few_steps.step", [10], ["few_steps.step", "unknown key", "spacing"]),
    "likelihood images": (f"{EXPERIMENT}.likelihood.test", 361, ["likelihood.test", "361", "1..360"]),
    "likelihood words": (f"{EXPERIMENT}.likelihood.test", "some", ["likelihood.test", "'some'"]),
    "clip shards": (f"{EXPERIMENT}.training.clip_shards", 5, ["batch_size", "5 equal clip_shards"]),
    "late snapshots": (f"{EXPERIMENT}.training.late_snapshot_every", 75, ["late_snapshot_every: 75", "log_every: 50"]),
    "seed of the samples": (f"{EXPERIMENT}.snapshots.seed", 0, ["snapshots.seed: 0 is a seed of the samples too"]),
    "snapshots between rows": (f"{EXPERIMENT}.training.snapshot_every", 75, ["snapshot_every: 75", "log_every: 50"]),
    "snapshots without samples": (f"{EXPERIMENT}.snapshots", None, ["`snapshots`", "need each other"]),
    "samples without snapshots": ("experiments.digits-mu-simple.snapshots", {"images": 40}, ["need each other"]),
    "few samples of snapshots": (f"{EXPERIMENT}.snapshots.images", 19, ["snapshots.images: 19", "splits"]),
    "nothing to choose from": (
        "experiments.digits-mu-simple.checkpoint", "lowest-fid", ["lowest-fid", "training.snapshot_every"],
    ),
    "another choice": (f"{EXPERIMENT}.checkpoint", "best", ["checkpoint", "'best'", "final, lowest-fid"]),
    "crop": (f"{EXPERIMENT}.evaluation.neighbour_crop", [1, 3, 6, 6], ["neighbour_crop: [1, 3, 6, 6]", "8x8"]),
    "features without labels": ("features", "classifie", ["features", "'classifie'", "'inception'"]),
    "misnamed": (
        f"{EXPERIMENT}.diffusion.parameterization", "mu", ["digits-mu-simple", "is called"],
    ),
    "latents of three": (
        "experiments.digits-mu-simple",
        {"diffusion": {"timesteps": 3}, "latents": {}}, ["latents", "Figure 7", "timesteps: 3; 4 or more"],
    ),
    "pairs": (f"{EXPERIMENT}.latents.pairs", 719, ["latents.pairs: 719", "1437 images of digits; allowed: 1..718"]),
    "no snapshots of nothing": (f"{EXPERIMENT}.training.steps", 0, ["training.steps: 0", "snapshot_every"]),
    "processes": ("compute.training_gpus", 3, ["training.batch_size: 128", "3 processes of compute.training_gpus"]),
    "processes of any job": ("compute.gpus", 3, ["training.batch_size: 128", "3 processes of compute.training_gpus"]),
    "parts of processes": (
        "", {"compute": {"training_gpus": 8}, "defaults": {"training": {"clip_shards": 4}}},
        ["training.clip_shards: 4", "8 processes of compute.training_gpus"],
    ),
    "no such experiment to drop": (
        "experiments.digits-eps-simpel", None, ["experiments.digits-eps-simpel: null", "digits-eps-simple,"],
    ),
    "seeds of what": (f"{EXPERIMENT}.seeds.snapshots", [1], ["seeds.snapshots", "unknown key", "training, sampling"]),
    "one seed": (f"{EXPERIMENT}.seeds.training", 1, ["seeds.training", "1", "tuple"]),
    "negative seed": (f"{EXPERIMENT}.seeds.sampling", [1, -1], ["seeds.sampling.1", "-1", "or equal to 0"]),
    "seeds twice": (f"{EXPERIMENT}.seeds.sampling", [1, 2, 1], ["seeds", "sampling: [1, 2, 1] names a seed twice"]),
    "own training seed": (f"{EXPERIMENT}.seeds.training", [1, 0], ["seeds.training: 0", "own training.seed"]),
    "own sampling seed": (f"{EXPERIMENT}.seeds.sampling", [0], ["seeds.sampling: 0", "own sampling.seed"]),
    "a repeat by key": (
        f"{EXPERIMENT}.repeat", {"of": "x"}, ["digits-eps-simple.repeat", "digits-eps-simple.seeds: {training: [...]"],
    ),
    "a repeat by name": (
        f"{EXPERIMENT}-training-seed1.training.steps", 7,
        ["digits-eps-simple-training-seed1", "name of a repeat", "digits-eps-simple.seeds: {training: [...]"],
    ),
}  # fmt: skip


def test_no_fewer_samples_than_precision_and_recall_take():
    few = {"sampling": {"images": 3}, "evaluation": {"splits": 1}}
    with pytest.raises(ConfigError, match=r"digits-mu-simple.*sampling\.images: 3 is too few .* 4 or more"):
        load({"scale": "demo", "override": {"experiments": {"digits-mu-simple": few}}})


@pytest.mark.parametrize("case", WRONG)
def test_wrong_keys_are_refused(case):
    path, value, words = WRONG[case]
    with pytest.raises(ConfigError) as caught:
        load(with_key(path, value))
    message = str(caught.value)
    assert "workflow/scales/demo.yaml" in message
    for word in words:
        assert word in message, message


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"scale": "demos"}, ["scale", "'demos'", "demo"]),
        ({}, ["scale", "None", "demo"]),
        ({"scale": "demo", "figure": "all"}, ["figure", "unknown key", "figures"]),
        ({"scale": "demo", "figures": ["figure99"]}, ["figures", "'figure99'", "figure13"]),
        ({"scale": "demo", "tables": "table2"}, ["tables", "'table2'", "`all` or a list"]),
        (
            {"scale": "demo", "experiments": ["digits-eps-simpel"]},
            ["experiments", "digits-eps-simpel", "digits-eps-simple"],
        ),
        (
            {"scale": "demo", "experiments": ["digits-mu-simple"], "tables": ["table1"]},
            ["table1", "leaves out"],
        ),
        ({"scale": "demo", "override": "fast"}, ["override", "'fast'", "mapping"]),
        ({"scale": "demo", "sources": ["digits"]}, ["sources", "mapping"]),
        ({"scale": "demo", "sources": {"cifar10": "/data"}}, ["sources.cifar10", "'/data'", "{root: FOLDER}"]),
        ({"scale": "demo", "sources": {"cifar10": {"rot": "/"}}}, ["sources.cifar10.rot", "unknown key", "root"]),
        (
            {"scale": "demo", "sources": {"cifar10": {"files": [{"nam": "x"}]}}},
            ["files.0", "nam", "Allowed: name, urls, md5", "Allowed: urls, about"],
        ),
        (
            {"scale": "demo", "sources": {"cifar10": {"statistics": {"train": {"url": "x"}}}}},
            ["sources.cifar10.statistics.train.url", "unknown key", "publisher"],
        ),
        (
            {"scale": "demo", "sources": {"cifar10": {"statistics": {"trian": {}}}}},
            ["trian", "'train', 'test', 'train-clean', 'test-clean' or 'train-ttur'"],
        ),
        (
            {"scale": "demo", "sources": {"cifar10": {"root": "/none/here"}}},
            ["sources.cifar10.root: /none/here", "no such"],
        ),
        ({"scale": "demo", "sources": {"inception": {"url": "x"}}}, ["sources.inception", "url", "urls"]),
        ({"scale": "demo", "sources": {"inception": {"root": "/none"}}}, ["sources.inception.root: /none", "no such"]),
        (
            {"scale": "demo", "sources": {"inception": {"root": "/none/$NOT_SET/x"}}},
            ["sources.inception.root: /none/$NOT_SET/x", "no such"],
        ),
        (
            {"scale": "demo", "sources": {"inception": {"urls": ["file:///data/inception.pt"]}}},
            ["sources.inception.urls.0", "file:///data/inception.pt", "this machine", "`root`"],
        ),
        ({"scale": "demo", "sources": {"mine": {"reader": "folder"}}}, ["sources.mine.image_size", "required"]),
        (
            {"scale": "demo", "sources": {"mine": {"crop": "none"}}},
            ["sources.mine.crop", "cannot be set", "do so before"],
        ),
        ({"scale": "demo", "sources": {"cifar10": {"resize": "16x16"}}}, ["sources.cifar10.resize", "cannot be set"]),
        ({"scale": "demo", "sources": {"mine": {"background": [0, 0, 300]}}}, ["sources.mine.background.2", "255"]),
        ({"scale": "demo", "sources": {"mine": {"depth": 4}}}, ["sources.mine.depth: 4", "8"]),
        ({"scale": "demo", "figures": ["figure3"]}, ["figure3 needs lsun-church256-eps-simple"]),
        (
            {"scale": "demo", "experiments": ["digits-mu-simple", "digits-mu-simple-sampling-seed12"]},
            ["experiments: 'digits-mu-simple-sampling-seed12'", "comes with its experiment: digits-mu-simple."],
        ),
    ],
)
def test_wrong_config_yaml_is_refused(wrong, words):
    with pytest.raises(ConfigError) as caught:
        load(wrong)
    for word in words:
        assert word in str(caught.value)


def test_a_folder_of_images_becomes_a_data_set(tmp_path):
    flowers = {"reader": "folder", "root": str(tmp_path), "image_size": 16}
    new = {
        "data": "flowers",
        "network": {"attn_resolutions": [8]},
        "diffusion": {"parameterization": "eps", "objective": "simple", "variance": "fixedlarge"},
        "likelihood": {"train": 7},
    }
    override = {"features": "inception", "experiments": {"flowers-eps-simple": new}}
    config = load({"scale": "demo", "sources": {"flowers": flowers}, "override": override})
    experiment = config.scale_config.experiments["flowers-eps-simple"]
    assert (experiment.network.image_size, experiment.network.channels) == (16, 3)
    assert experiment.data_set == config.data_sets["flowers"]
    del override["features"]
    (tmp_path / "rose.jpg").touch()
    (tmp_path / ".thumbnails").mkdir()  # no class
    with pytest.raises(ConfigError, match=r"features: classifier: flowers of flowers-eps-simple has no labels"):
        load({"scale": "demo", "sources": {"flowers": flowers}, "override": override})
    for name in ("roses", "tulips"):
        (tmp_path / name).mkdir()  # a class
    load({"scale": "demo", "sources": {"flowers": flowers}, "override": override})


@pytest.mark.parametrize(
    ("files", "may"),
    [
        (("a.png",), False),
        (("photos/a.png",), False),
        (("cat/a.png", "owl/b.png"), True),
        (("pets/cat/a.png", "pets/owl/b.png"), True),
        (("train/a.png", "test/b.png"), False),
        (("pets/Training/cat/a.png", "pets/Training/owl/a.png"), True),
        (("pets.zip",), True),
        ((".thumbnails/a.png", ".git/b"), False),
    ],
)
def test_which_folders_may_have_classes(files, may, tmp_path):
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert resolve("mine", {"root": tmp_path, "image_size": 8}).may_have_classes is may


def test_a_folder_that_cannot_be_looked_into_may_have_classes(tmp_path, monkeypatch):
    (tmp_path / "self").symlink_to(tmp_path)
    mine = resolve("mine", {"root": tmp_path, "image_size": 8})
    assert mine.may_have_classes

    def iterdir(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "iterdir", iterdir)
    assert mine.may_have_classes


def test_a_known_set_is_found_where_config_yaml_says(tmp_path):
    config = load({"scale": "paper", "sources": {"lsun-cat256": {"root": str(tmp_path)}}})
    assert config.scale_config.experiments["lsun-cat256-eps-simple"].data_set.root == tmp_path
    assert config.data_sets["lsun-church256"].root is None


@pytest.mark.parametrize("written", ["~/lsun", "$HOME/lsun", "${HOME}/lsun", "file://$HOME/lsun"])
def test_a_root_is_written_as_in_a_shell(written, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "lsun").mkdir()
    sources = {"lsun-cat256": {"root": written}, "inception": {"root": written}}
    config = load({"scale": "paper", "sources": sources})
    assert config.data_sets["lsun-cat256"].root == config.inception.root == tmp_path / "lsun"


def test_the_papers_scale_has_all_that_the_paper_shows():
    config = load({"scale": "paper"})
    assert len(config.scale_config.experiments) == 12
    assert config.tables == ("table1", "table2", "table3", "table4", "scores")
    assert config.experiments_of("scores") == list(config.scale_config.experiments)
    assert config.data_of("scores").startswith("cifar10 and celebahq256 and ")
    assert "celeba64" not in config.data_of("reproduced")  # whose tables have it not
    assert {f"figure{number}" for number in range(1, 20)} < set(config.figures)


def test_a_copy_that_was_encoded_again_is_called_that_everywhere(tmp_path):
    config = load({"scale": "glimpse", "sources": {"cifar10": {"root": str(tmp_path), "reencoded": "JPEG"}}})
    for name in (*config.tables, "figure13", "reproduced"):
        assert config.data_of(name) == "JPEG copy of CIFAR-10"
    assert load({"scale": "glimpse"}).data_of("figure13") == "cifar10"


def test_a_glimpse_is_the_papers_main_model_shortened():
    glimpse, paper = (
        load({"scale": scale}).scale_config.experiments["cifar10-eps-simple"] for scale in ("glimpse", "paper")
    )
    assert (glimpse.network, glimpse.diffusion) == (paper.network, paper.diffusion)
    shortened = {"steps", "warmup", "ema_decay", "save_every", "snapshot_every", "log_every", "late_snapshot_every"}
    changed = {key for key, value in glimpse.training if value != getattr(paper.training, key)}
    assert changed <= shortened
    assert load({"scale": "glimpse"}).scale_config.features == "classifier"


def test_snapshots_end_with_the_last_step():
    training = load({"scale": "demo"}).scale_config.experiments["digits-eps-simple"].training
    assert training.snapshot_steps == [300, 600, 900]
    assert training.model_copy(update={"steps": 1000}).snapshot_steps == [300, 600, 900, 1000]
    assert training.model_copy(update={"snapshot_every": 0}).snapshot_steps == []


def test_more_snapshots_come_near_the_end():
    training = load({"scale": "demo"}).scale_config.experiments["digits-eps-simple"].training
    late = training.model_copy(update={"late_snapshot_every": 50, "steps": 1000})
    assert late.snapshot_steps == [300, 600, 750, 800, 850, 900, 950, 1000]
    assert late.model_copy(update={"snapshot_every": 0}).snapshot_steps == []
    # What does not ask for them is the training that it was before there was the key.
    assert "late_snapshot_every" not in training.model_dump()


def test_few_steps_visit_the_times_of_the_authors_of_ddim():
    """Quadratic for CIFAR-10, uniform for the others, unless the experiment says it."""
    spacings = {}
    for scale in ("quick", "paper"):
        experiment = load({"scale": scale}).scale_config.experiments["cifar10-eps-simple"]
        spacings[scale] = experiment.few_steps.spacing
    assert tiny_experiment(few_steps={"images": 20, "steps": [5]}).few_steps.spacing == ("uniform",)
    assert spacings == {"quick": ("quadratic",), "paper": ("quadratic",)}
    for asked, expected in (("uniform", ("uniform",)), (["quadratic", "uniform"], ("quadratic", "uniform"))):
        override = {"experiments": {"cifar10-eps-simple": {"few_steps": {"spacing": asked}}}}
        experiment = load({"scale": "paper", "override": override}).scale_config.experiments["cifar10-eps-simple"]
        assert experiment.few_steps.spacing == expected
        assert experiment.stage_config("few_steps")["few_steps"]["spacing"] == asked  # one alone as before


def test_rows_that_predict_mu_are_clipped_as_on_the_authors_tpu():
    for scale in ("paper", "quick"):
        experiments = load({"scale": scale}).scale_config.experiments
        shards = {name: each.training.clip_shards for name, each in experiments.items()}
        assert {name for name, number in shards.items() if number == 8} == {n for n in shards if "-mu-" in n}
        assert set(shards.values()) == {1, 8}


def test_every_error_is_listed_at_once():
    wrong = document(experiments={"digits-eps-simple": {"training": {"steps": -1, "batch_size": 0}}})
    with pytest.raises(ConfigError) as caught:
        load(wrong)
    assert len(str(caught.value).splitlines()) == 2
    assert re.search(r"training\.steps.*\n.*training\.batch_size", str(caught.value))


def test_sections_that_do_not_fit_each_other_are_listed_at_once():
    wrong = {"sampling": {"previews": 7}, "latents": {"pairs": 719}, "seeds": {"training": [0]}}
    with pytest.raises(ConfigError) as caught:
        load(document(experiments={"digits-eps-simple": wrong}))
    lines = str(caught.value).splitlines()
    assert len(lines) == 3
    for line, words in zip(lines, ("latents.pairs: 719", "sampling.previews: 7", "seeds.training: 0"), strict=True):
        assert f"override: {EXPERIMENT}: {words}" in line


def test_damaged_scale_file_is_named(tmp_path):
    (tmp_path / "broken.yaml").write_text("a: [1,")
    with pytest.raises(ConfigError, match=r"broken\.yaml: not valid YAML"):
        load({"scale": "broken"}, tmp_path)


def test_null_drops_an_experiment_and_what_is_made_of_it():
    config = load(with_key(EXPERIMENT, None))
    assert list(config.scale_config.experiments) == [
        name for name in load(document()).scale_config.experiments if name != "digits-eps-simple"
    ]
    assert "table4" not in config.tables and "figure13" not in config.figures
    with pytest.raises(ConfigError, match=r"digits-eps-simple' is unknown"):
        load(with_key(EXPERIMENT, None) | {"experiments": ["digits-eps-simple"]})
    everything = dict.fromkeys(load(document()).scale_config.experiments)
    with pytest.raises(ConfigError, match="experiments: none is left"):
        load(document(experiments=everything))


@pytest.mark.parametrize("name", ["digits-eps-simple-Mine", "digits-eps-simple_2", "digits-eps-simple-"])
def test_names_are_described_in_words(name, tmp_path):
    new = {"data": "digits", "diffusion": {"parameterization": "eps", "objective": "simple", "variance": "fixedlarge"}}
    with pytest.raises(ConfigError) as caught:
        load(document(experiments={name: new}))
    assert f"'{name}': must be lower-case letters, digits and hyphens" in str(caught.value)
    for source, words in (
        ("My_Flowers", "sources.My_Flowers.name: 'My_Flowers': must be lower-case letters, digits and hyphens"),
        ("weights", "sources.weights: resources/weights holds something else"),
        ("compiled", "sources.compiled: resources/compiled holds something else"),
    ):
        with pytest.raises(ConfigError, match=re.escape(words)):
            load({"scale": "demo", "sources": {source: {"root": str(tmp_path), "image_size": 8}}})


def test_patterns_are_no_message():
    wrong = [{"name": "../x", "urls": ["http://a"], "md5": "abc", "sha256": "0"}]
    with pytest.raises(ConfigError) as caught:
        load({"scale": "demo", "sources": {"digits": {"files": wrong}}})
    message = str(caught.value)
    assert "pattern" not in message
    for words in ("begin with no dot", "an md5: 32 digits", "a sha256: 64 digits"):
        assert words in message


def test_fewer_experiments_leave_what_they_suffice_for():
    """A table is made of the rows that there are, a figure of all its panels."""
    config = load({"scale": "demo", "experiments": ["digits-eps-simple"]})
    assert config.tables == ("table1", "table2", "table4", "scores")
    assert config.experiments_of("table2") == ["digits-eps-simple"]
    assert "figure13" in config.figures
    without = load({"scale": "demo", "experiments": ["digits-eps-vlb-fixed"]})
    assert without.tables == ("table1", "table2", "scores")
    assert "figure13" not in without.figures
    asked = {"scale": "demo", "experiments": ["digits-mu-simple"], "tables": ["table4"]}
    with pytest.raises(ConfigError, match="tables: table4 needs one of digits-eps-simple, which this run leaves out"):
        load(asked)


def test_the_released_scale_is_the_papers_protocol_from_the_authors_weights():
    released, paper = (load({"scale": scale}).scale_config.experiments for scale in ("released", "paper"))
    assert list(released) == [f"{data}-eps-simple" for data in
                              ("cifar10", "lsun-church256", "lsun-bedroom256", "lsun-cat256")]  # fmt: skip
    for name, experiment in released.items():
        theirs = paper[name]
        assert is_authors(experiment.stage_config("training")["checkpoint"])
        assert (experiment.network, experiment.diffusion) == (theirs.network, theirs.diffusion)
        assert experiment.sampling == theirs.sampling
        assert (experiment.likelihood, experiment.evaluation) == (theirs.likelihood, theirs.evaluation)
    alone = load({"scale": "released", "experiments": ["cifar10-eps-simple"]})
    assert alone.tables == ("table1", "table2", "table4", "scores")


@pytest.mark.parametrize(
    ("section", "kind", "name"),
    [("few_steps", "figures", "fewsteps"), ("likelihood", "figures", "figure5"), ("likelihood", "tables", "table4")],
)
def test_a_section_that_is_left_out_leaves_out_what_is_made_of_it(section, kind, name):
    without = with_key(f"{EXPERIMENT}.{section}", None)
    assert name in getattr(load(document()), kind)
    assert name not in getattr(load(without), kind)
    with pytest.raises(ConfigError, match=rf"{kind}: {name} needs {EXPERIMENT}\.{section}, which .*demo\.yaml"):
        load(without | {kind: [name]})


def test_numbers_are_laid_beside_the_papers_only_where_a_table_of_the_paper_is_made():
    only = {"scale": "demo", "tables": ["scores"]}
    assert "reproduced" not in load(only).figures and "reproduced" in load({"scale": "demo"}).figures
    with pytest.raises(ConfigError, match="figures: reproduced needs a table of the paper"):
        load(only | {"figures": ["reproduced"]})


def test_an_experiment_can_be_added_in_config_yaml():
    new = {
        "data": "digits",
        "diffusion": {"parameterization": "x0", "objective": "simple", "variance": "fixedsmall"},
    }
    experiments = load(document(experiments={"digits-x0-simple": new})).scale_config.experiments
    assert experiments["digits-x0-simple"].training == experiments["digits-mu-simple"].training


def test_stages_read_only_what_concerns_them():
    """A changed sampling key changes no other stage's document; one that cannot matter keeps the fingerprint."""
    before = load(document()).scale_config.experiments["digits-eps-simple"]
    after = load(with_key(f"{EXPERIMENT}.sampling.images", 400)).scale_config.experiments["digits-eps-simple"]
    for stage in ("training", "few_steps", "likelihood", "evaluation"):
        assert before.stage_config(stage) == after.stage_config(stage)
    assert before.stage_config("sampling") != after.stage_config("sampling")
    fewer = load(with_key(f"{EXPERIMENT}.few_steps.steps", [7])).scale_config.experiments["digits-eps-simple"]
    for stage in ("training", "sampling", "likelihood", "evaluation"):
        assert before.stage_config(stage) == fewer.stage_config(stage)
    assert before.stage_config("few_steps") != fewer.stage_config("few_steps")
    assert fewer.fingerprint() == before.fingerprint()
    saved = load(with_key(f"{EXPERIMENT}.training.save_every", 7)).scale_config.experiments["digits-eps-simple"]
    assert saved.fingerprint() == before.fingerprint()
    faster = load(with_key(f"{EXPERIMENT}.training.learning_rate", 0.5)).scale_config.experiments["digits-eps-simple"]
    assert faster.fingerprint() != before.fingerprint()
    assert before.fingerprint() == training_fingerprint(before.stage_config("training"))


def test_documents_of_other_stages_are_refused(tmp_path):
    experiment = load(document()).scale_config.experiments["digits-eps-simple"]
    path = tmp_path / "sampling.json"
    write_json(path, experiment.stage_config("sampling"))
    assert read_stage_config(path, "sampling")["name"] == "digits-eps-simple"
    with pytest.raises(UserError, match=r"sampling\.json: has no network, diffusion, training"):
        read_stage_config(path, "network", "diffusion", "training")
    write_json(path, {"name": "x", "sampling": {"images": -3}})
    with pytest.raises(UserError, match=r"sampling\.json: sampling.*images: -3"):
        read_stage_config(path, "sampling")
    write_json(path, [1, 2])
    with pytest.raises(UserError, match="not the document"):
        read_stage_config(path, "sampling")


STAGES = ("training", "sampling", "snapshots", "few_steps", "likelihood", "evaluation")


def repeated(training=(), sampling=(), name="digits-eps-simple", **changes):
    """The demo with further seeds of an experiment, and this experiment."""
    asked = {name: {"seeds": {"training": list(training), "sampling": list(sampling)}, **changes}}
    config = load(document(experiments=asked))
    return config, config.scale_config.experiments[name]


def test_seeds_bring_repeats_with_their_experiment():
    config, _ = repeated(training=[7, 1], sampling=[3])
    ours = [f"digits-eps-simple-{ending}" for ending in ("training-seed7", "training-seed1", "sampling-seed3")]
    assert config.repeats_of("digits-eps-simple") == ours
    assert config.repeats_of("digits-mu-simple") == config.repeats_of(ours[0]) == []
    names, without = list(config.scale_config.experiments), list(load(document()).scale_config.experiments)
    assert [name for name in names if name not in ours] == without
    assert names[(place := names.index("digits-eps-simple")) + 1 : place + 4] == ours
    repeats = [config.scale_config.experiments[name].repeat for name in ours]
    assert {each.of for each in repeats} == {"digits-eps-simple"}
    assert [(each.varies, each.seed) for each in repeats] == [("training", 7), ("training", 1), ("sampling", 3)]
    assert (config.tables, config.figures) == (load(document()).tables, load(document()).figures)
    assert config.experiments_of("table4") == ["digits-eps-simple"]
    seeds = {"digits-eps-simple": {"seeds": {"sampling": [3]}}}
    alone = load(document(experiments=seeds) | {"experiments": ["digits-eps-simple"]})
    assert list(alone.scale_config.experiments) == ["digits-eps-simple", ours[2]]


def test_seeds_of_all_experiments_may_be_asked_for_at_once():
    config = load(document(defaults={"seeds": {"sampling": [1]}}))
    names = list(load(document()).scale_config.experiments)
    assert list(config.scale_config.experiments) == [
        each for name in names for each in (name, f"{name}-sampling-seed1")
    ]


def test_an_experiment_with_seeds_has_the_documents_of_one_without():
    """So that asking for the spread of what is there makes nothing of it again."""
    before = load(document()).scale_config.experiments["digits-eps-simple"]
    _, after = repeated(training=[1], sampling=[2])
    for stage in STAGES:
        assert list(after.stage_config(stage).items()) == list(before.stage_config(stage).items())
    assert set(before.stage_config("evaluation")) == {"name", "evaluation"}


@pytest.mark.parametrize("checkpoint", ["final", "lowest-fid"])
def test_another_training_differs_in_its_seed_and_in_what_is_made_of_it(checkpoint):
    config, base = repeated(training=[7], checkpoint=checkpoint)
    repeat = config.scale_config.experiments["digits-eps-simple-training-seed7"]
    snapshots = {} if checkpoint == "lowest-fid" else {"snapshot_every": 0}
    assert repeat.training == base.training.model_copy(update={"seed": 7, **snapshots})
    assert repeat.snapshots == (base.snapshots if checkpoint == "lowest-fid" else None)
    assert repeat.sampling == base.sampling.model_copy(update={"previews": 0})
    assert base.sampling.previews == 20
    for section in ("checkpoint", "network", "diffusion", "data_set", "likelihood", "evaluation"):
        assert getattr(repeat, section) == getattr(base, section)
    assert repeat.latents is repeat.few_steps is None
    assert repeat.trained_as == repeat.name == repeat.stage_config("training")["name"]
    assert repeat.fingerprint() != base.fingerprint()


def test_another_sampling_has_the_training_of_its_experiment():
    config, base = repeated(sampling=[7], checkpoint="lowest-fid")
    repeat = config.scale_config.experiments["digits-eps-simple-sampling-seed7"]
    assert repeat.sampling == base.sampling.model_copy(update={"seed": 7, "previews": 0})
    assert repeat.latents is repeat.few_steps is repeat.likelihood is None
    assert repeat.trained_as == base.name
    assert repeat.stage_config("training") == base.stage_config("training")
    assert repeat.fingerprint() == base.fingerprint()
    assert repeat.stage_config("sampling")["name"] == repeat.name
    assert repeat.evaluation == base.evaluation


@pytest.mark.parametrize("checkpoint", ["final", "lowest-fid"])
def test_repeats_pass_the_checks_of_experiments(checkpoint):
    config, _ = repeated(training=[1], sampling=[1], checkpoint=checkpoint)
    for name in config.repeats_of("digits-eps-simple"):
        experiment = config.scale_config.experiments[name]
        assert Experiment.model_validate(dict(experiment)) == experiment


def test_the_document_of_an_evaluation_says_what_is_repeated(tmp_path):
    config, base = repeated(training=[1], sampling=[2])
    path = tmp_path / "evaluation.json"
    for name in config.repeats_of(base.name):
        write_json(path, config.scale_config.experiments[name].stage_config("evaluation"))
        assert (found := read_repeat(path)) == config.scale_config.experiments[name].repeat
        assert found.name == name
    assert found == Repeat(of=base.name, varies="sampling", seed=2)
    write_json(path, base.stage_config("evaluation"))
    assert read_repeat(path) is None


def test_released_weights_are_sampled_again_and_never_trained():
    released = {"weights": "released", "diffusion": {"parameterization": "eps", "objective": "simple"}}
    name = "cifar10-eps-simple"

    def with_seeds(**seeds):
        asked = {name: {**released, "seeds": seeds}}
        return load({"scale": "paper", "override": {"experiments": asked}})

    repeat = with_seeds(sampling=[4]).scale_config.experiments[f"{name}-sampling-seed4"]
    assert (repeat.training, repeat.sampling.seed, repeat.trained_as) == (None, 4, name)
    with pytest.raises(
        ConfigError, match=rf"experiments\.{name}: seeds\.training: the weights are released; nothing is"
    ):
        with_seeds(training=[4])
