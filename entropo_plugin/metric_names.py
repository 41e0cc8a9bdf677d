"""Every metric that the hosts and the monitor log: its name, unit and meaning, once.

A method's own metrics are named where the method is; its coefficients get their names from :func:`coefficient`,
:func:`next_value` and :func:`at_bound`. docs/metrics.md says the same with ranges and what a bad value means.
H is the entropy over the vocabulary at a token's state, p the probability of the sampled token, L = log p + H, A the
advantage that the loss receives, d = log pi_old - log pi_rollout.
"""

from __future__ import annotations

from dataclasses import dataclass

PREFIX = "entropo/"


@dataclass(frozen=True)
class Metric:
    """What a logged number is; a capital word in its name stands for the members of a family."""

    name: str
    unit: str
    meaning: str


METRICS: dict[str, Metric] = {}


def _metric(name: str, unit: str, meaning: str) -> str:
    name = PREFIX + name
    METRICS[name] = Metric(name, unit, meaning)
    return name


# Tokens
TOKENS_COUNT = _metric("tokens/count", "tokens", "tokens of the policy in the step")
TOKENS_NONFINITE_SHARE = _metric(
    "tokens/nonfinite_share",
    "share",
    "tokens with a NaN or an infinity in any of their fields",
)
TOKENS_TRUNCATED_SHARE = _metric(
    "tokens/truncated_share",
    "share of responses",
    "responses without the end-of-sequence token at their end that reach the longest response "
    "(`data.max_response_length`) or the longest context (`actor_rollout_ref.rollout.max_model_len`)",
)

# Entropy
ENTROPY_TOKEN_MEAN = _metric(
    "entropy/token_mean",
    "nats per token",
    "mean of H over the step's tokens, always per token whatever `loss_agg_mode` is: what the controllers steer",
)
ENTROPY_SAMPLED_ESTIMATE = _metric(
    "entropy/sampled_estimate",
    "nats per token",
    "mean of -log p over the sampled tokens, the logarithm of the perplexity",
)
ENTROPY_Q05 = _metric("entropy/q05", "nats", "5 % quantile of H")
ENTROPY_Q25 = _metric("entropy/q25", "nats", "25 % quantile of H")
ENTROPY_Q50 = _metric("entropy/q50", "nats", "median of H")
ENTROPY_Q75 = _metric("entropy/q75", "nats", "75 % quantile of H")
ENTROPY_Q95 = _metric("entropy/q95", "nats", "95 % quantile of H")
ENTROPY_PEAKED_SHARE = _metric(
    "entropy/peaked_share",
    "share",
    "tokens with H below 0.01 nats, where the likeliest token has more than 99.8 %",
)
ENTROPY_RIGHT = _metric("entropy/right", "nats per token", "mean of H over the tokens of right responses")
ENTROPY_WRONG = _metric("entropy/wrong", "nats per token", "mean of H over the tokens of wrong responses")
ENTROPY_TRUNCATED = _metric(
    "entropy/truncated",
    "nats per token",
    "mean of H over the tokens of responses cut at the length limit",
)
ENTROPY_RIGHT_ANSWERS = _metric(
    "entropy/right_answers",
    "nats per token",
    "entropy of the right answers alone, from the samples: sum of -log p(y) + psi(k) - psi(G) over right "
    "responses y, divided by their tokens",
)

# Control
TARGET = _metric("target", "nats per token", "the entropy that the controller steers to")
SHIFT = _metric(
    "shift",
    "advantage",
    "mean over tokens of the absolute change that shaping made to the advantage; where several methods shape, one "
    "`entropo/METHOD/shift` each",
)
NONFINITE_LOG_PROBS = _metric(
    "nonfinite/log_probs",
    "share",
    "share of the update's tokens whose current log-prob is NaN or infinite (runs with an objective of ours)",
)
SKIPPED = _metric(
    "skipped",
    "steps",
    "steps so far whose entropy was missing or not finite, so that the controller stood still",
)
DROPPED_SHARE = _metric(
    "dropped_share",
    "share of responses",
    "responses left out of the step because their reward or advantage is not finite (`entropo.nan_reward=drop`)",
)

# Log-probabilities and advantages
LOGP_STD = _metric(
    "logp/std",
    "nats",
    "standard deviation of log p over tokens; its mean is -`entropo/entropy/sampled_estimate`",
)
LOGP_SKEW = _metric("logp/skew", "1", "skewness of log p over tokens")
ADVANTAGE_MEAN = _metric("advantage/mean", "score", "mean of A over tokens")
ADVANTAGE_STD = _metric("advantage/std", "score", "standard deviation of A over tokens")
ADVANTAGE_ABS_MEAN = _metric("advantage/abs_mean", "score", "mean of the size of A over tokens")
ADVANTAGE_POSITIVE_SHARE = _metric("advantage/positive_share", "share", "tokens with A > 0")
ADVANTAGE_ZERO_SHARE = _metric(
    "advantage/zero_share",
    "share",
    "tokens with A = 0, up to the rounding that a host leaves where all rewards of a prompt are equal",
)

