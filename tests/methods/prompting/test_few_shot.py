"""Prompts byte by byte, the chain in words, and what is made of a text."""

import random
import re
from functools import cache

import numpy as np
import pytest

from icot.config.command_line import compose_config
from icot.errors import ConfigError
from icot.methods.prompting.few_shot import (
    draw_exemplars,
    judge,
    name_of,
    number_in,
    write_prompt,
)
from icot.tasks.base import Example
from icot.tasks.gsm8k import natural_example_from_row
from icot.tasks.mixed_digits import MixedMultiplication
from icot.tasks.multiple_choice import MultipleChoice
from icot.tasks.multiplication import Multiplication, example
from icot.tasks.prose import long_multiplication
from tests.hostile_texts import hostile_texts

CHAIN = (
    "1): 6 * 5646 = 33876 (partial sum 0 + 33876 = 33876) "
    "2): 70 * 5646 = 395220 (partial sum 33876 + 395220 = 429096) "
    "3): 500 * 5646 = 2823000 (partial sum 429096 + 2823000 = 3252096) "
    "4): 1000 * 5646 = 5646000 (partial sum 3252096 + 5646000 = 8898096)"
)
EXPLICIT = (
    "Solve the problem at the end. Keep exactly to the format of the examples and write nothing "
    "else."
)
NO_COT = (
    "Answer the problem at the end. Keep exactly to the format of the examples: do not work it out "
    "in steps, write the answer at once."
)
MULT4 = Multiplication(4)
ASKED = ("task=mult4", "predictor=prompted", "predictor.name_or_path=x")


@cache
def prompt(name: str):
    return compose_config("evaluate", [f"prompt={name}", *ASKED]).prompt


def test_the_chain_in_words():
    assert long_multiplication(5646, 1576) == Example("5646 * 1576", CHAIN, "8898096")
    zero = long_multiplication(4321, 1005)
    assert "2): 0 * 4321 = 0 (partial sum 21605 + 0 = 21605) 3): 0 * 4321 = 0" in zero.cot
    assert zero.cot.count("):") == 4


def test_the_last_running_sum_is_the_product():
    rng = random.Random(0)
    for _ in range(10_000):
        a, b = (rng.randrange(1, 10 ** rng.randrange(1, 12)) for _ in range(2))
        made = long_multiplication(a, b)
        assert made.answer == str(a * b)
        assert made.cot.endswith(f" = {a * b})")
        for factor, product, before, again, after in re.findall(
            rf"(\d+) \* {a} = (\d+) \(partial sum (\d+) \+ (\d+) = (\d+)\)", made.cot
        ):
            assert int(factor) * a == int(product) == int(again) == int(after) - int(before)


def test_the_prose_of_a_task_has_ordinary_digits():
    for task in (MULT4, MixedMultiplication(max_digits=4)):
        assert task.prose(example(5646, 1576, 4)) == long_multiplication(5646, 1576)
    for order in ("plain", "reversed_product"):
        task = MixedMultiplication(max_digits=4, order=order)
        assert task.prose(Example("5 6 4 6 * 1 5 7 6", "", "")).question == "5646 * 1576"
    padded = MixedMultiplication(max_digits=4, padding=True)
    assert padded.prose(Example("2 1 0 0 * 3 0 0 0", "", "")) == long_multiplication(12, 3)
    other = Example("no product", "", "1")
    assert MULT4.prose(other) is other


def test_a_prompt_of_multiplication():
    first, second = long_multiplication(12, 34), long_multiplication(10, 5)
    asked = "5646 * 1576"
    assert write_prompt(asked, [first, second], prompt("explicit")) == (
        f"{EXPLICIT}\n\nSolved examples:\n\n"
        "Q: 12 * 34\nA: 1): 4 * 12 = 48 (partial sum 0 + 48 = 48) "
        "2): 30 * 12 = 360 (partial sum 48 + 360 = 408) #### 408\n"
        "Q: 10 * 5\nA: 1): 5 * 10 = 50 (partial sum 0 + 50 = 50) #### 50\n"
        "\nThe problem:\n\nQ:5646 * 1576"
    )
    assert write_prompt(asked, [first, second], prompt("no_cot")) == (
        f"{NO_COT}\n\nSolved examples:\n\n"
        "Q: 12 * 34\nA: #### 408\n"
        "Q: 10 * 5\nA: #### 50\n"
        "\nThe problem:\n\nQ:5646 * 1576"
    )
    continued = write_prompt(asked, [second], prompt("no_cot_base"))
    assert continued.endswith("Q: 10 * 5\nA: #### 50\n\nThe problem:\n\nQ: 5646 * 1576\nA:")
    assert prompt("no_cot_base").stop == prompt("explicit_base").stop == ["\n"]
    with pytest.raises(ConfigError, match=r"prompt\.question_form=.* must have \{question\}"):
        compose_config("evaluate", ["prompt=no_cot", "prompt.question_form=Q:", *ASKED])


def test_a_prompt_of_gsm8k():
    row = {"question": "Tom has 2 boxes of 3 pens. How many?"}
    row["answer"] = "He has 2*3=<<2*3=6>>6 pens.\nThat is all.\n#### 6"
    solved = natural_example_from_row(row)
    asked = "Ann has 1,000 pens. How many?"
    assert write_prompt(asked, [solved], prompt("explicit")) == (
        f"{EXPLICIT}\n\nSolved examples:\n\nQ: Tom has 2 boxes of 3 pens. How many?\n"
        "A: He has 2*3=6 pens. That is all. #### 6\n\nThe problem:\n\n"
        "Q:Ann has 1,000 pens. How many?"
    )
    assert write_prompt(asked, [solved], prompt("no_cot")) == (
        f"{NO_COT}\n\nSolved examples:\n\nQ: Tom has 2 boxes of 3 pens. How many?\n"
        "A: #### 6\n\nThe problem:\n\nQ:Ann has 1,000 pens. How many?"
    )


