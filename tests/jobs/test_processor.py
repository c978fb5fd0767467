"""A processor is known by its name, and by whether it computes in bf16, which its name does not say."""

import pytest

from ddpm.jobs import processor

INTEL = "model name\t: Intel(R) Xeon(R) Processor\nflags\t\t: fpu avx2 {}\n\nprocessor\t: 1\nflags\t\t: none\n"
ARM = "processor\t: 0\nBogoMIPS\t: 50.00\nFeatures\t: fp asimd {}\n"


@pytest.fixture
def info(tmp_path, monkeypatch):
    """/proc/cpuinfo, as the test writes it."""
    path = tmp_path / "cpuinfo"
    monkeypatch.setattr(processor, "INFO", path)
    processor.description.cache_clear()
    yield path
    processor.description.cache_clear()


@pytest.mark.parametrize("flag, can", [("amx_bf16", True), ("avx512_bf16", True), ("avx512f", False)])
def test_intels(info, flag, can):
    info.write_text(INTEL.format(flag))
    assert processor.instructions() == {"fpu", "avx2", flag}
    assert processor.has_bf16() == can
    assert processor.processor_name() == "Intel(R) Xeon(R) Processor" + can * " with bf16"


@pytest.mark.parametrize("flag, can", [("bf16", True), ("sve", False)])
def test_arms(info, monkeypatch, flag, can):
    info.write_text(ARM.format(flag))
    monkeypatch.setattr(processor.platform, "processor", lambda: "")
    monkeypatch.setattr(processor.platform, "machine", lambda: "aarch64")
    assert processor.has_bf16() == can
    assert processor.processor_name() == "aarch64" + can * " with bf16"


def test_one_that_says_nothing(info, monkeypatch):
    monkeypatch.setattr(processor.platform, "processor", lambda: "arm")
    assert processor.instructions() == set()
    assert not processor.has_bf16()
    assert processor.processor_name() == "arm"
