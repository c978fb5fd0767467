"""What is counted from a network's sizes is what the network itself has."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from ddpm.compute.flops import INCEPTION_FLOPS, network_cost
from ddpm.config.registry import NETWORK_32, NETWORK_256
from ddpm.config.schema import NetworkConfig
from ddpm.unet import UNet

DEMO = {
    "image_size": 8, "channels": 1, "out_channels": 2, "ch": 16, "ch_mult": (1, 1), "num_res_blocks": 1,
    "attn_resolutions": (4,), "groups": 4,
}  # fmt: skip
NETWORKS = {
    name: NetworkConfig(**sizes)
    for name, sizes in {
        "cifar10": NETWORK_32,
        "cifar10, learned": {**NETWORK_32, "out_channels": 6},
        "256x256": NETWORK_256,
        "256x256, large": {**NETWORK_256, "ch": 192},
        "demo": DEMO,
        "demo, dropout": {**DEMO, "dropout": 0.5},
    }.items()
}
BATCH = 2


def forward(network: NetworkConfig, batch: int = BATCH) -> tuple[UNet, torch.Tensor]:
    """The network in training mode and its output for a batch, neither with any numbers in it."""
    with torch.device("meta"):
        model = UNet(network).train()
        x = torch.zeros(batch, network.channels, network.image_size, network.image_size)
        t, keys = torch.zeros(batch, dtype=torch.int64), torch.zeros(batch, dtype=torch.int32)
        return model, model(x, t, keys)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("cifar10", 35_746_307), ("cifar10, learned", 35_749_766), ("256x256", 113_673_219),
     ("256x256, large", 255_677_955)],
)  # fmt: skip
def test_parameters_are_the_papers(name, parameters):
    assert network_cost(NETWORKS[name]).parameters == parameters


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
def test_parameters_and_operations_are_the_networks(network):
    with FlopCounterMode(display=False) as counter:
        model, _ = forward(network)
    cost = network_cost(network)
    assert cost.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert BATCH * cost.flops == counter.get_total_flops()


def kept_by(network: NetworkConfig, batch: int) -> int:
    """Bytes. Each storage counts once, as it lies in memory, whatever views of it are kept."""
    kept = {}

    def keep(tensor):
        kept[tensor.untyped_storage()._cdata] = tensor.untyped_storage().nbytes()
        held.append(tensor)  # or its place would be given to the next
        return tensor

    held = []
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        forward(network, batch)
    return sum(kept.values())


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
def test_the_memory_that_training_keeps(network):
    """What is kept of weights and their sums does not grow with the batch."""
    of_an_image = kept_by(network, 2) - kept_by(network, 1)
    assert network_cost(network).kept == pytest.approx(of_an_image, rel=0.01)


def test_inceptions_operations():
    from torchvision.models import inception_v3

    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        inception_v3(aux_logits=False, init_weights=False).eval()(torch.zeros(1, 3, 299, 299))
    assert counter.get_total_flops() == pytest.approx(INCEPTION_FLOPS, rel=0.01)
