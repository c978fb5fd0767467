# Where jobs run: what each job's shell begins with, GPUs, SLURM. What is asked of `workflow` beyond Snakemake's
# documentation (`basedir`, `cores`) stands in this file, and what --config says in common.smk. It is read, not changed, but
# for the number of GPUs.

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

# Only in a job of a cluster. SLURM's warnings reach all of its processes: Snakemake and the shell outlive them until the
# one that computes has saved its state. What is then interrupted goes on in another submission. Both lines are for this
# process: the signal comes to it, too, and the jobstep plugin hands the count of restarts on to no other.
if workflow.remote_exec:
    slurm.export_restart_count()
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    PREFIX += f"trap : TERM; trap '[ $? != {ExitCode.INTERRUPTED:d} ] || python -m ddpm requeue' EXIT; "

shell.prefix(PREFIX)


def runs_here():
    """Whether this machine does the work: no number of jobs (--jobs) is given, as for a cluster."""
    return workflow.nodes is None and not workflow.remote_exec


def submits_to_slurm():
    """Whether SLURM does the work, whose queue may hold jobs that a killed run has left behind."""
    return workflow.executor_plugin.name == "slurm"


def share_gpus():
    """Have Snakemake start as many GPU jobs at a time as this machine has free GPUs; returns how many these are.

    Not where --resources or a profile says another number, nor where other machines do the work. A number in
    profiles/default would hold on clusters, too, and would go with any other --resources.
    """
    if not runs_here() or COMPUTE.device == "cpu":
        return 0
    if "gpu" not in workflow.global_resources:
        if not (free := gpus.count_free()):
            return 0
        workflow.register_resource("gpu", free)
    return workflow.global_resources["gpu"].value


GPUS_HERE = share_gpus()


def threads_of(gpus):
    """CPU threads of a job that takes so many GPUs: no more than leave enough cores for a job on each other GPU."""
    if not (GPUS_HERE and gpus and workflow.cores):
        return COMPUTE.threads
    return max(min(COMPUTE.threads, workflow.cores * gpus // GPUS_HERE), 1)


def jobs_to_run():
    """The rule of each job that is about to run, and its experiment, data set or checkpoint.

    A year's work on a CPU is refused by them before it begins. Snakemake tells its hooks only where its log is.
    """
    for job in workflow.dag.needrun_jobs():
        wildcards = job.wildcards_dict
        keys = (key for key in ("experiment", "data", "checkpoint") if key in wildcards)
        yield job.rule.name, next((wildcards[key] for key in keys), None)


def refuse_what_no_node_takes():
    """SLURM would refuse each job on its own: `Memory specification can not be satisfied`."""
    jobs = [job for job in workflow.dag.needrun_jobs() if not job.is_local]
    asked = [
        cluster.Request.of(job.rule.name, job.resources, job.threads) for job in jobs
    ]
    if found := list(cluster.misfits(asked, cluster.read_nodes())):
        raise WorkflowError(
            "\n".join(found),
            "Nothing was submitted. Change profiles/slurm/profile.yaml; `sinfo` lists the partitions and their nodes.",
        )


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
