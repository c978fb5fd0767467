# Where jobs run: what each job's shell begins with, GPUs, SLURM. What is asked of `workflow` beyond Snakemake's
# documentation (`basedir`, `cores`) stands in this file alone, and is read, not changed, but for the number of GPUs.

# Jobs find the package here in any environment. They keep bytecode also where the environment, as in many images of
# containers, says otherwise: to compile torch's thousand modules anew would be more than half of a job's start.
# glibc keeps freed memory for the next tensor, a tenth of the CPU time of sampling; as it is set by itself, it gives the
# pages back to the system after every step, which has to clear them again.
PREFIX = (
    "export PYTHONPATH={} {}={} MALLOC_TRIM_THRESHOLD_=1073741824 MALLOC_MMAP_THRESHOLD_=33554432; "
    "unset PYTHONDONTWRITEBYTECODE; "
).format(
    shlex.quote(f"{workflow.basedir}/workflow").replace("{", "{{").replace("}", "}}"),
    PRECISION_ENV,
    shlex.quote(COMPUTE.precision),
)

# In a job of a cluster, which has no handlers: SLURM's warnings reach all of its processes, and Snakemake and the shell
# outlive them until the one that computes has saved its state. What is then interrupted goes on in another submission.
# The signal comes to this process, and the jobstep plugin drops the variable behind it: both are seen to only here.
if workflow.remote_exec:
    slurm.export_restart_count()
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    PREFIX += f"trap : TERM; trap '[ $? != {ExitCode.INTERRUPTED:d} ] || python -m ddpm requeue' EXIT; "

shell.prefix(PREFIX)


def share_gpus():
    """Have Snakemake start as many GPU jobs at a time as this machine has free GPUs; returns how many these are.

    Not where --resources or a profile says another number, nor where other machines do the work. A number in
    profiles/default would hold on clusters, too, and would go with any other --resources.
    """
    if (
        not workflow.is_main_process
        or workflow.nodes is not None
        or COMPUTE.device == "cpu"
    ):
        return 0
    if "gpu" not in workflow.global_resources and (free := gpus.count_free()):
        workflow.register_resource("gpu", free)
    return (
        workflow.global_resources["gpu"].value
        if "gpu" in workflow.global_resources
        else 0
    )


GPUS_HERE = share_gpus()


def threads_of(gpus):
    """CPU threads of a job that takes so many GPUs: no more than leave enough cores for a job on each other GPU."""
    if not (GPUS_HERE and gpus and workflow.cores):
        return COMPUTE.threads
    return max(min(COMPUTE.threads, workflow.cores * gpus // GPUS_HERE), 1)


def jobs_to_run():
    """The rule of each job that is about to run, and its experiment, data set or checkpoint.

    What a year's work on a CPU is refused by, before it begins: hooks are told no more than the path of a log.
    """
    for job in workflow.dag.needrun_jobs():
        wildcards = job.wildcards_dict
        keys = (key for key in ("experiment", "data", "checkpoint") if key in wildcards)
        yield job.rule.name, next((wildcards[key] for key in keys), None)


def runs_here():
    """Whether this machine does the work. Its GPUs, and the hours of its CPU, say nothing of a cluster's."""
    return workflow.local_exec


def submits_to_slurm():
    """Whether SLURM does the work, whose queue may hold jobs that a killed run has left behind."""
    return workflow.executor_plugin.name == "slurm"


def refuse_without_image():
    """Where jobs are to run in an image, say how it is made if it is not there."""
    methods = workflow.deployment_settings.deployment_method
    if (
        any(method.name == "APPTAINER" for method in methods)
        and not Path("ddpm.sif").exists()
    ):
        raise WorkflowError(
            "--sdm apptainer runs every job in the image ddpm.sif, which is not in this folder. Make it: "
            f"(cd {workflow.basedir} && apptainer build {Path.cwd()}/ddpm.sif envs/ddpm.def)"
        )


def cancel_timers():
    """End Snakemake's wait for its own timers: it would look for jobs a last time when nothing is left to do."""
    for thread in threading.enumerate():
        if isinstance(thread, threading.Timer):
            thread.cancel()
