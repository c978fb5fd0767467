"""The benchmark of the scores runs on few features, and its table is what it measured."""

import csv

from typer.testing import CliRunner

from ddpm.__main__ import app


def bench(*options: object):
    return CliRunner().invoke(app, ["bench", "scores", *map(str, options)])


def test_the_table_has_speed_and_errors(tmp_path):
    path = tmp_path / "scores.csv"
    done = bench("--size", 48, "--images", 600, "--few", 30, "--compared", 100, "--out", path)
    assert done.exit_code == 0, done.output
    with open(path) as file:
        rows = {row["what"]: row for row in csv.DictReader(file)}
    assert {what: int(row["images"]) for what, row in rows.items()} == {
        "mean and covariance": 600,
        "FID of full rank": 600,
        "FID of full rank by sqrtm": 600,
        "FID of a singular covariance": 30,
        "FID of a singular covariance by sqrtm": 30,
        "bootstrap replicate": 600,
        "precision and recall": 100,
    }
    assert all(float(row["cpu_s"]) > 0 and float(row["wall_s"]) > 0 for row in rows.values())
    assert float(rows["FID of full rank by sqrtm"]["relative_error"]) < 1e-9
    exact, by_root = (float(rows[f"FID of a singular covariance{by}"]["relative_error"]) for by in ("", " by sqrtm"))
    assert exact < 1e-11 < by_root
    assert f"| {by_root:.1e} |" in done.output
    assert "times as fast as by sqrtm" in done.output


def test_a_singular_covariance_has_few_images():
    done = bench("--size", 48, "--images", 600, "--few", 49)
    assert done.exit_code == 1
    assert "--few 49 --size 48 --images 600" in str(done.exception)
