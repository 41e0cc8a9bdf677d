"""The Triton kernels in Triton's interpreter, on the CPU: make triton, which keeps Triton beside the environment.

Without ``TRITON_INTERPRET=1`` they run on this machine's GPU.
"""

import importlib
import math
import os
import subprocess
import sys

import pytest
import torch

from entropo_plugin.objectives import token_statistics

pytestmark = pytest.mark.triton
MODULE = importlib.import_module("entropo_plugin.objectives.token_statistics")
INF = math.inf
DEVICE = "cpu" if os.environ.get("TRITON_INTERPRET") == "1" else "cuda"
DTYPES = [torch.bfloat16, torch.float16, torch.float32]


@pytest.fixture(autouse=True)
def kernels(monkeypatch):
    """The kernels in place of the blocks, as for logits on a GPU."""
    monkeypatch.setattr(MODULE, "_has_kernel", lambda logits: logits.dtype != torch.float64)


def peaked(rows, vocabulary, dtype):
    """Logits with a few likely tokens over a long tail, some of it masked; the largest comes last."""
    draw = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(rows, vocabulary, generator=draw)
    logits[:, -4:] += 12
    logits[:, 3:-4:7] = -INF
    tokens = vocabulary - 1 - torch.randint(0, 4, (rows,), generator=draw)
    return logits.to(DEVICE, dtype), tokens.to(DEVICE)


def exact(logits, tokens):
    """The torch version, in fp64."""
    return token_statistics(logits.double(), tokens)


def gradient(function, logits, tokens):
    """Of a sum that weighs every statistic of every row by another number."""
    at, weight = logits.clone().requires_grad_(), torch.linspace(-1, 1, 4 * len(logits), device=DEVICE).view(4, -1)
    sum((row * values).sum() for row, values in zip(weight, function(at, tokens), strict=True)).backward()
    return at.grad


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("rows", "vocabulary"), [(3, 9), (2, 2048), (3, 5000), (1, 40_001)])
def test_statistics_are_exact_to_fp32(dtype, rows, vocabulary):
    logits, tokens = peaked(rows, vocabulary, dtype)
    for values, right in zip(token_statistics(logits, tokens), exact(logits, tokens), strict=True):
        assert values.dtype == torch.float32
        assert float((values.double() - right).abs().max()) < 1e-5


@pytest.mark.parametrize(
    ("logits", "token", "expected"),
    [
        ([5.0, 5.0, 5.0, 5.0], 2, (-1.386294, 1.386294, 0.25, 1.921812)),
        ([0.0, 1.0986123], 1, (-0.287682, 0.562335, 0.625, 0.542524)),
        ([3.0, -INF, 3.0, -INF], 1, (-INF, 0.693147, 0.5, 0.480453)),
        ([-INF] * 3000 + [3.0, 3.0], 3000, (-0.693147, 0.693147, 0.5, 0.480453)),
        ([3.4e38, -3.4e38], 0, (0.0, 0.0, 1.0, 0.0)),
    ],
)
def test_known_values(logits, token, expected):
    statistics = token_statistics(torch.tensor([logits], device=DEVICE), torch.tensor([token], device=DEVICE))
    assert [float(each) for each in statistics] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("broken", [[math.nan, 0.0, 0.0], [INF, 0.0, 0.0], [-INF, -INF, -INF]])
def test_a_row_without_a_distribution_is_nan_and_leaves_the_others(broken):
    logits = torch.tensor([[0.0, 0.0, -INF], broken, [0.0, 0.0, -INF]], device=DEVICE)
    for values in token_statistics(logits, torch.tensor([0, 1, 0], device=DEVICE)):
        assert values.isnan().tolist() == [False, True, False]


@pytest.mark.parametrize(("dtype", "close"), [(torch.float32, 1e-6), (torch.float16, 1e-3), (torch.bfloat16, 8e-3)])
def test_gradients_are_those_of_the_torch_version(dtype, close):
    """Each within the rounding of its own dtype: a gradient is stored in the logits'."""
    logits, tokens = peaked(3, 5000, dtype)
    found, right = gradient(token_statistics, logits, tokens), gradient(exact, logits, tokens)
    assert found.dtype == dtype
    torch.testing.assert_close(found.double(), right.double(), atol=close, rtol=close)


def test_rows_need_not_lie_side_by_side():
    """On a GPU the compiler reads aligned rows in wider words and adds in another order: the last bit may differ."""
    logits, tokens = peaked(4, 3000, torch.float32)
    for view in (logits[::2], logits[:2].T.contiguous().T):
        apart, together = token_statistics(view, tokens[:2]), token_statistics(view.contiguous(), tokens[:2])
        torch.testing.assert_close(tuple(apart), tuple(together), rtol=0, atol=0 if DEVICE == "cpu" else 2e-6)
    assert [len(each) for each in token_statistics(logits[:0], tokens[:0])] == [0, 0, 0, 0]


COMPILE = """
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile
from entropo_plugin.objectives import token_statistics_triton as kernels

sizes = dict(count="i32", vocabulary="i32", stride="i32")
for dtype in ("bf16", "fp16", "fp32"):
    forward = dict(logits=f"*{dtype}", chosen=f"*{dtype}", made="*fp32", **sizes)
    backward = dict(logits=f"*{dtype}", tokens="*i64", log_total="*fp32", factors="*fp32", made=f"*{dtype}", **sizes)
    for kernel, signature in ((kernels._statistics, forward), (kernels._slope, backward)):
        built = compile(ASTSource(kernel, signature), GPUTarget("cuda", 90, 32), {"num_warps": kernels.WARPS})
        assert built.asm["cubin"]
"""


def test_the_kernels_compile_for_a_gpu_that_is_not_here(tmp_path):
    compiled = os.environ | {"TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", COMPILE], env=compiled, check=True)


def test_the_torch_version_stays_for_the_cpu_and_for_fp64(monkeypatch):
    monkeypatch.undo()
    assert not MODULE._has_kernel(torch.zeros(1, 2))
