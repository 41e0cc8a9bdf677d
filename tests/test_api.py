"""What a notebook calls: the public names, and what they say of shapes and signs that cannot be right."""

import inspect
import subprocess
import sys

import pytest
import torch

import entropo_plugin as ep
from entropo_plugin import monitor, objectives, shapes

P = torch.tensor([[0.5, 0.25, 0.125], [0.5, 0.25, 0.5], [0.25, 0.5, 0.5]])
LOGP, MASK = P.log(), torch.tensor([[1, 1, 1], [1, 1, 0], [1, 1, 1]])
ENTROPY = torch.tensor([[0.7, 1.1, 1.4], [0.7, 1.1, -9.0], [1.1, 0.7, 0.7]])
A = torch.tensor([1.0, -1.0, 0.5])
WIDE = A[:, None].expand_as(LOGP)


def test_the_names_are_there_and_importing_the_package_imports_nothing():
    code = "import sys, entropo_plugin\nassert set(entropo_plugin.__all__) < set(dir(entropo_plugin))\n"
    code += "print(*sorted({'torch', 'numpy', 'psutil'} & set(sys.modules)))\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"
    for name in ep.__all__:
        value = getattr(ep, name)
        assert value is getattr(ep, name) and value.__name__ == name and value.__doc__
    with pytest.raises(AttributeError, match="module 'entropo_plugin' has no attribute 'repo_q'"):
        _ = ep.repo_q


def test_the_types_that_an_editor_reads_are_the_names_that_are_offered():
    source = inspect.getsource(ep).partition("if TYPE_CHECKING:")[2].partition("def __getattr__")[0]
    listed = [
        word.strip("(),")
        for line in source.splitlines()
        for word in line.partition("import ")[2].split() or line.split()
    ]
    assert sorted({*listed} & {*ep.__all__}) == ep.__all__


CALLS = {
    "adapo": lambda f, a: f(LOGP, LOGP, a, MASK, low=0.2, high=0.2),
    "clip_sides": lambda f, a: f(LOGP, LOGP, a, MASK, low=0.2, high=0.2),
    "ce_gppo": lambda f, a: f(LOGP, LOGP, a, MASK, low=0.2, high=0.2, keep_low=0.5, keep_high=0.5),
    "unlikely_positive": lambda f, a: f(LOGP, LOGP, a, MASK, low=0.2, high=0.2),
    "clip_cov": lambda f, a: f(LOGP, LOGP, a, MASK, MASK > 0),
    "kl_cov": lambda f, a: f(LOGP, LOGP, a, MASK, MASK > 0),
    "micro_top": lambda f, a: f(LOGP, a, MASK, 0.5),
    "micro_band": lambda f, a: f(LOGP, LOGP, a, MASK, 0.5, (-1.0, 1.0)),
    "covariance": lambda f, a: f(LOGP, a, MASK),
    "positive_ceiling": lambda f, a: f(LOGP, a, MASK),
    "clip_cov_mask": lambda f, a: f(LOGP, a, MASK),
    "kl_cov_mask": lambda f, a: f(LOGP, a, MASK),
    "entropy_pull": lambda f, a: f(LOGP, ENTROPY, a, MASK),
    "step_cost": lambda f, a: f(a, LOGP, ENTROPY, MASK),
    "repo_r": lambda f, a: f(a, LOGP, 0.1),
    "repo_neutral": lambda f, a: f(a, LOGP, 0.1),
    "repo_matched": lambda f, a: f(a, LOGP, 0.1),
    "repo_anchored": lambda f, a: f(a, LOGP, LOGP, 0.1, MASK),
    "token_change": lambda f, a: f(LOGP, ENTROPY, a),
    "clip_kept": lambda f, a: f(a, LOGP, 0.2, 0.2),
}


@pytest.mark.parametrize("name", CALLS)
def test_one_advantage_a_response_is_refused_where_it_would_broadcast_along_the_wrong_axis(name):
    """Three responses of three tokens: torch would give token j of every response the advantage of response j."""
    function = getattr(objectives, name, None) or getattr(monitor, name, None) or monitor.dynamics.clip_kept
    CALLS[name](function, WIDE)
    with pytest.raises(ValueError, match=r"advantage has the shape \(3,\), expected \(3, 3\), .* advantage\[:, None\]"):
        CALLS[name](function, A)


def test_the_message_says_how_to_widen_it():
    with pytest.raises(ValueError) as error:
        ep.adapo(LOGP, LOGP, A, MASK, low=0.2, high=0.2)
    assert str(error.value) == (
        "adapo: advantage has the shape (3,), expected (3, 3), the shape of logp. One value a response: "
        "advantage[:, None].expand_as(logp)."
    )


