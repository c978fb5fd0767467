"""Published weights: fetched, checked, opened without running code, and equal in every format."""

import inspect
import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import tiny_experiment
from hostile import Hostile
from official_weights import drawn
from safetensors.torch import save_file
from servers import serving
from typer.testing import CliRunner

from ddpm.cli import app
from ddpm.config.base import ConfigError
from ddpm.config.errors import DamagedFile, UserError
from ddpm.config.registry import PUBLISHED
from ddpm.config.resolving import resolve_experiment
from ddpm.config.schema import DiffusionConfig, NetworkConfig
from ddpm.config.sources import Checkpoint
from ddpm.storage import download
from ddpm.storage.checkpoints import save_weights
from ddpm.storage.files import write_json
from ddpm.training.convert.diffusers_folder import HARMLESS, UNET2D_DEFAULTS, export, scheduler_config, unet2d_config
from ddpm.training.convert.importing import import_weights
from ddpm.training.convert.naming import OLD_DIFFUSERS_NAMES, to_diffusers, to_ours
from ddpm.training.model import load_model
from ddpm.unet import UNet

NETWORK = NetworkConfig(
    image_size=8, channels=1, out_channels=1, ch=32, ch_mult=(1, 2), num_res_blocks=2, attn_resolutions=(4,), groups=8
)
DIFFUSION = DiffusionConfig(parameterization="eps", objective="simple", variance="fixedlarge", timesteps=20)
OFFICIAL = {name: tensor.float() for name, tensor in drawn(NETWORK).items()}
OURS = to_ours(OFFICIAL, NETWORK)
DOCUMENT = {
    "name": "digits-eps-simple-released",
    "data": "digits",
    "network": NETWORK.model_dump(mode="json"),
    "diffusion": DIFFUSION.model_dump(mode="json"),
}


def old_names(weights: dict) -> dict:
    """diffusers' weights under its names of 2022."""
    old = {new: old for old, new in OLD_DIFFUSERS_NAMES.items()}
    for new, name in old.items():
        weights = {key.replace(f".{new}.", f".{name}."): tensor for key, tensor in weights.items()}
    return weights


def write_diffusers(folder: Path, kind: str) -> Path:
    """A folder as on the hub: of today (sub-folders, safetensors), or of 2022 (flat, a pickle, old names)."""
    weights = to_diffusers(OURS, 2)
    weights = {name: tensor.contiguous() for name, tensor in weights.items()}
    unet, scheduler = (folder, folder) if kind == "2022" else (folder / "unet", folder / "scheduler")
    write_json(unet / "config.json", unet2d_config(NETWORK))
    write_json(scheduler / "scheduler_config.json", scheduler_config(DIFFUSION))
    if kind == "2022":
        torch.save(old_names(weights), unet / "diffusion_pytorch_model.bin")
    elif kind == "sharded":
        names = sorted(weights)
        files = {name: f"diffusion_pytorch_model-0000{i % 2 + 1}-of-00002.safetensors" for i, name in enumerate(names)}
        for file in set(files.values()):
            save_file({name: weights[name] for name in names if files[name] == file}, unet / file)
        write_json(unet / "diffusion_pytorch_model.safetensors.index.json", {"weight_map": files})
    elif kind == "sharded pickles":
        name = "diffusion_pytorch_model-00001-of-00001.bin"
        torch.save(weights, unet / name)
        write_json(unet / "diffusion_pytorch_model.bin.index.json", {"weight_map": dict.fromkeys(weights, name)})
    elif kind in ("fp16", "bf16"):
        half = {name: tensor.half() if kind == "fp16" else tensor.bfloat16() for name, tensor in weights.items()}
        save_file(half, unet / f"diffusion_pytorch_model.{kind}.safetensors", metadata={"format": "pt"})
    else:
        save_file(weights, unet / "diffusion_pytorch_model.safetensors", metadata={"format": "pt"})
    return folder


