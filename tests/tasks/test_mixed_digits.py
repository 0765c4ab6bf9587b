"""Multiplication of mixed digits, and questions with few non-zero digits."""

import random
from collections import Counter
from itertools import product

import numpy as np
import pytest

from icot.tasks.base import SPLITS
from icot.tasks.mixed_digits import MixedMultiplication, shares
from icot.tasks.multiplication import Multiplication, example


def examples(task, *splits):
    return [e for split in splits or SPLITS for part in task.chunks(split) for e in part]


def number(text, order="reversed"):
    digits = text.replace(" ", "")
    return int(digits[::-1] if order == "reversed" else digits)


def spaced(value, width):
    return " ".join(reversed(str(value).zfill(width)))


def reference(a, b, n1, n2, chain):
    partials = [a * int(d) * 10**i for i, d in enumerate(reversed(str(b)))]
    cot = spaced(partials[0], n1 + 1)
    for i in range(1, n2):
        shown = partials[i] // 10**i if chain == "short" else partials[i]
        cot += " + " + spaced(shown, n1 + 1 + (i if chain == "long" else 0))
        if i < n2 - 1:
            cot += " ( " + spaced(sum(partials[: i + 1]), n1 + 1 + i) + " )"
    return f"{spaced(a, n1)} * {spaced(b, n2)}||{cot} #### {spaced(a * b, n1 + n2)}"


def operands(digits, count, rng):
    every = range(10 ** (digits - 1) if digits > 1 else 1, 10**digits)
    return list(every) if len(every) <= count else rng.sample(every, count)


@pytest.mark.parametrize("chain", ["long", "short"])
def test_every_pair_of_up_to_four_digits_equals_a_plain_reference(chain):
    rng, task = random.Random(1), MixedMultiplication(1, 4, chain=chain)
    for n1, n2 in product(range(1, 5), repeat=2):
        pairs = list(product(operands(n1, 12, rng), operands(n2, 12, rng)))
        a = np.array([[int(d) for d in reversed(str(x))] for x, _ in pairs])
        b = np.array([[int(d) for d in reversed(str(y))] for _, y in pairs])
        for written, (x, y) in zip(task.write(a, b), pairs, strict=True):
            assert written.line() == reference(x, y, n1, n2, chain)


def test_square_pairs_have_the_published_text():
    task = MixedMultiplication(3, 3)
    for e in examples(task, "valid"):
        a, b = (number(text) for text in e.question.split("*"))
        assert e == example(a, b, 3)


def test_all_questions_of_few_digits_are_there_once():
    task = MixedMultiplication(1, 2)
    assert [task.size(s) for s in SPLITS] == [81 * 121 - 2 * (8 + 81 + 81 + 810), 980, 980]
    found = examples(task)
    assert len({e.question for e in found}) == len(found) == 81 * 121
    assert all(
        number(e.answer) == np.prod([number(t) for t in e.question.split("*")]) for e in found
    )


def test_pairs_have_equal_shares_within_rounding():
    task = MixedMultiplication(2, 5, train_size=16_001, valid_size=160, test_size=1600)
    for split, size in (("train", 16_001), ("valid", 160), ("test", 1600)):
        counts = Counter(task.difficulty(e)["digits"] for e in examples(task, split))
        assert len(counts) == 16
        assert sum(counts.values()) == size
        assert max(counts.values()) - min(counts.values()) <= 1
    first = Counter(task.difficulty(e)["digits"] for e in examples(task, "train")[:1600])
    assert min(first.values()) > 60, "the pairs are mixed"
    found = examples(task)
    assert len({e.question for e in found}) == len(found)


def test_shares_by_questions_and_what_a_small_pair_cannot_take():
    task = MixedMultiplication(1, 2, weights="questions", train_size=4_000)
    assert task.counts["train"] == [33, 330, 330, 3_307]
    assert shares(100, [1, 1, 1], [10, 100, 100]) == [10, 45, 45]
    assert shares(1000, [1, 1], [10, 20]) == [10, 20]
    assert sum(shares(17, [1, 2, 3, 5], [4, 9, 9, 9])) == 17


def test_order_and_padding():
    e = {
        order: examples(MixedMultiplication(1, 2, order=order, padding=pad, seed=5), "test")[0]
        for order, pad in (("reversed", False), ("plain", False), ("reversed_product", True))
    }
    a, b = (number(text) for text in e["reversed"].question.split("*"))
    plain = e["plain"]
    assert [number(t, "plain") for t in plain.question.split("*")] == [a, b]
    assert number(plain.answer, "plain") == a * b
    padded = e["reversed_product"]
    assert padded.question == " * ".join(" ".join(str(x).zfill(2)) for x in (a, b))
    assert padded.answer == spaced(a * b, 4)
    assert padded.cot == e["reversed"].cot


