"""Precision, order of memory, and compilation change how a network is computed, and not what."""

import copy

import pytest
import torch

from ddpm.compute import device
from ddpm.compute.device import compile_if_worthwhile, precision_of, prepare_for_inference, prepare_model
from ddpm.config.enums import PRECISION_ENV, Precision
from ddpm.config.errors import UserError
from ddpm.config.schema import NetworkConfig
from ddpm.jobs import processor
from ddpm.training.optimizer import FlatParameters
from ddpm.unet import UNet, Upsample

CPU = torch.device("cpu")
SIZES = {
    "image_size": 8,
    "channels": 3,
    "out_channels": 3,
    "ch_mult": [1, 2],
    "num_res_blocks": 1,
    "attn_resolutions": [4],
    "groups": 8,
}
NARROW = NetworkConfig(ch=16, dropout=0.1, **SIZES)
WIDE = NetworkConfig(ch=device.WIDE, dropout=0.1, **SIZES)


@pytest.fixture
def inputs():
    draws = torch.Generator().manual_seed(0)
    return torch.randn(4, 3, 8, 8, generator=draws), torch.tensor([0, 10, 500, 999])


@pytest.fixture
def model() -> UNet:
    """With weights that reach the output, as those of a new network do not."""
    torch.manual_seed(0)
    model = UNet(NARROW)
    for name, parameter in model.named_parameters():
        if "conv2" in name or "proj_out" in name or "conv_out" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    return model.eval()


def bf16(model: UNet) -> UNet:
    model = copy.deepcopy(model)
    model.precision = Precision.BF16
    return model


def capabilities(monkeypatch, *instructions: str) -> None:
    monkeypatch.delenv(PRECISION_ENV, raising=False)
    monkeypatch.setattr(processor, "instructions", lambda: set(instructions))


@pytest.mark.fidelity
def test_bf16_rounds_the_network_by_its_own_precision(model, inputs):
    exact, rounded = model(*inputs), bf16(model)(*inputs)
    error = (rounded - exact).norm() / exact.norm()
    assert rounded.dtype == torch.float32
    assert 2**-12 < error < 2**-6, "it has 8 bits"


@pytest.mark.fidelity
def test_the_first_and_the_last_layer_stay_in_float32(model, inputs):
    """x_t and eps in bf16 would be rounded to half a level of a pixel."""
    seen = {}
    for name in ("conv_in", "norm_out", "conv_out"):
        getattr(model, name).register_forward_hook(lambda layer, args, out, name=name: seen.update({name: out.dtype}))
    model.down[0].block[0].conv1.register_forward_hook(lambda layer, args, out: seen.update(inner=out.dtype))
    model.precision = Precision.BF16
    model(*inputs)
    assert seen.pop("inner") == torch.bfloat16
    assert set(seen.values()) == {torch.float32}


def test_weights_that_are_rounded_once_give_the_same_bits(model, inputs):
    each_time, once = bf16(model)(*inputs), prepare_for_inference(bf16(model))
    assert torch.equal(once(*inputs), each_time)
    assert {layer.weight.dtype for layer in once.inner_layers()} == {torch.bfloat16}
    assert once.up[1].upsample.conv.weight.dtype == torch.float32, "its sums are rounded, not what they are of"
    once.up[1].upsample.fused = False
    assert prepare_for_inference(once).up[1].upsample.conv.weight.dtype == torch.bfloat16
    assert once.conv_out.weight.dtype == once.temb.dense[0].weight.dtype == torch.float32


def test_gradients_of_bf16_are_float32_and_near(model, inputs):
    gradients = []
    for network in (model, bf16(model)):
        parameters = FlatParameters(network)
        network(*inputs).square().mean().backward()
        gradients.append(parameters.gradient)
    exact, rounded = gradients
    assert rounded.dtype == torch.float32
    assert 0 < (rounded - exact).norm() / exact.norm() < 2**-5


def test_bf16_where_the_device_has_it_and_the_network_is_wide(monkeypatch):
    capabilities(monkeypatch, "avx512f", "avx512_vnni")
    assert precision_of(WIDE, CPU) is Precision.FP32
    for name in ("avx512_bf16", "amx_bf16", "bf16"):
        capabilities(monkeypatch, "fma", name)
        assert precision_of(WIDE, CPU) is Precision.BF16
        assert precision_of(NARROW, CPU) is Precision.FP32
    for major, precision in ((7, Precision.FP32), (8, Precision.BF16), (9, Precision.BF16)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device, major=major: (major, 0))
        assert precision_of(WIDE, torch.device("cuda")) is precision


def test_a_precision_that_is_asked_for(monkeypatch):
    capabilities(monkeypatch, "avx512_bf16")
    monkeypatch.setenv(PRECISION_ENV, "fp32")
    assert precision_of(WIDE, CPU) is Precision.FP32
    monkeypatch.setenv(PRECISION_ENV, "bf16")
    assert precision_of(NARROW, CPU) is Precision.BF16
    monkeypatch.setenv(PRECISION_ENV, "fp8")
    with pytest.raises(UserError, match=r"DDPM_PRECISION=fp8: no such precision. Give one of auto, fp32, bf16."):
        precision_of(WIDE, CPU)