def write(folder: Path, kind: str) -> Path:
    """The weights in one of the formats in which they are published."""
    path = folder / kind
    match kind:
        case "official.ckpt":
            torch.save(OFFICIAL, path)
        case "official, before zip.ckpt":
            torch.save(OFFICIAL, path, _use_new_zipfile_serialization=False)
        case "official.safetensors":
            save_file(OFFICIAL, path)
        case "ours.safetensors":
            outcome = {"status": "trained", "step": 790_000, "reason": None}
            save_weights(path, OURS, {"config": DOCUMENT, "weights": "ema", "outcome": outcome})
        case "bf16.ckpt":
            torch.save({name: tensor.bfloat16() for name, tensor in OFFICIAL.items()}, path)
        case "diffusers" | "2022" | "sharded" | "sharded pickles" | "fp16" | "bf16":
            write_diffusers(path, kind)
    return path


KINDS = (
    "official.ckpt", "official, before zip.ckpt", "official.safetensors", "ours.safetensors", "diffusers", "2022",
)  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "dtype"), [("fp16", torch.float16), ("bf16", torch.bfloat16), ("bf16.ckpt", torch.bfloat16)]
)
def test_weights_in_half_precision_are_read_and_said(kind, dtype, tmp_path):
    said = []
    import_weights(write(tmp_path, kind), tmp_path / "model", None, DOCUMENT, log=said.append)
    trained = load_model(tmp_path / "model")
    assert all(torch.equal(trained.model.state_dict()[name], t.to(dtype).float()) for name, t in OURS.items())
    name = str(dtype).removeprefix("torch.")
    assert trained.header["source"]["precisions"] == [name]
    assert f"weights in {name}, which are float32 from here on" in said[0]


def test_full_precision_is_taken_where_a_folder_has_both(tmp_path):
    folder = write(tmp_path, "fp16")
    write_diffusers(folder, "diffusers")
    import_weights(folder, tmp_path / "model", None, DOCUMENT, log=pytest.fail)
    assert load_model(tmp_path / "model").header["source"]["file"] == "diffusion_pytorch_model.safetensors"


def test_weights_in_several_files_are_read(tmp_path):
    folder = write(tmp_path, "sharded")
    import_weights(folder, tmp_path / "model", None)
    trained = load_model(tmp_path / "model")
    assert all(torch.equal(trained.model.state_dict()[name], tensor) for name, tensor in OURS.items())
    files = sorted((folder / "unet").glob("*-of-*"))
    assert list(trained.header["source"]["parts"]) == [file.name for file in files]
    files[1].unlink()
    with pytest.raises(UserError, match=r"-00002-of-00002\.safetensors: no such file beside .*index\.json"):
        import_weights(folder, tmp_path / "again", None)


@pytest.mark.parametrize("index", [{}, [], {"weight_map": {"conv_in.bias": "../model.safetensors"}}])
def test_an_index_that_is_none_or_points_elsewhere_is_refused(index, tmp_path):
    folder = write(tmp_path, "sharded")
    write(tmp_path / "sharded", "ours.safetensors").rename(folder / "model.safetensors")
    write_json(folder / "unet/diffusion_pytorch_model.safetensors.index.json", index)
    with pytest.raises(UserError, match=r"not an index of files of weights|no such file beside"):
        import_weights(folder, tmp_path / "out", None)


def test_a_damaged_index_of_a_users_own_is_never_to_be_deleted(tmp_path):
    folder = write(tmp_path, "sharded")
    (folder / "unet/diffusion_pytorch_model.safetensors.index.json").write_text('{"weight_map": ')
    with pytest.raises(UserError, match=r"not a whole JSON file.*It is yours and stays as it is"):
        import_weights(folder, tmp_path / "out", None)


def test_a_value_that_cannot_be_is_said_in_one_line(tmp_path):
    folder = write(tmp_path, "diffusers")
    write_json(folder / "unet/config.json", unet2d_config(NETWORK) | {"norm_num_groups": None})
    with pytest.raises(UserError, match=r"^\S+/unet/config.json: groups: None: Input should be a valid integer$"):
        import_weights(folder, tmp_path / "out", None)


