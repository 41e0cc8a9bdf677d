"""A step worked by hand, shared by the tests of the monitor."""

import pytest
import torch

from entropo_plugin.monitor.tokens import StepTokens

NAN = float("nan")


@pytest.fixture
def step() -> StepTokens:
    """Two prompts, two responses each; 9 tokens of the policy; NaN wherever the mask is off.

    Row 0 is right, rows 1 and 2 are wrong (row 2 is cut short), row 3 repeats row 2 with one more token and is right.
    Row 1's second token was written by a tool.
    """
    return StepTokens(
        response_mask=torch.tensor([[1, 1, 0], [1, 0, 1], [1, 1, 0], [1, 1, 1]]),
        old_log_probs=torch.tensor([[-1.0, -2.0, NAN], [-3.0, NAN, -1.0], [-0.5, -0.5, NAN], [-1.0, -4.0, -5.0]]),
        responses=torch.tensor([[7, 8, 0], [7, 9, 8], [5, 6, 0], [5, 6, 6]]),
        response_length=torch.tensor([2, 3, 2, 3]),
        uid=["a", "a", "b", "b"],
        entropy=torch.tensor([[1.0, 0.5, NAN], [0.0, NAN, 2.0], [0.0, 0.5, NAN], [1.5, 2.5, 1.0]]),
        advantages=torch.tensor([[1.0, 1.0, NAN], [-1.0, NAN, -1.0], [-1.0, -1.0, NAN], [1.0, 1.0, 1.0]]),
        rm_scores=torch.tensor([[0.0, 1.0, NAN], [0.0, 0.0, 0.5], [0.0, 0.0, NAN], [0.0, 0.0, 1.0]]),
        truncated=torch.tensor([False, False, True, False]),
    )
