"""The demo's task, "write three digits whose sum is N", and its model, made and warm-started on the spot.

Every prompt has 45 to 75 right answers ("12": "381", "048"), so that lost diversity can be seen. Reinforcement learning
sees the numbers of ``TRAINED`` only; the test asks all ``NUMBERS``, those trained and those between them. The warm
start learns sums that miss by up to ``MISS``, which leaves a model that knows the form, is right one time in four or
five, and spreads over many answers.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

NUMBERS = range(10, 20)
TRAINED = (11, 14, 17)
MISS = 2
BATCH = 128
STEPS = 400
LEARNING_RATE = 3e-3
SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<unk>", "user", "assistant", "system"]
CHAT = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def is_right(answer: str, number: int) -> bool:
    """Whether ``answer`` is exactly three digits that add up to ``number``."""
    digits = len(answer) == 3 and all(character in "0123456789" for character in answer)
    return digits and sum(map(int, answer)) == number


def compute_score(data_source: str, solution_str: str, ground_truth: str, extra_info: Any = None, **_: Any) -> float:
    """verl's reward function: 1 for a right answer, 0 otherwise."""
    return float(is_right(solution_str.strip(), int(ground_truth)))


def tokenizer(characters: str = "0123456789") -> Any:
    """A byte-level tokenizer with ChatML marks, one token per character, as verl expects of a Qwen2 model."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    # "Ċ" and "Ġ" are how byte-level tokenizers write newline and space; verl wants the newline to be one token
    words = [*SPECIALS, "Ċ", "Ġ", *characters]
    raw = Tokenizer(models.BPE({word: i for i, word in enumerate(words)}, []))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    raw.add_special_tokens(SPECIALS)
    marks = {"pad_token": "<|endoftext|>", "eos_token": "<|im_end|>", "unk_token": "<unk>"}
    fast = PreTrainedTokenizerFast(tokenizer_object=raw, padding_side="left", model_max_length=64, **marks)
    fast.chat_template = CHAT
    return fast


def new_model(tok: Any, seed: int, hidden: int = 64, layers: int = 2) -> Any:
    """A small Qwen2 with untrained weights; its vocabulary is the tokenizer's, or rollout and actor would differ."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(seed)
    sizes: dict[str, Any] = {
        "hidden_size": hidden,
        "intermediate_size": 2 * hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": hidden // 32,
        "num_key_value_heads": hidden // 32,
        "max_position_embeddings": 64,
    }
    ends: dict[str, Any] = {"bos_token_id": None, "eos_token_id": tok.eos_token_id, "pad_token_id": tok.pad_token_id}
    config = Qwen2Config(vocab_size=len(tok), tie_word_embeddings=False, **sizes, **ends)
    model = Qwen2ForCausalLM(config).float()
    model.generation_config.eos_token_id, model.generation_config.pad_token_id = tok.eos_token_id, tok.pad_token_id
    return model


def prompt_ids(tok: Any, number: int) -> list[int]:
    """Token ids of the chat prompt for one number."""
    text = tok.apply_chat_template(
        [{"role": "user", "content": str(number)}], add_generation_prompt=True, tokenize=False
    )
    return tok(text, add_special_tokens=False)["input_ids"]


def near_answers(tok: Any) -> tuple[Any, int]:
    """Token ids of every prompt with every answer that misses by at most ``MISS``, and the length of a prompt."""
    import torch

    rows = []
    for number in NUMBERS:
        for digits in itertools.product(range(10), repeat=3):
            if abs(sum(digits) - number) <= MISS:
                answer = tok("".join(map(str, digits)), add_special_tokens=False)["input_ids"]
                rows.append(prompt_ids(tok, number) + answer + [tok.eos_token_id])
    return torch.tensor(rows), len(prompt_ids(tok, NUMBERS[0]))


def warm_start(
    model: Any,
    tok: Any,
    seed: int,
    steps: int,
    progress: Callable[[int], None] = lambda _: None,
    batch: int = BATCH,
    rate: float = LEARNING_RATE,
) -> float:
    """Supervised training on near answers, all equally likely; returns the last loss in nats per answer token."""
    import torch

    rows, prompt = near_answers(tok)
    draw = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=rate, total_steps=steps)
    loss = torch.tensor(0.0)
    for step in range(steps):
        ids = rows[torch.randint(len(rows), (batch,), generator=draw)]
        logits = model(input_ids=ids).logits[:, prompt - 1 : -1]
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, prompt:].flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        progress(step + 1)
    return float(loss.detach())


def write_data(folder: Path, seed: int, rows: int = 2048, trained: Sequence[int] = TRAINED) -> None:
    """``train.parquet``, prompts drawn at random from ``trained``, and ``test.parquet``, each of ``NUMBERS`` once.

    The test's two kinds of prompts have names of their own, so that verl validates them apart.
    """
    import pandas

    folder.mkdir(parents=True, exist_ok=True)
    rng = random.Random(seed)
    train = [rng.choice(trained) for _ in range(rows)]
    for name, numbers in (("train", train), ("test", list(NUMBERS))):
        rows_of = [_row(name, i, n, "trained" if n in trained else "held_out") for i, n in enumerate(numbers)]
        pandas.DataFrame(rows_of).to_parquet(folder / f"{name}.parquet")


def _row(split: str, index: int, number: int, source: str) -> dict[str, Any]:
    return {
        "data_source": source,
        "prompt": [{"role": "user", "content": str(number)}],
        "ability": "arithmetic",
        "reward_model": {"style": "rule", "ground_truth": str(number)},
        "extra_info": {"split": split, "index": index},
    }


def make(folder: Path, seed: int = 0, steps: int = STEPS, progress: Callable[[int], None] = lambda _: None) -> Path:
    """Make the small model, its tokenizer and the data in ``folder``; returns the model's folder."""
    import torch

    tok = tokenizer()
    model = new_model(tok, seed)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # a model this small only waits for a second thread
    warm_start(model, tok, seed, steps, progress)
    torch.set_num_threads(threads)
    tok.save_pretrained(folder / "model")
    model.save_pretrained(folder / "model")
    write_data(folder, seed)
    return folder / "model"
