"""What the person sees on the screen when jobs fail."""

import re
from contextlib import suppress

FAILING = """
import os

trained_well = train


def train(config, *arguments):
    name = config["name"]
    if name == "digits-mu-simple":
        print("step 5/8 loss 0.5000", flush=True)
        os.kill(os.getpid(), 9)
    if name == "digits-eps-vlb-fixed":
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
    if name == "digits-mu-vlb-fixed":
        raise KeyError("weights")
    trained_well(config, *arguments)
"""


def test_the_screen_ends_with_the_last_words_of_every_failed_job(fresh):
    loop = fresh.folder / "workflow/ddpm/training/loop.py"
    loop.write_text(loop.read_text() + FAILING)
    names = ("digits-mu-simple", "digits-eps-vlb-fixed", "digits-mu-vlb-fixed", "digits-eps-simple")
    done = fresh.snakemake(*(f"results/demo/{name}/model.safetensors" for name in names), check=False)
    assert done.returncode == 1
    assert (fresh.results / "digits-eps-simple/model.safetensors").exists(), "what does not depend on them goes on"
    screen = done.stderr
    assert "Logfile results/demo/logs/training/digits-mu-vlb-fixed.log:" in screen, "shown at once, too"
    said = screen[screen.index("3 jobs have failed:") :]
    parts = re.split(r"\n(?=train of experiment )", said)
    assert [part.splitlines()[0] for part in parts[1:]] == [
        f"train of experiment {name} (stage training)" for name in sorted(names[:3])
    ]
    full, killed, unexpected = (parts[1 + sorted(names[:3]).index(name)] for name in (names[1], names[0], names[2]))
    assert "ERROR: the GPU's memory is full (CUDA out of memory. Tried to allocate 20.00 MiB.)" in full
    assert "training.micro_batch" in full
    assert "step 5/8 loss 0.5000" in killed
    assert "ended without a word of its own: killed" in killed
    assert "ERROR: unexpected KeyError: 'weights'" in unexpected
    assert "python -m ddpm train --config results/demo/digits-mu-vlb-fixed/config/training.json" in unexpected
    assert "Traceback" not in said
    for name, part in zip(names, (killed, full, unexpected), strict=False):
        assert f"All it said: results/demo/logs/training/{name}.log" in part
    assert "the same command goes on from there" in said


def test_a_run_that_succeeds_says_nothing_of_failures_and_needs_no_room_for_temporary_files(fresh, mounted):
    """More jobs than cores: what chooses among them writes nothing to /tmp."""
    disk = mounted("size=8k").folder
    with suppress(OSError):
        (disk / "filler").write_bytes(bytes(2**16))
    fresh.environ["TMPDIR"] = str(disk)
    stages = [f"results/demo/digits-eps-simple/config/{stage}.json" for stage in ("training", "sampling", "evaluation")]
    assert "failed" not in fresh.snakemake("--cores", "1", *stages).stderr
