# Denoising Diffusion Probabilistic Models (Ho, Jain, Abbeel 2020), reproduced end to end.
# `snakemake --cores 8` makes every table, every figure and the report of the scale that config.yaml names.

import snakemake.benchmark
from snakemake.settings.types import DeploymentMethod
from snakemake.utils import min_version

min_version("9.0")


configfile: f"{workflow.basedir}/config.yaml"


report: "workflow/report/workflow.rst"


# Only with `--sdm apptainer`: docs/environments.md, "Apptainer".
container: "ddpm.sif"


include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/training.smk"
include: "workflow/rules/sampling.smk"
include: "workflow/rules/evaluation.smk"
include: "workflow/rules/report.smk"


DRIVER = Lock(Path("results/.driver.lock"), "making these results", patience=0)


rule all:
    default_target: True
    input:
        f"{RESULTS}/report.html",


onstart:
    if (
        DeploymentMethod.APPTAINER in workflow.deployment_settings.deployment_method
        and not Path("ddpm.sif").exists()
    ):
        raise WorkflowError(
            "--sdm apptainer runs every job in the image ddpm.sif, which is not in this folder. Make it: "
            f"(cd {workflow.basedir} && apptainer build {Path.cwd()}/ddpm.sif envs/ddpm.def)"
        )
    # Not in a dry run, and not where other machines do the work.
    if workflow.local_exec and (advice := advising.advice(CONFIG, jobs_to_run())):
        raise WorkflowError(advice)
    # One driver for a folder of results. Snakemake's own lock, which profiles/default turns off, names nobody, and has
    # to be removed by hand after a kill.
    if any(job.output for job in workflow.dag.needrun_jobs()):
        try:
            DRIVER.acquire()
        except (Locked, OSError) as error:
            raise WorkflowError(explain(error, ["snakemake"]).message)
    # For a limit of 100 jobs a second, which is meant for clusters, Snakemake looks for jobs to start once a second more
    # with each one that has ended, as long as some are ready. With the demo's jobs that takes a minute of CPU time.
    if workflow.local_exec:
        workflow.scheduler.job_rate_limiter = None
        # Seconds between its looks at a job's memory, of which each takes 5 ms of CPU time.
        snakemake.benchmark.BENCHMARK_INTERVAL_SHORT = 1.0
    if workflow.executor_plugin.name == "slurm":
        try:
            slurm.cancel_orphaned_jobs(Path.cwd())
        except UserError as error:
            raise WorkflowError(str(error))


onsuccess:
    if Path(f"{RESULTS}/report.html").exists():
        print(f"Open {RESULTS}/report.html in a browser.")


onerror:
    if jobs := list(failed_jobs()):
        print(failures.summary(jobs), file=sys.stderr)