@pytest.mark.parametrize("order", ["reversed", "plain", "reversed_product"])
def test_padded_questions_are_grouped_by_their_digits(order):
    plain, padded = (MixedMultiplication(1, 3, order=order, padding=p) for p in (False, True))
    grouped = [[t.difficulty(e) for e in examples(t, "test")] for t in (plain, padded)]
    assert grouped[0] == grouped[1]
    assert {group["digits"] for group in grouped[1]} == {
        f"{n1} × {n2}" for n1 in range(1, 4) for n2 in range(1, 4)
    }


def test_a_curriculum_orders_the_examples_by_digits():
    task = MixedMultiplication(1, 3, train_size=4_000, curriculum=[(2, 0.25), (3, 0.75)])
    assert task.phases() == [1_000, 3_000]
    found = examples(task, "train")
    digits = [max(len(t.split()) for t in e.question.split("*")) for e in found]
    assert max(digits[:1_000]) == 2
    assert digits[:1_000].count(1) + digits[1_000:].count(1) == task.counts["train"][0]
    assert digits[1_000:].count(3) > 1_500, "then all pairs"
    assert len({e.question for e in found}) == 4_000
    held_out = {e.question for split in ("valid", "test") for e in examples(task, split)}
    assert not held_out & {e.question for e in found}


def test_each_argument_makes_another_fingerprint():
    kinds = [
        {},
        {"max_digits": 4},
        {"min_digits": 2},
        {"pairs": "square"},
        {"weights": "questions"},
        {"chain": "short"},
        {"order": "plain"},
        {"padding": True},
        {"curriculum": [(2, 0.1), (3, 0.9)], "train_size": 100},
        {"seed": 1},
        {"train_size": 100},
        {"easy_share": 0.5},
        {"easy_held_out": 0.5},
    ]
    prints = [str(MixedMultiplication(**kind).fingerprint("train")) for kind in kinds]
    assert len(set(prints)) == len(kinds)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ({"min_digits": 3, "max_digits": 2}, "min_digits must be at least 1 and at most"),
        ({"curriculum": [(3, 0.5), (2, 0.5)]}, "must rise to max_digits=3"),
        ({"curriculum": [(2, 0.5), (3, 0.6)]}, "add up to 1"),
        ({"curriculum": [(1, 0.5), (3, 0.5)]}, "404000 examples of at most 1 digits are wanted"),
        ({"train_size": 10**9}, "there are only .* train questions"),
        ({"min_digits": 1, "max_digits": 1, "test_size": 9}, "there are only 8 test questions"),
        ({"order": "up"}, "order one of reversed, plain"),
        ({"weights": "none"}, "weights pairs or questions"),
        ({"easy_share": 2}, "from 0 to 1"),
    ],
)
def test_what_cannot_be_is_refused(kind, message):
    with pytest.raises(ValueError, match=message):
        MixedMultiplication(**kind)


def zeros(e):
    return e.question.split("*")[1].split().count("0")


def test_easy_held_out_questions_have_few_digits_and_are_not_trained_on():
    task = Multiplication(4, train_size=20_000, easy_share=0.5, easy_held_out=1.0)
    by_split = {split: examples(task, split) for split in SPLITS}
    zero_counts = Counter(zeros(e) for e in by_split["test"])
    assert [zero_counts[n] > 150 for n in range(4)] == [True] * 4
    held_out = {e.question for split in ("valid", "test") for e in by_split[split]}
    assert len(by_split["train"]) == 20_000
    assert held_out.isdisjoint(e.question for e in by_split["train"])
    assert {e.question for e in by_split["valid"]}.isdisjoint(e.question for e in by_split["test"])


def test_half_of_the_training_questions_are_easy_and_the_held_out_ones_uniform():
    task = Multiplication(4, train_size=20_000, easy_share=0.5)
    share = np.mean([zeros(e) >= 2 for e in examples(task, "train")])
    # Eased: 0 to 3 further digits kept, each a quarter of the time; uniform: 2 zeros of 3, 0.028.
    assert 0.25 < share < 0.30
    assert examples(task, "test") == examples(Multiplication(4, train_size=20_000), "test")