# Covariance
COV_MEAN = _metric("cov/mean", "nats x score", "mean covariance")
COV_Q50 = _metric("cov/q50", "nats x score", "median")
COV_Q98 = _metric("cov/q98", "nats x score", "98 % quantile")
COV_Q99_8 = _metric("cov/q99_8", "nats x score", "99.8 % quantile")
COV_Q99_98 = _metric("cov/q99_98", "nats x score", "99.98 % quantile")

# Diversity and pass@k
DIVERSITY_GROUP_SIZE = _metric(
    "diversity/group_size",
    "responses",
    "responses per prompt, mean over prompts; agent sessions of several rows count once",
)
DIVERSITY_DISTINCT = _metric(
    "diversity/distinct",
    "responses",
    "different token sequences per prompt, mean over prompts",
)
DIVERSITY_DISTINCT_RIGHT = _metric(
    "diversity/distinct_right",
    "responses",
    "different right token sequences per prompt, mean over prompts",
)
DIVERSITY_MIXED_SHARE = _metric("diversity/mixed_share", "share", "prompts with both right and wrong responses")
DIVERSITY_EQUAL_SHARE = _metric(
    "diversity/equal_share",
    "share",
    "prompts of two or more responses that all have the same score",
)
DIVERSITY_RIGHT_RESPONSES = _metric(
    "diversity/right_responses",
    "responses",
    "right responses that `entropo/entropy/right_answers` rests on",
)
KEPT_PROMPT_SHARE = _metric(
    "kept/prompt_share",
    "share",
    "with `algorithm.filter_groups.enable`: prompts of the batch among all that were sampled for it",
)
KEPT_GROUP_SIZE = _metric("kept/group_size", "responses", "`diversity/group_size` of the kept prompts alone")
KEPT_DISTINCT = _metric("kept/distinct", "responses", "`diversity/distinct` of the kept prompts alone")
KEPT_DISTINCT_RIGHT = _metric(
    "kept/distinct_right",
    "responses",
    "`diversity/distinct_right` of the kept prompts alone",
)
KEPT_RIGHT_ANSWERS = _metric(
    "kept/right_answers",
    "nats per token",
    "`entropy/right_answers` of the kept prompts alone",
)
KEPT_RIGHT_RESPONSES = _metric(
    "kept/right_responses",
    "responses",
    "`diversity/right_responses` of the kept prompts alone",
)

# Dynamics
DYNAMICS_PREDICTED = _metric(
    "dynamics/predicted",
    "nats per token and learning rate",
    "-mean(p A L): what a policy-gradient step does to entropy",
)
DYNAMICS_PREDICTED_NATURAL = _metric(
    "dynamics/predicted_natural",
    "nats per token and learning rate",
    "-mean(A L): the same for a natural-gradient step, in which rare tokens weigh more",
)
DYNAMICS_FROM_POSITIVE = _metric(
    "dynamics/from_positive",
    "nats per token and learning rate",
    "the part of `predicted` from tokens with A > 0",
)
DYNAMICS_FROM_NEGATIVE = _metric(
    "dynamics/from_negative",
    "nats per token and learning rate",
    "the part of `predicted` from tokens with A < 0",
)
DYNAMICS_POSITIVE_SHARE = _metric(
    "dynamics/positive_share",
    "share",
    "share of the sum of |p A L| from tokens with A > 0",
)
DYNAMICS_NEGATIVE_SHARE = _metric(
    "dynamics/negative_share",
    "share",
    "share of the sum of |p A L| from tokens with A < 0",
)
DYNAMICS_TOP_SHARE = _metric(
    "dynamics/top_share",
    "share",
    "share of the sum of |p A L| from the 0.2 % of tokens where it is largest",
)
DYNAMICS_NEUTRAL_BETA = _metric(
    "dynamics/neutral_beta",
    "score per nat",
    "mean(p A L) / mean(p L^2): the beta with which A - beta L leaves entropy unchanged to first order",
)
DYNAMICS_MEASURED_CHANGE = _metric(
    "dynamics/measured_change",
    "nats per token",
    "this step's `entropo/entropy/token_mean` less the step before's",
)
DYNAMICS_PAIRS = _metric(
    "dynamics/pairs",
    "steps",
    "steps so far whose prediction could be held against the change measured next",
)
DYNAMICS_CORRELATION = _metric(
    "dynamics/correlation",
    "1",
    "Pearson's correlation of predicted and measured change over the run; the noise of each entropy is in both",
)
DYNAMICS_SLOPE = _metric(
    "dynamics/slope",
    "learning rate",
    "measured nats per predicted nats: the effective learning rate on the logits, from the part of each "
    "prediction that the prediction of the step before explains",
)
DYNAMICS_SLOPE_IN_LOOP = _metric(
    "dynamics/slope_in_loop",
    "learning rate",
    "the least-squares slope, to which the noise that steered the prediction belongs too",
)

