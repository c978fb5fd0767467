# Denoising Diffusion Probabilistic Models (Ho, Jain, Abbeel 2020), reproduced end to end.
# `snakemake --cores 8` makes every table, every figure and the report of the scale that config.yaml names.

from snakemake.utils import min_version

min_version("9.0")


configfile: f"{workflow.basedir}/config.yaml"


report: "workflow/report/workflow.rst"


# Only with `--sdm apptainer`: docs/environments.md, "Apptainer".
container: "ddpm.sif"


include: "workflow/rules/common.smk"
include: "workflow/rules/resources.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/training.smk"
include: "workflow/rules/sampling.smk"
include: "workflow/rules/evaluation.smk"
include: "workflow/rules/report.smk"


DRIVER = Lock(Path("results/.driver.lock"), "making these results", timeout=0)


rule all:
    default_target: True
    input:
        f"{RESULTS}/report.html",


onstart:
    refuse_what_cannot_start()
    jobs = list(jobs_to_run())
    if runs_here() and (advice := advising.advice(CONFIG, jobs)):
        raise WorkflowError(advice)
    try:
        # One driver for a folder of results. Snakemake's own lock, which profiles/default turns off, names nobody, and
        # has to be removed by hand after a kill. A plan makes nothing.
        if any(rule != "plan" for rule, _ in jobs):
            DRIVER.acquire()
        if submits_to_slurm():
            refuse_what_no_node_takes()
            slurm.cancel_orphaned_jobs(Path.cwd())
    except (UserError, OSError) as error:
        raise WorkflowError(failures.explain(error, ["snakemake"]).message)


onsuccess:
    cancel_timers()
    if Path(f"{RESULTS}/report.html").exists():
        print(f"Open {RESULTS}/report.html in a browser.")


onerror:
    cancel_timers()
    if jobs := failures.read_failed_jobs(log):
        print(failures.summary(jobs), file=sys.stderr)
