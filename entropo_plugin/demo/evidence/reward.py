"""1 for a right answer, less a KL to the start where an arm has one in its reward, as verl's ``use_kl_in_reward``."""

from __future__ import annotations

import copy
from typing import Any

from entropo_plugin.demo.evidence.tasks import Task


class Reward:
    """``r(y) - b (log p(y) - log p0(y))``, p the policy that sampled y and p0 the start; b = 0 asks no model."""

    __name__ = "right"

    def __init__(self, task: Task, b: float, model: Any, tok: Any):
        self.task, self.b, self.model, self.tok = task, b, model, tok
        self.start = copy.deepcopy(model) if b else None

    def __call__(self, prompts: list[str], completions: list[str], completion_ids: list, **unused: Any) -> list[float]:
        right = [float(self.task.right(text, prompt)) for prompt, text in zip(prompts, completions, strict=True)]
        if not self.b:
            return right
        asked = [self.tok(prompt)["input_ids"] for prompt in prompts]
        now, then = (answer_logps(each, asked, completion_ids) for each in (self.model, self.start))
        return [r - self.b * (p - p0) for r, p, p0 in zip(right, now, then, strict=True)]


def answer_logps(model: Any, prompts: list[list[int]], answers: list[list[int]]) -> list[float]:
    """log p of whole answers, in nats."""
    import torch

    length = max(len(prompt) + len(answer) for prompt, answer in zip(prompts, answers, strict=True))
    ids = torch.zeros(len(prompts), length, dtype=torch.long)
    seen, written = torch.zeros_like(ids), torch.zeros_like(ids, dtype=torch.bool)
    for row, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        ids[row, length - len(prompt) - len(answer) :] = torch.tensor([*prompt, *answer])
        seen[row, length - len(prompt) - len(answer) :] = 1
        written[row, length - len(answer) :] = True
    training = model.training
    model.eval()
    with torch.no_grad():
        logits = model(input_ids=ids, attention_mask=seen).logits[:, :-1]
    model.train(training)
    logp = logits.log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0]
    return (logp * written[:, 1:]).sum(-1).tolist()
