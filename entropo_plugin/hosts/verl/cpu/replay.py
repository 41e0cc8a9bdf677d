"""verl's sync replay buffer without its two-second poll (trainer/ppo/v1/replay_buffer.py:409), most of a tiny step."""

from __future__ import annotations

from typing import Any

from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer


class QuickReplayBuffer(ReplayBuffer):
    """Chosen by ``trainer.v1.sampler.custom_sampler`` in the CPU recipes; polls 50 times a second."""

    def __init__(self, **kwargs: Any):
        super().__init__(poll_interval=0.02, **kwargs)
