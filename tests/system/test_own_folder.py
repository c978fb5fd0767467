"""Twelve pictures of one's own, from a folder to the whole report; and a changed folder is noticed."""

import json

import pytest
from published import encoded, picture
from workspace import Workspace

BASE = {
    "network": {"ch": 8, "ch_mult": [1, 1], "num_res_blocks": 1, "attn_resolutions": [4], "groups": 4},
    "diffusion": {"parameterization": "eps", "objective": "simple", "variance": "fixedlarge", "timesteps": 20},
    "training": {"steps": 8, "batch_size": 8, "warmup": 2, "log_every": 2, "save_every": 4},
    "sampling": {"images": 24, "batch_size": 24, "previews": 20},
    "likelihood": {"test": "all", "train": 8},
}
EXPERIMENT = BASE | {
    "data": "album",
    "training": BASE["training"] | {"snapshot_every": 4},
    "snapshots": {"images": 20, "batch_size": 20, "previews": 2},
    "latents": {"chains": 1, "pairs": 1},
    "evaluation": {"neighbour_crop": [2, 2, 4, 4]},
    "few_steps": {"steps": [2, 5], "images": 24, "batch_size": 24},
}
OVERRIDE = {
    "stand_ins": {"cifar10": "album", "celebahq256": "album"},
    "classifier": {"width": 8, "features": 16, "epochs": 2},
    "experiments": {"album-eps-simple": EXPERIMENT, "pets-eps-simple": BASE | {"data": "pets"}},
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Workspace:
    """Twelve pictures without test images, and nine with three."""
    workspace, sources = Workspace(tmp_path_factory.mktemp("pictures")), {}
    for name, test in (("album", 0), ("pets", 3)):
        root = workspace.folder / name
        sources[name] = {"reader": "folder", "root": str(root), "image_size": 8}
        for i in range(12):
            split = "" if test == 0 else "test/" if i < test else "train/"
            path = root / f"{split}{('cat', 'owl')[i % 2]}/{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encoded(picture(i, 12, 10)))
    workspace.configure(OVERRIDE, experiments=[*OVERRIDE["experiments"]], sources=sources)
    workspace.snakemake()
    return workspace


def test_twelve_pictures_get_a_whole_report(finished):
    for name, test in (("album", 0), ("pets", 3)):
        card = json.loads((finished.folder / f"resources/{name}/card.json").read_text())
        assert (card["train"], card["test"], card["classes"]) == (12 - test, test, ["cat", "owl"])
        assert json.loads((finished.results / f"{name}-eps-simple/metrics.json").read_text())
    assert "album" in (finished.results / "report.html").read_text()


def test_an_added_image_is_noticed(finished):
    assert "Nothing to be done" in finished.snakemake("-n").stdout
    (finished.folder / "album/cat/new.png").write_bytes(encoded(picture(99, 8, 8)))
    planned = finished.snakemake("-n", "resources/album/card.json", "resources/pets/card.json").stdout
    assert planned.count("rule prepare:") == 1
