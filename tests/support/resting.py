"""What the Python of a job loads first, as `sitecustomize` on its path: jobs rest at certain moments.

A training rests after five steps, and the first sampling of an array after its first one, as long as there is a file
`rest-train` or `rest-sample` and nobody asks it to end. `resting-PID` then says which job of SLURM it is.
"""

import json
import os
import sys
import time
from pathlib import Path

from ddpm.interruption import Job

ROUND = {"train": 5, "sample": 2}  # calls of `asked`: after each step, and before each piece of a sampling
asked, rounds = Job.asked, 0


def asked_after_a_rest(job: Job) -> bool:
    global rounds
    rounds += 1
    command, rest = sys.argv[1], Path(f"rest-{sys.argv[1]}")
    first = os.environ.get("RANK", "0") == "0" and os.environ.get("SLURM_ARRAY_TASK_ID", "1") == "1"
    if rounds == ROUND.get(command) and first:
        note = Path(f"resting-{os.getpid()}")
        note.with_suffix(".part").write_text(json.dumps([sys.argv, dict(os.environ)]))
        note.with_suffix(".part").rename(note)
        while rest.exists() and not asked(job):
            time.sleep(0.1)
    return asked(job)


Job.asked = asked_after_a_rest