@pytest.mark.parametrize("kind", (*KINDS, "sharded pickles"))
def test_every_format_gives_the_same_network(kind, tmp_path):
    out, outcome = tmp_path / "model.safetensors", tmp_path / "training.json"
    import_weights(write(tmp_path, kind), out, outcome, DOCUMENT)
    trained = load_model(out)
    state = trained.model.state_dict()
    assert state.keys() == OURS.keys()
    assert all(torch.equal(state[name], tensor) for name, tensor in OURS.items())
    assert trained.header["config"] == DOCUMENT
    assert trained.diffusion.variance == "fixedlarge"
    assert json.loads(outcome.read_text())["status"] == "released"


@pytest.mark.parametrize("kind", ["ours.safetensors", "diffusers", "2022"])
def test_a_source_that_describes_itself_needs_no_configuration(kind, tmp_path):
    import_weights(write(tmp_path, kind), tmp_path / "model", None)
    trained = load_model(tmp_path / "model")
    assert trained.model.config == NETWORK
    assert trained.diffusion.num_timesteps == 20
    assert trained.header["weights"] == ("ema" if kind == "ours.safetensors" else "unknown")


def test_a_source_that_does_not_asks_for_it(tmp_path):
    with pytest.raises(UserError, match=r"official\.ckpt: does not say which network.*--checkpoint"):
        import_weights(write(tmp_path, "official.ckpt"), tmp_path / "model", None)


# --- bad files ---


def changed(**tensors) -> dict:
    return {**OFFICIAL, **tensors}


def damage(path: Path, how: str) -> str:
    """Write a bad file; returns words that its refusal must hold."""
    match how:
        case "truncated":
            torch.save(OFFICIAL, path)
            path.write_bytes(path.read_bytes()[:-2000])
            return "not a whole file|is damaged"
        case "truncated, before zip":
            torch.save(OFFICIAL, path, _use_new_zipfile_serialization=False)
            path.write_bytes(path.read_bytes()[:-300])
            return "not a whole file|is damaged"
        case "half of it":
            torch.save(OFFICIAL, path)
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
            return "not a whole file|is damaged"
        case "wrong shape":
            torch.save(changed(**{"conv_in.bias": torch.zeros(33)}), path)
            return r"conv_in\.bias is \(33,\), not \(32,\)"
        case "wrong name":
            torch.save({name.replace("temb_proj", "emb_proj"): tensor for name, tensor in OFFICIAL.items()}, path)
            return "tensors are missing, such as .*temb_proj.*have no place in it, such as .*emb_proj"
        case "tensor missing":
            torch.save({name: tensor for name, tensor in OFFICIAL.items() if name != "norm_out.bias"}, path)
            return r"missing, such as norm_out\.bias"
        case "hostile":
            torch.save({**OFFICIAL, "x": Hostile(path.with_name("code ran"))}, path)
            return "would run code"
        case "hostile, before zip":
            torch.save(
                {**OFFICIAL, "x": Hostile(path.with_name("code ran"))}, path, _use_new_zipfile_serialization=False
            )
            return "would run code"
        case "hostile, plain pickle":
            arrays = {name: tensor.numpy() for name, tensor in OFFICIAL.items()}
            path.write_bytes(pickle.dumps({**arrays, "x": Hostile(path.with_name("code ran"))}))
            return "would run code"
        case "training state":
            torch.save({"ema_model": OFFICIAL, "step": 790_000}, path)
            return "holds ema_model, step"
        case "page":
            path.write_bytes(b"<!DOCTYPE html>" * 20)
            return "bytes are not the size of this network"
        case "a quarter of it":
            torch.save(OFFICIAL, path)
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 4])
            return "cut short"
        case "not finite":
            torch.save(changed(**{"conv_in.bias": torch.full((32,), torch.nan)}), path)
            return r"conv_in\.bias holds values that are not finite"
        case "cut safetensors":
            save_file(OFFICIAL, path)
            path.write_bytes(path.read_bytes()[:-4])
            return "not a whole file|cut short"
        case _:
            return "no such file"


