"""Sums and ranks that no order of the tokens changes."""

import math

import numpy as np
import pytest
import torch

from entropo_plugin.objectives import ResponseKeys, token_keys
from entropo_plugin.objectives.exact import exact_mean, quantile, ranked, row_blocks


def test_a_mean_of_exact_numbers_is_exact():
    values = torch.tensor([[0.5, -2.0, 8.0], [1.0, math.nan, 0.25]])
    kept = torch.tensor([[True, True, False], [True, False, True]])
    assert exact_mean(values, kept) == -0.0625
    assert exact_mean(values, kept, absolute=True) == 0.9375
    assert exact_mean(values, kept & False) == 0.0
    assert exact_mean(torch.zeros(2, 0), torch.ones(2, 0, dtype=torch.bool)) == 0.0


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_no_order_and_no_cut_changes_a_bit_of_the_mean(scale):
    draw = torch.Generator().manual_seed(0)
    values = torch.randn(300, 700, generator=draw, dtype=torch.float64) * scale
    kept = torch.rand(300, 700, generator=draw) < 0.9
    order = torch.randperm(values.numel(), generator=draw)
    mean = exact_mean(values, kept)
    assert mean == exact_mean(values.flatten()[order].view(700, 300), kept.flatten()[order].view(700, 300))
    assert mean == pytest.approx(math.fsum(values[kept].tolist()) / int(kept.sum()), rel=1e-9)


@pytest.mark.parametrize("size", [(1, 7), (40, 5000)])
def test_ranks_are_those_of_sorted_values(size):
    draw = torch.Generator().manual_seed(1)
    values = torch.randn(*size, generator=draw).double().round(decimals=2)
    values[:, ::3] = math.nan
    kept = values[~values.isnan()].sort().values
    ranks = sorted({0, 1, len(kept) // 2, len(kept) - 2, len(kept) - 1})
    assert ranked(values, ranks) == kept[ranks].tolist()


def test_ranks_are_found_where_the_sample_misleads():
    values = torch.zeros(1, 1 << 18, dtype=torch.float64)
    values[0, 1::4] = torch.arange(1.0, (1 << 16) + 1)
    assert ranked(values, [(1 << 18) - 1, (1 << 18) - (1 << 16), 0]) == [65536.0, 1.0, 0.0]


@pytest.mark.parametrize("share", [0.0, 0.1, 0.8, 0.9999, 1.0])
def test_a_quantile_is_numpys(share):
    values = torch.rand(20, 50, generator=torch.Generator().manual_seed(2)).double()
    assert quantile(values, share) == pytest.approx(float(np.quantile(values.numpy(), share)), rel=1e-15)
    assert quantile(values * math.nan, share) == 0.0


def test_blocks_are_all_rows_once():
    assert [(each.start, each.stop) for each in row_blocks(torch.zeros(5, 1 << 14))] == [(0, 2), (2, 4), (4, 6)]
    assert len(list(row_blocks(torch.zeros(3, 1 << 20)))) == 3
    assert list(row_blocks(torch.zeros(0, 4))) == []


def test_keys_are_the_same_at_single_places():
    keys, table = ResponseKeys(["a", "b"], 3, 5), token_keys(["a", "b"], 4, 3, 5)
    rows, positions = torch.tensor([1, 0, 1]), torch.tensor([3, 0, 1])
    assert torch.equal(keys[rows, positions], table[rows, positions])
    assert torch.equal(keys.of(torch.tensor([1]))[torch.tensor([0]), torch.tensor([2])], table[1, 2:3])