def test_every_pure_function_of_two_tensors_checks_their_shapes():
    # the last has tensors of two shapes, and checks them by itself
    exempt = {"count_nonfinite", "quantile_band", "token_keys", "token_statistics"}
    for name in {*objectives.__all__} - exempt:
        function = getattr(objectives, name)
        if inspect.isfunction(function):
            tensors = [p for p in inspect.signature(function).parameters.values() if "Tensor" in str(p.annotation)]
            assert len(tensors) < 2 or hasattr(function, "__wrapped__") or name in {"clip_cov_mask", "kl_cov_mask"}, (
                name
            )


@pytest.mark.parametrize("shape", [(3,), (3, 1), (1, 3), (2, 3), (3, 3, 1)])
def test_any_other_shape_is_refused(shape):
    @shapes.same_shape("a", "b")
    def add(a, b=None, c=None):
        return a if b is None else a + b

    assert torch.equal(add(A), A) and torch.equal(add(A, c=WIDE), A) and torch.equal(add(A, b=2.0), A + 2)
    with pytest.raises(ValueError, match="add: [ab] has the shape"):
        add(WIDE, torch.zeros(shape))
    with pytest.raises(ValueError, match="add: [ab] has the shape"):
        add(b=torch.zeros(shape), a=WIDE)


def test_swapped_log_prob_and_entropy_are_noticed():
    """The padding holds an entropy of -9, which is not read."""
    right = ep.entropy_pull(LOGP, ENTROPY, WIDE, MASK)
    assert right == objectives.entropy_pull(LOGP, ENTROPY, WIDE, MASK)
    with pytest.raises(ValueError, match="entropy_pull: logp has the mean 0.938 nats, but no log-prob is above 0"):
        ep.entropy_pull(ENTROPY, LOGP, WIDE, MASK)
    with pytest.raises(ValueError, match="stand_in: entropy has the mean -1.08 nats, but no entropy is below 0. Are"):
        ep.stand_in(LOGP, entropy=LOGP)
    with pytest.raises(ValueError, match="covariance: logp has the mean .* or is it -log p?"):
        ep.covariance(-LOGP, WIDE, MASK)
    tokens = dict(responses=None, response_length=MASK.sum(1), uid=["a", "b", "c"], advantages=WIDE)
    ep.step_metrics(ep.StepTokens(MASK, LOGP, entropy=ENTROPY, **tokens))
    with pytest.raises(ValueError, match="step_metrics: old_log_probs has the mean"):
        ep.step_metrics(ep.StepTokens(MASK, ENTROPY, entropy=LOGP, **tokens))


def test_rounding_and_what_is_not_finite_are_no_swap():
    odd = torch.tensor([[0.01, -0.5, -torch.inf], [torch.nan, -0.5, -0.5]])
    assert ep.stand_in(odd, -0.01 * odd).shape == odd.shape
    assert ep.stand_in(torch.full((2, 2), torch.nan), torch.zeros(2, 2)).shape == (2, 2)


def test_the_masks_of_the_covariance_methods_in_one_call():
    """Products of the deviations from the means over eight tokens, mean A = 1.5/8; the largest is token (0, 0)'s."""
    cov = ep.covariance(LOGP, WIDE, MASK)
    chosen = ep.kl_cov_mask(LOGP, WIDE, MASK, ratio=0.25)
    assert chosen.sum() == 2 and set(cov[chosen].tolist()) == set(cov[MASK > 0].topk(2).values.tolist())
    assert not ep.kl_cov_mask(LOGP, WIDE, MASK).any()
    band = ep.clip_cov_mask(LOGP, WIDE, MASK, ratio=0.5, low=0.0, high=5.0)
    assert torch.equal(band, (cov >= 0) & (MASK > 0)) and 0 < band.sum() <= 4
    one = [ep.clip_cov_mask(LOGP, WIDE, MASK, ratio=0.125, low=-5, high=5, seed=seed) for seed in range(20)]
    assert {int(mask.sum()) for mask in one} == {1} and len(
        {mask.nonzero().flatten().tolist().__str__() for mask in one}
    ) > 3


def test_an_unknown_penalty_names_those_that_exist():
    with pytest.raises(ValueError, match=r"^kind='k4': expected one of abs, k2, k3\.$"):
        ep.kl_cov(LOGP, LOGP, WIDE, MASK, MASK > 0, kind="k4")
