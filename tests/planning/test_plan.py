"""The plan as a whole: rates, warnings, advice, and the command."""

import json
import subprocess
import sys
from dataclasses import replace
from math import isnan

import pytest
from helpers import run_ddpm
from planned import CIFAR, FACES, NO_SIZE, machine, paper
from typer.testing import CliRunner

from ddpm.cli import app
from ddpm.config.base import ConfigError
from ddpm.config.errors import DamagedFile
from ddpm.config.resolving import load, read_config
from ddpm.planning.advising import advice, memory_lines, warnings, what_fits
from ddpm.planning.machine import GB, Disk, in_gb
from ddpm.planning.plan import duration, make_plan
from ddpm.planning.rates import Kind, Rates, fingerprint, read_rates
from ddpm.planning.rendering import as_json, as_text
from ddpm.planning.work import all_work
from ddpm.storage.files import write_json

TINY = {
    "defaults": {"sampling": {"images": 20, "shards": 1}},
    "experiments": {
        CIFAR: {
            "diffusion": {"timesteps": 20},
            "training": {"steps": 2, "batch_size": 2, "snapshot_every": 0},
            "snapshots": None,
            "few_steps": None,
            "likelihood": {"test": 2, "train": 2},
        }
    },
}


def measured(root, device, network, training, sampling):
    write_json(
        root / "resources/rates.json",
        {device: {"networks": {fingerprint(network): {"training": training, "sampling": sampling}}}},
    )


def line(plan, rule, subject):
    (found,) = [work for work in plan.work if (work.rule, work.subject) == (rule, subject)]
    return found


def test_the_papers_rates_give_the_papers_hours(tmp_path):
    """Appendix B: 10.6 hours for CIFAR-10; 17 s for 256 images of it, 300 s for 128 of 256x256."""
    plan = make_plan(paper(tmp_path), machine(80))
    for rule, name, hours in (
        ("train", CIFAR, 800_000 / 21 / 3600), ("sample", CIFAR, 50_000 / 256 * 17 / 3600),
        ("train", FACES, 500_000 / 2.2 / 3600), ("sample", FACES, 50_000 / 128 * 300 / 3600),
    ):  # fmt: skip
        assert line(plan, rule, name).hours(plan.rates) == pytest.approx(hours)
    assert "stated: the paper's TPU v3-8; yours will differ" in as_text(plan)


def test_a_measured_rate_goes_before_a_stated_one(tmp_path):
    config = paper(tmp_path)
    network = config.scale_config.experiments[CIFAR].network
    measured(tmp_path, "Test GPU", network, 1e12, 2e12)
    plan = make_plan(config, machine(80))
    training, sampling = line(plan, "train", CIFAR), line(plan, "sample", CIFAR)
    assert training.hours(plan.rates) == pytest.approx(training.flops / 1e12 / 3600)
    assert sampling.hours(plan.rates) == pytest.approx(sampling.flops / 2e12 / 3600)
    rows = {(row[0], row[1]): row[4] for row in map(str.split, as_text(plan).splitlines()) if len(row) > 4}
    assert rows["train", CIFAR] == "measured"
    assert rows["train", FACES] == "stated"
    other = replace(machine(80), gpus=(replace(machine(80).gpus[0], name="Another"),))
    assert make_plan(config, other).rates.measured == {}


def test_damaged_rates_are_named(tmp_path):
    for damaged in ({"Test GPU": {"networks": {"abc": {"training": 1e12}}}}, [1], {"Test GPU": 7}):
        write_json(tmp_path / "resources/rates.json", damaged)
        with pytest.raises(DamagedFile, match="--measure"):
            read_rates("Test GPU")


def test_a_cpu_scale_has_no_hours_before_it_was_measured(tmp_path):
    config = load({"scale": "demo"})
    plan = make_plan(config, machine(cores=4))
    assert isnan(line(plan, "train", "digits-eps-simple").hours(plan.rates))
    assert "plan --measure" in as_text(plan)
    network = config.scale_config.experiments["digits-eps-simple"].network
    measured(tmp_path, "Test CPU, 1 of its cores", network, 1e9, 1e9)
    plan = make_plan(config, machine(cores=4))
    assert line(plan, "train", "digits-eps-simple").hours(plan.rates) > 0
    assert plan.side_by_side == 4
    assert not warnings(plan)


