"""The worked example of docs/extending.md, by hand and in verl; the parts of docs/porting.md without any host."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import entropo_plugin

PAGE = Path(__file__).parents[2] / "docs" / "extending.md"


@pytest.fixture
def example():
    from verl.trainer.ppo import core_algos

    names: dict = {"__name__": "preserved"}
    exec(compile(source(), PAGE.name, "exec"), names)
    yield names
    del core_algos.POLICY_LOSS_REGISTRY["preserved"]


def source(page=PAGE):
    (code,) = re.findall(r"^```python\n(.*?)^```$", page.read_text(), re.S | re.M)
    return code


def test_it_has_at_most_sixty_lines():
    assert len(source().splitlines()) <= 60


def test_the_gradient_is_kept_outside_the_clip_with_the_stated_size(example):
    """Ratios 0.5, 1, 1.5 for A = 2 and A = -2: d loss / d log p is -r A, or -keep * edge * A where PPO has none."""
    ratio = torch.tensor([[0.5, 1.0, 1.5]]).repeat(2, 1)
    logp = ratio.log().requires_grad_()
    advantage = torch.tensor([[2.0], [-2.0]]).expand(2, 3)
    example["preserved"](logp, torch.zeros(2, 3), advantage, torch.ones(2, 3)).sum().backward()
    wanted = torch.tensor([[-1.0, -2.0, -2 * 1.28], [2 * 0.5 * 0.8, 2.0, 3.0]])
    torch.testing.assert_close(logp.grad, wanted)


def test_padding_has_no_part_in_it(example):
    logp = torch.tensor([[-1.0, float("nan")]], requires_grad=True)
    advantage = torch.tensor([[1.0, float("nan")]])
    loss = example["preserved"](logp, torch.full((1, 2), -1.0), advantage, torch.tensor([[1, 0]]))
    loss.sum().backward()
    assert loss.tolist() == [[-1.0, 0.0]] and logp.grad.tolist() == [[-1.0, 0.0]]


def test_verl_finds_it_and_normalises_it_as_its_own(example):
    from verl.trainer.ppo.core_algos import get_policy_loss_fn
    from verl.workers.config import FSDPActorConfig

    config = FSDPActorConfig(strategy="fsdp2", rollout_n=2, use_dynamic_bsz=True)
    config.global_batch_info.update(dp_size=1, batch_num_tokens=8, global_batch_size=2)
    inputs = torch.full((2, 2), -1.0), torch.full((2, 2), -1.0), torch.ones(2, 2), torch.ones(2, 2)
    loss, metrics = get_policy_loss_fn("preserved")(*inputs, config=config)
    assert float(loss) == -0.5 and metrics == {}  # 4 of the mini-batch's 8 tokens, -1 each


ALONE = ("__init__.py", "config.py", "contradictions.py", "fields.py", "objectives", "control", "monitor")


def test_three_folders_and_four_files_run_without_any_host(tmp_path):
    """None in sys.modules makes an import fail, wherever it stands."""
    installed, copy = Path(entropo_plugin.__file__).parent, tmp_path / "entropo_plugin"
    copy.mkdir()
    for name in ALONE:
        each = installed / name
        (shutil.copytree if each.is_dir() else shutil.copy)(each, copy / name)
    blocked = "import sys\nsys.modules.update(dict.fromkeys(('verl', 'ray', 'tensordict', 'transfer_queue', 'vllm')))\n"
    here = "import entropo_plugin, entropo_plugin.monitor\nprint(entropo_plugin.__file__)\n"
    code = blocked + f"sys.path.insert(0, {str(tmp_path)!r})\n" + here + source(PAGE.with_name("porting.md"))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(copy)) and "without control" in done.stdout
