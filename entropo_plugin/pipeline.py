"""What happens to a batch: the methods' hooks in their fixed order, over tensors; it knows no host.

The driver calls :func:`prepare_batch` once for the whole rollout batch; every worker calls :func:`shape`, :func:`drop`,
:func:`policy_loss` and :func:`penalties` for each of its micro-batches. A host without a driver calls both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from torch import Tensor

from entropo_plugin.control import MEASURED
from entropo_plugin.methods.active import selection_name
from entropo_plugin.methods.base import Method, Tokens
from entropo_plugin.monitor import StepTokens
from entropo_plugin.objectives import response_only
from entropo_plugin.objectives.exact import exact_mean, in_row_blocks, one_thread, readable_tokens
from entropo_plugin.run import Run

Methods = Sequence[Method]
Coefficients = Mapping[str, Mapping[str, float]]
Selected = Mapping[str, Tensor]
# The tokens of a micro-batch are chosen in the worker, all others on the driver.
DRIVER, WORKER = ("global", "mini_batch"), ("micro_batch",)


@dataclass
class Prepared:
    """A whole batch after the driver's part.

    Attributes:
        advantage: ``(batch, response)``, shaped.
        shaped: whether they differ from what came in.
        selected: by method, the chosen tokens, ``(batch, response)`` boolean.
        metrics: of the choice and the shaping.
    """

    advantage: Tensor
    shaped: bool = False
    selected: dict[str, Tensor] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)


def acts_on_driver(methods: Methods) -> bool:
    """Whether :func:`prepare_batch` has anything to do."""
    return any(method.shapes == "driver" or method.selects in DRIVER or _measures(method) for method in methods)


def _measures(method: Method) -> bool:
    return any(each.law == MEASURED for each in method.coefficients().values())


@one_thread()
def prepare_batch(run: Run, tokens: Tokens) -> Prepared:
    """Choose, measure, shape and drop over the whole rollout batch.

    Args:
        run: the methods and their coefficients; it remembers what they measure.
        tokens: the whole batch, with pi_old's log-probs and the base advantages.
    """
    prepared = Prepared(tokens.advantage)
    prepared.selected, prepared.metrics = select(run.methods, tokens, run.coefficients(), DRIVER)
    run.measure(tokens)
    if any(method.shapes == "driver" for method in run.methods):
        shifts: dict[str, float] = {}
        shaped = response_only(shape(run.methods, tokens, run.coefficients(), "driver", shifts), tokens.mask)
        prepared.metrics |= shifts
        prepared.advantage, prepared.shaped = shaped, True
    if any(method.drops for method in run.methods):
        prepared.advantage = drop(run.methods, prepared.advantage, prepared.selected)
        prepared.shaped = True
        prepared.metrics |= _dropped(run.methods, prepared.selected, tokens.mask)
    return prepared


def _dropped(methods: Methods, selected: Selected, mask: Tensor) -> dict[str, float]:
    """The share of the response tokens that each method drops, as the workers log it of a loss of its own."""
    return {
        selection_name(methods, method, f"entropo/selection/{method.acts_on}"): _share(selected[method.name], mask)
        for method in methods
        if method.drops and method.name in selected
    }


def select(
    methods: Methods, tokens: Tokens, coefficients: Coefficients, scopes: Sequence[str]
) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Every method's choice among those that choose within one of ``scopes``, by method, and its metrics."""
    selected: dict[str, Tensor] = {}
    metrics: dict[str, float] = {}
    for method in methods:
        if method.selects in scopes:
            selected[method.name], own = method.select(tokens, coefficients[method.name])
            metrics |= {selection_name(methods, method, name): value for name, value in own.items()}
    return selected, metrics


def shape(
    methods: Methods,
    tokens: Tokens,
    coefficients: Coefficients,
    where: str,
    shifts: dict[str, float] | None = None,
) -> Tensor:
    """The advantages after every shape of ``where``, ``driver`` or ``worker``, in the methods' order.

    Args:
        shifts: receives, by the name of its metric, how far each method moved them: the mean over the response tokens.
    """
    for method in methods:
        if method.shapes == where:
            advantage = method.shape(tokens, coefficients[method.name])
            if shifts is not None:
                moved = in_row_blocks(lambda after, before: (after - before).abs(), advantage, tokens.advantage)
                shifts[selection_name(methods, method, "entropo/shift")] = mean_of(moved, tokens.mask)
            tokens = replace(tokens, advantage=advantage)
    return tokens.advantage


def drop(methods: Methods, advantage: Tensor, selected: Selected) -> Tensor:
    """Zero for the tokens that a method drops: without an advantage a token has neither loss nor gradient."""
    for method in methods:
        if method.drops and method.name in selected:
            advantage = advantage.masked_fill(selected[method.name], 0)
    return advantage


def loss_owner(methods: Methods) -> Method | None:
    """The method whose policy loss takes the place of the host's."""
    return next((method for method in methods if method.owns_loss), None)


def penalties(methods: Methods, tokens: Tokens, coefficients: Coefficients, selected: Selected) -> Tensor | None:
    """``(batch, response)`` sum of all penalties, 0 in the padding; None without one."""
    total: Tensor | None = None
    for method in methods:
        if method.penalises:
            own = method.penalty(tokens, coefficients[method.name], selected.get(method.name))
            total = own if total is None else total + own
    return total


def overrides(methods: Methods, coefficients: Coefficients) -> dict[str, float]:
    """The host's scalars that move in this step."""
    moved: dict[str, float] = {}
    for method in methods:
        moved |= method.overrides(coefficients.get(method.name, {}))
    return moved


def preview(tokens: StepTokens, run: Run) -> StepTokens:
    """The step with the advantages that the loss receives at its first update.

    A method that shapes in the loss does so with the current log-probs; there the current policy is still pi_old.
    """
    late = [method for method in run.methods if method.shapes == "worker"]
    if not late or tokens.advantages is None:
        return tokens
    logp = tokens.old_log_probs
    micro = Tokens(logp, tokens.response_mask, logp, tokens.advantages, tokens.entropy)
    return replace(tokens, advantages=shape(late, micro, run.coefficients(), "worker"))


def mean_of(values: Tensor, mask: Tensor) -> float:
    """Mean of ``(batch, response)`` values over the response tokens at which they are finite; 0 without one."""
    return exact_mean(values, readable_tokens(mask, values))


def _share(marks: Tensor, mask: Tensor) -> float:
    """Of the response tokens, how many are marked; 0 without one."""
    marked = in_row_blocks(lambda marks, mask: marks & mask.bool(), marks, mask)
    return int(marked.count_nonzero()) / max(1, int(mask.count_nonzero()))
