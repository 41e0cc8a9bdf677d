import logging
import re

import pytest
from runs import run_of

from entropo_plugin.hosts.verl.metrics.idle import Idle
from entropo_plugin.hosts.verl.startup.facts import REMEDIES


def idle(*methods, limit=3, **kind):
    return Idle(run_of(*methods, facts={"remedies": REMEDIES}, **kind).methods, limit)


def said(watch, caplog, *steps):
    caplog.clear()
    with caplog.at_level(logging.WARNING, "entropo_plugin"):
        for metrics in steps:
            watch.report(metrics)
    return caplog.text


SHIFT, SHARE, ABOVE = "entropo/shift", "entropo/selection/share", "entropo/clip/above_positive"
CASES = [
    ("repo_r", "vanilla", SHIFT, "REPO-R changed no advantage.*rollout.n"),
    ("repo_neutral", "vanilla", SHIFT, "model-based REPO changed no advantage"),
    ("clip_cov", "entropo_clip_cov", SHARE, r"Clip-Cov selected.* band \[1.0, 5.0\].*entropo.clip_cov.band=quantile"),
    ("clip_cov", "vanilla", SHARE, r"Clip-Cov selected.* band \[1.0, 5.0\].*entropo.clip_cov.band=quantile"),
    ("kl_cov", "entropo_kl_cov", SHARE, "KL-Cov selected no token.*Raise entropo.kl_cov.ratio"),
    ("adapo", "adapo", ABOVE, "no token reached ADAPO's upper bound.*ppo_mini_batch_size"),
]


@pytest.mark.parametrize(("method", "loss", "metric", "sentence"), CASES)
def test_it_is_said_once_after_the_limit_and_again_after_an_effect(method, loss, metric, sentence, caplog):
    watch, still, acting = idle(method, loss=loss), {metric: 0.0}, {metric: 0.5}
    assert said(watch, caplog, still, still) == ""
    assert re.search(f"for 3 steps {sentence}", said(watch, caplog, still))
    assert said(watch, caplog, *[still] * 10) == ""
    assert said(watch, caplog, acting, still, still) == ""
    assert re.search(sentence, said(watch, caplog, still))


def test_zero_steps_never_speaks(caplog):
    assert said(idle("repo_r", limit=0), caplog, *[{SHIFT: 0.0}] * 50) == ""


def test_a_metric_that_is_missing_is_no_idle_step(caplog):
    assert said(idle("repo_r"), caplog, *[{}] * 50) == ""


def test_each_method_of_a_run_speaks_for_itself(caplog):
    watch = idle("repo_r", "clip_cov", "adapo")
    text = said(watch, caplog, *[{SHIFT: 0.0, SHARE: 0.0, ABOVE: 0.0}] * 3)
    assert [word in text for word in ("REPO-R changed", "Clip-Cov selected", "no token reached ADAPO's")] == [True] * 3
