import pytest
import torch

from entropo_plugin.config import ConfigError, parse
from entropo_plugin.methods.active import activate
from entropo_plugin.methods.base import Host, Tokens
from entropo_plugin.pipeline import prepare_batch
from entropo_plugin.run import Run


def run(node=None, host=None):
    settings = parse({"methods": ["repo_anchored"]} | ({"anchored": node} if node else {}))
    return Run(activate(settings, host or Host(estimator="grpo")), settings)


def tokens():
    """Two responses of two tokens, the last one masked; log(p / p0) is .5, -1, .25."""
    logp = torch.tensor([[-0.5, -2.0], [-1.0, -3.0]])
    reference = torch.tensor([[-1.0, -1.0], [-1.25, -9.0]])
    mask, advantage = torch.tensor([[1, 1], [1, 0]]), torch.tensor([[1.0, 1.0], [-1.0, 0.0]])
    return Tokens(logp, mask, logp, advantage, ref_log_prob=reference)


def test_the_advantage_pays_for_the_distance_to_the_reference():
    prepared = prepare_batch(run({"b": 0.2}), tokens())
    torch.testing.assert_close(prepared.advantage, torch.tensor([[0.9, 1.2], [-1.05, 0.0]]))
    assert prepared.metrics["entropo/shift"] == pytest.approx((0.1 + 0.2 + 0.05) / 3)


def test_centred_the_batch_pays_nothing_in_the_mean():
    prepared = prepare_batch(run({"b": 0.3, "centre": True}), tokens())
    mean = -0.25 / 3
    wanted = torch.tensor([[1 - 0.3 * (0.5 - mean), 1 - 0.3 * (-1 - mean)], [-1 - 0.3 * (0.25 - mean), 0.0]])
    torch.testing.assert_close(prepared.advantage, wanted)


def test_without_weight_nothing_changes_to_the_last_bit():
    assert torch.equal(prepare_batch(run({"b": 0.0}), tokens()).advantage, tokens().advantage)


def test_b_follows_the_entropy_or_a_schedule():
    steered = run({"law": "additive", "delta": 0.05})
    used = []
    for entropy in (1.0, 0.9, 0.8, 1.2):
        used.append(steered.coefficients()["repo_anchored"]["anchor"])
        steered.loop.observe(entropy, 1)
        steered.loop.updated = True
        steered.end_step(len(used))
    assert used == pytest.approx([0.1, 0.1, 0.15, 0.2])


def test_without_a_reference_it_is_refused_with_the_key_to_set():
    host = Host(estimator="grpo", fields=frozenset({"entropy"}), remedies={"ref_log_prob": "Set use_kl_loss=true."})
    with pytest.raises(ConfigError, match="anchored REPO needs the reference policy's log-probs .*Set use_kl"):
        run(host=host)


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ({"b": -1.0}, "entropo.anchored.b=-1.0: out of range"),
        ({"low": 0.5, "high": 0.1}, "entropo.anchored.low=0.5 exceeds entropo.anchored.high=0.1"),
        ({"law": "additive", "b": 2.0}, r"entropo.anchored.b=2.0 lies outside \[0.0, 1.0\]"),
        ({"law": "annealed"}, "entropo.anchored.law=annealed needs entropo.anchored.anneal.kind"),
    ],
)
def test_wrong_settings_are_refused_by_name(node, message):
    with pytest.raises(ConfigError, match=message):
        run(node)
