"""Leases of GPUs: each process its own, nobody else's, and none left behind."""

import os
import re
import signal
import sys
from pathlib import Path

import pytest
import torch
from fake_gpus import FakeGpus

from ddpm.config.errors import DiskError, UserError
from ddpm.jobs import gpus


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine with three GPUs, on which the test itself runs too."""
    fake = FakeGpus(tmp_path / "machine", 3)
    settle(fake, monkeypatch)
    return fake


def settle(fake: FakeGpus, monkeypatch) -> None:
    for key, value in fake.environment.items():
        monkeypatch.setenv(key, value)
    for key in ("CUDA_VISIBLE_DEVICES", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "DDPM_GPU_WAIT"):
        monkeypatch.setenv(key, "")  # so that what the test sets is undone
        monkeypatch.delenv(key)
    monkeypatch.setattr(gpus, "POLL_INTERVAL", 0.05)
    monkeypatch.setattr(gpus, "HELD", [])


@pytest.fixture
def started():
    """Processes to end when the test does."""
    processes = []
    yield processes
    for process in processes:
        process.kill()
        process.communicate()


def leased() -> list[str]:
    gpus.lease()
    return os.environ["CUDA_VISIBLE_DEVICES"].split(",")


def test_each_process_has_another_gpu(machine, started):
    seen = []
    for _ in range(3):
        process, uuids = machine.holder()
        started.append(process)
        seen += uuids
    assert sorted(seen) == machine.uuids
    fourth = machine.start("gpus.lease()", DDPM_GPU_WAIT="0.3")
    assert "another job of yours has it" in fourth.communicate()[1]
    assert fourth.returncode != 0


def test_a_killed_holders_gpu_is_free_at_once(machine, started):
    machine.lists(*machine.rows()[:1])
    holder, uuids = machine.holder()
    started.append(holder)
    assert uuids == ["GPU-a0"]
    waiting = machine.start("gpus.lease(); print(os.environ[gpus.VISIBLE])")
    assert "waiting for 1 of 1 GPUs (GPU 0: another job of yours has it), for 3600 s" in waiting.stdout.readline()
    os.kill(holder.pid, signal.SIGKILL)
    assert "GPU-a0" in waiting.communicate()[0]
    assert waiting.returncode == 0


ALONE_FOR_A_MOMENT = """
gpus.lease(log=lambda line: None)
place = os.path.join(os.environ["PLACES"], os.environ[gpus.VISIBLE])
os.close(os.open(place, os.O_CREAT | os.O_EXCL))  # fails where another process is there
full = os.environ["PLACES"] + "-full"  # until all three have been taken at once
while not os.path.exists(full) and len(os.listdir(os.environ["PLACES"])) < 3:
    time.sleep(0.02)
