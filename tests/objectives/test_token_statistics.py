"""Statistics from logits: known values, accurate to fp32 in every dtype, exact gradients, no copy of the logits."""

import math

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from entropo_plugin.objectives import token_statistics

INF = math.inf
# mean log-probs, entropies of at most 12 nats; the second moment reaches 145 nats^2
CLOSE = {"log_prob": 1e-5, "entropy": 1e-5, "collision": 1e-5, "second_moment": 1e-4}


def plain(logits, tokens):
    """The definitions, in fp64."""
    log_prob = logits.double().log_softmax(1)
    prob, log_prob = log_prob.exp(), log_prob.clamp(min=-1e4)
    entropy, second = -(prob * log_prob).sum(1), (prob * log_prob**2).sum(1)
    return log_prob.gather(1, tokens[:, None])[:, 0], entropy, prob.square().sum(1), second


def peaked(rows, vocabulary, dtype, height=12.0):
    """Logits as a language model has them: a few likely tokens over a long tail, some of it masked."""
    draw = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(rows, vocabulary, generator=draw)
    logits[:, :8] += height
    logits[:, 9::7] = -INF
    return logits.to(dtype), torch.randint(0, 9, (rows,), generator=draw)


@pytest.mark.parametrize(
    ("logits", "token", "expected"),
    [
        ([5.0, 5.0, 5.0, 5.0], 2, (-1.386294, 1.386294, 0.25, 1.921812)),
        ([0.0, 1.0986123], 1, (-0.287682, 0.562335, 0.625, 0.542524)),
        ([3.0, -INF, 3.0, -INF], 0, (-0.693147, 0.693147, 0.5, 0.480453)),
        ([3.0, -INF, 3.0, -INF], 1, (-INF, 0.693147, 0.5, 0.480453)),
        ([0.0, -3.4e38, 0.0, -3.4e38], 0, (-0.693147, 0.693147, 0.5, 0.480453)),
        ([3.4e38, -3.4e38], 0, (0.0, 0.0, 1.0, 0.0)),
        ([-7.0], 0, (0.0, 0.0, 1.0, 0.0)),
    ],
)
def test_known_values(logits, token, expected):
    statistics = token_statistics(torch.tensor([logits]), torch.tensor([token]))
    assert [float(each) for each in statistics] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("broken", [[math.nan, 0.0, 0.0], [INF, 0.0, 0.0], [-INF, -INF, -INF]])
def test_a_row_without_a_distribution_is_nan_and_leaves_the_others(broken):
    logits = torch.tensor([[0.0, 0.0, -INF], broken, [0.0, 0.0, -INF]])
    statistics = token_statistics(logits, torch.tensor([0, 1, 0]))
    for values in statistics:
        assert values.isnan().tolist() == [False, True, False]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize(("rows", "vocabulary"), [(2, 262_144), (5, 151_936), (700, 1_000)])
def test_accurate_to_fp32_over_large_vocabularies(dtype, rows, vocabulary):
    logits, tokens = peaked(rows, vocabulary, dtype)
    statistics = token_statistics(logits, tokens)
    for (name, values), exact in zip(statistics._asdict().items(), plain(logits, tokens), strict=True):
        assert values.dtype == torch.float32
        assert float((values.double() - exact).abs().max()) < CLOSE[name], name


def test_accurate_for_flat_distributions():
    logits, tokens = peaked(2, 151_936, torch.float32, height=0.0)
    statistics = token_statistics(logits / 10, tokens)
    for (name, values), exact in zip(statistics._asdict().items(), plain(logits / 10, tokens), strict=True):
        assert float((values.double() - exact).abs().max()) < CLOSE[name], name


def test_one_row_does_not_depend_on_the_others():
    logits, tokens = peaked(40, 20_000, torch.float32)
    together, alone = token_statistics(logits, tokens), token_statistics(logits[20:21], tokens[20:21])
    assert [float(each[20]) for each in together] == [float(each) for each in alone]


@pytest.mark.parametrize("masked", [False, True])
def test_gradients_are_those_of_the_definitions(masked):
    logits, tokens = torch.randn(4, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(1)), torch.arange(4)
    logits[:, 8] = -INF if masked else 0.0
    weight = torch.randn(4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(2))

    def gradient(function):
        at = logits.clone().requires_grad_()
        sum((row * values).sum() for row, values in zip(weight, function(at, tokens), strict=True)).backward()
        return at.grad

    torch.testing.assert_close(gradient(token_statistics), gradient(plain), atol=1e-12, rtol=0)


def test_gradcheck():
    logits = torch.randn(3, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(3), requires_grad=True)
    assert torch.autograd.gradcheck(lambda at: tuple(token_statistics(at, torch.tensor([0, 3, 6]))), logits)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_the_gradient_has_the_dtype_of_the_logits(dtype):
    logits = torch.tensor([[0.0, 0.0]], dtype=dtype, requires_grad=True)
    token_statistics(logits, torch.tensor([1])).log_prob.sum().backward()
    assert logits.grad.dtype == dtype and logits.grad.tolist() == [[-0.5, 0.5]]


class Allocations(TorchDispatchMode):
    """Bytes of what torch makes: all of it, whenever it is freed, and the largest."""

    def __init__(self):
        super().__init__()
        self.whole, self.largest = 0, 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        given = [memory._cdata for memory in _memories((args, kwargs))]
        for memory in _memories(result):
            if memory._cdata not in given:
                self.whole, self.largest = self.whole + memory.nbytes(), max(self.largest, memory.nbytes())
        return result


def _memories(tree):
    return [each.untyped_storage() for each in tree_leaves(tree) if isinstance(each, torch.Tensor)]


def test_less_than_a_hundredth_of_the_logits_is_allocated():
    logits, tokens = torch.zeros(512, 131_072, dtype=torch.bfloat16), torch.zeros(512, dtype=torch.int64)
    with Allocations() as made:
        token_statistics(logits, tokens)
    assert 0 < made.whole < 0.01 * logits.nbytes


def test_the_gradient_is_the_only_large_tensor_of_the_backward_pass():
    logits, tokens = peaked(64, 32_768, torch.bfloat16)
    statistics = token_statistics(logits.requires_grad_(), tokens)
    with Allocations() as made:
        (statistics.log_prob + statistics.entropy).sum().backward()
    assert made.largest == logits.nbytes


def test_nothing_of_the_vocabularys_size_is_kept_but_the_logits():
    kept, logits = [], torch.zeros(8, 1000, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda each: kept.append(each.numel()) or each, lambda each: each):
        token_statistics(logits, torch.zeros(8, dtype=torch.int64))
    assert sorted(kept) == [8, 8, 8, 8, 8, 8000]


def test_no_rows():
    assert [tuple(each.shape) for each in token_statistics(torch.zeros(0, 5), torch.zeros(0).long())] == [(0,)] * 4


def test_shapes_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match=r"\(2, 3, 5\) and tokens \(2, 3\).*Flatten the leading dimensions"):
        token_statistics(torch.zeros(2, 3, 5), torch.zeros(2, 3).long())
