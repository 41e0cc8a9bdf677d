"""A training whose completions depend on nothing but their row: run alone or by several processes, for a test."""

import json
import sys
from pathlib import Path

import torch
from trl_runs import config, logged, tokenizer, trainer, weights

from entropo_plugin.hosts.trl import EntropoGRPOTrainer

ENTROPO = {
    "repo_neutral": {"methods": ["repo_neutral"]},
    "clip_cov": {
        "methods": ["clip_cov", "repo_r"],
        "clip_cov": {"ratio": 0.2, "band": "quantile", "low_quantile": 0.3, "high_quantile": 0.95},
    },
}


class Recorded(EntropoGRPOTrainer):
    """Keeps what the driver's part made of each batch."""

    def _ship(self, prepared, out):
        chosen = {name: values.int().tolist() for name, values in prepared.selected.items()}
        self.prepared.append({"selected": chosen, "advantage": prepared.advantage.tolist()})
        super()._ship(prepared, out)


def rollout(prompts, run):
    words, first = tokenizer(), run.accelerator.process_index * len(prompts)
    rows = range(first, first + len(prompts))
    lengths = [1 + row % 4 if row < 8 else 1 + row % 3 for row in rows]
    ids = [[3 + (row * 5 + place * row + 1) % 10 for place in range(n)] for row, n in zip(rows, lengths, strict=True)]
    return {"prompt_ids": [words(each)["input_ids"] for each in prompts], "completion_ids": ids, "logprobs": None}


def run(folder, name, processes):
    args = config(
        folder, ENTROPO[name], per_device_train_batch_size=8 // processes, max_steps=3, num_iterations=1, optim="sgd"
    )
    own = trainer(args, Recorded, rollout_func=rollout)
    own.prepared = []
    own.train()
    names = ("entropo/entropy/token_mean", "entropo/shift", "entropo/zeta", "entropo/beta_neutral", "entropo/target")
    names += ("entropo/tokens/count", "entropo/selection/dropped", "entropo/clip/above_positive", "entropo/pass_at/1")
    metrics = {each: logged(own, each) for each in names}
    return {
        "prepared": own.prepared,
        "metrics": metrics,
        "weights": weights(own).tolist(),
        "state": own.entropo.state_dict(0),
    }


if __name__ == "__main__":
    import torch.distributed

    folder = Path(sys.argv[1])
    results = {name: run(folder, name, 2) for name in ENTROPO}
    (folder / f"rank-{torch.distributed.get_rank()}.json").write_text(json.dumps(results))
    torch.distributed.destroy_process_group()
