"""No command deletes or overwrites anything that it did not make, whatever its options say.

Each test puts something of a user's where a command would have removed or replaced it, and compares all bytes after.
"""

import ast
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers import CPU, tiny_experiment, train_command
from typer.testing import CliRunner
from workspace import PROJECT

from ddpm.cli import app
from ddpm.config.errors import UserError
from ddpm.config.registry import DATASETS
from ddpm.config.schema import SamplingConfig
from ddpm.data.prepare import prepare
from ddpm.evaluation.networks.base import FeatureNetwork
from ddpm.evaluation.reference import write_reference
from ddpm.sampling.runner import AncestralSampler, sample_shard
from ddpm.storage import chunk_cache
from ddpm.storage.chunk_cache import ChunkCache
from ddpm.storage.files import FOLDER_MARK, OWNED_FILES, claim_folder
from ddpm.training.loop import train


def quiet(message: str) -> None:
    pass


def contents(folder: Path) -> dict[str, bytes]:
    """All files of `folder`, at any depth, but for the project's own notes."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != OWNED_FILES)
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.fixture
def users(tmp_path) -> Path:
    """A folder of a user's, with files and a sub-folder."""
    folder = tmp_path / "thesis"
    (folder / "chapters").mkdir(parents=True)
    for name in ("train.npy", "test.npy", "labels.npz", "card.json", "chapters/1.tex", "README.md", "my.safetensors"):
        (folder / name).write_text(f"{name} of the user")
    return folder


@pytest.fixture
def state(train_images, tmp_path) -> Path:
    """The state of a finished training, in the folder of all states of its experiment."""
    config = tiny_experiment().stage_config("training")
    folder = tmp_path / "results/demo/digits-eps-simple/state" / ("f" * 16)
    files = [tmp_path / name for name in ("final.safetensors", "training.csv", "training.json", "weights")]
    train(config, train_images, folder, *files, CPU, log=quiet)
    return folder


def refused(*command) -> str:
    """The message of a command that must end with a UserError."""
    done = CliRunner().invoke(app, [str(word) for word in command])
    assert isinstance(done.exception, UserError), (done.output, done.exception)
    return str(done.exception)


class Features(FeatureNetwork):
    """Stands for a network of the scores."""

    name, sha256, batch_size, device = "stand-in", "a" * 64, 100, "cpu"

    def batch(self, images):
        raise NotImplementedError

    def __call__(self, images):
        flat = images.reshape(len(images), -1)[:, :3].astype(np.float32)
        return flat, np.full((len(images), 2), 0.5, np.float32)


# Would fail if pieces of work took any folder for theirs, or removed sub-folders by their not being known.
@pytest.mark.parametrize("where", ["its experiment's states", "its own", "a user's"])
def test_sampling_into_another_folder_deletes_nothing(where, state, users, trained, tmp_path):
    folder = {"its experiment's states": state.parent, "its own": state, "a user's": users}[where]
    before = contents(tmp_path)
    with pytest.raises(UserError, match=r"Nothing in it was touched: give a new or an empty folder\."):
        sample_shard(
            AncestralSampler(trained, SamplingConfig(images=4, shards=1), CPU), 1, tmp_path / "1.npz", quiet, folder
        )
    assert contents(tmp_path) == before


# Would fail if `reference` removed its --state as a whole.
def test_the_reference_removes_only_its_own_pieces(digits, users, tmp_path):
    files = tmp_path / "features.npz", tmp_path / "reference.json"
    before = contents(users)
    with pytest.raises(UserError, match="thesis: is not empty"):
        write_reference(Features(), digits, 2, *files, users, quiet)
    assert contents(users) == before
    state = tmp_path / "state"
    claim_folder(state, "finished pieces of work")
    (state / "notes.txt").write_text("of the user")
    write_reference(Features(), digits, 2, *files, state, quiet)
    assert contents(state).keys() == {"notes.txt", FOLDER_MARK}


# Would fail if what is removed went by folders, and not by the exact names of pieces; or without a look at locks.
def test_pieces_of_another_source_go_by_their_names_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(chunk_cache, "SAVE_EVERY", -1)

    def pieces(source: str) -> ChunkCache:
        made = ChunkCache(tmp_path / "state", source * 64, {}, ("x",), quiet)
        list(made.each(0, 30, 10, lambda first, last: {"x": np.arange(first, last)}))
        return made

    old = pieces("a")
    for name in ("notes.txt", "1-2.npz.txt", "mine/1.txt"):
        (old.folder / name).parent.mkdir(exist_ok=True)
        (old.folder / name).write_text("of the user")
    (tmp_path / "state/thesis").mkdir()
    (tmp_path / "state/thesis/1-2.npz").write_text("of the user")
    kept = [path.name for *_, path in old.kept()]
    pieces("b").release()
    assert [path.name for *_, path in old.kept()] == kept, "somebody is still making them"
    old.release()
    pieces("b")
    assert old.kept() == []
    of_user = [content for name, content in contents(tmp_path / "state").items() if content == b"of the user"]
    assert len(of_user) == 4


