"""The small models that the trainings of one seed all start from."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

from entropo_plugin.demo import pretrained
from entropo_plugin.demo import task as sums_task
from entropo_plugin.demo.evidence.tasks import PRETRAINED, Task

BATCH, RATE = 128, 3e-3


def start(task: Task, seed: int, folder: Path) -> Path:
    """The folder of the warm-started model and its tokenizer, made at the first call.

    Two processes may make it at once: both make the same, and the first to end keeps the place.
    """
    if task.name == PRETRAINED.name:
        return pretrained.make(folder / "data", seed, pretrained.WARM_STEPS)
    place = folder / f"{task.name}-{seed}"
    if not place.exists():
        unfinished = folder / f".{place.name}.{os.getpid()}"
        tok = sums_task.tokenizer(task.characters)
        model = sums_task.new_model(tok, seed, task.hidden, task.layers)
        warm_start(model, tok, task, seed)
        tok.save_pretrained(unfinished)
        model.save_pretrained(unfinished)
        try:
            unfinished.rename(place)
        except OSError:
            if not place.exists():
                raise
    return place


def warm_start(model: Any, tok: Any, task: Task, seed: int) -> None:
    """Supervised training on examples of the task."""
    import torch

    draw = random.Random(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=RATE, total_steps=task.warm_steps)
    for _ in range(task.warm_steps):
        ids, answers = examples(tok, task, draw)
        logits = model(input_ids=ids, attention_mask=(ids != tok.pad_token_id).long()).logits[:, :-1]
        loss = torch.nn.functional.cross_entropy(logits[answers[:, 1:]], ids[:, 1:][answers[:, 1:]])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()


def examples(tok: Any, task: Task, draw: random.Random) -> tuple[Any, Any]:
    """Token ids ``(batch, length)``, padded on the left as a rollout's prompts are, and which are an answer's."""
    import torch

    rows = [task.example(draw) for _ in range(BATCH)]
    coded = [(tok(prompt)["input_ids"], [*tok(answer)["input_ids"], tok.eos_token_id]) for prompt, answer in rows]
    length = max(len(prompt) + len(answer) for prompt, answer in coded)
    ids = torch.full((BATCH, length), tok.pad_token_id)
    answers = torch.zeros(BATCH, length, dtype=torch.bool)
    for row, (prompt, answer) in enumerate(coded):
        ids[row, length - len(prompt) - len(answer) :] = torch.tensor(prompt + answer)
        answers[row, length - len(answer) :] = True
    return ids, answers
