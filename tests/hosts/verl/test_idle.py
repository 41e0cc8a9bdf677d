import logging

import pytest

from entropo_plugin.config import parse
from entropo_plugin.hosts.verl.run import Run
from entropo_plugin.hosts.verl.startup.plan import Plan

NODE = {"idle_steps": 3}


def run_of(estimator=None, loss=None, **node):
    return Run(Plan(estimator, parse(NODE | node), 1e-4, 0.05, loss))


def said(run, caplog, *steps):
    caplog.clear()
    with caplog.at_level(logging.WARNING, "entropo_plugin"):
        for metrics in steps:
            run.report_idle(metrics)
    return caplog.text


CASES = [
    (("repo_r", None), {"entropo/shift": 0.0}, "repo_r changed no advantage.*rollout.n"),
    (
        (None, "entropo_clip_cov"),
        {"entropo/selection/share": 0.0},
        r"band \[1.0, 5.0\].*entropo.clip_cov.band=quantile",
    ),
    (
        (None, "entropo_kl_cov"),
        {"entropo/selection/share": 0.0},
        "kl_cov selected no token.*Raise entropo.kl_cov.ratio",
    ),
    (
        (None, "adapo"),
        {"entropo/clip/above_positive": 0.0},
        "no token reached ADAPO's upper bound.*ppo_mini_batch_size",
    ),
]


@pytest.mark.parametrize(("plan", "metrics", "sentence"), CASES)
def test_it_is_said_once_after_the_limit_and_again_after_an_effect(plan, metrics, sentence, caplog):
    import re

    run, acting = run_of(*plan), dict.fromkeys(metrics, 0.5)
    assert said(run, caplog, metrics, metrics) == ""
    assert re.search(sentence, said(run, caplog, metrics))
    assert said(run, caplog, *[metrics] * 10) == ""
    assert said(run, caplog, acting, metrics, metrics) == ""
    assert re.search(sentence, said(run, caplog, metrics))


def test_zero_steps_never_speaks(caplog):
    assert said(run_of("repo_r", idle_steps=0), caplog, *[{"entropo/shift": 0.0}] * 50) == ""
