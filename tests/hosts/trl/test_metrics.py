"""TRL's loggers get the metrics of the one dictionary under its names: all but those that only verl gives."""

import re

from trl_runs import config, data, model, trainer

from entropo_plugin.methods.active import coefficients
from entropo_plugin.metric_names import METRICS, at_bound, coefficient, next_value

# a run on bf16 logits, one whose entropy changes have explained themselves, a step without a token, a broken reward
SOMETIMES = {
    "entropo/precision/entropy_error_rms",
    "entropo/dynamics/slope",
    "entropo/skipped",
    "entropo/dropped_share",
}
# verl's filter of prompts, and the log-probs of vLLM, as docs/metrics.md says
NOT_HERE = ("entropo/kept/", "entropo/mismatch/")
SIDES = {f"entropo/clip/{side}" for side in ("below_negative", "above_positive", "above_negative", "below_positive")}
METHODS = {f"entropo/selection/{name}" for name in ("share", "dropped", "weight", "ceiling")}


def family(name):
    return re.sub(r"(?<=decile_)\d+$", "N", re.sub(r"(?<=pass_at/)\d+$", "K", name))


def even(completion_ids, **unused):
    return [float(sum(ids) % 2 == 0) for ids in completion_ids]


def test_the_names_are_those_of_the_dictionary(tmp_path):
    entropo = {"methods": ["repo_r", "adapo", "clip_cov"]}
    changes = dict(num_iterations=2, max_steps=16, eval_strategy="steps", eval_steps=1, per_device_eval_batch_size=8)
    run = trainer(config(tmp_path, entropo, **changes), model=model(1), reward_funcs=even, eval_dataset=data(2))
    run.train()
    found = {family(name) for entry in run.state.log_history for name in entry if name.startswith("entropo/")}
    own = {kind(name) for name in coefficients(run.plan.methods) for kind in (coefficient, next_value, at_bound)}
    assert found - set(METRICS) - own == SIDES | METHODS | {"entropo/clip/dual"}
    missing = {name for name in map(family, METRICS) if not name.startswith(NOT_HERE)} - found
    assert missing - SOMETIMES == {"entropo/clip/SIDE"}
