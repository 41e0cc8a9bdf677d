"""verl's estimators and losses with every method: each pair of them trains, or is refused with the reason."""

from itertools import combinations, product

import harness
import pytest
import torch
from omegaconf import open_dict
from verl.trainer.ppo.core_algos import ADV_ESTIMATOR_REGISTRY, POLICY_LOSS_REGISTRY

from entropo_plugin.config import ConfigError
from entropo_plugin.hosts.verl.compat import fed_estimators
from entropo_plugin.methods.base import Method
from entropo_plugin.methods.registry import estimators, known, losses

# where a patched verl feeds them (patches/0001), its own tests train them
HERE = [name for name in ADV_ESTIMATOR_REGISTRY if name not in fed_estimators()]
UNFED = ("gdpo", "remax", "optimal_token_baseline", "tir_optimal_token_baseline")
LOSSES = [name for name in POLICY_LOSS_REGISTRY if name != "entropo"]
METHODS = [None, *known()]
COMMON = {
    "actor_rollout_ref__rollout__calculate_log_probs": False,
    "actor_rollout_ref__rollout__n": 2,
    "data__train_batch_size": 2,
    # every field that a method can need, and the stock loss as it is
    "actor_rollout_ref__actor__calculate_entropy": True,
    "actor_rollout_ref__actor__use_kl_loss": True,
    "actor_rollout_ref__actor__kl_loss_coef": 0.0,
    "actor_rollout_ref__actor__ppo_mini_batch_size": 1,
    "actor_rollout_ref__actor__ppo_micro_batch_size_per_gpu": 2,
}
# under which a method finds tokens in a batch of this size
SETTINGS = {
    "clip_cov": {"ratio": 0.2, "band": "quantile", "low_quantile": 0.1, "high_quantile": 1.0},
    "kl_cov": {"ratio": 0.2},
}


def pairs(*factors):
    """Rows with one value of each factor, so that every pair of values of two factors stands in one of them."""
    open_pairs = {
        (a, x, b, y) for a, b in combinations(range(len(factors)), 2) for x, y in product(factors[a], factors[b])
    }
    everything = list(product(*factors))
    while open_pairs:
        best = max(everything, key=lambda row: len(_of(row) & open_pairs))
        open_pairs -= _of(best)
        yield best


def _of(row):
    return {(a, row[a], b, row[b]) for a, b in combinations(range(len(row)), 2)}


def test_the_rows_cover_every_pair():
    rows = list(pairs("abc", "12", "xyz"))
    assert len(rows) == 9 and len(set(rows)) == 9
    for a, b in combinations(range(3), 2):
        assert {(row[a], row[b]) for row in rows} == set(product(("abc", "12", "xyz")[a], ("abc", "12", "xyz")[b]))


@pytest.fixture(scope="module")
def base():
    """Two prompts of two responses, two updates a step."""
    return harness.configuration("+entropo=monitor", **COMMON)


def active(estimator, loss, methods):
    """Classes of the methods of a combination: those listed, and those behind a door."""
    doors = [estimators().get(estimator), losses().get(loss)]
    return dict.fromkeys([*(known()[name] for name in methods), *(door for door in doors if door)])


def configured(base, estimator, loss, methods):
    running = [method.name for method in active(estimator, loss, methods)]
    with open_dict(base):
        base.algorithm.adv_estimator = estimator
        base.actor_rollout_ref.actor.policy_loss.loss_mode = loss
        base.trainer.v1.trainer_mode = "entropo_sync"
        base.entropo = {"methods": list(methods)} | {name: SETTINGS[name] for name in running if name in SETTINGS}
        if any(known()[name].own_target for name in running):
            # a run has one target, and the papers name different ones
            base.entropo.target = {"kind": "initial"}
    return base


def replaces_the_estimator(method):
    """A method that is an advantage estimator, and shapes nobody else's advantages."""
    return bool(method.estimator) and method.shape is Method.shape


def always_owns_the_loss(method):
    """A method whose policy loss makes way for no other."""
    return bool(method.loss_mode) and method.step_aside is Method.step_aside


def estimator_for(methods, default):
    """The estimator that these methods can run on."""
    return next((known()[name].estimator for name in methods if replaces_the_estimator(known()[name])), default)


def trains_or_says_why_not(config, monkeypatch, names):
    """Returns the refusal, which names a part of the combination, or None after a training."""
    try:
        training = harness.Training(config, monkeypatch)
    except ConfigError as error:
        assert any(name in str(error) for name in names), error
        return str(error)
    trains(training)
    return None


