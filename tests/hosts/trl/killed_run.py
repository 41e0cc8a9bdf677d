"""``python killed_run.py FOLDER [CHECKPOINT]``: a training that says when a step begins, for the test that kills it."""

import sys
from pathlib import Path

from transformers import TrainerCallback
from trl_runs import config, data, model, trainer

STEPS = 48
ENTROPO = {"methods": ["repo_neutral", "adapo"], "target": {"fraction": 0.8}}
CHANGES = dict(num_iterations=2, max_steps=STEPS, save_strategy="steps", save_steps=2, save_total_limit=3)


class Says(TrainerCallback):
    def on_step_begin(self, args, state, control, **unused):
        print("step", state.global_step + 1, flush=True)


if __name__ == "__main__":
    args = config(Path(sys.argv[1]), ENTROPO, **CHANGES)
    # one pass over the data: in later ones TRL's sampler shuffles anew after a resume
    parts = {"model": model(dropout=0.1), "train_dataset": data(2 * STEPS), "callbacks": [Says()]}
    run = trainer(args, **parts)
    run.train(resume_from_checkpoint=sys.argv[2] if len(sys.argv) > 2 else None)
