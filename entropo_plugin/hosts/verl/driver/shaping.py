"""What the driver does to a whole batch: shapes its advantages, chooses its tokens. Tensors in, tensors out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from entropo_plugin.hosts.verl.run import Run
from entropo_plugin.monitor import StepTokens
from entropo_plugin.objectives import (
    bound_beta,
    covariance,
    neutral_beta,
    positive_ceiling,
    quantile_band,
    repo_d,
    repo_neutral,
    repo_r,
    response_only,
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
    return response_only(_shaped(data, run, metrics), data["response_mask"])


def _shaped(data: Batch, run: Run, metrics: dict[str, float]) -> Tensor:
    repo, base, mask = run.plan.settings.repo, data["advantages"], data["response_mask"]
    exact = run.plan.estimator != "repo_r" or repo.center
    level = stand_in(data["old_log_probs"], data["entropy"] if exact else None, repo.logp_floor)
    if run.plan.estimator == "repo_r":
        return repo_r(base, level, run.coefficient("zeta"))
    if run.plan.estimator == "repo_d":
        cost = step_cost(base, data["old_log_probs"], data["entropy"], mask)
        return repo_d(base, level, cost, run.coefficient("zeta"))
    about = run.plan.settings.neutral
    wanted = neutral_beta(base, data["old_log_probs"], data["entropy"], mask, run.pull(), about.cap)
    beta = bound_beta(wanted, base, level, mask, about.share)
    metrics["entropo/beta_neutral"] = float(beta)
    return repo_neutral(base, level, beta)


def preview(tokens: StepTokens, run: Run) -> StepTokens:
    """The step with the advantages that the loss receives at its first update.

    REPO-R with the current log-probs shapes them in the loss; there the current policy is still pi_old.
    """
    if not run.plan.shapes_in_loss or tokens.advantages is None:
        return tokens
    repo = run.plan.settings.repo
    level = stand_in(tokens.old_log_probs, tokens.entropy if repo.center else None, repo.logp_floor)
    return replace(tokens, advantages=repo_r(tokens.advantages, level, run.coefficient("zeta")))


def select_tokens(
    data: Batch, keys: Sequence[str], run: Run, step: int, parts: Sequence[Tensor] | None = None
) -> tuple[Tensor, dict[str, float]]:
    """Clip-Cov's or KL-Cov's tokens over the whole batch, and what was chosen.

    One covariance from pi_old's log-probs and the base advantages; the choice depends on nothing but the settings'
    seed, the step, and each response's key and position.

    Args:
        parts: rows of each mini-batch, where means and quota are a mini-batch's own; None for one whole batch.

    Returns:
        ``(batch, response)`` boolean, and metrics under ``entropo/selection/``.
    """
    logp, advantage, mask = data["old_log_probs"], data["advantages"], data["response_mask"]
    seed = (run.plan.settings.kl_cov if run.plan.covariance == "kl_cov" else run.plan.settings.clip_cov).seed
    order, chosen = token_keys(keys, mask.shape[1], seed, step), torch.zeros_like(mask, dtype=torch.bool)
    for rows in parts or [torch.arange(len(mask))]:
        chosen[rows] = _select(covariance(logp[rows], advantage[rows], mask[rows]), mask[rows], order[rows], run)
    found = selection_metrics(covariance(logp, advantage, mask), advantage, chosen)
    names = {"selected": "share", "selected_negative": "negative_share", "selected_weight": "weight"}
    metrics = {f"entropo/selection/{names[name]}": found[name] for name in names if name in found}
    if found:
        metrics["entropo/selection/ceiling"] = positive_ceiling(logp, advantage, mask)
    return chosen, metrics


def _select(cov: Tensor, mask: Tensor, order: Tensor, run: Run) -> Tensor:
    ratio, about = run.coefficient("ratio"), run.plan.settings.clip_cov
    if run.plan.covariance == "kl_cov":
        return select_top(cov, mask, ratio, order)
    band = about.low, about.high
    if about.band == "quantile":
        band = quantile_band(cov, about.low_quantile, about.high_quantile)
    return select_band(cov, mask, ratio, order, *band)


def mini_batches(rows: int, ranks: int, size: int) -> list[Tensor]:
    """Rows of each optimizer step's mini-batch, as verl cuts a batch: equal blocks for the ranks, each in order.

    Args:
        rows: responses of the batch, padding rows included.
        ranks: data-parallel ranks of the actor.
        size: responses of a mini-batch over all ranks.
    """
    each = torch.arange(rows).view(ranks, -1).split(size // ranks, dim=1)
    return [block.flatten() for block in each]
