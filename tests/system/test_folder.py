"""Twelve pictures of one's own, from a folder to the whole report; and a changed folder is noticed."""

import json

import pytest
from published import encoded, picture
from workspace import Workspace

NETWORK = {"ch": 8, "ch_mult": [1, 1], "num_res_blocks": 1, "attn_resolutions": [4], "groups": 4}
EXPERIMENT = {
    "data": "pets",
    "network": NETWORK,
    "diffusion": {"parameterization": "eps", "objective": "simple", "variance": "fixedlarge", "timesteps": 20},
    "training": {"steps": 8, "batch_size": 8, "warmup": 2, "log_every": 2, "save_every": 4, "snapshot_every": 4},
    "snapshots": {"images": 20, "batch_size": 20, "previews": 2},
    "sampling": {"images": 24, "batch_size": 24, "previews": 20},
    "latents": {"chains": 1, "pairs": 1},
    "evaluation": {"neighbour_crop": [2, 2, 4, 4]},
    "few_steps": {"steps": [2, 5], "images": 24, "batch_size": 24},
    "likelihood": {"test": "all", "train": 8},
}
OVERRIDE = {
    "stand_ins": {"cifar10": "pets", "celebahq256": "pets"},
    "classifier": {"width": 8, "features": 16, "epochs": 2},
    "experiments": {"pets-eps-simple": EXPERIMENT},
}


@pytest.fixture(scope="module", params=["nine and three", "twelve for training"])
def finished(request, tmp_path_factory) -> Workspace:
    workspace = Workspace(tmp_path_factory.mktemp("pets"))
    for i in range(12):
        split = "" if request.param == "twelve for training" else "test/" if i >= 9 else "train/"
        path = workspace.folder / f"pictures/{split}{('cat', 'owl')[i % 2]}/{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(picture(i, 12, 10)))
    source = {"reader": "folder", "root": str(workspace.folder / "pictures"), "image_size": 8}
    workspace.configure(OVERRIDE, experiments=["pets-eps-simple"], sources={"pets": source})
    workspace.snakemake("--cores", "2")
    return workspace


def test_a_folder_of_twelve_pictures_gets_a_whole_report(finished):
    card = json.loads((finished.folder / "resources/pets/card.json").read_text())
    assert (card["train"] + card["test"], card["classes"]) == (12, ["cat", "owl"])
    assert "pets" in (finished.results / "report.html").read_text()
    assert "Nothing to be done" in finished.snakemake().stderr


def test_an_added_image_is_noticed(finished):
    images = sorted((finished.folder / "pictures").rglob("0.png"))
    (images[0].parent / "new.png").write_bytes(encoded(picture(99, 8, 8)))
    planned = finished.snakemake("-n", "resources/pets/card.json").stdout
    assert "rule prepare" in planned