def test_what_is_done_is_counted_and_not_planned(tmp_path):
    folder = tmp_path / "results/demo/digits-mu-simple"
    folder.mkdir(parents=True)
    (folder / "final.safetensors").touch()
    plan = make_plan(load({"scale": "demo"}), machine())
    assert plan.done == 1
    assert "digits-mu-simple" not in {work.subject for work in plan.work if work.rule == "train"}
    assert "1 jobs are done" in as_text(plan)


def test_hours_are_of_what_is_left(tmp_path):
    before = make_plan(paper(tmp_path), machine(80))
    (tmp_path / "results/paper" / CIFAR / "samples").mkdir(parents=True)
    for file in ("final.safetensors", "samples/3-of-5.npz"):
        (tmp_path / "results/paper" / CIFAR / file).touch()
    after = make_plan(paper(tmp_path), machine(80))
    hours = [line(plan, "sample", CIFAR).hours(plan.rates) for plan in (before, after)]
    assert hours[1] == pytest.approx(hours[0] * 4 / 5)
    rows = {(row["rule"], row["of"]): row for row in json.loads(as_json(after))["jobs"]}
    assert rows["sample", CIFAR]["jobs"] == 4
    assert rows["sample", CIFAR]["hours"] == pytest.approx(hours[1])


def test_a_machine_that_suffices_is_not_warned_of(tmp_path):
    config = paper(tmp_path, sources={"cifar10": {"root": str(tmp_path)}})
    assert warnings(make_plan(config, machine(80))) == []


def test_no_gpu(tmp_path):
    config = paper(tmp_path, sources={"cifar10": {"root": str(tmp_path)}})
    (warning,) = warnings(make_plan(config, machine()))
    assert "No GPU" in warning
    assert "not known" in warning
    network = config.scale_config.experiments[CIFAR].network
    measured(tmp_path, "Test CPU, 4 of its cores", network, 1e11, 1e11)
    (warning,) = warnings(make_plan(config, machine()))
    assert "as measured" in warning
    assert "at least 620 days" in warning


def test_too_little_disk(tmp_path):
    """Folders on one disk share its room; on two, each has its own."""
    config = paper(tmp_path, sources={"cifar10": {"root": str(tmp_path)}})
    needed = sum(work.disk * work.share for work in all_work(config)) / GB
    assert 30 < needed < 90
    (warning,) = warnings(make_plan(config, machine(80, disk=int(needed))))
    assert "resources/ and results/" in warning
    assert f"{needed:.0f} GB" in warning
    assert not warnings(make_plan(config, machine(80, disk=int(needed) + 1)))
    # 30,000 faces and their download, 60,000 small images, a database and its archive, and published weights
    faces, church = 30_000 * 256**2 * 3 + 3 * 10**9, 2 * 2_448_463_466
    resources = (faces + church + 60_000 * 32**2 * 3 + 4 * 113_673_219) / GB
    for folder, amount in (("resources", resources), ("results", needed - resources)):
        roomy = {"resources": Disk(1, int(needed * GB)), "results": Disk(2, int(needed * GB))}
        apart = {**roomy, folder: replace(roomy[folder], free=1 * GB)}
        (warning,) = warnings(make_plan(config, replace(machine(80), disks=apart)))
        assert f"{in_gb(amount * GB)} are needed in {folder}/, 1 GB are free" in warning


def test_memory_of_a_gpu(tmp_path):
    """Faces: six vectors of 113.7 million weights and 2.07 GB per image."""
    config = paper(tmp_path, sources={"cifar10": {"root": str(tmp_path)}})
    (faces,) = [text for text in memory_lines(make_plan(config, machine(80, 24))) if FACES in text]
    assert f"{int((0.9 * 24 - 24 * 0.113673) / 2.069)} fit into 24 GB" in faces
    (faces,) = [text for text in memory_lines(make_plan(config, machine())) if FACES in text]
    assert "33 fit into 80 GB, 9 fit into 24 GB" in faces
    assert not warnings(make_plan(config, machine(6)))
    (warning,) = warnings(make_plan(config, machine(5)))
    assert f"train {FACES}: not even one image" in warning


