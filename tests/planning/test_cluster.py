"""What a cluster's partitions offer, as sinfo says it, beside what jobs ask for."""

import json

import pytest
from planned import machine, paper

from ddpm.planning.advising import cluster_lines, warnings
from ddpm.planning.cluster import (
    OTHERS,
    Node,
    Request,
    compare,
    count_gpus,
    misfits,
    read_nodes,
    read_profile,
    to_minutes,
)
from ddpm.planning.plan import make_plan
from ddpm.planning.rendering import as_json, as_text

SINFO = """\
gpu|1-00:00:00|16|16000|gpu:a100:4(S:0-1)
gpu|1-00:00:00|16|16000|gpu:a100:4(S:0-1)
gpu|1-00:00:00|32|64000|(null)
cpu|infinite|64|256000|(null)
"""
NODES = (Node("gpu", 1440, 16, 16_000, 4), Node("gpu", 1440, 32, 64_000, 0), Node("cpu", None, 64, 256_000, 0))


@pytest.fixture
def sinfo(tmp_path, monkeypatch):
    (tmp_path / "bin").mkdir()
    (tmp_path / "said").write_text(SINFO)
    command = tmp_path / "bin/sinfo"
    command.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/asked\nexec cat {tmp_path}/said\n')
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    return tmp_path


def test_nodes_are_those_of_sinfo_each_kind_once(sinfo):
    assert read_nodes() == NODES
    assert "--Node" in (sinfo / "asked").read_text()  # else numbers of nodes that differ come as 16000+


def test_there_are_none_where_nothing_answers(sinfo, monkeypatch):
    (sinfo / "bin/sinfo").write_text("#!/bin/sh\necho no controller >&2\nexit 1\n")
    assert read_nodes() == ()
    monkeypatch.setenv("PATH", str(sinfo))
    assert read_nodes() == ()


@pytest.mark.parametrize(
    ("limit", "minutes"), [("30:00", 30), ("4:00:00", 240), ("1-12:30:00", 2190), ("infinite", None), ("n/a", None)]
)
def test_time_limits(limit, minutes):
    assert to_minutes(limit) == minutes


@pytest.mark.parametrize(
    ("gres", "gpus"),
    [
        ("(null)", 0),
        ("gpu:2", 2),
        ("gpu:a100:4(S:0-1)", 4),
        ("nvme:1,gpu:v100:2,gpu:a100:1(S:0)", 3),
        ("mps:200", 0),
        ("gpu:a100:no_consume:4", 4),
    ],
)
def test_gpus_of_a_node(gres, gpus):
    assert count_gpus(gres) == gpus


def request(**asked) -> Request:
    return Request.of("train", {"slurm_partition": "gpu", "mem_mb": 16_000, "runtime": 1440, "gpu": 1} | asked, 16)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({}, None),
        ({"mem_mb": 16_001}, "partition gpu: 16,001 MB of memory, where there are 16,000."),
        ({"mem_mb": 64_000, "gpu": 0}, None),
        ({"runtime": 1441}, "partition gpu: 1,441 minutes, where there are 1,440."),
        ({"gpu": 5}, "partition gpu: 5 GPUs, where there are 4."),
        ({"slurm_partition": "cpu,gpu"}, None),  # SLURM takes either
        ({"slurm_partition": "long"}, "partition long: there is none such here, but gpu, cpu."),
        ({"slurm_partition": "cpu", "gpu": 0, "runtime": 10**6}, None),
        ({"slurm_partition": None, "mem_mb": 10**9}, None),  # the cluster's own choice
        ({"mem_mb": "mem_gb(4)", "runtime": "1d"}, None),  # expressions, which only Snakemake can tell
    ],
)
def test_what_fits_where(asked, words):
    found = list(misfits([request(**asked)], NODES))
    assert found == ([f"No node of this cluster takes train in {words}"] if words else [])
    assert not list(misfits([request(**asked)], ()))


def test_jobs_of_one_reason_are_one_sentence():
    jobs = [Request.of(rule, {"slurm_partition": "gpu", "mem_mb": 65_000}) for rule in ("train", "sample", "train")]
    assert list(misfits(jobs, NODES[1:])) == [
        "No node of this cluster takes train, sample in partition gpu: 65,000 MB of memory, where there are 64,000."
    ]
    (line,) = compare(jobs[:2], NODES[1:])
    assert line == (
        "train, sample: 65,000 MB for 0 minutes in partition gpu; its nodes have 64,000 MB, 0 GPUs, 1440 minutes."
    )


def test_what_is_lacking_is_told_by_the_largest_node():
    nodes = [Node("gpu", 1440, 16, memory, 4) for memory in (6_000, 12_000, 8_000)]
    (found,) = misfits([request()], nodes)
    assert found.endswith("16,000 MB of memory, where there are 12,000.")


def test_the_profile_is_read_as_snakemake_does():
    asked = {request.rule: request for request in read_profile()}
    assert {"train", "sample", "prepare", OTHERS} <= asked.keys()
    assert list(asked)[-1] == OTHERS
    assert (asked["train"].partition, asked[OTHERS].partition) == ("gpu", "cpu")
    for request in asked.values():
        assert request.memory > 0 and request.minutes > 0, request


def test_the_plan_says_both_and_warns(sinfo):
    (sinfo / "said").write_text("gpu|1-00:00:00|16|100|gpu:4\ncpu|infinite|64|256000|(null)\n")
    plan = make_plan(paper(sinfo))
    (train,) = [line for line in cluster_lines(plan) if "train," in line or line.startswith("train:")]
    assert "in partition gpu; its nodes have 100 MB, 4 GPUs, 1440 minutes." in train
    assert [text for text in warnings(plan) if "takes train" in text and "where there are 100." in text]
    assert "Asked of a cluster, by profiles/slurm/profile.yaml:" in as_text(plan)
    document = json.loads(as_json(plan))
    assert document["machine"]["nodes"][0]["memory"] == 100
    assert {"train", OTHERS} <= {request["rule"] for request in document["cluster_requests"]}
    elsewhere = make_plan(paper(sinfo), machine(80))
    assert cluster_lines(elsewhere) and not [text for text in warnings(elsewhere) if "No node" in text]