BAD = (
    "truncated", "truncated, before zip", "half of it", "wrong shape", "wrong name", "tensor missing", "hostile",
    "hostile, before zip", "hostile, plain pickle", "training state", "page", "a quarter of it", "not finite",
    "cut safetensors", "missing",
)  # fmt: skip


@pytest.mark.filterwarnings("ignore:Detected pickle protocol 4")
@pytest.mark.parametrize("how", BAD)
def test_a_bad_file_is_named_and_nothing_is_written(how, tmp_path):
    path = tmp_path / "model-790000.ckpt"
    words = damage(path, how)
    with pytest.raises(UserError, match=rf"model-790000\.ckpt: .*({words})"):
        import_weights(path, tmp_path / "out", tmp_path / "outcome", DOCUMENT, description(path, "official.ckpt"))
    assert not (tmp_path / "code ran").exists()
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "outcome").exists()


def test_the_hostile_file_is_hostile(tmp_path):
    damage(tmp_path / "file", "hostile")
    torch.load(tmp_path / "file", weights_only=False)
    assert (tmp_path / "code ran").exists()


@pytest.mark.parametrize(
    ("file", "key", "value", "words"),
    [
        ("unet/config.json", "downsample_padding", 1, "downsample_padding is 1; the authors' network has 0"),
        ("unet/config.json", "freq_shift", None, "freq_shift is 0; the authors' network has 1"),  # None: left out
        ("unet/config.json", "norm_eps", 1e-5, "norm_eps is 1e-05"),
        ("unet/config.json", "attention_head_dim", 8, "attention_head_dim is 8"),
        ("unet/config.json", "up_block_types", ["UpBlock2D", "UpBlock2D"], "up_block_types"),
        ("unet/config.json", "block_out_channels", [32, 128], "of another network: ch_mult"),
        ("unet/config.json", "block_out_channels", None, "not a UNet2DModel"),
        ("scheduler/scheduler_config.json", "beta_schedule", "squaredcos_cap_v2", "beta_schedule"),
        ("scheduler/scheduler_config.json", "variance_type", "learned_range", "variance_type is 'learned_range'"),
        ("scheduler/scheduler_config.json", "variance_type", "fixed_small", "of another process: variance"),
        ("scheduler/scheduler_config.json", "clip_sample", False, "clip_sample"),
        ("scheduler/scheduler_config.json", "rescale_betas_zero_snr", True, "rescale_betas_zero_snr is True"),
        ("scheduler/scheduler_config.json", "thresholding", True, "thresholding is True"),
        ("scheduler/scheduler_config.json", "clip_sample_range", 2.0, "clip_sample_range is 2.0"),
        ("scheduler/scheduler_config.json", "_class_name", "DDIMScheduler", "_class_name is 'DDIMScheduler'"),
        ("scheduler/scheduler_config.json", "future", 1, "future is 1, a key that is unknown here"),
        ("unet/config.json", "attn_norm_num_groups", 4, "attn_norm_num_groups is 4; the authors' network has 8"),
        ("unet/config.json", "time_embedding_dim", 64, "time_embedding_dim is 64; the authors' network has 128"),
        ("unet/config.json", "add_attention", False, "add_attention is False"),
        ("unet/config.json", "future", "new", "future is 'new', a key that is unknown here"),
    ],
)
def test_a_folder_of_another_network_or_process_is_refused(file, key, value, words, tmp_path):
    folder = write(tmp_path, "diffusers")
    document = json.loads((folder / file).read_text())
    document = {**document, key: value} if value is not None else {k: v for k, v in document.items() if k != key}
    (folder / file).write_text(json.dumps(document))
    with pytest.raises(UserError, match=words):
        import_weights(folder, tmp_path / "out", None, DOCUMENT)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "ours"),
    [("UNet2DModel", unet2d_config(NETWORK)), ("DDPMScheduler", scheduler_config(DIFFUSION))],
)
def test_every_key_of_diffusers_is_ours_or_harmless(name, ours):
    import diffusers

    theirs = getattr(diffusers, name)
    known = ours.keys() | HARMLESS | {"attn_norm_num_groups", "time_embedding_dim"}
    keys = [name for name in inspect.signature(theirs.__init__).parameters if name != "self"]
    assert not set(keys) - known
    for key, default in UNET2D_DEFAULTS.items() if name == "UNet2DModel" else ():
        assert key.startswith("_") or inspect.signature(theirs.__init__).parameters[key].default == default


