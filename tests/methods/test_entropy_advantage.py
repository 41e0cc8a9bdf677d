"""The bonus of entropy on the advantage: literal numbers, its bound, and where it cannot act."""

import pytest
import torch
from golden import MASK, prepared, run_of, same, train

from entropo_plugin.config import ConfigError, parse
from entropo_plugin.methods.active import remarks

GOLDEN = [[1.7, 1.98, 1.58, 2.25], [-0.38, -0.25, -0.46, 0.0]]


def shaped(**settings):
    return prepared(run_of("entropy_advantage", entropy_advantage=settings)).advantage


def test_the_golden_advantages():
    torch.testing.assert_close(shaped(), torch.tensor(GOLDEN, dtype=torch.float64), atol=1e-9, rtol=0)


def test_no_sign_changes():
    assert torch.equal(shaped(alpha=100.0, kappa=1.0)[1], torch.zeros(4, dtype=torch.float64))
    assert torch.equal(shaped(alpha=100.0)[0], torch.full((4,), 2.25, dtype=torch.float64))
    assert torch.equal(shaped(alpha=100.0).sign() * MASK, prepared(run_of()).advantage.sign())


def test_alpha_0_is_verls_loss_to_the_last_bit(monkeypatch):
    ours, metrics = train(monkeypatch, "+entropo=entropy_advantage", entropo__entropy_advantage__alpha=0.0)
    assert same(ours, train(monkeypatch)[0]) and metrics["entropo/shift"] == 0
    (warning,) = remarks(run_of("entropy_advantage", entropy_advantage={"alpha": 0.0}).methods)
    assert "alpha=0" in warning


@pytest.mark.parametrize("settings", [{"alpha": -0.1}, {"kappa": 0.9}, {"kappa": 0.0}])
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(ConfigError, match="entropo.entropy_advantage.*out of range"):
        parse({"entropy_advantage": settings})
