"""Who is right, and that the warm start's examples are of the tasks' own form."""

import random

import pytest

from entropo_plugin.demo.evidence import tasks

RIGHT = {
    "sums": [("381", "12="), ("048", "12=")],
    "rising_sums": [("138", "12=")],
    "walk": [("LR" * 12, "0="), ("R" * 11 + "L" * 9, "2="), ("L" * 20 + "R" * 14, "-6=")],
    "graphs": [("123123", "03,14=")],
}
WRONG = {
    "sums": [("382", "12="), ("38", "11="), ("3810", "12="), ("", "10=")],
    "rising_sums": [("831", "12="), ("139", "12=")],
    "walk": [("LR" * 9, "0="), ("LR" * 21, "0="), ("LR" * 12, "2="), ("LRX" * 8, "0="), ("", "0=")],
}


@pytest.mark.parametrize("name", ["sums", "rising_sums", "walk"])
def test_answers(name):
    right = tasks.named(name).right
    assert all(right(*each) for each in RIGHT[name])
    assert not any(right(*each) for each in WRONG[name])


def test_colourings_are_reasoning_gyms():
    task = tasks.named("graphs")
    prompt = task.trained[0]
    edges = [(int(a), int(b)) for a, b in prompt[:-1].split(",")]
    answers = ["".join(each) for each in tasks.itertools.product("123", repeat=6)]
    proper = [each for each in answers if all(each[a] != each[b] for a, b in edges)]
    assert [each for each in answers if task.right(each, prompt)] == proper
    assert len(proper) > 6
    assert not any(task.right(each, prompt) for each in ("", "12312", "1231231", "12312x"))


def test_palindromes_are_reasoning_gyms():
    task = tasks.named("palindromes")
    letters = sorted(task.trained[0][:-1])
    half = "".join(letters[::2])
    assert task.right(half + half[::-1], task.trained[0])
    assert not task.right(half + half, task.trained[0])
    assert not task.right("a" * 8, task.trained[0])


@pytest.mark.parametrize("name", [*tasks.NAMES, "other_sums", "rising_sums"])
def test_examples_fit_and_some_are_right(name):
    task, draw = tasks.named(name), random.Random(0)
    examples = [task.example(draw) for _ in range(300)]
    share = sum(task.right(answer, prompt) for prompt, answer in examples) / 300
    assert 0.05 < share < 0.7
    assert all(len(answer) < task.response for _, answer in examples)
    assert all(set(prompt + answer) <= set(task.characters) for prompt, answer in examples)
    assert not set(task.trained) & set(task.held_out)
