"""What is compared: every arm by its settings of TRL and of ours, fixed before any reported run was made."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

# baseline: what a user would take without us; published: a paper's method, in our form of it; ours
BASELINE, PUBLISHED, OURS = "baseline", "published", "ours"


@dataclass(frozen=True)
class Arm:
    """One method with its settings.

    Attributes:
        family: baseline, published or ours.
        trl: settings of TRL's GRPOConfig.
        entropo: settings of ours, as in ``EntropoGRPOConfig(entropo=...)``.
        kl_in_reward: weight of verl's KL in the reward, ``r - b (log p(y) - log p0(y))``, which TRL does not have.
    """

    family: str
    trl: dict[str, Any] = field(default_factory=dict)
    entropo: dict[str, Any] = field(default_factory=dict)
    kl_in_reward: float = 0.0


def _ours(family: str, *methods: str, loss: str | None = None, beta: float | None = None, **settings: Any) -> Arm:
    trl: dict[str, Any] = {} if loss is None else {"loss_type": loss}
    if beta is not None:
        trl["beta"] = beta
    return Arm(family, trl, {"methods": list(methods)} | settings)


def _zeta(law: str, **others: float) -> dict[str, Any]:
    return {"zeta": {"law": law} | others}


# the paper's bound of zeta is for thousands of tokens
DOUBLING = _zeta("doubling", initial=0.1, high=0.5)
HOLD, RAMP = {"fraction": 0.8}, {"fraction": 0.5, "schedule": "linear", "steps": 40}
# verl's own choice is made within a micro-batch; the papers' shares are for thousands of tokens
FEW = {"ratio": 0.02}
BAND = FEW | {"band": "quantile", "low_quantile": 0.8, "high_quantile": 1.0}
NO_REFERENCE = 1e-8  # TRL keeps a reference model from beta > 0 on

ARMS: dict[str, Arm] = {
    "grpo": Arm(BASELINE),
    "rloo": Arm(BASELINE, {"scale_rewards": "none"}),
    "dapo clip-higher": Arm(BASELINE, {"epsilon_high": 0.28}),
    **{f"entropy bonus {c:g}": Arm(BASELINE, {"entropy_coef": c}) for c in (0.003, 0.01, 0.03, 0.1)},
    **{f"KL loss {b:g}": Arm(BASELINE, {"beta": b}) for b in (0.03, 0.1, 0.3)},
    **{f"KL in reward {b:g}": Arm(BASELINE, kl_in_reward=b) for b in (0.01, 0.03, 0.1)},
    "verl's clip_cov": _ours(
        BASELINE, "clip_cov", loss="entropo_clip_cov", clip_cov=FEW | {"scope": "micro_batch", "low": 0.1, "high": 5.0}
    ),
    "verl's kl_cov": _ours(BASELINE, "kl_cov", loss="entropo_kl_cov", kl_cov=FEW | {"scope": "micro_batch"}),
    "skywork bonus": _ours(PUBLISHED, "entropy_bonus", entropy_coeff={"law": "skywork"}),
    "clip-cov": _ours(PUBLISHED, "clip_cov", loss="entropo_clip_cov", clip_cov=BAND),
    "kl-cov": _ours(PUBLISHED, "kl_cov", loss="entropo_kl_cov", kl_cov=FEW),
    "repo-r doubling": _ours(PUBLISHED, "repo_r", repo=DOUBLING),
    "repo-r fixed 0.05": _ours(PUBLISHED, "repo_r", repo=_zeta("fixed", initial=0.05)),
    "repo-r fixed 0.2": _ours(PUBLISHED, "repo_r", repo=_zeta("fixed", initial=0.2)),
    "repo-d": _ours(PUBLISHED, "repo_d", repo=_zeta("doubling", initial=1.0)),
    "adapo": _ours(PUBLISHED, "adapo"),
    "entrocraft": _ours(PUBLISHED, "entropy_range"),
    "80/20 rule": _ours(PUBLISHED, "top_entropy"),
    "qae": _ours(PUBLISHED, "quantile_baseline"),
    "nsr": _ours(PUBLISHED, "negative_reinforce"),
    "up": _ours(PUBLISHED, "unlikely_positive"),
    "ce-gppo": _ours(PUBLISHED, "ce_gppo"),
    "entropy advantage": _ours(PUBLISHED, "entropy_advantage"),
    "stare": _ours(PUBLISHED, "stare"),
    "entropic": _ours(PUBLISHED, "entropic"),
    "repo-r matched": _ours(OURS, "repo_r", repo=_zeta("matched"), target=HOLD),
    "repo-r matched ramp": _ours(OURS, "repo_r", repo=_zeta("matched"), target=RAMP),
    "model-based": _ours(OURS, "repo_neutral", target=HOLD),
    "model-based ramp": _ours(OURS, "repo_neutral", target=RAMP),
    **{f"anchored {b:g}": _ours(OURS, "repo_anchored", beta=NO_REFERENCE, anchored={"b": b}) for b in (0.05, 0.1, 0.2)},
    "anchored + kl-cov": _ours(OURS, "repo_anchored", "kl_cov", beta=NO_REFERENCE, anchored={"b": 0.1}, kl_cov=FEW),
    "model-based ramp + kl-cov": _ours(OURS, "repo_neutral", "kl_cov", target=RAMP, kl_cov=FEW),
}


def _in_micro_batches(rows: int, arm: Arm) -> Arm:
    """The same optimizer steps, cut into micro-batches of so many responses."""
    cut = {"per_device_train_batch_size": rows, "gradient_accumulation_steps": 24 // rows}
    return replace(arm, trl=arm.trl | cut | {"steps_per_generation": 96 // rows})


def _annealed(end: float = 0.0) -> dict[str, Any]:
    return {"law": "annealed", "anneal": {"kind": "linear", "end": end, "steps": 100}}


# verl chooses within a micro-batch, at least one token of each; ours from the whole batch
_COVARIANCE = ("verl's clip_cov", "verl's kl_cov", "clip-cov", "kl-cov")
STUDIES: dict[str, dict[str, Arm]] = {
    "micro_batch": {
        f"{name}, micro-batch {rows}": _in_micro_batches(rows, ARMS[name])
        for name in _COVARIANCE
        for rows in (1, 2, 4, 8)
    },
    "precision": {"grpo fp32": ARMS["grpo"], "grpo bf16": Arm(BASELINE, {"bf16": True})},
    "annealing": {
        "entropy bonus 0.03 annealed": _ours(OURS, "entropy_bonus", entropy_coeff={"initial": 0.03} | _annealed()),
        "anchored 0.1 annealed": _ours(OURS, "repo_anchored", beta=NO_REFERENCE, anchored={"b": 0.1} | _annealed()),
        "repo-r 0.2 annealed": _ours(OURS, "repo_r", repo={"zeta": {"initial": 0.2} | _annealed()}),
    },
}
# twenty steps of a pretrained model, so that a ramp has to be short
_SHORT = {"fraction": 0.5, "schedule": "linear", "steps": 15}
STUDIES["pretrained"] = {name: ARMS[name] for name in ("grpo", "repo-r doubling", "KL loss 0.1", "anchored 0.1")} | {
    "model-based to 0.6": _ours(OURS, "repo_neutral", target={"fraction": 0.6}),
    "repo-r matched to 0.6": _ours(OURS, "repo_r", repo=_zeta("matched"), target={"fraction": 0.6}),
    "model-based short ramp": _ours(OURS, "repo_neutral", target=_SHORT),
    "repo-r matched short ramp": _ours(OURS, "repo_r", repo=_zeta("matched"), target=_SHORT),
    "model-based": ARMS["model-based"],
    "repo-r matched": ARMS["repo-r matched"],
}
EVERY = ARMS | {name: arm for arms in STUDIES.values() for name, arm in arms.items()}