def test_an_unknown_size_is_said_to_be_in_no_sum(tmp_path):
    (warning,) = warnings(make_plan(paper(tmp_path, sources=NO_SIZE), machine(80)))
    assert "download_data cifar10" in warning


def test_smaller_runs_have_their_own_hours(tmp_path):
    options = "\n".join(what_fits(paper(tmp_path), Rates({})))
    assert "scale=demo" in options
    assert f"save {duration((800_000 / 21 + 8 * 5_008 / 256 * 17 + 500_000 / 2.2) / 3600)} of training" in options
    assert f"there are some for {CIFAR}, {FACES}" in options
    assert "`experiments: [cifar10-eps-simple]`" in options
    fewer = paper(tmp_path, {"defaults": {"sampling": {"images": 5000}}})
    hours = make_plan(fewer, machine(80)).hours
    assert f"fewer samples: {hours} with" in options


def test_smaller_runs_are_named_as_they_can_be_asked_for(tmp_path):
    """A repeat comes with its experiment, whose hours alone are those of all of them."""
    alone = {"experiments": {CIFAR: {"seeds": {"sampling": [1]}}}}
    rates = Rates({})
    options = "\n".join(what_fits(paper(tmp_path, alone), rates))
    hours = make_plan(paper(tmp_path, alone, experiments=[CIFAR]), machine(80)).hours
    assert f"fewer experiments: {hours} for `experiments: [{CIFAR}]`" in options
    assert hours.known > 1.05 * make_plan(paper(tmp_path, experiments=[CIFAR]), machine(80)).hours.known
    assert f"there are some for {CIFAR}, {FACES}." in options
    assert "fewer experiments" not in "\n".join(what_fits(paper(tmp_path, alone, experiments=[CIFAR]), rates))
    trained = {"experiments": {CIFAR: {"seeds": {"training": [1]}}}}
    options = "\n".join(what_fits(paper(tmp_path, trained), rates))
    assert f"there are some for {FACES}." in options


@pytest.mark.parametrize(
    ("hours", "words"),
    [(0.001, "less than a minute"), (0.5, "30 minutes"), (2, "2 hours"), (100, "4.2 days"), (20_000, "2.3 years")],
)
def test_durations(hours, words):
    assert duration(hours) == words


def all_jobs(config):
    return [(work.rule, work.subject) for work in all_work(config) for _ in range(work.jobs)]


def test_a_years_work_on_a_cpu_is_not_begun(tmp_path):
    config = paper(tmp_path)
    text = advice(config, all_jobs(config), machine())
    assert "no GPU" in text
    assert "years" in text
    assert "scale=demo" in text
    assert "0.1 TFLOP/s" in text


def test_a_run_with_a_gpu_is_begun(tmp_path):
    config = paper(tmp_path)
    assert advice(config, all_jobs(config), machine(24)) is None


def test_what_needs_no_gpu_is_begun_without_one(tmp_path):
    config = paper(tmp_path)
    assert advice(config, [("figure2", None), ("all", None)], machine()) is None
    demo = load({"scale": "demo"})
    assert advice(demo, all_jobs(demo), machine(cores=1)) is None
    tiny = paper(tmp_path, TINY, experiments=[CIFAR])
    assert advice(tiny, all_jobs(tiny), machine()) is None


def test_advice_is_about_the_jobs_that_will_run(tmp_path):
    """One of five shards of samples; both halves of the CPU were measured to compute 0.5 TFLOP/s."""
    config = paper(tmp_path)
    network = config.scale_config.experiments[CIFAR].network
    measured(tmp_path, "Test CPU, 4 of its cores", network, 0.5e12, 0.5e12)
    shard = [("sample", CIFAR)]
    hours = 10_000 * 1000 * 11_562_909_696 / 1e12 / 3600
    assert hours == pytest.approx(32.1, abs=0.1)
    text = advice(config, shard, machine())
    assert duration(hours) in text
    assert "(measured on this machine)" in text
    measured(tmp_path, "Test CPU, 4 of its cores", network, 1e12, 1e12)
    assert advice(config, shard, machine()) is None
    assert advice(config, shard * 2, machine()) is not None


def test_jobs_of_two_lines_count_once(tmp_path):
    """The bound of 60,000 images in four jobs."""
    config = paper(tmp_path)
    hours = 60_000 * 1000 * 11_562_909_696 / 1e11 / 3600
    assert duration(hours) in advice(config, [("likelihood", CIFAR)] * 4, machine())


