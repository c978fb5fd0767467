"""YAML files and --config are read as they are meant."""

import json

import pytest
import yaml

from ddpm.config.base import ConfigError
from ddpm.config.reading import UniqueKeyLoader, parse_yaml, read_snakemakes_config
from ddpm.config.resolving import SCALES, load, read_config

PASTED = """\
scale: demo
override:
  experiments:
    digits-x0-simple: {data: digits}
sources: {}
override: {}
"""


@pytest.mark.parametrize(
    ("text", "key", "lines"),
    [
        (PASTED, "override", (2, 6)),
        ("a:\n  b: 1\n  c: 2\n  b: 3\n", "b", (2, 4)),
        ("a: {b: 1, b: 1}", "b", (1, 1)),
        ("a: [1, {b: 1,\n b: 1}]", "b", (1, 2)),
        ("x: &x {a: 1}\ny:\n  <<: *x\n  a: 2\n  <<: *x\n", "<<", (3, 5)),
    ],
)
def test_a_key_that_stands_twice_is_refused_with_both_lines(text, key, lines):
    with pytest.raises(ConfigError) as caught:
        parse_yaml(text, "config.yaml")
    assert f"config.yaml: not valid YAML: the key `{key}` stands twice, in lines {lines[0]} and {lines[1]}" in str(
        caught.value
    )


def test_what_is_merged_in_may_be_replaced():
    text = "x: &x {a: 1, b: 2}\ny: &y {<<: *x, a: 3}\nz: {<<: *y, b: 4}\n"
    assert parse_yaml(text, "here")["z"] == {"a": 3, "b": 4}


def test_files_that_are_read_have_no_key_twice(tmp_path):
    (tmp_path / "config.yaml").write_text(PASTED)
    with pytest.raises(ConfigError, match="`override` stands twice, in lines 2 and 6"):
        read_config(tmp_path / "config.yaml")
    with pytest.raises(ConfigError, match=r"config\.yaml: .* lines 2 and 6"):
        read_snakemakes_config({"scale": "demo"}, [tmp_path / "config.yaml"], None)
    (tmp_path / "other.json").write_text('{\n\t"scale": "demo"\n}\n')  # no YAML, since it has a tab
    assert read_snakemakes_config({"scale": "demo"}, [tmp_path / "other.json"], None) == {"scale": "demo"}
    (tmp_path / "broken.yaml").write_text("description: a\ndescription: b\n")
    with pytest.raises(ConfigError, match=r"workflow/scales/broken\.yaml: .*lines 1 and 2"):
        load({"scale": "broken"}, tmp_path)


def test_arguments_arrive_as_yaml_means_them():
    """Snakemake reads what is in braces with YAML's BaseLoader, to which everything is a string."""
    experiment = (
        "{few_steps: null, likelihood: {test: all, train: 7}, seeds: {sampling: [1, 2]}, "
        "training: {learning_rate: 1.0e-3}}"
    )
    asked = f"{{defaults: {{sampling: {{images: 60, shards: 2}}}}, experiments: {{digits-eps-simple: {experiment}}}}}"
    snakemakes = {"scale": "demo", "override": yaml.load(asked, yaml.BaseLoader)}
    document = read_snakemakes_config(snakemakes, [], ["scale=demo", f"override={asked}"])
    assert json.loads(json.dumps(document)) == {"scale": "demo", "override": yaml.safe_load(asked)}
    experiment = load(document).scale_config.experiments["digits-eps-simple"]
    assert (experiment.sampling.images, experiment.few_steps, experiment.seeds.sampling) == (60, None, (1, 2))
    with pytest.raises(ConfigError, match=r"shards.*'2'.*integer"):
        load(snakemakes)


def test_arguments_go_over_files_and_later_ones_over_earlier_ones():
    document = {"scale": "demo", "override": {"features": "inception", "defaults": {"sampling": {"images": "1"}}}}
    arguments = ["override={defaults: {sampling: {images: 60}}}", "override={defaults: {sampling: {images: 70}}}"]
    assert read_snakemakes_config(document, [], arguments)["override"] == {
        "features": "inception", "defaults": {"sampling": {"images": 70}}
    }  # fmt: skip
    with pytest.raises(ConfigError, match=r"--config override: not valid YAML: the key `a` stands twice"):
        read_snakemakes_config({}, [], ["override={a: 1, a: 2}"])


def test_shipped_files_say_the_same_to_any_loader():
    for path in [*SCALES.glob("*.yaml"), SCALES.parents[1] / "config.yaml"]:
        assert yaml.load(path.read_text(), UniqueKeyLoader) == yaml.safe_load(path.read_text())


def test_a_name_that_yaml_takes_for_a_number_is_refused():
    with pytest.raises(ConfigError, match=r"experiments: 1 is no name, as in digits-eps-simple"):
        load({"scale": "demo", "override": parse_yaml("experiments: {1: {data: digits}}", "here")})
