"""A process keeps the memory that its tensors free, and ends without taking apart all that it has loaded."""

import ctypes
import subprocess
import sys

import pytest

# Three steps that allocate and free 64 MB each; what the last one needs anew from the system, in pages.
STEPS = """
import resource
def step():
    return [b"x" * 2**20 for _ in range(64)]
for _ in range(3):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="the C library is not glibc")
def test_a_job_on_a_cpu_takes_its_memory_from_the_system_once():
    assert int(run(STEPS)) > 10_000
    assert int(run("from ddpm.__main__ import choose_device; choose_device('cpu')" + STEPS)) < 100


ENDING = """
import atexit, sys
import ddpm.__main__ as ddpm

class Loaded:
    def __del__(self):
        print("taken apart")

def app():
    atexit.register(print, "let go")
    print("done")
    sys.exit(3)

loaded, ddpm.app = Loaded(), app
ddpm.main()
"""


def test_a_job_ends_without_taking_apart_all_that_it_has_loaded():
    done = subprocess.run([sys.executable, "-c", ENDING], capture_output=True, text=True, check=False)
    assert (done.stdout.split("\n"), done.returncode) == (["done", "let go", ""], 3), done.stderr