def test_what_is_forced_to_run_again_counts(tmp_path):
    folder = tmp_path / "results/paper" / CIFAR
    folder.mkdir(parents=True)
    (folder / "final.safetensors").touch()
    assert advice(paper(tmp_path), [("train", CIFAR)], machine()) is not None


def test_the_document_holds_what_the_table_says(tmp_path):
    plan = make_plan(paper(tmp_path, sources=NO_SIZE), machine())
    document = json.loads(as_json(plan))
    rows = {(row["rule"], row["of"]): row for row in document["jobs"]}
    assert rows["train", CIFAR]["hours"] == pytest.approx(10.58, abs=0.01)
    assert rows["train", CIFAR]["rate"]["source"] == "stated: the paper's TPU v3-8"
    assert rows["download_data", "cifar10"]["download_bytes"] is None
    assert document["hours"]["known"] == pytest.approx(plan.hours.known)
    assert document["warnings"] == warnings(plan)


def test_an_unreadable_configuration_is_named(tmp_path):
    with pytest.raises(ConfigError, match="no such file"):
        read_config(tmp_path / "config.yaml")
    (tmp_path / "config.yaml").write_text("a: [1,")
    with pytest.raises(ConfigError, match=r"config\.yaml: not valid YAML"):
        read_config(tmp_path / "config.yaml")
    with pytest.raises(ConfigError, match="--document: must be"):
        read_config(tmp_path / "config.yaml", "[1]")
    assert read_config(tmp_path / "config.yaml", '{"scale": "none"}', "demo").scale == "demo"


def test_the_command(tmp_path):
    (tmp_path / "config.yaml").write_text("scale: demo\nexperiments: [digits-eps-simple]\n")
    done = run_ddpm("plan")
    assert done.returncode == 0, done.stderr
    assert "digits-eps-simple" in done.stdout
    assert "digits-mu-simple" not in done.stdout
    done = run_ddpm("plan", "--json", "--document", '{"scale": "demo", "experiments": ["digits-mu-simple"]}')
    assert {row["of"] for row in json.loads(done.stdout)["jobs"]} == {"digits", "digits-mu-simple"}
    done = run_ddpm("plan", "--scale", "huge")
    assert done.returncode == 1
    assert "'huge'" in done.stderr


def test_measuring(tmp_path, monkeypatch):
    """The demo's network is timed, and the plan has hours afterwards; another device's rates stay."""
    monkeypatch.setattr("ddpm.planning.measuring.SECONDS", 0.01)
    monkeypatch.setattr("torch.set_num_threads", lambda threads: None)  # as other tests count on one
    write_json(tmp_path / "resources/rates.json", {"Another": {"networks": {}}})
    document = '{"scale": "demo", "experiments": ["digits-eps-simple"]}'
    done = CliRunner().invoke(app, ["plan", "--measure", "--json", "--document", document], catch_exceptions=False)
    assert done.exit_code == 0, done.stderr
    (training,) = [row for row in json.loads(done.stdout)["jobs"] if row["rule"] == "train"]
    assert training["rate"]["source"] == "measured on this machine"
    rates = json.loads((tmp_path / "resources/rates.json").read_text())
    assert len(rates) == 2
    assert set(next(iter(rates[max(rates, key=len)]["networks"].values()))) == set(Kind)


def test_networks_that_do_not_fit_are_not_measured():
    import torch

    from ddpm.config.registry import NETWORK_32, NETWORK_256
    from ddpm.config.schema import NetworkConfig
    from ddpm.planning.measuring import batch_that_fits

    small, large = NetworkConfig(**NETWORK_32), NetworkConfig(**NETWORK_256)
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert batch_that_fits(large, cpu, 8 * GB) == 0
    assert batch_that_fits(large, cpu, 64 * GB) == 1
    assert batch_that_fits(large, gpu, 80 * GB) == (40 - 2) // 2.069
    assert batch_that_fits(small, gpu, 80 * GB) == 128


def test_planning_needs_no_torch():
    """It runs in Snakemake's own environment."""
    modules = ", ".join(f"ddpm.planning.{name}" for name in ("plan", "advising", "rendering"))
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
