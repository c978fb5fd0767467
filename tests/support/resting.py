"""What the Python of a job loads first, as `sitecustomize` on its path: jobs rest at certain moments.

Where there is a file `rest-COMMAND` with n in it, that command rests when it asks for the n-th time whether to end, as
a training does after each step, and a sampling before each batch; until the file is gone or it has to end.
Of several processes or tasks of an array, the first one does. `resting-PID` then says which job of SLURM it is.
"""

import json
import os
import sys
import time
from pathlib import Path

from ddpm.jobs.signals import StopSignal

should_stop, rounds, moment = StopSignal.should_stop, 0, None


def should_stop_after_a_rest(job: StopSignal) -> bool:
    global rounds, moment
    rest = Path(f"rest-{sys.argv[1]}")
    if moment is None:
        moment = int(rest.read_text()) if rest.exists() else 0
    rounds += 1
    first = os.environ.get("RANK", "0") == "0" and os.environ.get("SLURM_ARRAY_TASK_ID", "1") == "1"
    if rounds == moment and first:
        note = Path(f"resting-{os.getpid()}")
        note.with_suffix(".part").write_text(json.dumps([sys.argv, dict(os.environ)]))
        note.with_suffix(".part").rename(note)
        while rest.exists() and not should_stop(job):
            time.sleep(0.1)
    return should_stop(job)


StopSignal.should_stop = should_stop_after_a_rest
