"""Where a GPU's memory is full, fewer images go through the network at once, and the results are the same."""

import json
from itertools import chain

import numpy as np
import pytest
import torch
from helpers import CPU

from ddpm.compute.memory import BatchSplitter, OutOfMemory
from ddpm.config.errors import ExitCode
from ddpm.config.schema import FewStepsConfig, LatentsConfig, LikelihoodConfig, SamplingConfig, SnapshotsConfig
from ddpm.data.store import Images
from ddpm.evaluation.likelihood import Bound, likelihood_shard
from ddpm.evaluation.networks.base import FeatureNetwork
from ddpm.jobs.failures import gpu_is_full
from ddpm.sampling.chains import write_latents
from ddpm.sampling.runner import AncestralSampler, FewStepsSampler, sample_shard
from ddpm.sampling.snapshots import snapshot_shard
from ddpm.storage.files import read_npz
from ddpm.storage.shards import read_shard

WORDS = "CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 79.18 GiB"
# What torch.jit makes of the same (the interpreter keeps no types).
SCRIPTED = (
    "The following operation failed in the TorchScript interpreter.\nTraceback of TorchScript:\n"
    f'  File "code/__torch__.py", line 3, in forward\nRuntimeError: {WORDS}'
)


def limited(most: int, seen: list[int], forward, error=torch.OutOfMemoryError):
    """`forward`, of a GPU that holds `most` images."""

    def call(x, *rest, **options):
        seen.append(len(x))
        if len(x) > most:
            raise error(WORDS)
        return forward(x, *rest, **options)

    return call


@pytest.mark.parametrize(
    ("error", "full"),
    [
        (torch.OutOfMemoryError(WORDS), True),
        (torch.OutOfMemoryError("HIP out of memory"), True),
        (RuntimeError(SCRIPTED), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), False),
        (RuntimeError("CUDA error: device-side assert triggered"), False),
        (ValueError(WORDS), False),
        (MemoryError(), False),
    ],
)
def test_what_means_a_full_gpu(error, full):
    assert gpu_is_full(error) == full


def test_what_does_not_fit_is_cut_in_two_and_not_tried_again():
    said, tried = [], []

    def make(first: int, last: int) -> list[int]:
        tried.append(last - first)
        if last - first > 3:
            raise torch.OutOfMemoryError(WORDS)
        return list(range(first, last))

    splitter = BatchSplitter("sampling.batch_size", said.append)
    assert [*chain(*splitter.each(make, 5, 18))] == list(range(5, 18))
    assert tried == [13, 7, 4, 2, 2, 2, 2, 2, 2, 1]
    assert [*chain(*splitter.each(make, 18, 31))] == list(range(18, 31))
    assert tried[10:] == [2] * 6 + [1]
    assert len(said) == 3
    assert said[0].startswith(
        "13 images at once do not fit into the GPU's memory (CUDA out of memory. Tried to allocate"
    )
    assert said[2].endswith("from here on 2; sampling.batch_size: 2 in the configuration would begin with that")


def test_what_fits_is_one_call_and_other_errors_pass():
    splitter = BatchSplitter("x", pytest.fail)
    assert list(splitter.each(lambda first, last: (first, last), 0, 500)) == [(0, 500)]
    assert list(splitter.each(lambda first, last: (first, last), 7, 7)) == []

    def broken(first, last):
        raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes differ"):
        list(splitter.each(broken, 0, 8))


def test_not_even_one_is_an_end():
    def make(first, last):
        raise RuntimeError(SCRIPTED)

    with pytest.raises(OutOfMemory, match=r"not even one image fits.*Tried to allocate") as refused:
        list(BatchSplitter("x", lambda line: None).each(make, 0, 4))
    assert refused.value.code is ExitCode.MEMORY
    assert "nvidia-smi" in str(refused.value)


def arrays(path) -> dict[str, np.ndarray]:
    with np.load(path) as archive:
        return {key: archive[key] for key in archive.files if key != "header"}


def both(work, trained, tmp_path, monkeypatch, most: int = 3) -> tuple[dict, dict, list[int], list[str]]:
    """The arrays that work(path, log) writes with room, and without; the batches it tried then, and what it said."""
    said, seen = [], []
    work(tmp_path / "roomy.npz", lambda line: None)
    monkeypatch.setattr(trained.model, "forward", limited(most, seen, trained.model.forward))
    work(tmp_path / "full.npz", said.append)
    return arrays(tmp_path / "roomy.npz"), arrays(tmp_path / "full.npz"), seen, said


