"""Costs of networks against counts by hand, with and without zeros."""

import pytest
import timm
import torch
from torch import Tensor, nn

import lkd  # noqa: F401
from lkd.models.cost import cost
from lkd.models.slak import SLaK
from lkd.sparse import SparseTraining


def halved(weight: Tensor) -> None:
    """Set every second entry to 0."""
    weight.data.view(-1)[::2] = 0


def test_cost_of_nets_counted_by_hand() -> None:
    linear = nn.Sequential(nn.Flatten(), nn.Linear(48, 10))
    dense = {"nonzero_parameters": 490, "nonzero_macs": 480}
    assert vars(cost(linear, 3, (4, 4))) == {"parameters": 490, "macs": 480, **dense}
    grouped, macs = nn.Conv2d(4, 6, (3, 1), stride=2, padding=(1, 0), groups=2), 6 * 2 * 3 * (4 * 5)
    dense = {"nonzero_parameters": 42, "nonzero_macs": macs}
    assert vars(cost(grouped, 4, (8, 10))) == {"parameters": 42, "macs": macs, **dense}


def test_cost_of_attention_counts_both_matrix_products() -> None:
    """One ViT block on N = 64 tokens of C = 64: 12 N C^2 in linear layers and 2 N^2 C in attention."""
    one, two = (cost(timm.create_model("mini_vit", depth=depth), 3, (32, 32)).macs for depth in (1, 2))
    assert two - one == 12 * 64 * 64**2 + 2 * 64**2 * 64


def test_cost_leaves_the_model_as_it_was() -> None:
    model = timm.create_model("mini_convnext_nano").train()
    state = {key: value.clone() for key, value in model.state_dict().items()}
    cost(model, 3, (32, 32))
    assert model.training and all(torch.equal(value, state[key]) for key, value in model.state_dict().items())


def test_cost_leaves_each_module_in_its_mode_and_takes_a_network_without_weights() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).train()
    model[1].eval()
    cost(model, 3, (8, 8))
    assert [module.training for module in model] == [True, False]
    assert cost(nn.Flatten(), 3, (8, 8)).macs == 0


# Without the zeros --------------------------------------------------------------------------------------------------


def test_zeros_of_matrices_and_kernels_are_left_out_and_those_of_vectors_count() -> None:
    model = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.Flatten(), nn.Linear(64, 10))
    halved(model[0].weight)
    model[2].weight.data[:3] = 0
    nn.init.zeros_(model[2].bias)
    counted = cost(model, 2, (4, 4))
    assert (counted.parameters, counted.macs) == (76 + 650, 72 * 16 + 640)
    assert counted.nonzero_parameters == 36 + 4 + 448 + 10
    assert counted.nonzero_macs == 36 * 16 + 448


@pytest.mark.parametrize("layer", [nn.Conv2d(2, 4, 4), nn.Conv2d(2, 4, 4, bias=False)])
def test_a_single_layer_counts_too(layer: nn.Conv2d) -> None:
    halved(layer.weight)
    assert cost(layer, 2, (4, 4)).nonzero_macs == 64


def test_attention_counts_whole() -> None:
    model = timm.create_model("mini_vit", depth=1, in_chans=3)
    dense = cost(model, 3, (32, 32))
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            nn.init.zeros_(module.weight)
    assert dense.nonzero_macs == dense.macs
    assert cost(model, 3, (32, 32)).nonzero_macs == 2 * 64**2 * 64


def test_each_branch_of_a_large_kernel_counts_by_its_own_share() -> None:
    model = SLaK(1, 10, dims=(8,), depths=(1,), kernel_sizes=(9,), small_kernel=5, patch_size=2)
    dense = cost(model, 1, (32, 32))
    kernel = model.stages[0][0].large_kernel
    halved(kernel.LoRA1.conv.weight)
    nn.init.zeros_(kernel.small_conv.conv.weight)
    counted = cost(model, 1, (32, 32))
    assert dense.macs - counted.nonzero_macs == 16**2 * 8 * (9 * 5 / 2 + 5 * 5)
    assert (counted.macs, counted.parameters) == (dense.macs, dense.parameters)


@pytest.mark.slow
def test_the_sparse_slak_tiny_has_the_published_30_million_weights_and_stores_51() -> None:
    model = SLaK(width_factor=1.3)
    sparse = SparseTraining(model, steps=10, sparsity=0.4)
    sparse.start(torch.randn(2, 3, 32, 32), torch.arange(2))
    counted = cost(model, 3, (32, 32))
    assert counted.parameters == 50_703_838
    assert sum(weight.numel() for weight in sparse.parameters.values()) == 50_576_524
    assert 30_400_000 < counted.nonzero_parameters < 30_500_000


def test_sparse_training_changes_what_is_not_zero_and_not_what_is_stored() -> None:
    torch.manual_seed(0)
    model = SLaK(1, 10, dims=(16, 32), depths=(1, 1), kernel_sizes=(9, 7), small_kernel=5, patch_size=2)
    dense = cost(model, 1, (32, 32))
    vectors = sum(p.numel() for p in model.parameters() if p.ndim == 1)
    SparseTraining(model, steps=10, sparsity=0.4).start(torch.randn(8, 1, 32, 32), torch.arange(8))
    counted = cost(model, 1, (32, 32))
    assert (counted.parameters, counted.macs) == (dense.parameters, dense.macs)
    expected = 0.6 * (dense.parameters - vectors) + vectors
    assert counted.nonzero_parameters == pytest.approx(expected, rel=0.02)
    assert 0.3 * dense.macs < counted.nonzero_macs < 0.9 * dense.macs
