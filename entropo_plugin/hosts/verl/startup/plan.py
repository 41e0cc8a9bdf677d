"""What a verl configuration asks of us, and whether that can work: read once, on the driver."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from entropo_plugin.config import ESTIMATORS, LOSSES, TRAINER_MODES, ConfigError, Settings, parse
from entropo_plugin.fields import shown
from entropo_plugin.hosts.verl.compat import exact_entropy, own_names
from entropo_plugin.hosts.verl.startup import verl_keys
from entropo_plugin.hosts.verl.startup.combinations import check_combination

ACTOR = "actor_rollout_ref.actor"
BYPASS = "algorithm.rollout_correction.bypass_mode"
STRATEGY = f"{ACTOR}.strategy"
BOUNDS = {"repo_r": (1e-4, 0.05), "repo_d": (1e-3, 10.0)}


def get(config: Any, path: str, default: Any = None) -> Any:
    """The value at a dotted path of an OmegaConf config, or ``default``.

    Raises:
        ConfigError: the path holds an interpolation that leads nowhere.
    """
    try:
        return OmegaConf.select(config, path, default=default)
    except OmegaConfBaseException as error:
        raise ConfigError(f"{path} cannot be resolved: {str(error).splitlines()[0]}. Set {path}.") from error


def mode(config: Any) -> str:
    chosen = get(config, "trainer.v1.trainer_mode", "sync")
    return chosen if isinstance(chosen, str) else shown(chosen)


def concerns(config: Any) -> bool:
    """Whether this run uses any part of us."""
    return _asked(config) is not None or mode(config) in TRAINER_MODES or get(config, "entropo") is not None


def _asked(config: Any) -> str | None:
    """The first setting that names an objective of ours, as the user would write it."""
    ours = mode(config) in TRAINER_MODES or get(config, "entropo") is not None
    for path, names in (("algorithm.adv_estimator", ESTIMATORS), (f"{ACTOR}.policy_loss.loss_mode", LOSSES)):
        name = get(config, path)
        if name in names and (ours or name not in own_names()):
            return f"{path}={name}"
    return None


@dataclass(frozen=True)
class Plan:
    """The objective of a run and its settings.

    Attributes:
        estimator: ``algorithm.adv_estimator`` when it is ours, otherwise None.
        loss: ``policy_loss.loss_mode`` when it is ours, otherwise None. Without either, we only measure.
        settings: the parsed node ``entropo:``.
        low, high: bounds of |zeta|, the variant's own where the settings leave them open.
        entropy_coeff: verl's own, ``actor.entropy_coeff``.
    """

    estimator: str | None
    settings: Settings
    low: float
    high: float
    loss: str | None = None
    entropy_coeff: float = 0.0

    @classmethod
    def from_config(cls, config: Any) -> Plan:
        """Read and check a whole verl configuration.

        Raises:
            ConfigError: a setting of ours is wrong, or does not fit the rest of the configuration.
        """
        verl_keys.check(config, get)
        settings = parse(_plain(get(config, "entropo")))
        name = get(config, "algorithm.adv_estimator")
        estimator = name if name in ESTIMATORS else None
        low, high = BOUNDS.get(estimator or "", (1e-4, 0.05))
        zeta = settings.repo.zeta
        loss_mode = get(config, f"{ACTOR}.policy_loss.loss_mode")
        plan = cls(
            estimator,
            settings,
            low if zeta.low is None else zeta.low,
            high if zeta.high is None else zeta.high,
            loss_mode if loss_mode in LOSSES else None,
            float(get(config, f"{ACTOR}.entropy_coeff", 0.0) or 0.0),
        )
        plan._check(config)
        return plan

    @property
    def shapes_in_loss(self) -> bool:
        """REPO-R with the current policy's log-prob: the worker's loss modifies the advantage."""
        return self.estimator == "repo_r" and self.settings.repo.logp == "current"

    @property
    def shapes_on_driver(self) -> bool:
        """REPO-D, and REPO-R with pi_old's log-prob: modified once per batch."""
        return self.estimator is not None and not self.shapes_in_loss

    @property
    def covariance(self) -> str | None:
        """The covariance method in force, from the loss or on top of another one: ``clip_cov``, ``kl_cov`` or None."""
        own = {"entropo_clip_cov": "clip_cov", "entropo_kl_cov": "kl_cov"}.get(self.loss or "")
        return own or (None if self.settings.covariance == "none" else self.settings.covariance)

    @property
    def scope(self) -> str | None:
        """Which tokens share means and quota of the covariance method."""
        scopes = {"clip_cov": self.settings.clip_cov.scope, "kl_cov": self.settings.kl_cov.scope}
        return scopes.get(self.covariance or "")

    @property
    def selects(self) -> bool:
        """Clip-Cov and KL-Cov whose tokens the driver chooses."""
        return self.scope in ("global", "mini_batch")

    @property
    def drops(self) -> bool:
        """Clip-Cov on top of another loss: the chosen tokens' advantages become 0."""
        return self.settings.covariance == "clip_cov"

    @property
    def penalises(self) -> bool:
        """KL-Cov on top of another loss: its penalty is added to it."""
        return self.settings.covariance == "kl_cov"

    @property
    def adapts(self) -> bool:
        """Whether any coefficient follows the measured entropy."""
        zeta = self.estimator in ("repo_r", "repo_d") and self.settings.repo.zeta.law not in ("fixed", "annealed")
        high = self.loss == "adapo" and self.settings.adapo.clip_high.law not in ("fixed", "annealed")
        bonus = self.settings.entropy_coeff.law not in ("fixed", "annealed")
        return zeta or high or bonus or self.estimator == "repo_neutral"

    def _check(self, config: Any) -> None:
        if self.low > self.high:
            raise ConfigError(
                f"entropo.repo.zeta.low={self.low} exceeds entropo.repo.zeta.high={self.high}. "
                "Set both, the smaller one as low."
            )
        zeta = self.settings.repo.zeta
        if self.estimator in BOUNDS and zeta.law in ("doubling", "pi") and abs(zeta.initial) > self.high:
            raise ConfigError(
                f"entropo.repo.zeta.initial={zeta.initial} lies outside [-{self.high}, {self.high}]. "
                "Move it, or entropo.repo.zeta.high."
            )
        _check_trainer(config)
        check_combination(config)
        _check_packages(config)
        _check_entropy_source(config, self)
        _check_entropy_bonus(config, self)
        _check_covariance(config, self)

    def warnings(self, config: Any) -> list[str]:
        """What will run but deserves a word: inert methods and dishonest measurements."""
        found = []
        zeta = self.settings.repo.zeta
        if self.estimator in ("repo_r", "repo_d") and zeta.law == "fixed" and zeta.initial == 0:
            found.append(
                f"entropo.repo.zeta.initial=0 with law=fixed: {self.estimator} leaves every advantage as it is."
            )
        inert = self.loss if self.loss in ("adapo", "entropo_kl_cov") else None
        if (inert or self.penalises) and _updates_per_batch(config) == 1:
            named = f"{ACTOR}.policy_loss.loss_mode={inert}" if inert else "entropo.covariance=kl_cov"
            found.append(
                f"{named} cannot act with one optimizer step per rollout batch, "
                f"where the ratio is 1. Set {ACTOR}.ppo_mini_batch_size below data.train_batch_size."
            )
        bypass = get(config, BYPASS, False)
        if bypass:
            found.append(
                f"{BYPASS}=true: verl computes no entropy, so none is measured. entropo/entropy/sampled_estimate, the "
                "mean of -log p of the sampled tokens under the rollout's own probabilities, is the estimate."
            )
        coarse = None if bypass or mode(config) not in TRAINER_MODES or exact_entropy() else _coarse_entropy(config)
        if coarse:
            found.append(coarse)
        if self.estimator and self.settings.repo.base == "rloo" and get(config, "actor_rollout_ref.rollout.n", 1) == 1:
            found.append(
                f"actor_rollout_ref.rollout.n=1: {self.estimator} compares the responses to one prompt, "
                "so every advantage will be 0 and nothing is learned. Set it to 2 or more, or entropo.repo.base=grpo."
            )
        return found