open(full, "w").close()
os.unlink(place)
print(os.environ[gpus.VISIBLE])
"""


def test_eight_processes_on_three_gpus_never_share_one(machine, tmp_path):
    (tmp_path / "places").mkdir()
    processes = [machine.start(ALONE_FOR_A_MOMENT, PLACES=str(tmp_path / "places")) for _ in range(8)]
    used = []
    for process in processes:
        out, err = process.communicate()
        assert process.returncode == 0, err
        used.append(out.strip())
    assert set(used) == set(machine.uuids)
    assert len(used) == 8


def test_several_are_taken_at_once_or_none(machine, started):
    holder, _ = machine.holder()
    started.append(holder)
    refused = machine.start("gpus.lease(3)", DDPM_GPU_WAIT="0.2")
    assert "no GPU has become free in 0.2 s (GPU 0: another job of yours has it)" in refused.communicate()[1]
    # What it could not use it does not keep, also while it waits.
    idle = machine.start("gpus.POLL_INTERVAL = 1000; gpus.lease(3)")
    waiting = machine.start("gpus.lease(3); print(os.environ[gpus.VISIBLE])")
    started.append(idle)
    for process in (idle, waiting):
        assert "waiting for 3 of 3 GPUs" in process.stdout.readline()
    two, uuids = machine.holder(2)
    started.append(two)
    assert uuids == ["GPU-a1", "GPU-a2"]
    for process in (holder, two):
        process.communicate()
    assert "GPU-a0,GPU-a1,GPU-a2" in waiting.communicate()[0]


def test_more_than_there_are_is_refused_at_once(machine):
    with pytest.raises(UserError, match=r"4 GPUs are needed here.*there are 3: GPU 0 \(NVIDIA A100"):
        gpus.lease(4)


def test_a_gpu_of_somebody_else_is_passed_over(machine):
    machine.computes(a0=4711)
    machine.holds(1, 9000)
    assert leased() == ["GPU-a2"]


def test_a_little_memory_in_use_is_nobodys(machine):
    machine.holds(0, 8000)  # less than a tenth of 81920 MiB
    assert leased() == ["GPU-a0"]


def test_where_memory_is_not_known_processes_tell(machine):
    machine.lists("0, GPU-a0, NVIDIA GB10, [N/A], [N/A], 580.1", "1, GPU-a1, NVIDIA GB10, [N/A], [N/A], 580.1")
    machine.computes(a0=5)
    assert leased() == ["GPU-a1"]


def test_an_nvidia_smi_that_gives_no_answer_for_a_while_ends_no_wait(machine, monkeypatch):
    machine.computes(a0=11, a1=12, a2=13)
    monkeypatch.setenv("DDPM_GPU_WAIT", "0.3")
    visible = gpus.visible
    answers = [visible, lambda: ()]
    monkeypatch.setattr(gpus, "visible", lambda: (answers.pop(0) if len(answers) > 1 else answers[0])())
    with pytest.raises(UserError, match=r"no GPU has become free in 0.3 s \(GPU 0: process 11"):
        gpus.lease()


def test_the_wait_ends_with_words(machine, monkeypatch):
    machine.computes(a0=11, a1=12, a2=13)
    monkeypatch.setenv("DDPM_GPU_WAIT", "0")
    with pytest.raises(UserError) as refused:
        gpus.lease()
    for words in ("in 0 s", "GPU 1: process 12 computes on it", "DDPM_GPU_WAIT", "CUDA_VISIBLE_DEVICES=0"):
        assert words in str(refused.value)
    monkeypatch.setenv("DDPM_GPU_WAIT", "an hour")
    with pytest.raises(UserError, match="DDPM_GPU_WAIT=an hour: must be a number of seconds"):
        gpus.lease()


def test_a_gpu_that_becomes_free_is_taken(machine):
    machine.computes(a0=11, a1=12, a2=13)
    waiting = machine.start("gpus.lease(); print(os.environ[gpus.VISIBLE])")
    assert "process 12 computes on it" in waiting.stdout.readline()
    machine.computes(a0=11, a2=13)
    assert "GPU-a1" in waiting.communicate()[0]


@pytest.mark.parametrize(
    ("visible", "count", "ranks", "expected"),
    [
        ("1", 1, None, None),  # as a scheduler gives one
        ("GPU-a2", 1, None, None),
        ("0,2", 2, None, None),
        ("0,2", 1, "2", None),  # torchrun's processes share what they were given
        ("MIG-1234", 1, None, None),
        ("2,1", 1, None, "GPU-a2"),  # more than a job needs: one of them
        ("1,2", 1, None, "GPU-a1"),
        (" 1, 2", 1, None, "GPU-a1"),
        (None, 2, None, "GPU-a0,GPU-a1"),
        (None, 1, "2", "GPU-a0"),
        ("", 1, None, None),
        ("-1", 1, None, None),
    ],
)
def test_what_a_scheduler_or_person_has_chosen_is_honoured(visible, count, ranks, expected, machine, monkeypatch):
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    if ranks:
        monkeypatch.setenv("LOCAL_WORLD_SIZE", ranks)
    assert gpus.lease(count) == (expected is not None)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == (expected or visible)


def test_no_lease_without_nvidia_smi(machine, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not gpus.lease()
    assert "CUDA_VISIBLE_DEVICES" not in os.environ
    assert gpus.count_free() == 0


@pytest.mark.parametrize(
    ("visible", "uuids"),
    [("0", ["GPU-a0"]), ("1,0", ["GPU-a1", "GPU-a0"]), ("GPU-a1", ["GPU-a1"]), ("", []), ("-1", []),
     ("0,7,1", ["GPU-a0"]), ("MIG-1234", ["MIG-1234"])],
)  # fmt: skip
def test_those_that_cuda_may_use(machine, monkeypatch, visible, uuids):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert [gpu.uuid for gpu in gpus.visible()] == uuids


def test_counting_leaves_every_gpu_free(machine, started):
    assert gpus.count_free() == 3
    machine.computes(a0=1)
    assert gpus.count_free() == 2
    holder, _ = machine.holder()
    started.append(holder)
    assert gpus.count_free() == 1
    machine.computes(a0=1, a2=2)
    assert gpus.count_free() == 1, "jobs wait for it, one at a time"
    holder.communicate()
    assert leased() == ["GPU-a1"]


def test_a_folder_of_leases_that_is_somebody_elses_is_refused(machine, tmp_path, monkeypatch):
    if os.getuid() != 0:
        pytest.skip("only root can give a folder away")
    (tmp_path / "theirs").mkdir()
    os.chown(tmp_path / "theirs", 12345, -1)
    monkeypatch.setenv("DDPM_GPU_LEASES", str(tmp_path / "theirs"))
    with pytest.raises(UserError, match="belongs to somebody else"):
        gpus.lease()


def test_a_folder_of_leases_that_cannot_be_made_is_named_with_the_way_out(machine, mounted, monkeypatch):
    disk = mounted("size=1m,ro").folder
    monkeypatch.setenv("DDPM_GPU_LEASES", str(disk / "leases"))
    with pytest.raises(DiskError, match=rf"{disk}/leases: cannot be made \(Read-only.*Name another .*DDPM_GPU_LEASES"):
        gpus.lease()


# What torch is given.


@pytest.fixture
def cuda(monkeypatch):
    """A torch that can use whatever it sees, of three GPUs."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    return monkeypatch