def test_what_says_nothing_or_the_same_in_other_words_is_read(tmp_path):
    folder = write(tmp_path, "diffusers")
    for file, more in (
        ("unet/config.json", {"_diffusers_version": "0.42.1", "time_embedding_dim": 128, "attn_norm_num_groups": None}),
        ("scheduler/scheduler_config.json", {"sample_max_value": 2.0, "timestep_spacing": "trailing", "gone": None}),
    ):
        (folder / file).write_text(json.dumps({**json.loads((folder / file).read_text()), **more}))
    import_weights(folder, tmp_path / "out", None, DOCUMENT)
    assert all(torch.equal(load_model(tmp_path / "out").model.state_dict()[name], t) for name, t in OURS.items())


# --- downloads ---


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(download, "ROUNDS", 1)
    with serving() as server:
        yield server


def description(path: Path, kind: str, **changes) -> Checkpoint:
    names = ("config.json", "scheduler_config.json", "diffusion_pytorch_model.bin") if kind == "2022" else (path.name,)
    files = [{"name": name.replace(", ", "-").replace(" ", "-"), "urls": [name]} for name in names]
    return Checkpoint(**{"name": "tiny", "files": files, "averaged": True, "step": 790_000, **changes})


def publish(server, tmp_path, kind: str, how: str = "good", **changes) -> Checkpoint:
    """A checkpoint whose files the server holds."""
    path = write(tmp_path, kind)
    checkpoint = description(path, kind)
    files = []
    for file in checkpoint.files:
        (name,) = file.urls
        content = (path / name if kind == "2022" else path).read_bytes()
        url = server.add(file.name, content, how)
        files.append({"name": file.name, "urls": [url], "size": len(content), **changes})
    return description(path, kind, files=files)


def download_weights(checkpoint: Checkpoint, folder: Path) -> None:
    download.download(checkpoint.files, folder, {"checkpoint": checkpoint.model_dump(mode="json")})


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "diffusers"])
def test_published_files_are_downloaded_and_converted(kind, server, tmp_path):
    checkpoint = publish(server, tmp_path, kind)
    folder = tmp_path / "weights/tiny"
    download_weights(checkpoint, folder)
    config = {**DOCUMENT, "checkpoint": checkpoint.model_dump(mode="json")}
    import_weights(folder / "card.json", tmp_path / "model", tmp_path / "training.json", config)
    trained = load_model(tmp_path / "model")
    assert all(torch.equal(trained.model.state_dict()[name], tensor) for name, tensor in OURS.items())
    assert trained.header["weights"] == "ema"
    assert trained.outcome == {"status": "released", "step": 790_000, "reason": None}
    assert trained.header["source"]["files"][0]["urls"] == list(checkpoint.files[0].urls)


@pytest.mark.parametrize(
    ("how", "changes", "words"),
    [
        ("truncated", {}, "IncompleteRead"),
        ("good", {"md5": "0" * 32}, "does not match the known hash"),
        ("good", {"size": 12}, "not 12"),
        ("html", {}, "HTML page"),
    ],
)
def test_a_bad_download_leaves_no_file(how, changes, words, server, tmp_path):
    checkpoint = publish(server, tmp_path, "official.ckpt", how, **changes)
    with pytest.raises(UserError, match=words):
        download_weights(checkpoint, tmp_path / "weights")
    assert all(path.name.startswith(".") for path in (tmp_path / "weights").iterdir())


def test_a_file_that_changed_after_its_download_is_refused(server, tmp_path):
    checkpoint = publish(server, tmp_path, "official.ckpt")
    download_weights(checkpoint, tmp_path / "weights")
    file = tmp_path / "weights/official.ckpt"
    content = bytearray(file.read_bytes())
    content[-100] ^= 1
    file.write_bytes(content)
    with pytest.raises(DamagedFile, match=r"official\.ckpt: is missing or no longer"):
        import_weights(tmp_path / "weights/card.json", tmp_path / "model", None, DOCUMENT)


