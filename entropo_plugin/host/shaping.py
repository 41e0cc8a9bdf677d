"""What the driver does to a whole batch: shapes its advantages, chooses its tokens. Tensors in, tensors out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from entropo_plugin.host.run import Run
from entropo_plugin.objectives import (
    bound_beta,
    covariance,
    neutral_beta,
    quantile_band,
    repo_d,
    repo_neutral,
    repo_r,
    select_band,
    select_top,
    selection_metrics,
    stand_in,
    step_cost,
    token_keys,
)

Batch = Mapping[str, Tensor]


def shape_advantages(data: Batch, run: Run, metrics: dict[str, float]) -> Tensor:
    """REPO from pi_old's log-probs and entropies.

    Args:
        data: ``(batch, response)`` ``advantages``, ``old_log_probs``, ``entropy`` and ``response_mask``, padded.
        run: the driver's state, for the coefficients of this step.
        metrics: receives ``entropo/beta_neutral`` from the model-based law.

    Returns:
        ``(batch, response)`` advantages, 0 outside the mask.
    """
    repo, base, mask = run.plan.settings.repo, data["advantages"], data["response_mask"]
    exact = run.plan.estimator != "repo_r" or repo.center
    level = stand_in(data["old_log_probs"], data["entropy"] if exact else None, repo.logp_floor)
    if run.plan.estimator == "repo_r":
        return repo_r(base, level, run.coefficient("zeta")) * mask
    if run.plan.estimator == "repo_d":
        cost = step_cost(base, data["old_log_probs"], data["entropy"], mask)
        return repo_d(base, level, cost, run.coefficient("zeta")) * mask
    about = run.plan.settings.neutral
    wanted = neutral_beta(base, data["old_log_probs"], data["entropy"], mask, run.pull(), about.cap)
    beta = bound_beta(wanted, base, level, mask, about.share)
    metrics["entropo/beta_neutral"] = float(beta)
    return repo_neutral(base, level, beta) * mask


def select_tokens(data: Batch, keys: Sequence[str], run: Run, step: int) -> tuple[Tensor, dict[str, float]]:
    """Clip-Cov's or KL-Cov's tokens over the whole batch, and what was chosen.

    One covariance from pi_old's log-probs and the base advantages; the choice depends on nothing but the settings'
    seed, the step, and each response's key and position.

    Returns:
        ``(batch, response)`` boolean, and metrics under ``entropo/selection/``.
    """
    advantage, mask, settings = data["advantages"], data["response_mask"], run.plan.settings
    cov = covariance(data["old_log_probs"], advantage, mask)
    if run.plan.loss == "entropo_kl_cov":
        order = token_keys(keys, mask.shape[1], settings.kl_cov.seed, step)
        chosen = select_top(cov, mask, settings.kl_cov.ratio, order)
    else:
        about = settings.clip_cov
        band = about.low, about.high
        if about.band == "quantile":
            band = quantile_band(cov, about.low_quantile, about.high_quantile)
        order = token_keys(keys, mask.shape[1], about.seed, step)
        chosen = select_band(cov, mask, run.coefficient("ratio"), order, *band)
    found = selection_metrics(cov, advantage, chosen)
    names = {"selected": "share", "selected_negative": "negative_share", "selected_weight": "weight"}
    return chosen, {f"entropo/selection/{names[name]}": found[name] for name in names if name in found}
