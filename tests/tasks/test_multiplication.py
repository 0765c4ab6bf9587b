"""Multiplication text against the published files and an independent reference."""

import random
from math import isqrt

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from icot.tasks.base import SPLITS, Split
from icot.tasks.carries import difficulty, quantities
from icot.tasks.multiplication import Multiplication, draw_questions, example


def parse_question(question: str) -> tuple[int, int]:
    a, b = (int(x.replace(" ", "")[::-1]) for x in question.split(" * "))
    return a, b


@pytest.mark.parametrize("digits", [4, 5, 7, 9])
def test_every_published_line_is_regenerated(real_data, digits):
    path = real_data / "mult" / f"{digits}_by_{digits}_valid.txt"
    lines = path.read_text().splitlines()
    assert len(lines) == 1000
    for line in lines:
        a, b = parse_question(line.split("||")[0])
        assert example(a, b, digits).line() == line


def lines_of(task: Multiplication, split: Split) -> list[str]:
    return [e.line() for chunk in task.chunks(split) for e in chunk]


def questions_of(task: Multiplication, *splits: Split) -> set[str]:
    return {line.split("||")[0] for split in splits for line in lines_of(task, split)}


def spaced(number: int, width: int) -> str:
    return " ".join(reversed(str(number).zfill(width)))


def reference_long(a: int, b: int, n: int) -> str:
    """The chain by Python's big integers, one term after the other."""
    partials = [a * int(digit) * 10**i for i, digit in enumerate(reversed(str(b)))]
    text = spaced(partials[0], n + 1)
    for i in range(1, n):
        text += " + " + spaced(partials[i], n + 1 + i)
        if i < n - 1:
            text += " ( " + spaced(sum(partials[: i + 1]), n + 1 + i) + " )"
    return f"{spaced(a, n)} * {spaced(b, n)}||{text} #### {spaced(a * b, 2 * n)}"


@pytest.mark.parametrize("digits", [2, 3, 6, 11, 13, 20])
def test_other_digits_equal_a_plain_reference(digits):
    rng = random.Random(digits)
    low, high = 10 ** (digits - 1), 10**digits - 1
    for a, b in [(low, low), (high, high), *((rng.randint(low, high),) * 2 for _ in range(3))]:
        assert example(a, b, digits).line() == reference_long(a, b, digits)
    for _ in range(20):
        a, b = rng.randint(low, high), rng.randint(low, high)
        assert example(a, b, digits).line() == reference_long(a, b, digits)


def test_the_tree_by_hand():
    # 123 * 456: partials 738, 6150, 49200; 738 + 6150 = 6888; the root is the answer.
    line = example(123, 456, 3, "tree").line()
    assert line == "3 2 1 * 6 5 4||8 3 7 0 + 0 5 1 6 0 + 0 0 2 9 4 0 ( 8 8 8 6 0 ) #### 8 8 0 6 5 0"
    four = example(1111, 1111, 4, "tree").cot
    assert four.endswith("( 1 2 2 2 1 0 + 0 0 1 2 2 2 1 0 )")


@pytest.mark.parametrize(("a", "b"), [(99, 123), (1000, 123), (123, -5), (123, 0)])
def test_operands_of_other_widths_are_refused(a, b):
    with pytest.raises(ValueError, match="exactly 3 digits"):
        example(a, b, 3)


@pytest.mark.parametrize(
    ("digits", "sizes"),
    [(2, (6480, 810, 810)), (3, (808_000, 1000, 1000)), (9, (808_000, 1000, 1000))],
)
def test_default_sizes(digits, sizes):
    task = Multiplication(digits)
    assert tuple(task.size(s) for s in ("train", "valid", "test")) == sizes


@pytest.mark.parametrize("digits", [2, 5, 20])
def test_splits_share_no_question_and_do_not_depend_on_the_training_size(digits):
    small = Multiplication(digits, train_size=300, valid_size=100, test_size=100)
    large = Multiplication(digits, train_size=3000, valid_size=100, test_size=100)
    lines = {split: lines_of(large, split) for split in SPLITS}
    questions = [line.split("||")[0] for split in lines.values() for line in split]
    assert len(questions) == len(set(questions)) == 3200
    for split in ("valid", "test"):
        assert lines_of(small, split) == lines[split]
    for a, b in map(parse_question, questions):
        assert len(str(a)) == len(str(b)) == digits


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="8100 questions"):
        Multiplication(2, train_size=8000, valid_size=1000)


def test_a_seed_decides_the_lines():
    def lines(seed: int) -> list[str]:
        task = Multiplication(4, train_size=50, valid_size=1, test_size=1, seed=seed)
        return lines_of(task, "train")

    assert lines(1) == lines(1) != lines(2)