# Would fail if a link in a state's place, or in it, were followed to what it points to.
def test_links_are_not_followed(users, tmp_path, monkeypatch):
    state = tmp_path / "state"
    claim_folder(state, "finished pieces of work")
    (state / ("a" * 16)).symlink_to(users)
    before = contents(users)
    made = ChunkCache(state, "b" * 64, {}, ("x",), quiet)
    list(made.each(0, 3, 1, lambda first, last: {"x": np.arange(first, last)}))
    assert contents(users) == before


# Would fail if a training took a folder with other weights for its state.
def test_a_training_deletes_no_weights_of_others(users, digits, train_images, tmp_path):
    for step in range(4):
        (users / f"{step:09d}-{'a' * 16}.safetensors").write_text("of the user")
    before = contents(users)
    command = train_command(tiny_experiment().stage_config("training"), digits, tmp_path / "run")
    command[command.index("--state") + 1] = str(users)
    assert "not marked as one for the state of a training" in refused(*command[1:], "--device", "cpu")
    assert contents(users) == before


# Would fail if snapshots replaced files by their names alone.
def test_snapshots_replace_no_other_trainings(digits, tmp_path):
    command = train_command(
        tiny_experiment(training={"snapshot_every": 6}, snapshots={"images": 40}).stage_config("training"),
        digits, tmp_path / "run",
    )  # fmt: skip
    (tmp_path / "run/weights").mkdir()
    (tmp_path / "run/weights/000000012-ema.safetensors").write_text("of the user")
    assert "is no snapshot of this training" in refused(*command[1:], "--device", "cpu")
    assert (tmp_path / "run/weights/000000012-ema.safetensors").read_text() == "of the user"


# Would fail if `prepare` began by removing a card, or removed its outputs' names when it fails.
def test_preparing_into_a_users_folder_removes_nothing(users, tmp_path):
    before = contents(users)
    assert "thesis/card.json: is there already" in refused("prepare", "digits", "--out", users)
    assert "thesis/card.json: is there already" in refused("prepare", "cifar10", "--source", users, "--out", users)
    assert contents(users) == before
    (users / "card.json").unlink()
    before = contents(users)
    assert "thesis/train.npy: is there already" in refused("prepare", "digits", "--out", users)
    assert "must be downloaded first" in refused("prepare", "cifar10", "--out", tmp_path / "new")
    assert contents(users) == before


def test_prepared_data_of_an_earlier_version_are_made_anew(digits, tmp_path):
    """They have a card, and no list of what was made."""
    shutil.copytree(digits, tmp_path / "digits", ignore=shutil.ignore_patterns(OWNED_FILES))
    prepare(DATASETS["digits"], None, tmp_path / "digits", log=quiet)
    assert contents(tmp_path / "digits") == contents(digits)


# Would fail if a download replaced the card of another thing, such as prepared data.
def test_a_download_replaces_no_card_of_others(digits, users, tmp_path):
    for folder in (digits, users):
        before = contents(folder)
        assert "card.json: is there already, and is the card of something else" in refused(
            "download", "cifar10", "--out", folder
        )
        assert "card.json: is there already" in refused("download-weights", "cifar10-ema", "--out", folder)
        assert "card.json: is there already" in refused("download-statistics", "cifar10", "--out", folder)
        assert "card.json: is there already" in refused("download-network", "--out", folder)
        assert contents(folder) == before


# Would fail if a command could write the file that it reads.
def test_weights_are_not_imported_over_themselves(weights, users, tmp_path):
    mine = tmp_path / "model.safetensors"
    shutil.copy(weights, mine)
    before = mine.read_bytes()
    for out in (mine, tmp_path / "thesis/../model.safetensors"):
        assert "would be read and overwritten" in refused("import-weights", mine, "--out", out)
    assert "is there already" in refused("import-weights", mine, "--out", users / "my.safetensors")
    (tmp_path / OWNED_FILES).write_text("model.safetensors\n")  # also where the project has made it
    assert "would be read and overwritten" in refused("select", mine, "--checkpoint", "final", "--out", mine)
    assert mine.read_bytes() == before


# Would fail if only the file that --out names were looked at, and not those that are written beside it.
def test_a_table_overwrites_no_readme(users, tmp_path):
    before = contents(users)
    assert "README.md: is there already" in refused("table", "table1", "--out", users / "README.csv")
    assert contents(users) == before


# Would fail if any command forgot to look at what its options name. A command with a new option must stand here.
OUTPUTS = {
    "train": {"out", "history", "outcome"},
    "import-weights": {"out", "outcome"},
    "reference": {"out", "summary"},
}
# What these write to is a folder, at which they look themselves (at its card, or that it is empty), or nothing.
OTHERS = {"download", "download-weights", "download-network", "download-statistics", "prepare", "export-weights"}
OTHERS |= {"plan", "requeue", "status"}


