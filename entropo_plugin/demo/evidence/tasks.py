"""Tasks of many right answers, with models made on the spot, that are right one time in five before the training.

The warm start learns answers that are drawn at random, so that the model starts with a spread over the right ones.
Prompts that are tested only are of the same kind as those that are trained.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from entropo_plugin.demo import pretrained
from entropo_plugin.demo import task as sums_task

Prompts = tuple[str, ...]


@dataclass(frozen=True)
class Task:
    """What is asked, who is right, and what the model has seen before.

    Attributes:
        characters: of prompts and answers; a character is a token.
        response: most tokens of an answer, its end included.
        trained, held_out: prompts of the training, and prompts of the same kind that it never sees.
        right: whether an answer to a prompt is right.
        example: a prompt and an answer for the warm start, which may be wrong.
        warm_steps: supervised steps of 128 examples.
        rate: learning rate of a training, whose multiples are tried.
        rollouts: rollout batches of a training.
        prompts, updates: prompts of a rollout batch, eight answers each, and optimizer steps on them.
    """

    name: str
    characters: str
    response: int
    trained: Prompts
    held_out: Prompts
    right: Callable[[str, str], bool]
    example: Callable[[random.Random], tuple[str, str]]
    warm_steps: int
    rate: float
    rollouts: int
    hidden: int = 64
    layers: int = 2
    prompts: int = 12
    updates: int = 4


# Three digits of a given sum: 45 to 75 right answers.


def _near_sum(draw: random.Random) -> tuple[str, str]:
    prompt = draw.choice(SUMS.trained + SUMS.held_out)
    near = _by_sum()
    return prompt, draw.choice([each for off in range(-2, 3) for each in near[int(prompt[:-1]) + off]])


@cache
def _by_sum() -> dict[int, list[str]]:
    found: dict[int, list[str]] = {total: [] for total in range(28)}
    for digits in itertools.product("0123456789", repeat=3):
        found[sum(map(int, digits))].append("".join(digits))
    return found


def _is_sum(answer: str, prompt: str) -> bool:
    return sums_task.is_right(answer, int(prompt[:-1]))


def _is_rising_sum(answer: str, prompt: str) -> bool:
    return _is_sum(answer, prompt) and answer[0] < answer[2]


# A walk of 20 to 40 steps left and right that ends at a given place.
STEPS = range(20, 41)


def _near_walk(draw: random.Random) -> tuple[str, str]:
    prompt = draw.choice(WALK.trained + WALK.held_out)
    aim, length = int(prompt[:-1]) + draw.choice((-2, -1, 0, 1, 2)), draw.choice(STEPS)
    length += (length - aim) % 2
    walk = list("R" * ((length + aim) // 2) + "L" * ((length - aim) // 2))
    draw.shuffle(walk)
    return prompt, "".join(walk)


def _is_walk(answer: str, prompt: str) -> bool:
    known = len(answer) in STEPS and set(answer) <= set("LR")
    return known and answer.count("R") - answer.count("L") == int(prompt[:-1])


# Two families of reasoning-gym, its generator and its scorer, asked in as few characters as can be.


def _gym(name: str, size: int, seed: int, **settings: Any) -> list[dict[str, Any]]:
    import reasoning_gym

    data = reasoning_gym.create_dataset(name, size=size, seed=seed, **settings)
    return [data[index] for index in range(size)]


@cache
def _every(entries: Callable[[], dict[str, Any]]) -> list[str]:
    return list(entries())


@cache
def _graphs() -> dict[str, dict[str, Any]]:
    entries = _gym("graph_color", 400, 0, min_num_vertices=6, max_num_vertices=6, num_colors=3, edge_probability=0.4)
    return {_as_prompt(entry): entry for entry in entries}


def _as_prompt(entry: dict[str, Any]) -> str:
    return ",".join(f"{a}{b}" for a, b in entry["metadata"]["puzzle"]["edges"]) + "="


def _coloured(draw: random.Random) -> tuple[str, str]:
    prompt = draw.choice(_every(_graphs))
    return prompt, draw.choice(_colourings(prompt))


@cache
def _colourings(prompt: str) -> list[str]:
    """Every colouring of which at most one edge is wrong."""
    edges = [(int(edge[0]), int(edge[1])) for edge in prompt[:-1].split(",") if edge]
    every = ("".join(each) for each in itertools.product("123", repeat=6))
    return [each for each in every if sum(each[a] == each[b] for a, b in edges) <= 1]


def _is_colouring(answer: str, prompt: str) -> bool:
    import json

    if len(answer) != 6 or not set(answer) <= set("123"):
        return False
    colours = json.dumps({str(vertex): int(colour) for vertex, colour in enumerate(answer)})
    return _scorer("graph_color")(colours, _graphs()[prompt]) == 1


@cache
def _scorer(name: str) -> Callable[..., float]:
    import reasoning_gym

    return reasoning_gym.get_score_answer_fn(name)


@cache
def _letters() -> dict[str, dict[str, Any]]:
    entries = _gym("palindrome_generation", 2000, 0, min_length=8, max_length=8)
    return {"".join(entry["metadata"]["letters"]) + "=": entry for entry in entries}


def _palindrome(draw: random.Random) -> tuple[str, str]:
    prompt = draw.choice(_every(_letters))
    half = sorted(prompt[:-1])[::2]
    draw.shuffle(half)
    answer = half + half[::-1]
    if draw.random() < 0.5:
        one, other = draw.randrange(8), draw.randrange(8)
        answer[one], answer[other] = answer[other], answer[one]
    return prompt, "".join(answer)


def _is_palindrome(answer: str, prompt: str) -> bool:
    return _scorer("palindrome_generation")(answer, _letters()[prompt]) == 1


def _split(prompts: list[str], trained: int, held_out: int) -> tuple[Prompts, Prompts]:
    return tuple(prompts[:trained]), tuple(prompts[trained : trained + held_out])


def _numbers(*numbers: int) -> Prompts:
    return tuple(f"{number}=" for number in numbers)


DIGITS = "0123456789"
SUM_PROMPTS = _numbers(10, 12, 13, 15, 16, 18), _numbers(11, 14, 17, 19)
SUMS = Task("sums", f"={DIGITS}", 4, *SUM_PROMPTS, _is_sum, _near_sum, 400, 8e-4, 120)
# what a policy that was trained on sums goes on to learn: the numbers that it was not asked, and a further condition
OTHER = replace(SUMS, name="other_sums", trained=SUMS.held_out, held_out=SUMS.trained, rollouts=60)
RISING = Task("rising_sums", f"={DIGITS}", 4, *SUM_PROMPTS, _is_rising_sum, _near_sum, 400, 8e-4, 60)
WALK = Task(
    "walk", f"=-LR{DIGITS}", 42, _numbers(-6, -2, 2, 6), _numbers(-4, 0, 4), _is_walk, _near_walk, 600, 4e-4, 60
)
# the demo's pretrained model, with the demo's settings
PRETRAINED = replace(
    SUMS,
    name="smollm2",
    trained=_numbers(*pretrained.TRAINED),
    held_out=_numbers(*(number for number in sums_task.NUMBERS if number not in pretrained.TRAINED)),
    rate=1e-4,
    rollouts=20,
    prompts=8,
    updates=2,
)


@cache
def named(name: str) -> Task:
    """The task of that name; reasoning-gym is asked only for its own."""
    for task in (SUMS, OTHER, RISING, WALK, PRETRAINED):
        if task.name == name:
            return task
    if name == "graphs":
        prompts = _split([*_graphs()], 64, 16)
        return Task(name, f"=,{DIGITS}", 7, *prompts, _is_colouring, _coloured, 800, 4e-4, 120)
    letters = "abcdefghijklmnopqrstuvwxyz"
    prompts = _split([*_letters()], 64, 16)
    return Task("palindromes", f"={letters}", 9, *prompts, _is_palindrome, _palindrome, 1000, 4e-4, 120)


NAMES = ("sums", "walk", "graphs", "palindromes")
FURTHER = ("other_sums", "rising_sums", "smollm2")
