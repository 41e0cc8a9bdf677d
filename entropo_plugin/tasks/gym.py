"""``entropo tasks``: verifiable tasks without a download, reasoning-gym's generators as verl's data and reward.

The reward function is :func:`compute_score`, for verl ``reward.custom_reward_function.path=pkg://entropo_plugin.tasks.gym``.
"""

from __future__ import annotations

import argparse
import json
import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from entropo_plugin.fields import ConfigError

ASK = "\nThink first if you like, then give the final answer alone between <answer> and </answer>."
# composite is a mixture of others; the other two compare with tuples, which JSON turns into lists
UNFIT = {"composite", "arc_agi", "rearc"}
NAME = re.compile(r'^(?:DATASET_NAME = |register_dataset\()"(\w+)"', re.M)
ANSWER = re.compile(r"<answer>(.*?)</answer>", re.S)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``entropo tasks``."""
    parser.add_argument("names", nargs="*", metavar="TASK", help="tasks to mix in equal parts; none: list them")
    parser.add_argument("--out", type=Path, default=Path("data"), help="folder of train.parquet and test.parquet")
    parser.add_argument("--size", type=prompts, default=4096, help="training prompts (default 4096)")
    parser.add_argument("--test", type=prompts, default=256, help="test prompts, drawn from another seed (default 256)")
    parser.add_argument("--seed", type=int, default=0)


def prompts(value: str) -> int:
    """A positive number of prompts."""
    if not value.isdecimal() or int(value) < 1:
        raise argparse.ArgumentTypeError(f"{value}: expected a positive number of prompts")
    return int(value)


def run(options: argparse.Namespace) -> int:
    """List the tasks, or write their data and print what to add to a command."""
    known = names()
    unknown = [name for name in options.names if name not in known]
    if unknown:
        raise ConfigError(f"entropo tasks: no task {unknown[0]!r}. `entropo tasks` lists all {len(known)}.")
    if not options.names:
        print(", ".join(known))
        return 0
    for split, size, seed in (("train", options.size, 2 * options.seed), ("test", options.test, 2 * options.seed + 1)):
        write(options.out / f"{split}.parquet", options.names, size, seed)
    print(f"data.train_files={options.out / 'train.parquet'} data.val_files={options.out / 'test.parquet'}")
    print("reward.custom_reward_function.path=pkg://entropo_plugin.tasks.gym")
    return 0


def names() -> list[str]:
    """Every task of the installed reasoning-gym that can be scored from a file.

    They are read from its sources: to import all of its generators takes most of a second.

    Raises:
        ConfigError: it is not installed.
    """
    package = find_spec("reasoning_gym")
    if package is None or package.origin is None:
        raise ConfigError("entropo tasks needs reasoning_gym. Run: pip install 'entropo-plugin[tasks]'")
    sources = Path(package.origin).parent.rglob("*.py")
    return sorted({name for path in sources for name in NAME.findall(path.read_text("utf-8"))} - UNFIT)


def write(path: Path, tasks: list[str], size: int, seed: int) -> None:
    """``size`` prompts as verl's parquet, the tasks taking turns."""
    import pandas
    import reasoning_gym

    each = -(-size // len(tasks))
    made = {name: reasoning_gym.create_dataset(name, size=each, seed=seed) for name in tasks}
    rows = [row(name, dataset[index]) for index in range(each) for name, dataset in made.items()]
    path.parent.mkdir(parents=True, exist_ok=True)
    pandas.DataFrame(rows[:size]).to_parquet(path)


def row(name: str, entry: dict[str, Any]) -> dict[str, Any]:
    """One prompt; the whole entry goes along as JSON, because most tasks accept more answers than the one they name."""
    return {
        "data_source": f"reasoning_gym/{name}",
        "prompt": [{"role": "user", "content": entry["question"] + ASK}],
        "ability": "reasoning",
        "reward_model": {"style": "rule", "ground_truth": str(entry["answer"])},
        "extra_info": {"entry": json.dumps(entry, default=_plain)},
    }


def compute_score(data_source: str, solution_str: str, ground_truth: str, extra_info: Any = None, **_: Any) -> float:
    """verl's reward function: the task's own score, 0 to 1, of the last marked answer; 0 without one."""
    found = ANSWER.findall(solution_str)
    if not found:
        return 0.0
    return float(_scorer(data_source.partition("/")[2])(found[-1].strip(), json.loads(extra_info["entry"])))


@cache
def _scorer(name: str) -> Any:
    import reasoning_gym

    return reasoning_gym.get_score_answer_fn(name)


def _plain(value: Any) -> Any:
    """numpy's scalars and arrays, and whatever else JSON does not know, as plain values."""
    return value.tolist() if hasattr(value, "tolist") else list(value) if hasattr(value, "__iter__") else str(value)
