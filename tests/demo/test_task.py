import math
import random

import pandas
import pytest
import torch

from entropo_plugin.demo import task


@pytest.mark.parametrize(
    ("answer", "number", "right"),
    [
        ("381", 12, True),
        ("048", 12, True),
        ("318", 12, True),
        ("382", 12, False),
        ("12", 12, False),
        ("0381", 12, False),
        ("3+8+1", 12, False),
        ("", 0, False),
        ("٣٨١", 12, False),
        ("38١", 12, False),
    ],
)
def test_right_answers(answer, number, right):
    assert task.is_right(answer, number) is right
    assert task.compute_score("", answer, str(number)) == float(right)


def test_every_prompt_has_dozens_of_right_answers():
    count = {n: sum(task.is_right(f"{i:03d}", n) for i in range(1000)) for n in task.NUMBERS}
    assert count == {10: 63, 11: 69, 12: 73, 13: 75, 14: 75, 15: 73, 16: 69, 17: 63, 18: 55, 19: 45}


def test_the_tokenizer_is_one_token_a_character_and_closes_its_chat():
    tok = task.tokenizer()
    ids = task.prompt_ids(tok, 12)
    assert tok.decode(ids) == "<|im_start|>user\n12<|im_end|>\n<|im_start|>assistant\n"
    assert len(tok("048", add_special_tokens=False)["input_ids"]) == 3
    assert len({len(task.prompt_ids(tok, n)) for n in task.NUMBERS}) == 1


def test_the_warm_start_learns_and_is_reproducible():
    tok = task.tokenizer()
    losses = [task.warm_start(task.new_model(tok, 3, hidden=32, layers=1), tok, 3, 20) for _ in range(2)]
    assert losses[0] == losses[1] < 2.6 < math.log(len(tok))


def test_near_answers_miss_by_at_most_two_and_end():
    tok = task.tokenizer()
    rows, prompt = task.near_answers(tok)
    assert (rows[:, -1] == tok.eos_token_id).all() and rows.shape[1] == prompt + 4
    for row in random.Random(0).sample(rows.tolist(), 50):
        number = int(tok.decode(row[:prompt]).split("\n")[1].removesuffix("<|im_end|>"))
        assert abs(sum(map(int, tok.decode(row[prompt:-1]))) - number) <= 2


def test_the_data_are_what_verl_reads(tmp_path):
    task.write_data(tmp_path, seed=1, rows=64)
    train, test = (pandas.read_parquet(tmp_path / f"{name}.parquet") for name in ("train", "test"))
    assert len(train) == 64 and [row["ground_truth"] for row in test.reward_model] == [str(n) for n in task.NUMBERS]
    assert test.prompt[0][0] == {"content": "10", "role": "user"}
    assert {row["ground_truth"] for row in train.reward_model} == {str(n) for n in task.TRAINED}
    assert dict(zip(task.NUMBERS, test.data_source, strict=True)) == {
        n: "trained" if n in (11, 14, 17) else "held_out" for n in range(10, 20)
    }
    assert torch.tensor([len(p) for p in train.prompt]).eq(1).all()
