"""Our losses inside verl's step against plain arithmetic, for everything that verl lets a user combine them with."""

import math

import by_hand
import harness
import pytest
import torch

from entropo_plugin.hosts.verl.worker.loss import SELECTED

ACTOR = harness.ACTOR
MODES = ["token-mean", "seq-mean-token-sum", "seq-mean-token-mean", "seq-mean-token-sum-norm"]
BETA, RATIO, BAND, ZETA = 3.0, 0.18, (0.3, 5.0), 0.05

# the recipe's overrides, and one token's loss
LOSSES = {
    "repo_r": (
        ["+entropo=repo_r", "entropo.repo.zeta.law=fixed", f"entropo.repo.zeta.initial={ZETA}"],
        lambda token: by_hand.repo_r(token, ZETA),
    ),
    "adapo": (["+entropo=adapo"], lambda token: by_hand.ppo(token, 0.2, 0.28)),
    "clip_cov": (
        [
            "+entropo=clip_cov",
            "entropo.clip_cov.ratio=1",
            f"entropo.clip_cov.low={BAND[0]}",
            f"entropo.clip_cov.high={BAND[1]}",
        ],
        by_hand.clip_cov,
    ),
    "kl_cov": (
        [
            "+entropo=kl_cov",
            f"entropo.kl_cov.ratio={RATIO}",
            f"entropo.kl_cov.beta={BETA}",
            "entropo.kl_cov.penalty=k2",
        ],
        lambda token: by_hand.kl_cov(token, BETA),
    ),
}
# two updates on the whole rollout batch, in four micro-batches each; the second sees ratios far from 1
WHOLE = [f"{ACTOR}.ppo_mini_batch_size=4", f"{ACTOR}.ppo_epochs=2", f"{ACTOR}.loss_scale_factor={by_hand.LIMIT}"]
RLOO = ["algorithm.adv_estimator=rloo"]
# knows sessions and responses alone in their group, which verl's rloo does not
OURS = ["algorithm.adv_estimator=repo_r", "entropo.repo.zeta.law=fixed", "entropo.repo.zeta.initial=0"]
ESTIMATOR = {"plain": RLOO, "tools": RLOO, "missing": OURS, "sessions": OURS}


def policy(seed=0):
    return harness.Policy(seed, torch.float64)


def plain():
    return harness.sample(policy(), seed=5)


def with_tools():
    """Multi-turn: in every response of four tokens or more a tool wrote the second and the third."""
    rows = plain()
    for row in rows:
        fields = row["fields"]
        if len(fields["responses"]) > 3:
            fields["response_mask"] = fields["loss_mask"] = torch.ones_like(fields["responses"])
            fields["response_mask"][1:3] = 0
    return rows


def with_missing_rows():
    """Thirteen of sixteen rows, one prompt with a single response: verl adds three rows without a response token."""
    return [row for row in plain() if row["key"] not in ("p1_1_0", "p1_2_0", "p1_3_0")]


def with_sessions():
    """Agents whose session 0 had two outputs, in place of session 3: the reward of the first must not matter."""
    rows = plain()
    for row in rows:
        uid, session, _ = row["key"].split("_")
        if session == "3":
            row["key"] = f"{uid}_0_1"
    return rows


ROWS = {"plain": plain, "tools": with_tools, "missing": with_missing_rows, "sessions": with_sessions}


def train(name, rows, monkeypatch, *extra, reference=None, estimator=RLOO):
    overrides = LOSSES[name][0] + ([] if name == "repo_r" else estimator)
    training = harness.Training(harness.configuration(*overrides, *WHOLE, *extra), monkeypatch, policy(), lr=1.0)
    training.ranks.reference = reference or policy()
    return training, training.step(rows)