def test_the_native_prompt_is_the_text_of_training():
    native = prompt("native")
    assert write_prompt("2 1 * 3 1", [], native) == " 2 1 * 3 1 <eos><eos>"
    own = native.model_copy(update={"separators": 1, "separator": "<|endoftext|>"})
    assert write_prompt("2 1 * 3 1", [], own) == " 2 1 * 3 1 <|endoftext|>"


def test_examples_are_a_function_of_seed_and_question():
    pool = [Example(f"q{i}", "", str(i)) for i in range(50)]
    drawn = [draw_exemplars(pool, 5, 42, i, f"q{i}") for i in range(40)]
    assert [draw_exemplars(pool, 5, 42, i, f"q{i}") for i in range(10)] == drawn[:10]
    for i, shown in enumerate(drawn):
        assert len({one.question for one in shown}) == 5
        assert f"q{i}" not in {one.question for one in shown}
    assert draw_exemplars(pool, 5, 43, 0, "q0") != drawn[0]
    assert len({tuple(one.question for one in shown) for shown in drawn}) == 40
    counts = np.bincount([int(one.answer) for shown in drawn for one in shown], minlength=50)
    assert counts.max() < 15  # 4 each on average
    assert len(draw_exemplars(pool[:3], 5, 42, 0, "q1")) == 2


@pytest.mark.parametrize(
    ("text", "right", "strict", "numeric", "broken"),
    [
        ("A: 1): 3 * 4 = 12 #### 12", "12", True, True, False),
        ("#### 12", "12", True, True, False),
        ("####12 \n", "12", True, True, False),
        ("12", "12", True, True, True),  # no mark: the whole text
        ("It is 12.", "12", False, False, True),
        ("#### 11 #### 12", "12", True, True, True),  # the last of two
        ("#### 12 #### 11", "12", False, False, True),
        ("#### 1,234", "1234", False, True, False),
        ("#### $1,234.00", "1234", False, True, False),
        ("#### 1234.", "1234", False, True, False),
        ("#### 1234.50", "1234.5", False, True, False),
        ("#### 01234", "1234", False, True, False),
        ("#### +1234", "1234", False, True, False),
        ("#### -1234", "1234", False, False, False),
        ("#### 12 apples", "12", False, False, True),
        ("#### 12\nQ: 1 + 1", "12", False, False, True),
        ("####", "12", False, False, True),
        ("", "12", False, False, True),
        ("#### ١٢", "12", False, False, True),
    ],
)
def test_what_a_text_says(text, right, strict, numeric, broken):
    found = judge(text, right, MULT4, chain=True)
    assert (found.strict, found.numeric, found.broken) == (strict, numeric, broken)


@pytest.mark.parametrize(
    ("text", "broken"),
    [
        ("#### 12", False),
        ("A: #### 12", False),
        ("A:#### 12", False),
        ("3 * 4 is #### 12", True),
        ("A: 1): 3 * 4 = 12 #### 12", True),
        ("A: A: #### 12", True),
    ],
)
def test_an_answer_at_once_has_nothing_before_the_mark(text, broken):
    found = judge(text, "12", MULT4, chain=False)
    assert (found.numeric, found.broken) == (True, broken)


@pytest.fixture
def choice(tmp_path) -> MultipleChoice:
    (tmp_path / "test.jsonl").write_text('{"question": "?", "choices": ["x", "y"], "label": "b"}')
    return MultipleChoice("multiple_choice", data_dir=str(tmp_path))


def test_a_letter_is_compared_as_the_task_does(choice):
    found = judge("Because it is. #### (B) library", "(b)", choice, chain=True)
    assert (found.strict, found.numeric, found.broken) == (False, True, False)
    assert not judge("#### (c)", "(b)", choice, chain=True).numeric
    assert not judge("none", "(b)", choice, chain=True).numeric


@pytest.mark.parametrize(
    ("text", "number"),
    [
        *(("7", "7"), ("007", "7"), ("0", "0"), ("-0.0", "0"), ("$-5", "-5"), ("-$5", "-5")),
        *((".5", "0.5"), ("5.", "5"), ("1,234,567.890", "1234567.89"), ("+3", "3")),
        *(("", None), (".", None), ("$", None), ("--5", None), ("-$-5", None), ("1e5", None)),
        *(("1 2", None), (",5", None), ("5 %", None), ("²", None), ("９", None), ("1\n2", None)),
        ("9" * 401, None),
    ],
)
def test_numbers(text, number):
    assert number_in(text) == number


def test_ten_thousand_hostile_texts_are_all_judged(choice):
    counts = {"right": 0, "broken": 0, "kept": 0}
    for i, text in enumerate(hostile_texts(10_000)):
        task, right = ((MULT4, "12"), (choice, "(b)"))[i % 2]
        for chain in (True, False):
            found = judge(text, right, task, chain)
            counts["right"] += found.numeric
            counts["broken" if found.broken else "kept"] += 1
            assert found.numeric or not found.strict
            assert found.broken or text.count("####") == 1
    assert sum(counts.values()) - counts["right"] == 2 * 10_005
    assert min(counts.values()) > 20


def test_a_title_tells_a_base_models_prompt_from_a_chats():
    names = [name_of(prompt(name)) for name in ("no_cot", "no_cot_base", "explicit", "native")]
    assert names == ["5-shot No CoT", "5-shot No CoT, completion", "5-shot explicit CoT", "native"]