def carries_by_hand(a: int, b: int) -> int:
    """Long multiplication as at school, counting every carry."""
    count, total, power = 0, 0, 1
    while b:
        b, digit = divmod(b, 10)
        carry, x = 0, a
        while x:
            x, d = divmod(x, 10)
            carry = (d * digit + carry) // 10
            count += carry > 0
        partial, carry, place = a * digit * power, 0, 1
        while place <= max(total, partial):
            carry = (total // place % 10 + partial // place % 10 + carry) // 10
            count += carry > 0
            place *= 10
        total, power = total + partial, power * 10
    return count


@settings(max_examples=300, deadline=None)
@given(st.integers(1, 10**6 - 1), st.integers(1, 10**6 - 1))
def test_difficulty_counts_carries(a, b):
    question = " * ".join(" ".join(reversed(str(x))) for x in (a, b))
    assert difficulty(question) == {"carries": carries_by_hand(a, b), "operand size": isqrt(a * b)}


def test_difficulty_of_other_text_is_unknown():
    assert difficulty("Tom has 3 apples") == {}
    assert difficulty("1 2 * 3 4 5 ") == {}


@pytest.mark.parametrize("digits", [2, 3, 5])
def test_easy_questions(digits):
    sizes = {"train_size": 3000, "valid_size": 300, "test_size": 300}
    plain, easy = Multiplication(digits, **sizes), Multiplication(digits, **sizes, easy_share=0.5)
    for split in ("valid", "test"):
        assert lines_of(easy, split) == lines_of(plain, split)
        assert easy.fingerprint(split) == plain.fingerprint(split)
    assert easy.fingerprint("train") != plain.fingerprint("train")

    a, b = easy.operands("train")
    old_a, old_b = plain.operands("train")
    assert (a == old_a).all()
    assert ((b == old_b) | (b == 0)).all()
    assert (b[:, -1] == old_b[:, -1]).all()
    # 0 to N-1 of the other digits stay, equally often: half of those digits of half of the rows.
    changed_to_zero = ((b != old_b)[:, :-1].sum()) / (old_b[:, :-1] != 0).sum()
    assert 0.22 < changed_to_zero < 0.28

    assert not questions_of(easy, "valid", "test") & questions_of(easy, "train")
    lines = lines_of(easy, "train")
    for line in random.Random(1).sample(lines, 50):
        assert line == reference_long(*parse_question(line.split("||")[0]), digits)
    longer = Multiplication(digits, **{**sizes, "train_size": 3100}, easy_share=0.5)
    assert lines_of(longer, "train")[:3000] == lines


def test_no_easy_question_is_a_held_out_one():
    # Of all 8,100 questions of two digits a tenth is held out, many with a multiplier like 30.
    easy = Multiplication(2, easy_share=1.0)
    held_out = questions_of(easy, "valid", "test")
    assert any(" * 0 " in question for question in held_out)
    assert not held_out & questions_of(easy, "train")


def test_an_easy_share_beyond_one_is_refused():
    with pytest.raises(ValueError, match="easy_share"):
        Multiplication(3, easy_share=1.5)


@pytest.mark.parametrize("a", [18, 999, 203])
@pytest.mark.parametrize("b", [98, 99, 700])
def test_quantities_equal_sums_of_big_integers(a, b):
    found = quantities(f"{spaced(a, len(str(a)))} * {spaced(b, len(str(b)))}")
    total, digits = 0, [int(d) for d in reversed(str(b))]
    for i, digit in enumerate(digits, start=1):
        for j in range(1, len(str(a)) + 1):
            assert found.pop(f"product {i} carry {j}") == a % 10**j * digit // 10**j
        partial = a * digit * 10 ** (i - 1)
        if i > 1:
            for j in range(1, len(str(a)) + i + 1):
                carry = (total % 10**j + partial % 10**j) // 10**j
                assert found.pop(f"sum {i} carry {j}") == carry
                assert found.pop(f"sum {i} digit {j}") == (total + partial) // 10 ** (j - 1) % 10
        total += partial
    assert found == {}
    assert quantities("what is 2 * 3?") == {}


def test_what_is_kept_of_a_draw_is_what_was_asked_for():
    """Not the block of 50,000 questions that it was drawn from."""
    drawn = draw_questions("valid", (20, 20), {"train": 2, "valid": 3, "test": 3}, 1, 0.0, 0.0)
    owner = drawn if drawn.base is None else drawn.base
    assert owner.nbytes == 8 * 40
