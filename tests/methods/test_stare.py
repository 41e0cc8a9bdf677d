"""STARE: literal numbers, gate, weights that adapt, and what is refused."""

import pytest
import torch
from golden import ADVANTAGE, LOGP, OLD, prepared, run_of, same, steps, train, vanilla

from entropo_plugin.config import ConfigError, parse
from entropo_plugin.methods.active import describe, remarks


def weights(entropy=0.2, target=None, **settings):
    run = run_of("stare", entropy=entropy, stare={"share": 0.25} | settings, target=target or {})
    return prepared(run).advantage / torch.where(ADVANTAGE == 0, torch.ones_like(ADVANTAGE), ADVANTAGE)


def test_the_golden_loss():
    run = run_of("stare", entropy=0.2, stare={"share": 0.25})
    advantage = prepared(run).advantage
    assert advantage[0].tolist() == pytest.approx([1.5, 1.5, 1.5, 1.65])
    assert float(vanilla(LOGP, advantage)) == pytest.approx(-0.661390, abs=1e-6)
    assert torch.autograd.gradcheck(lambda x: vanilla(x, advantage), LOGP.clone().requires_grad_())


def test_two_sided_attenuates_the_surprising_wrong_ones():
    """A third of three tokens is one: the second, of log-prob -4."""
    found = weights(share=0.34, two_sided=True)
    assert found[1].tolist() == pytest.approx([1, 0.9, 1, 0]) and found[0].tolist() == pytest.approx([1, 1, 1, 1.1])


def test_at_or_above_the_target_the_gate_is_shut():
    assert weights(entropy=0.3)[0].tolist() == weights(entropy=0.9)[0].tolist() == [1, 1, 1, 1]
    assert weights(entropy=float("nan"))[0].tolist() == [1, 1, 1, 1]
    assert weights(entropy=0.9, target={"kind": "value", "value": 1.0})[0, 3] == pytest.approx(1.1)


def test_the_weights_move_apart_below_the_target_and_together_above_it():
    run = run_of("stare", stare={"law": "additive", "two_sided": True})
    metrics = steps(run, 0.2, 0.25, 0.4, 0.3)
    assert [each["entropo/stare_weight"] for each in metrics] == pytest.approx([1.1, 1.11, 1.12, 1.11])
    assert [each["entropo/stare_negative_weight"] for each in metrics] == pytest.approx([0.9, 0.89, 0.88, 0.89])
    assert [each["entropo/stare_gate"] for each in metrics] == [1, 1, 0, 0]
    assert metrics[-1]["entropo/stare_weight_next"] == pytest.approx(1.11)


def test_the_weights_stay_within_their_bounds():
    run = run_of("stare", stare={"law": "additive", "two_sided": True, "delta": 0.3})
    low = steps(run, 0.1, 0.1)[-1]
    assert (low["entropo/stare_weight_next"], low["entropo/stare_negative_weight_next"]) == (1.5, 0.5)
    high = steps(run, *[0.9] * 3)[-1]
    assert (high["entropo/stare_weight_next"], high["entropo/stare_negative_weight_next"]) == (1.0, 1.0)


def test_equal_surprisals_are_chosen_by_response_not_by_row():
    run = run_of("stare", entropy=0.2, stare={"share": 0.25})
    level = {"log_prob": torch.full_like(OLD, -1.0), "old_log_prob": torch.full_like(OLD, -1.0)}
    positive = torch.ones_like(ADVANTAGE)
    first = prepared(run, advantage=positive, **level).advantage
    other = prepared(
        run, advantage=positive, mask=torch.tensor([[1, 1, 1, 0], [1] * 4]), keys=("b_0_0", "a_0_0"), **level
    )
    assert int((first > 1).sum()) == 1 and torch.equal(first, other.advantage.flip(0))


def test_a_weight_of_1_is_verls_loss_to_the_last_bit(monkeypatch):
    leaves = {"entropo__stare__weight": 1.0, "entropo__target__kind": "value", "entropo__target__value": 1.94}
    ours, metrics = train(monkeypatch, "+entropo=stare", **leaves)
    assert same(ours, train(monkeypatch)[0]) and metrics["entropo/stare_gate"] == 1
    (warning,) = remarks(run_of("stare", stare={"weight": 1.0}).methods)
    assert "leaves every advantage as it is" in warning


def test_its_target_is_the_papers():
    run = run_of("stare")
    assert "target 0.3 nats" in describe(run.methods, run.settings, run.methods[0].host)
    assert "entropo/stare_gate" in run.methods[0].idle()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"weight": 0.9}, "entropo.stare.weight=0.9: out of range"),
        ({"negative_weight": 1.1}, "entropo.stare.negative_weight=1.1: out of range"),
        ({"share": 2.0}, "entropo.stare.share=2.0: out of range"),
        ({"law": "additive", "weight": 2.0}, "entropo.stare.weight=2.0 exceeds entropo.stare.weight_max=1.5"),
        (
            {"law": "additive", "two_sided": True, "negative_weight": 0.4},
            "negative_weight=0.4 lies below entropo.stare.negative_weight_min",
        ),
        ({"law": "pi"}, "not allowed"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, words):
    with pytest.raises(ConfigError, match=words):
        parse({"stare": settings})