# The law R = -a exp(H) + b
LAW_POINTS = _metric("law/points", "points", "validations so far")
LAW_TRUSTED = _metric(
    "law/trusted",
    "flag",
    "1 if at least 5 points, exp(H) has moved, a > 0, R^2 at least 0.8, residuals without structure, a ceiling "
    "above every score seen and no entropy control; else 0",
)
LAW_A = _metric("law/a", "score", "score bought per unit of exp(H)")
LAW_B = _metric("law/b", "score", "intercept")
LAW_R_SQUARED = _metric("law/r_squared", "share", "share of the score's variance that the fit explains")
LAW_CEILING = _metric("law/ceiling", "score", "b - a, the score when entropy has reached 0")
LAW_CEILING_LOW = _metric("law/ceiling_low", "score", "lower end of the 95 % prediction interval of a score at H = 0")
LAW_CEILING_HIGH = _metric("law/ceiling_high", "score", "upper end of the same interval")

# Precision
PRECISION_LOGP_BF16_SHARE = _metric(
    "precision/logp_bf16_share",
    "share",
    "log-probs larger than 0.01 in size that bf16 represents exactly",
)
PRECISION_ENTROPY_BF16_SHARE = _metric(
    "precision/entropy_bf16_share",
    "share",
    "entropies larger than 0.01 that bf16 represents exactly",
)
PRECISION_ENTROPY_ERROR_RMS = _metric(
    "precision/entropy_error_rms",
    "nats rms",
    "error of one token's entropy to be expected from the dtypes of the logits and of the maths, vocabulary of 152k",
)

# Mismatch between rollout and trainer
MISMATCH_ABS_MEAN = _metric("mismatch/abs_mean", "nats", "mean of the size of d")
MISMATCH_ABS_MAX = _metric("mismatch/abs_max", "nats", "largest size of d")
MISMATCH_K1 = _metric("mismatch/k1", "nats", "mean(-d), estimator of KL(rollout || old), unbiased and noisy")
MISMATCH_K3 = _metric("mismatch/k3", "nats", "mean(exp(d) - 1 - d), estimator of the same, unbiased and never negative")
MISMATCH_RATIO_BIAS = _metric("mismatch/ratio_bias", "1", "mean(exp(d)) - 1")
MISMATCH_CLIP_LOW_SHARE = _metric(
    "mismatch/clip_low_share",
    "share",
    "tokens whose exp(d) alone lies below the lower clip bound of the loss in force; left out where it clips no "
    "token's ratio",
)
MISMATCH_CLIP_HIGH_SHARE = _metric(
    "mismatch/clip_high_share",
    "share",
    "tokens whose exp(d) alone lies above the upper clip bound of the loss in force; left out where it clips no "
    "token's ratio",
)

# Cost
MONITOR_SECONDS = _metric(
    "monitor/seconds",
    "seconds",
    "wall-clock time that the driver spent on all of the above in this step",
)

# Families
_DECILE = _metric("entropy/decile_N", "nats per token", "mean of H over the N-th tenth of each response, N = 1 to 10")
_PASS_AT = _metric(
    "pass_at/K",
    "probability",
    "unbiased probability that one of K responses is right, 1 - C(n-c, K) / C(n, K), K = 1, 2, 4, ... and the "
    "group size; mean over the prompts with at least K responses",
)
_CLIP = _metric(
    "clip/SIDE",
    "share",
    "share of tokens beyond a bound of the clip of the loss in force, at the update and with the advantages that it "
    "receives; left out where no bound of a ratio cuts a gradient; SIDE is `above_positive` or `below_negative` (no "
    "gradient; under CE-GPPO a share of it), `above_negative` or `below_positive` (gradient kept; side, sign of A), "
    "`dual` (ratio above `clip_ratio_c`, A < 0, where the loss has it: no gradient), `outer` (beyond outer bounds of "
    "the ratio, where the loss has them)",
)


def decile(n: int) -> str:
    """``entropo/entropy/decile_N``, n from 1 to 10."""
    return _DECILE.replace("N", str(n))


def pass_at(k: int) -> str:
    """``entropo/pass_at/K``."""
    return _PASS_AT.replace("K", str(k))


def clip(side: str) -> str:
    """``entropo/clip/SIDE``."""
    return _CLIP.replace("SIDE", side)


def coefficient(name: str) -> str:
    """The value that a coefficient has in this step's update."""
    return PREFIX + name


def next_value(name: str) -> str:
    """The value that this step's measurement leads to, used in the next step."""
    return f"{PREFIX}{name}_next"


def at_bound(name: str) -> str:
    """1 where a coefficient's next value is at its bound, else 0."""
    return f"{PREFIX}{name}{AT_BOUND}"


AT_BOUND = "_at_bound"
