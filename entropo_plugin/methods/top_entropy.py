"""The 80/20 rule: only the tokens of highest entropy have a gradient (arXiv 2506.01939)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor

from entropo_plugin.fields import key
from entropo_plugin.methods.base import Method, Tokens
from entropo_plugin.methods.registry import register
from entropo_plugin.objectives.exact import in_row_blocks, quantile, readable_tokens


@dataclass(frozen=True)
class TopEntropy:
    """The 80/20 rule: a token keeps its gradient if its entropy is among the highest of the batch."""

    share: float = key(
        0.2, "share of the response tokens that keep their gradient", low=0.0, high=1.0, source="arXiv 2506.01939"
    )


@register
class TopEntropyMethod(Method):
    """A = 0 where ``H < quantile(H, 1 - share)`` over all response tokens of the rollout batch; N stays."""

    name, title, node, settings_type = "top_entropy", "the 80/20 rule", "top_entropy", TopEntropy
    selects, drops, acts_on = "global", True, "dropped"

    def needs(self) -> frozenset[str]:
        return frozenset({"entropy"})

    def check(self) -> Iterator[str]:
        if self.settings.share == 1:
            yield "entropo.top_entropy.share=1: every token keeps its gradient, so the method does nothing."
        if self.settings.share == 0:
            yield "entropo.top_entropy.share=0: only the token of highest entropy keeps its gradient."

    def select(self, tokens: Tokens, c: Mapping[str, float]) -> tuple[Tensor, dict[str, float]]:
        assert tokens.entropy is not None
        readable = readable_tokens(tokens.mask, tokens.entropy)
        count = int(readable.count_nonzero())
        threshold = quantile(tokens.entropy, 1 - self.settings.share, readable)
        dropped = in_row_blocks(lambda h, kept: kept & (h.double() < threshold), tokens.entropy, readable)
        return dropped, {"entropo/selection/share": int(dropped.count_nonzero()) / max(1, count)}

    def describe(self) -> str:
        return f"gradient on the {self.settings.share:.4g} of the tokens with most entropy"