def _coarse_entropy(config: Any) -> str | None:
    """Which key keeps verl from computing entropy in fp32; its chunks, the only fp32, need packed sequences."""
    if not get(config, f"{ACTOR}.entropy_from_logits_with_chunking", False):
        return (
            f"{ACTOR}.entropy_from_logits_with_chunking=false: with bf16 logits verl's entropy is off by 0.03 to "
            "0.06 nats rms per token. Set it to true for fp32 entropy."
        )
    dtype = get(config, f"{ACTOR}.fsdp_config.mixed_precision.param_dtype") or "bf16"
    if get(config, f"{ACTOR}.use_remove_padding", True) or dtype == "fp32" or "fsdp" not in get(config, STRATEGY, ""):
        return None
    return (
        "actor_rollout_ref.model.use_remove_padding=false: verl then computes entropy in the dtype of the logits, "
        f"whatever {ACTOR}.entropy_from_logits_with_chunking says. Set it to true for fp32 entropy."
    )


def _plain(node: Any) -> Any:
    """The node ``entropo:`` as plain values, its interpolations resolved."""
    if not OmegaConf.is_config(node):
        return node
    try:
        return OmegaConf.to_container(node, resolve=True)
    except OmegaConfBaseException as error:
        raise ConfigError(f"entropo: cannot be resolved: {str(error).splitlines()[0]}.") from error