def test_a_copy_by_hand_must_have_the_published_checksum(tmp_path):
    path = write(tmp_path, "official.ckpt")
    with pytest.raises(DamagedFile, match="is not cifar10-ema, whose MD5 is 1fa350b9"):
        import_weights(path, tmp_path / "model", None, checkpoint=PUBLISHED["cifar10-ema"])


def test_by_hand(server, tmp_path):
    """The commands of the README."""
    checkpoint = publish(server, tmp_path, "2022")
    write_json(tmp_path / "training.json", {**DOCUMENT, "checkpoint": checkpoint.model_dump(mode="json")})
    for command in (
        ["download-weights", tmp_path / "training.json", "--out", tmp_path / "weights"],
        ["import-weights", tmp_path / "weights", "--config", tmp_path / "training.json", "--out", tmp_path / "model"],
        ["export-weights", tmp_path / "model", "--out", tmp_path / "exported"],
        ["import-weights", tmp_path / "exported", "--out", tmp_path / "again"],
    ):
        done = CliRunner().invoke(app, [str(word) for word in command], catch_exceptions=False)
        assert done.exit_code == 0, done.output
    one, other = (load_model(tmp_path / name).model.state_dict() for name in ("model", "again"))
    assert all(torch.equal(one[name], tensor) for name, tensor in other.items())


# --- what is published ---


def test_published_weights_are_the_papers():
    steps = {name: checkpoint.step for name, checkpoint in PUBLISHED.items()}
    assert steps == {
        "cifar10-ema": 790_000,
        "cifar10-raw": 790_000,
        "celebahq256-ema": None,
        "lsun-bedroom256-ema": 2_388_000,
        "lsun-church256-ema": 4_432_000,
        "lsun-cat256-ema": 1_761_000,
    }
    for name, checkpoint in PUBLISHED.items():
        small = name.startswith("cifar10")
        with torch.device("meta"):
            count = sum(p.numel() for p in UNet(NetworkConfig(**checkpoint.network)).parameters())
        assert count == (35_746_307 if small else 113_673_219)
        assert checkpoint.variance == ("fixedlarge" if small else "fixedsmall")
        assert checkpoint.averaged == name.endswith("-ema")
        assert checkpoint.data == name.rpartition("-")[0]
        assert all(url.startswith("https://") for file in checkpoint.files for url in file.urls)
        assert all(file.md5 for file in checkpoint.files) or name == "celebahq256-ema"
    md5s = [file.md5 for checkpoint in PUBLISHED.values() for file in checkpoint.files if file.md5]
    assert len(set(md5s)) == 5


RELEASED = {
    "data": "digits",
    "weights": "released",
    "network": {"ch": 32, "ch_mult": [1, 2], "attn_resolutions": [4], "groups": 8},
    "diffusion": {"parameterization": "eps", "objective": "simple", "variance": "fixedlarge"},
    "training": {"steps": 5},  # as the scale's defaults would give; not used
    "sampling": {"images": 40},
    "checkpoint": {"files": [{"name": "w.ckpt", "urls": ["http://127.0.0.1/w.ckpt"]}], "averaged": True},
}


def resolve(**changes):
    return resolve_experiment("digits-eps-simple-released", {**RELEASED, **changes}, "tests")