def expected(name, rows, training, mode="token-mean", advantages=None, weights=None, extra=None, reference=None):
    """The losses of the two updates."""
    old = policy().table.detach()
    tables = [old, old - training.ranks.gradients[0]]
    advantages = by_hand.leave_one_out(rows) if advantages is None else advantages
    found = []
    for now in tables:
        batch = by_hand.tokens(rows, advantages, old, now, reference)
        batch = by_hand.mark(batch, chosen(name, batch))
        if weights:
            batch = [[by_hand.replace(token, weight=weights[token.place]) for token in row] for row in batch]
        term = LOSSES[name][1]
        total = (lambda token, term=term: term(token) + extra(token)) if extra else term
        found.append(by_hand.aggregate(batch, total, mode, sequences=16))
    return found


def chosen(name, batch):
    if name == "kl_cov":
        return by_hand.highest(batch, RATIO)
    return by_hand.inside(batch, *BAND) if name == "clip_cov" else set()


@pytest.mark.parametrize("kind", ROWS)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", LOSSES)
def test_each_mean_over_each_kind_of_row(name, mode, kind, monkeypatch):
    rows = ROWS[kind]()
    training, _ = train(name, rows, monkeypatch, f"{ACTOR}.loss_agg_mode={mode}", estimator=ESTIMATOR[kind])
    assert training.ranks.losses == pytest.approx(expected(name, rows, training, mode), rel=1e-9)
    assert all(gradient.isfinite().all() for gradient in training.ranks.gradients)


@pytest.mark.parametrize("name", ["clip_cov", "kl_cov"])
@pytest.mark.parametrize("kind", ROWS)
def test_the_choice_is_the_one_by_hand_and_never_a_tools_or_a_padding_token(name, kind, monkeypatch):
    rows = ROWS[kind]()
    training, metrics = train(name, rows, monkeypatch, estimator=ESTIMATOR[kind])
    batch = by_hand.tokens(rows, by_hand.leave_one_out(rows), policy().table.detach())
    selected = training.field(f"{SELECTED}{name}")
    places = {(key, int(n)) for key, row in selected.items() for n in row.nonzero()[:, 0]}
    count = sum(map(len, batch))
    assert places == chosen(name, batch) and metrics["entropo/selection/share"] == len(places) / count
    assert metrics["entropo/tokens/count"] == count
    flat = [token.entropy for row in batch for token in row]
    assert metrics["entropo/entropy/token_mean"] == pytest.approx(sum(flat) / count, rel=1e-12)


@pytest.mark.parametrize("name", LOSSES)
def test_rollout_importance_weights_scale_the_gradient_term_only(name, monkeypatch):
    rows, weights = plain(), {}
    for number, row in enumerate(rows):
        gap = 0.5 if number % 2 else 1.5
        row["fields"]["rollout_log_probs"] = row["fields"]["rollout_log_probs"] - gap
        for n in range(len(row["fields"]["responses"])):
            weights[row["key"], n] = min(math.exp(gap), 2.0)
    extra = ["algorithm.rollout_correction.rollout_is=token", "algorithm.rollout_correction.rollout_is_threshold=2.0"]
    training, _ = train(name, rows, monkeypatch, *extra)
    assert training.ranks.losses == pytest.approx(expected(name, rows, training, weights=weights), rel=1e-9)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", LOSSES)
def test_verls_kl_loss_and_entropy_bonus_come_on_top(name, mode, monkeypatch):
    rows, other = plain(), policy(1)
    extra = [f"{ACTOR}.use_kl_loss=true", f"{ACTOR}.kl_loss_coef=0.3", f"{ACTOR}.kl_loss_type=low_var_kl"]
    extra += [f"{ACTOR}.entropy_coeff=0.2", f"{ACTOR}.loss_agg_mode={mode}"]

    def both(token):
        change = token.reference - token.now
        return 0.3 * (math.exp(change) - change - 1) - 0.2 * token.entropy

    training, _ = train(name, rows, monkeypatch, *extra, reference=other)
    assert training.ranks.losses == pytest.approx(
        expected(name, rows, training, mode, extra=both, reference=other.table.detach()), rel=1e-9
    )


