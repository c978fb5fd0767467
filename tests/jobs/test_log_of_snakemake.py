"""Which jobs have failed, as Snakemake's log says."""

from ddpm.jobs.failures import FailedJob, failed_jobs, read_failed_jobs

STARTED = """
[Fri Nov 27 22:56:05 2026]
rule train:
    input: config.json
    output: final.safetensors
    log: results/demo/logs/training/{name}.log
    jobid: {job}
    reason: Missing output files: final.safetensors
    wildcards: experiment={name}, shard=2
    resources: tmpdir=/tmp
"""
FAILED = """[Fri Nov 27 22:56:07 2026]
Error in rule train:
    message: None
    jobid: {job}
    input: config.json
    log: results/demo/logs/training/{name}.log (check log file(s) for error details)
    shell:
        python -m ddpm train > log
    jobid: 99
        (command exited with non-zero exit code)
Logfile results/demo/logs/training/{name}.log:
=====
ERROR: the disk is full
=====
"""
ENDED = """[Fri Nov 27 22:56:09 2026]
Finished jobid: {job} (Rule: train)
1 of 2 steps (50%) done
"""


def train(name: str) -> FailedJob:
    log = f"results/demo/logs/training/{name}.log"
    return FailedJob("train", "training", {"experiment": name, "shard": "2"}, [log])


def test_a_failed_job_is_told_with_its_wildcards_and_log():
    log = STARTED.format(job=3, name="a-b") + STARTED.format(job=4, name="c") + FAILED.format(job=3, name="a-b")
    assert failed_jobs(log + ENDED.format(job=4)) == [train("a-b")]


def test_what_a_later_attempt_has_done_has_not_failed():
    log = "".join(text.format(job=3, name="a") for text in (STARTED, FAILED, STARTED, ENDED))
    assert not failed_jobs(log)
    twice = "".join(text.format(job=3, name="a") for text in (STARTED, FAILED, STARTED, FAILED))
    assert failed_jobs(twice) == [train("a")]


def test_jobs_of_a_group_are_told_one_by_one():
    indented = "".join(f"    {line}\n" for line in (STARTED + FAILED).format(job=3, name="a").splitlines())
    assert failed_jobs(f"group job 1 (jobs in lexicogr. order):\n{indented}") == [train("a")]


def test_a_log_that_says_nothing_and_a_job_without_a_log(tmp_path):
    assert not failed_jobs("")
    quiet = tmp_path / "quiet.log"
    quiet.write_text("Error in rule download_data:\n    jobid: 1\n    log: resources/logs/download-x.log\n")
    expected = FailedJob("download_data", "data", {}, ["resources/logs/download-x.log"])
    assert read_failed_jobs([str(quiet)]) == [expected]
    assert failed_jobs("Error in rule plan:\n    jobid: 1\n") == [FailedJob("plan", "data", {}, [])]