def _updates_per_batch(config: Any) -> int:
    paths = (f"{ACTOR}.ppo_epochs", "data.train_batch_size", f"{ACTOR}.ppo_mini_batch_size")
    epochs, batch, mini = (get(config, path) or 1 for path in paths)
    return epochs * max(1, batch // mini)


def _check_trainer(config: Any) -> None:
    chosen, wanted = mode(config), f"entropo_{mode(config).removeprefix('entropo_')}"
    asked = _asked(config) or ("the node entropo" if _measures(config) else None)
    if asked and not get(config, "trainer.use_v1", True):
        raise ConfigError(
            "trainer.use_v1=false: entropo_plugin works with verl's V1 trainers only. Set trainer.use_v1=true."
        )
    if asked and chosen not in TRAINER_MODES:
        raise ConfigError(
            f"{asked} needs our trainer, but trainer.v1.trainer_mode={chosen}. Set trainer.v1.trainer_mode={wanted} "
            f"(allowed: {', '.join(TRAINER_MODES)}), or use +entropo=NAME, which sets it."
        )
    if asked and get(config, "distillation.enabled", False):
        raise ConfigError(
            "distillation.enabled=true: distillation replaces the policy loss that entropo_plugin modifies. "
            "Set distillation.enabled=false, or take entropo out of this run."
        )


def _measures(config: Any) -> bool:
    """Whether the node holds more than the choice of the host."""
    node = get(config, "entropo")
    settings = OmegaConf.is_dict(node) and any(name != "host" for name in node)
    return mode(config) in TRAINER_MODES or settings


def _check_packages(config: Any) -> None:
    if importlib.util.find_spec("transfer_queue") is None:
        raise ConfigError("verl's V1 trainers need the package TransferQueue. Run: pip install TransferQueue")
    rollout = get(config, "actor_rollout_ref.rollout.name")
    if rollout == "hf" and get(config, "entropo.host", "auto") != "cpu":
        raise ConfigError(
            "actor_rollout_ref.rollout.name=hf is part of the CPU host. Add +entropo_host=cpu, or set it to vllm."
        )
    if rollout == "vllm" and get(config, "entropo.host", "auto") == "cpu" and importlib.util.find_spec("vllm") is None:
        raise ConfigError(
            "actor_rollout_ref.rollout.name=vllm, but vLLM is not installed. Run: pip install 'entropo-plugin[cpu]', "
            "or set actor_rollout_ref.rollout.name=hf for the transformers rollout."
        )


def _check_entropy_source(config: Any, plan: Plan) -> None:
    if get(config, BYPASS, False) and (plan.adapts or plan.shapes_on_driver):
        raise ConfigError(
            f"{BYPASS}=true: verl then recomputes no log-probs, so there is no exact "
            f"entropy for {plan.estimator or plan.loss}. Set bypass_mode=false, or fix the coefficients "
            "(entropo.repo.zeta.law=fixed with logp=current, entropo.adapo.clip_high.law=fixed)."
        )
    in_update = get(config, f"{ACTOR}.calculate_entropy", False) or get(config, f"{ACTOR}.entropy_coeff", 0)
    if plan.shapes_in_loss and plan.settings.repo.center and not in_update:
        raise ConfigError(
            f"entropo.repo.center=true with logp=current needs the current entropy in the update. "
            f"Set {ACTOR}.calculate_entropy=true, or entropo.repo.logp=old."
        )


def _check_entropy_bonus(config: Any, plan: Plan) -> None:
    law, in_update = plan.settings.entropy_coeff.law, get(config, f"{ACTOR}.calculate_entropy", False)
    if law != "fixed" and not (in_update or plan.entropy_coeff):
        raise ConfigError(
            f"entropo.entropy_coeff.law={law} needs the entropy in the update. Set {ACTOR}.calculate_entropy=true."
        )
    about = plan.settings.entropy_coeff
    first = plan.entropy_coeff if about.initial is None else about.initial
    if law not in ("fixed", "annealed") and not about.low <= first <= about.high:
        raise ConfigError(
            f"entropo.entropy_coeff starts at {first}, outside [{about.low}, {about.high}]. "
            "Set entropo.entropy_coeff.initial, or move its low and high."
        )
    if law == "multiplicative" and first == 0:
        raise ConfigError(
            "entropo.entropy_coeff.law=multiplicative cannot leave 0. Set entropo.entropy_coeff.initial above 0."
        )


# verl's losses in which a token with advantage 0 still counts: for all of its sequence, or by a penalty of its own
INSEPARABLE = {
    "geo_mean": "averages advantages and ratios over a whole response",
    "dro": "keeps its quadratic penalty on a token without advantage",
}


def _check_covariance(config: Any, plan: Plan) -> None:
    """Clip-Cov or KL-Cov on top of another loss: one method at a time, and a loss that can do without a token."""
    chosen, loss = plan.settings.covariance, str(get(config, f"{ACTOR}.policy_loss.loss_mode", "vanilla"))
    if chosen != "none" and loss in ("entropo_clip_cov", "entropo_kl_cov", "clip_cov", "kl_cov"):
        raise ConfigError(
            f"entropo.covariance={chosen}: {ACTOR}.policy_loss.loss_mode={loss} is a covariance method already. "
            "Set entropo.covariance=none, or another loss_mode such as vanilla or adapo."
        )
    if plan.drops and loss in INSEPARABLE:
        raise ConfigError(
            f"entropo.covariance=clip_cov: {ACTOR}.policy_loss.loss_mode={loss} {INSEPARABLE[loss]}, so that single "
            "tokens cannot be dropped from it. Set another loss_mode, or entropo.covariance=kl_cov."
        )
    if plan.scope == "mini_batch" and get(config, f"{ACTOR}.shuffle", False):
        raise ConfigError(
            f"entropo.{plan.covariance}.scope=mini_batch: with {ACTOR}.shuffle=true the workers cut their own "
            f"mini-batches, unknown to the driver. Set {ACTOR}.shuffle=false, or the scope to global."
        )