@pytest.mark.parametrize("name", ["adapo", "clip_cov", "kl_cov"])
def test_advantages_of_a_critic_differ_within_a_response(name, monkeypatch):
    """GAE with gamma = lambda = 1: whitened R - V; the harness's critic values a token at a tenth of its number."""
    rows = plain()
    training, metrics = train(name, rows, monkeypatch, estimator=["algorithm.adv_estimator=gae"])
    raw = {
        row["key"]: [float(row["fields"]["rm_scores"].sum()) - 0.1 * int(t) for t in row["fields"]["responses"]]
        for row in rows
    }
    flat = [value for row in raw.values() for value in row]
    mean = sum(flat) / len(flat)
    scale = math.sqrt(sum((value - mean) ** 2 for value in flat) / (len(flat) - 1) + 1e-8)
    advantages = {key: [(value - mean) / scale for value in row] for key, row in raw.items()}
    assert training.ranks.losses == pytest.approx(expected(name, rows, training, advantages=advantages), rel=1e-7)
    assert metrics["entropo/advantage/std"] == pytest.approx(math.sqrt(1 - 1 / len(flat)), rel=1e-6)


ESTIMATED = {
    "repo_r": ["+entropo=repo_r"],
    "repo_r_old": ["+entropo=repo_r", "entropo.repo.logp=old"],
    "repo_d": ["+entropo=repo_d", "entropo.repo.zeta.initial=5"],
    "repo_neutral": ["+entropo=repo_neutral"],
    "adapo": ["+entropo=adapo", *RLOO],
    "clip_cov": LOSSES["clip_cov"][0] + RLOO,
    "kl_cov": LOSSES["kl_cov"][0] + RLOO,
    "repo_r_adapo": ["+entropo=repo_r_adapo"],
}


@pytest.mark.parametrize("name", ESTIMATED)
def test_equal_rewards_teach_nothing(name, monkeypatch):
    rows = harness.sample(policy(), seed=5, score=lambda _: 0.75)
    config = harness.configuration(*ESTIMATED[name], *WHOLE)
    training = harness.Training(config, monkeypatch, policy(), lr=1.0)
    training.step(rows)
    assert training.ranks.losses == [0.0, 0.0]
    assert all(float(gradient.abs().max()) == 0.0 for gradient in training.ranks.gradients)


@pytest.mark.parametrize("name", ["repo_r", "repo_r_old", "repo_d", "repo_neutral"])
def test_a_response_alone_in_its_group_teaches_nothing_and_the_others_do(name, monkeypatch):
    rows = with_missing_rows()
    training = harness.Training(harness.configuration(*ESTIMATED[name], *WHOLE), monkeypatch, policy(), lr=1.0)
    training.step(rows)
    advantages = training.field("advantages")
    if name != "repo_d" and name != "repo_neutral":
        assert float(advantages["p1_0_0"].abs().max()) == 0.0
    assert all(each.isfinite().all() for each in advantages.values())
    assert all(float(each.abs().max()) == 0 for key, each in advantages.items() if key.startswith("pad"))
    assert float(training.ranks.gradients[0].abs().max()) > 0


def test_the_last_output_speaks_for_its_session_as_under_verls_grpo(monkeypatch):
    ours = ["+entropo=repo_r", "entropo.repo.base=grpo", "entropo.repo.std=true"]
    found = []
    for overrides in (ours, ["algorithm.adv_estimator=grpo"]):
        training = harness.Training(harness.configuration(*overrides, *WHOLE), monkeypatch, policy())
        training.step(with_sessions())
        found.append(training.field("advantages"))
    assert found[0].keys() == found[1].keys() and len(found[0]) == 16
    for key, each in found[0].items():
        torch.testing.assert_close(each, found[1][key], rtol=0, atol=1e-12)
        assert float(each[0]) != 0
    assert torch.equal(found[0]["p0_0_0"][:1], found[0]["p0_0_1"][:1])
