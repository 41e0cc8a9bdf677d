"""Tiny TRL trainings on the CPU: a two-layer Qwen2 of thirteen tokens that is asked for three digits of a given sum."""

import gc
import logging
import os
import random

import torch
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM
from trl import GRPOTrainer

from entropo_plugin.hosts.trl import EntropoGRPOConfig, EntropoGRPOTrainer

logging.getLogger("transformers").setLevel(logging.ERROR)
# every training begins with a collection, which need not look at what is imported: a second each time
gc.freeze()
WORDS = ["<pad>", "<eos>", "=", *map(str, range(10))]


# Settings with which each method acts on this task, and what it needs of TRL; the others act by their defaults.
SETTINGS = {
    "clip_cov": {"clip_cov": {"ratio": 0.1, "band": "quantile", "low_quantile": 0.5, "high_quantile": 0.9}},
    "kl_cov": {"kl_cov": {"ratio": 0.1}},
    "entropy_bonus": {"entropy_coeff": {"initial": 0.02}},
    "entropic": {"entropic": {"probability": 0.01}},
    "stare": {"target": {"kind": "value", "value": 2.5649}},
}
NEEDS = {"repo_anchored": {"beta": 0.1}}


def tokenizer():
    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<pad>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", eos_token="<eos>")


def model(seed=0, dropout=0.0):
    torch.manual_seed(seed)
    sizes = dict(hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2)
    return Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=len(WORDS),
            num_key_value_heads=1,
            max_position_embeddings=32,
            tie_word_embeddings=True,
            eos_token_id=1,
            pad_token_id=0,
            bos_token_id=None,
            attention_dropout=dropout,
            **sizes,
        )
    )


def data(rows=32):
    draw = random.Random(0)
    return Dataset.from_list([{"prompt": f"{draw.randrange(3, 9)} ="} for _ in range(rows)])


def reward(prompts, completions, **unused):
    """Minus the distance of the first three digits' sum from the number in the prompt."""
    sums = [sum(int(word) for word in text.split()[:3] if word.isdigit()) for text in completions]
    return [-abs(total - int(prompt.split()[0])) / 10 for prompt, total in zip(prompts, sums, strict=True)]


def config(folder, entropo=None, **changes):
    fields = dict(
        output_dir=str(folder),
        per_device_train_batch_size=8,
        gradient_accumulation_steps=2,
        num_generations=4,
        max_completion_length=4,
        learning_rate=3e-3,
        max_steps=2,
        logging_steps=1,
        report_to=[],
        use_cpu=os.environ.get("ENTROPO_TEST_DEVICE") != "cuda",
        bf16=False,
        save_strategy="no",
        disable_tqdm=True,
        entropo=entropo or {},
    )
    return EntropoGRPOConfig(**(fields | changes))


def trainer(args, kind=EntropoGRPOTrainer, **changes):
    fields = dict(model=model(), reward_funcs=reward, args=args, train_dataset=data(), processing_class=tokenizer())
    return kind(**(fields | changes))


def stock(args, **changes):
    return trainer(args, GRPOTrainer, **changes)


def weights(run):
    return torch.cat([each.detach().flatten() for each in run.model.parameters()])


def trained(folder, entropo=None, resume=None, **changes):
    run = trainer(config(folder, entropo, **changes), model=saved_model(folder) if changes.get("beta") else model())
    run.train(resume_from_checkpoint=resume)
    return run


def saved_model(folder, seed=0, dropout=0.0):
    """A model with a folder of its own, from which TRL can load the reference model."""
    own = model(seed, dropout)
    own.save_pretrained(folder / "model")
    own.config._name_or_path = str(folder / "model")
    return own


def logged(run, name):
    return [entry[name] for entry in run.state.log_history if name in entry]
