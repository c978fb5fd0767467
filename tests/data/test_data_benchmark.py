"""The benchmark of the data runs on small stores, and its columns belong together."""

import csv
import math

from typer.testing import CliRunner

from ddpm.__main__ import app


def test_the_table_says_how_many_cores_the_papers_speed_takes(tmp_path):
    path = tmp_path / "data.csv"
    done = CliRunner().invoke(app, ["bench", "data", "--images", "64", "--workers", "0,2", "--out", str(path)])
    assert done.exit_code == 0, done.output
    with open(path) as file:
        rows = list(csv.DictReader(file))
    assert [(row["store"], row["size"], row["workers"]) for row in rows] == [
        ("array", "32", "0"), ("array", "256", "0"), ("LMDB", "256", "0"), ("LMDB", "256", "2"),
    ]  # fmt: skip
    for row in rows:
        measured, per_core, needed, cores = (
            int(row[key]) for key in ("images_per_s", "per_core", "paper_images_per_s", "cores_for_paper")
        )
        assert needed == (2688 if row["size"] == "32" else 141)
        assert per_core > 0
        assert cores == math.ceil(needed / per_core)
        assert f"| {measured:,} | {per_core:,} | {needed:,} | {cores:,} |" in done.output