def test_every_command_looks_at_what_it_writes():
    from typer.main import get_command

    commands = get_command(app).commands
    found = {}
    for name, command in commands.items():
        assert type(command).__name__ == "GuardedCommand", name
        called = {option.name: getattr(option.callback, "__wrapped__", option.callback) for option in command.params}
        found[name] = {
            option for option, callback in called.items() if callback and callback.__name__ in LOOKING
        }  # fmt: skip
    assert found == {name: set() if name in OTHERS else OUTPUTS.get(name, {"out"}) for name in commands}


LOOKING = {"claim_output", "lock_output_file"}


def test_what_the_project_has_made_it_makes_again(digits, tmp_path):
    command = ["figure", "figure2", "--out", str(tmp_path / "figure2.png")]
    for _ in range(2):
        done = CliRunner().invoke(app, command)
        assert done.exit_code == 0, done.output
    (tmp_path / "figure2.png").unlink()
    (tmp_path / "figure2.png").symlink_to(tmp_path / "elsewhere")
    assert "is there already" in refused(*command), "a link in its place is none of the project's"


@pytest.mark.parametrize("out", [".", "..", "/"])
def test_a_folder_is_no_name_of_a_file(out):
    assert "is a folder" in refused("figure", "figure2", "--out", out)


# What removes, replaces or lists files, where, how often, and what protects everything that is not the project's.
PROTECTED = {
    (
        "storage/files.py",
        "atomic_write",
    ): "the part's name holds host, namespace and process; `claim_file` was asked for the target",
    ("storage/files.py", "atomic_folder"): "refuses a target that exists",
    ("storage/files.py", "remove_stale_temp_files"): "exact names of parts, of dead writers of this namespace",
    ("storage/files.py", "files_in"): "lists, without following links",
    ("storage/files.py", "remove_ours"): "exact names, of a claimed folder, without following links",
    ("storage/files.py", "unclaim_folder"): "only the mark; rmdir takes empty folders alone",
    ("storage/files.py", "set_aside"): "a new name, which nothing has",
    ("storage/chunk_cache.py", "kept"): "lists, by exact names, in a claimed folder",
    ("storage/chunk_cache.py", "drop_other_sources"): "lists; `remove_ours` removes",
    ("storage/chunk_cache.py", "read"): "one of `kept`, which is damaged",
    ("storage/chunk_cache.py", "finish"): "those of `kept` that the shard holds",
    ("storage/chunk_cache.py", "is_idle"): "lists locks",
    ("jobs/locks.py", "take"): "the lock file that this call has made",
    ("jobs/locks.py", "remove_stale"): "a lock whose owner is dead, under a lock",
    ("jobs/locks.py", "release_file"): "the lock file that names this process, and guards of its own token's form",
    (
        "storage/checkpoints.py",
        "save_state",
    ): "earlier states by exact names, in a claimed folder, never the one just written",
    ("storage/weights_file.py", "saved_states"): "lists, by exact names",
    ("training/callbacks.py", "export_snapshots"): "lists, by exact names",
    ("data/prepare.py", "all_or_nothing"): "files that `claim_file` has allowed before",
    ("storage/transfer.py", "finish"): "the part's own names; what was at the target was set aside",
    ("storage/transfer.py", "discard"): "the part's own names",
    ("config/resolving.py", "read_scale"): "lists scales",
    ("data/readers/celebahq.py", "read"): "lists",
    ("jobs/provenance.py", "code_version"): "lists the package",
    ("planning/status.py", "lock"): "lists locks",
    ("cli/report.py", "report"): "lists benchmarks",
}
REMOVING = {"rmtree", "unlink", "rename", "rmdir", "removedirs", "glob", "rglob", "move", "replace", "renames"}


def removals() -> set[tuple[str, str]]:
    """The functions of the package with a call that removes, replaces or lists files; str.replace is none."""
    package = PROJECT / "workflow/ddpm"
    found = set()
    for file in package.rglob("*.py"):
        tree = ast.parse(file.read_text())
        for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
            for call in (node.func for node in ast.walk(function) if isinstance(node, ast.Call)):
                if isinstance(call, ast.Attribute) and call.attr in REMOVING:
                    of = ast.unparse(call.value)
                    if call.attr != "replace" or of == "os":  # not that of a string
                        found.add((str(file.relative_to(package)), function.name))
    return found


def test_whatever_removes_or_replaces_is_listed_with_what_protects_the_rest():
    assert removals() == set(PROTECTED)


def test_no_folder_is_removed_with_whatever_is_in_it():
    for file in (PROJECT / "workflow").rglob("*.py"):
        assert "rmtree" not in file.read_text(), file
    assert os.path.isdir(PROJECT)