def test_auto_is_a_gpu_of_its_own(machine, cuda):
    machine.computes(a0=1)
    assert gpus.choose_device("auto") == torch.device("cuda")
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "GPU-a1"


def test_a_named_gpu_and_the_cpu_take_no_lease(machine, cuda):
    assert gpus.choose_device("cuda:2") == torch.device("cuda:2")
    assert gpus.choose_device("cpu") == torch.device("cpu")
    assert "CUDA_VISIBLE_DEVICES" not in os.environ


@pytest.mark.parametrize(("name", "words"), [("cuda:3", "torch finds 3 GPUs"), ("gpu", "Give cpu, cuda"), ("", "Give")])
def test_a_device_that_is_not_there_is_refused_before_anything_is_leased(name, words, machine, cuda):
    with pytest.raises(UserError, match=f"--device {name}: .*{words}"):
        gpus.choose_device(name)
    assert "CUDA_VISIBLE_DEVICES" not in os.environ


def test_torchruns_processes_have_one_each(machine, cuda):
    cuda.setenv("LOCAL_RANK", "1")
    cuda.setenv("LOCAL_WORLD_SIZE", "2")
    # Each leases its own, which is the only one that it sees ...
    assert gpus.choose_device("cuda") == torch.device("cuda:0")
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "GPU-a0"
    # ... or what started them has chosen for all.
    cuda.setenv("CUDA_VISIBLE_DEVICES", "GPU-a1,GPU-a2")
    assert gpus.choose_device("cuda") == torch.device("cuda:1")
    cuda.setenv("CUDA_VISIBLE_DEVICES", "GPU-a1")
    with pytest.raises(UserError, match="2 GPUs are needed here, one for each process, and there are 1: GPU 1"):
        gpus.choose_device("cuda")


def test_auto_is_the_cpu_without_a_gpu(tmp_path, monkeypatch):
    settle(FakeGpus(tmp_path / "machine"), monkeypatch)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpus.choose_device("auto") == torch.device("cpu")
    with pytest.raises(UserError, match="finds no usable GPU here, and nvidia-smi lists none"):
        gpus.choose_device("cuda")


@pytest.mark.parametrize("name", ["auto", "cuda", "cuda:1"])
def test_a_driver_too_old_for_torch_is_named(name, machine, monkeypatch):
    def too_old() -> bool:
        import warnings

        warnings.warn("CUDA initialization: The NVIDIA driver on your system is too old", stacklevel=1)
        return False

    monkeypatch.setattr(torch.cuda, "is_available", too_old)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    with pytest.raises(UserError) as refused:
        gpus.choose_device(name)
    for words in ("CUDA 13.0", "driver here is 470.57.02", torch.__version__, "--device cpu", "is too old"):
        assert words in str(refused.value)
    monkeypatch.setattr(torch.version, "cuda", None)
    with pytest.raises(UserError, match="built without CUDA"):
        gpus.choose_device(name)


def test_leases_need_no_torch():
    """CUDA may not be initialised before."""
    code = "import sys; import ddpm.jobs.gpus; sys.exit('torch' in sys.modules)"
    assert os.spawnv(os.P_WAIT, sys.executable, [sys.executable, "-c", code]) == 0
    source = Path(gpus.__file__).read_text()
    assert len(re.findall("import torch", source)) == 1