def test_the_order_of_memory_changes_no_number_and_no_mask(monkeypatch, inputs):
    """Also not of the dropout, nor of the vectors' named pieces, whose order in memory it is."""
    monkeypatch.setenv(PRECISION_ENV, "fp32")
    x, t = inputs
    seeds = torch.arange(len(x), dtype=torch.int32)
    torch.manual_seed(0)
    plain = UNet(WIDE).train()
    ordered = prepare_model(copy.deepcopy(plain), CPU)
    assert ordered.conv_in.weight.is_contiguous(memory_format=torch.channels_last)
    elsewhere = prepare_model(UNet(NARROW), torch.device("meta"))
    assert not elsewhere.conv_in.weight.is_contiguous(memory_format=torch.channels_last)
    masks, gradients = [], []
    for network in (plain, ordered):
        h = torch.ones(len(x), WIDE.ch, 8, 8).contiguous(
            memory_format=torch.channels_last if network is ordered else torch.contiguous_format
        )
        masks.append(network.down[0].block[0].dropout(h, seeds))
        parameters = FlatParameters(network)
        network(x, t, seeds).square().mean().backward()
        gradients.append(parameters.split(parameters.gradient))
        for name, values in parameters.split(parameters.values).items():
            assert torch.equal(values, dict(network.named_parameters())[name])
    assert torch.equal(*masks)
    assert masks[1].is_contiguous(memory_format=torch.channels_last)
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-3, atol=1e-6)


def test_upsampling_is_fused_where_that_is_fast(monkeypatch):
    def fused(network: UNet) -> set[bool]:
        return {layer.fused for layer in network.modules() if isinstance(layer, Upsample)}

    monkeypatch.setenv(PRECISION_ENV, "bf16")
    assert fused(prepare_model(UNet(WIDE), CPU)) == {False}
    assert fused(prepare_model(UNet(WIDE), torch.device("meta"))) == {True}
    monkeypatch.setenv(PRECISION_ENV, "fp32")
    assert fused(prepare_model(UNet(WIDE), CPU)) == {True}


def test_the_fast_layers_make_the_same_network(monkeypatch, inputs):
    """In training, with its masks, forward and backward; bf16 to its own precision."""
    x, t = inputs
    seeds = torch.arange(len(x), dtype=torch.int32)
    torch.manual_seed(0)
    plain = UNet(WIDE).train()
    for name, parameter in plain.named_parameters():
        if "conv2" in name or "proj_out" in name or "conv_out" in name:
            torch.nn.init.normal_(parameter, std=0.02)

    def results(network: UNet) -> tuple[torch.Tensor, torch.Tensor]:
        network.zero_grad()
        found = network(x, t, seeds)
        found.square().mean().backward()
        return found.detach(), torch.cat([p.grad.flatten() for p in network.parameters()])

    exact = results(plain)
    for precision, least, most in (("fp32", 0, 1e-4), ("bf16", 2**-12, 2**-5)):
        monkeypatch.setenv(PRECISION_ENV, precision)
        for ours, theirs in zip(results(prepare_model(copy.deepcopy(plain), CPU)), exact, strict=True):
            assert least < (ours - theirs).norm() / theirs.norm() < most


@pytest.mark.parametrize(("precision", "backend"), [(Precision.FP32, "aot_eager"), (Precision.BF16, "eager")])
def test_the_network_is_one_graph_to_the_compiler(model, inputs, precision, backend, monkeypatch):
    seeds = torch.arange(len(inputs[0]), dtype=torch.int32)
    model.train()
    exact = model(*inputs, seeds)
    model.precision = precision
    with monkeypatch.context() as patch:
        patch.setattr(torch.compiler, "is_compiling", lambda: True)  # whose normalisation hands on float32
        expected = model(*inputs, seeds)
    assert (expected - exact).norm() < (1e-5 if precision is Precision.FP32 else 2**-5) * exact.norm()
    torch.compiler.reset()
    compiled = torch.compile(model, backend=backend, fullgraph=True, dynamic=False)
    torch.testing.assert_close(compiled(*inputs, seeds), expected, rtol=1e-4, atol=1e-5)


def test_only_long_work_on_a_gpu_is_compiled(monkeypatch, tmp_path):
    compiled, said = [], []
    model = UNet(NARROW)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    monkeypatch.setattr(model, "compile", lambda **how: compiled.append(how))
    monkeypatch.setattr(device, "missing_compiler", lambda: None)
    gpu, passes = torch.device("cuda"), device.COMPILE_BREAK_EVEN_FLOPS / device.network_cost(NARROW).flops
    assert not compile_if_worthwhile(model, 2 * passes, CPU, said.append)
    assert not compile_if_worthwhile(model, passes / 2, gpu, said.append)
    assert not compiled
    assert compile_if_worthwhile(model, 2 * passes, gpu, said.append)
    assert len(compiled) == 1
    assert device.os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(tmp_path / "resources/compiled")
    monkeypatch.setattr(device, "missing_compiler", lambda: "Triton")
    assert not compile_if_worthwhile(model, 2 * passes, gpu, said.append)
    assert said == ["the network is not compiled, which would be faster: there is no Triton"]
