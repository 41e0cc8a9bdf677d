"""Which target a run takes: the user's, else the one that its method's paper names."""

import pytest
from golden import run_of

from entropo_plugin.config import ConfigError
from entropo_plugin.control import Coefficient
from entropo_plugin.methods import Method, registry
from entropo_plugin.methods.active import describe


def steering(name, target):
    coefficient = Coefficient("a coefficient", "doubling", 0.1, 0.01, 1.0)
    body = {"name": name, "title": name, "own_target": target, "coefficients": lambda self: {name: coefficient}}
    return type(name, (Method,), body)


@pytest.fixture(autouse=True)
def three(monkeypatch):
    methods = {name: steering(name, to) for name, to in (("low", 0.1), ("low_too", 0.1), ("high", 0.3))}
    monkeypatch.setattr(registry, "_known", {**registry.known(), **methods})


def test_the_papers_target_where_the_user_sets_none():
    run = run_of("low", "low_too")
    assert run.loop.target.at(0.8) == 0.1
    assert "target 0.1 nats" in describe(run.methods, run.settings, run.methods[0].host)


def test_the_users_where_he_sets_one():
    assert run_of("low", target={"kind": "value", "value": 0.5}).loop.target.at(0.8) == 0.5
    assert run_of("low", target={"kind": "initial"}).loop.target.at(0.8) == 0.8
    assert run_of("low", target={"fraction": 0.5}).loop.target.at(0.8) == 0.4


def test_a_method_without_one_holds_the_initial_entropy():
    assert run_of("adapo").loop.target.at(0.8) == 0.8


@pytest.mark.parametrize(("other", "words"), [("high", "high to 0.3 nats"), ("adapo", "ADAPO to the initial entropy")])
def test_two_that_differ_need_the_users(other, words):
    with pytest.raises(ConfigError, match=f"low to 0.1 nats and {words}.*Set entropo.target.kind=initial"):
        run_of("low", other)
    assert run_of("low", other, target={"kind": "value", "value": 0.2}).loop.target.at(0.8) == 0.2


def test_a_method_that_follows_no_entropy_has_no_say():
    assert run_of("low", "top_entropy").loop.target.at(0.8) == 0.1