def trains(training):
    """Two steps of two updates with finite losses and gradients, of which every step moves the weights."""
    chooses = any(method.selects in ("global", "mini_batch") for method in training.trainer.plan.methods)
    for seed in range(2):
        before = training.policy.table.detach().clone()
        metrics = training.step(harness.sample(training.policy, prompts=2, group=2, seed=seed))
        assert not torch.equal(before, training.policy.table)
        assert metrics["entropo/tokens/nonfinite_share"] == 0
        shares = [value for name, value in metrics.items() if name.endswith("selection/share")]
        assert bool(shares and min(shares) > 0) == chooses
    assert len(training.ranks.losses) == 4 and torch.tensor(training.ranks.losses).isfinite().all()
    assert all(gradient.isfinite().all() for gradient in training.ranks.gradients)


def must_fail(estimator, loss, methods):
    """Words of the refusal of a combination that cannot work, by what the methods say of themselves; else None."""
    running = list(active(estimator, loss, methods))
    if estimator in UNFED:
        return f"algorithm.adv_estimator={estimator} needs "
    families = [method.family for method in running if method.family]
    if len(set(families)) < len(families):
        return "only one of them can run"
    if any(replaces_the_estimator(method) and method.estimator != estimator for method in running):
        return "gives the advantages here"
    if sum(map(always_owns_the_loss, running)) > 1:
        return "policy loss of their own"
    if loss in {name for method in running for name in method.same_as}:
        return f"loss_mode={loss}: verl's own {loss} chooses tokens already"
    return None


@pytest.mark.parametrize(("estimator", "loss", "method"), list(pairs(HERE, LOSSES, METHODS)))
def test_every_pair_trains_or_says_why_not(estimator, loss, method, base, monkeypatch):
    methods, expected = [method] if method else [], must_fail(estimator, loss, [method] if method else [])
    config = configured(base, estimator, loss, methods)
    refusal = trains_or_says_why_not(config, monkeypatch, [estimator, loss, *methods])
    assert expected is None or expected in (refusal or "")


@pytest.mark.parametrize(("first", "second"), combinations(known(), 2))
def test_two_methods_train_together_or_one_is_to_go(first, second, base, monkeypatch):
    estimator = estimator_for([first, second], "grpo")
    config = configured(base, estimator, "vanilla", [first, second])
    refusal = trains_or_says_why_not(config, monkeypatch, [first, second])
    assert (refusal is None) == (must_fail(estimator, "vanilla", [first, second]) is None), refusal


@pytest.mark.parametrize("method", known())
@pytest.mark.parametrize("estimator", ["grpo", "gae", "rloo", "reinforce_plus_plus"])
def test_every_method_acts_on_the_usual_estimators_and_verls_default_loss(method, estimator, base, monkeypatch):
    estimator = estimator_for([method], estimator)
    assert trains_or_says_why_not(configured(base, estimator, "vanilla", [method]), monkeypatch, []) is None


DOORS = [(name, "vanilla") for name in estimators()] + [("grpo", name) for name in losses()]


@pytest.mark.parametrize(("estimator", "loss"), DOORS)
def test_every_door_opens(estimator, loss, base, monkeypatch):
    assert trains_or_says_why_not(configured(base, estimator, loss, []), monkeypatch, []) is None


@pytest.mark.parametrize(
    ("estimator", "loss", "method", "words"),
    [
        ("grpo", "geo_mean", "repo_r", "loss_mode=geo_mean gives every token of a response the mean"),
        ("repo_d", "geo_mean", None, "loss_mode=geo_mean gives every token of a response the mean"),
        ("grpo", "geo_mean", "clip_cov", "which undoes what Clip-Cov does to single tokens"),
        ("grpo", "dro", "clip_cov", "single tokens cannot be dropped from it as Clip-Cov does"),
        ("grpo", "kl_cov", "top_entropy", "keeps its penalty on a token without advantage"),
        ("grpo", "entropo", "adapo", "loss_mode=entropo is not a loss by itself"),
        ("grpo", "entropo", None, "loss_mode=entropo is not a loss by itself"),
        ("grpo", "kl_cov", "clip_cov", "Delete actor_rollout_ref.actor.policy_loss.loss_mode"),
        ("grpo", "gspo", "adapo", "Delete actor_rollout_ref.actor.policy_loss.loss_mode, or take adapo out"),
        ("repo_d", "vanilla", "repo_r", "algorithm.adv_estimator=repo_d"),
        ("grpo", "entropo_clip_cov", "kl_cov", "are both covariance methods"),
    ],
)
def test_what_cannot_work_is_refused_by_its_reason(estimator, loss, method, words, base, monkeypatch):
    methods = [method] if method else []
    refusal = trains_or_says_why_not(configured(base, estimator, loss, methods), monkeypatch, [estimator, loss])
    assert words in (refusal or "")