def test_an_experiment_may_have_released_weights():
    experiment = resolve()
    assert experiment.training is None
    assert experiment.checkpoint.name == "digits-eps-simple-released"
    document = experiment.stage_config("training")
    assert set(document) == {"name", "data", "network", "diffusion", "checkpoint"}
    assert "checkpoint" not in tiny_experiment().stage_config("training")


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_data_sets_released_weights_are_the_averaged_ones_unless_named(name):
    checkpoint, data = PUBLISHED[name], PUBLISHED[name].data
    raw = {
        "data": data,
        "weights": "released",
        "diffusion": {"parameterization": "eps", "objective": "simple"},
        "network": {"ch": 16},  # as a scale's defaults would give; not used
        "sampling": {},
    }
    default = resolve_experiment(f"{data}-eps-simple", raw, "tests")
    assert default.checkpoint.name == f"{data}-ema"
    named = resolve_experiment(f"{data}-eps-simple-named", {**raw, "checkpoint": name}, "tests")
    assert named.checkpoint == checkpoint
    assert (named.network.ch, named.network.ch_mult) == (128, tuple(checkpoint.network["ch_mult"]))
    assert named.diffusion.variance == checkpoint.variance
    predicts_mu = {**raw, "diffusion": {**raw["diffusion"], "parameterization": "mu"}}
    with pytest.raises(ConfigError, match=r"diffusion\.parameterization: 'mu': .* has eps for the weights"):
        resolve_experiment(f"{data}-mu-simple", predicts_mu, "tests")
    with pytest.raises(ConfigError, match="published weights are for weights: released"):
        resolve_experiment(f"{data}-eps-simple", {**raw, "weights": "train", "checkpoint": name}, "tests")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"checkpoint": "cifar10-ema"}, "none are published for digits"),
        ({"checkpoint": None}, "none are published for digits"),
        ({"checkpoint": {"averaged": True}}, r"checkpoint\.files: Field required"),
        ({"checkpoint": {"files": [{"name": "../x", "urls": ["u"]}], "averaged": True}}, "files.0.name"),
        ({"checkpoint": {"files": [{"name": "a.json", "urls": ["u"]}], "averaged": True}}, "one file of weights"),
        ({"checkpoint": {**RELEASED["checkpoint"], "variance": "fixedsmall"}}, "'fixedlarge': .* has fixedsmall"),
        ({"weights": "train"}, "published weights are for weights: released"),
        ({"weights": "borrowed"}, "weights: 'borrowed': .*'train' or 'released'"),
    ],
)
def test_a_wrong_description_is_refused(changes, words):
    with pytest.raises(ConfigError, match=words):
        resolve(**changes)


# --- for diffusers ---


def test_diffusers_draws_the_same_images_from_an_exported_network(trained, tmp_path):
    """DDPMPipeline on our export, against our own steps with the same noise."""
    import diffusers  # three CPU seconds

    export(trained, tmp_path / "exported")
    pipeline = diffusers.DDPMPipeline.from_pretrained(tmp_path / "exported")
    pipeline.set_progress_bar_config(disable=True)
    timesteps = trained.diffusion.num_timesteps
    generator = torch.Generator().manual_seed(0)
    theirs = pipeline(6, generator, num_inference_steps=timesteps, output_type="np").images

    generator = torch.Generator().manual_seed(0)
    x = torch.randn(6, 1, 8, 8, generator=generator)
    with torch.no_grad():
        for t in reversed(range(timesteps)):
            noise = torch.randn(x.shape, generator=generator) if t else torch.zeros_like(x)
            x, _ = trained.diffusion.p_sample(trained.model, x, torch.full((6,), t), noise)
    ours = (x / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).numpy()
    # diffusers' tables are float32.
    assert np.abs(theirs - ours).max() < 1e-4
    assert ours.std() > 0.1


def test_an_export_is_whole_or_refused(trained, tmp_path):
    folder = tmp_path / "exported"
    export(trained, folder)
    assert sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()) == [
        "model_index.json",
        "scheduler/scheduler_config.json",
        "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors",
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["exported"]
    with pytest.raises(UserError, match="exported: exists"):
        export(trained, folder)
    shutil.rmtree(folder)
    config = {
        **trained.header["config"],
        "diffusion": {**trained.header["config"]["diffusion"], "parameterization": "mu"},
    }
    trained = type(trained)(trained.model, trained.diffusion, {**trained.header, "config": config}, trained.sha256)
    with pytest.raises(UserError, match="DDPMScheduler has no mu prediction"):
        export(trained, folder)
    assert not folder.exists()