def same(one: dict, other: dict) -> None:
    assert one.keys() == other.keys()
    for key in one:
        if one[key].dtype.kind == "f":  # of the bound, which is rounded by batch size
            np.testing.assert_allclose(one[key], other[key], rtol=1e-4, atol=1e-5, err_msg=key)
        else:
            assert np.array_equal(one[key], other[key]), key


def test_samples_are_the_same(trained, tmp_path, monkeypatch):
    config = SamplingConfig(images=20, batch_size=8, previews=4)
    one, other, seen, said = both(
        lambda path, log: sample_shard(AncestralSampler(trained, config, CPU), 1, path, log),
        trained,
        tmp_path,
        monkeypatch,
    )
    same(one, other)
    assert len(other["images"]) == 20
    assert seen[:2] == [8, 4]
    assert max(seen[2:]) == 2
    assert any("sampling.batch_size: 2" in line for line in said)


def test_few_steps_are_the_same(trained, tmp_path, monkeypatch):
    config = FewStepsConfig(steps=(2, 4), eta=(0.0,), images=10, batch_size=5)
    one, other, seen, said = both(
        lambda path, log: sample_shard(FewStepsSampler(trained, config, CPU), 1, path, log),
        trained,
        tmp_path,
        monkeypatch,
    )
    same(one, other)
    assert seen[0] == 5
    assert any("few_steps.batch_size: 3" in line for line in said)


def test_snapshots_are_the_same(trained, tmp_path, monkeypatch):
    config = SnapshotsConfig(images=10, batch_size=10, previews=3)
    one, other, _, said = both(
        lambda path, log: snapshot_shard(trained, trained, config, path, CPU, log), trained, tmp_path, monkeypatch
    )
    same(one, other)
    assert len(other["raw"]) == 3
    assert any("snapshots.batch_size: 3" in line for line in said)


def test_latents_are_the_same(trained, tmp_path, monkeypatch):
    chains = LatentsConfig().chains - 1
    one, other, seen, said = both(
        lambda path, log: write_latents(trained, chains, 3, 9, 0, path, CPU, log), trained, tmp_path, monkeypatch
    )
    same(one, other)
    assert 9 in seen
    assert any("latents.batch_size" in line for line in said)


def test_the_bound_is_the_same(trained, digits, tmp_path, monkeypatch):
    config, images = LikelihoodConfig(batch_size=7), Images(digits / "test.npy")
    one, other, _, said = both(
        lambda path, log: likelihood_shard(Bound(trained, images, "test", 10, config, CPU), 1, path, log),
        trained,
        tmp_path,
        monkeypatch,
    )
    same(one, other)
    assert other["terms"].shape == (10, 20)
    assert any("likelihood.batch_size: 2" in line for line in said)


def test_an_unstable_half_ends_the_shard(trained, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(trained.model, "forward", limited(4, seen, lambda x, *rest, **options: x * np.nan))
    sample_shard(
        AncestralSampler(trained, SamplingConfig(images=8, batch_size=8), CPU),
        1,
        tmp_path / "1-of-1.npz",
        lambda line: None,
    )
    shard, header = read_shard(tmp_path / "1-of-1.npz", "images")
    assert header["status"]["status"] == "unstable"
    assert len(shard["images"]) == 0


class Widths(FeatureNetwork):
    """A network of a GPU that holds three images."""

    name, sha256, batch_size, device = "widths", "0" * 64, 16, "cpu"

    def __init__(self):
        self.seen = []

    def batch(self, images):
        self.seen.append(len(images))
        if len(images) > 3:
            raise RuntimeError(SCRIPTED)
        x = torch.from_numpy(images).float().flatten(1)
        return x, x.softmax(1)


def test_features_are_the_same(capsys):
    network, images = Widths(), np.arange(20 * 3, dtype=np.uint8).reshape(20, 1, 1, 3)
    features, probabilities = network(images)
    assert np.array_equal(features, images.reshape(20, 3))
    assert probabilities.shape == (20, 3)
    assert network.seen[:4] == [16, 8, 4, 2]
    network(images)
    assert set(network.seen[4:]) == {2}, "another call knows what fits"
    assert "16 images at once do not fit" in capsys.readouterr().out


def test_what_is_said_is_in_the_record_of_no_file(trained, tmp_path, monkeypatch):
    """The batch size that was asked for stays in the header: what fits a GPU is not part of a result."""
    config = SamplingConfig(images=8, batch_size=8)
    monkeypatch.setattr(trained.model, "forward", limited(3, [], trained.model.forward))
    sample_shard(AncestralSampler(trained, config, CPU), 1, tmp_path / "1-of-1.npz", lambda line: None)
    header = json.loads(bytes(read_npz(tmp_path / "1-of-1.npz", "header")["header"]))
    assert header["sampling"]["batch_size"] == 8
