"""The filters by hand, and on a real corpus."""

import random as shuffling

import numpy as np
import pytest

from icot.errors import DataError
from icot.methods.scotd.corpus import Sample, read_corpus
from icot.methods.scotd.filters import BUDGETED, Budget, Statistics, by_question, correct, dedup

ANGLES = {"a": 0, "b": 2, "c": 4, "d": 90, "e": 92, "f": 180}  # of their embeddings, in degrees


def embed(texts):
    angles = np.radians([ANGLES[text] for text in texts])
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def made(index, number, rationale, logprob=-1.0, tokens=1, prediction="1") -> Sample:
    right = prediction == "1"
    return Sample(
        index, number, f"q{index}", "1", "", rationale, prediction, right,
        logprob=logprob, logprob_tokens=tokens,
    )  # fmt: skip


SIX = [made(i, k, "abcdef"[k], -float(k % 3 + 1), 1 + k // 3) for i in range(2) for k in range(6)]


def apply(name, samples, keep, seed=0, whole=None):
    return BUDGETED[name](samples, Budget(keep, seed, whole or samples, embed))


def numbers(samples, index=0):
    return [s.sample for s in samples if s.index == index]


def test_diversity_takes_one_of_each_cluster():
    for seed in range(5):
        first, second, third = numbers(apply("diversity", SIX, 3, seed))
        assert first in (0, 1, 2)
        assert second in (3, 4)
        assert third == 5
    # Two clusters by average linkage: the six angles up to 4, the others.
    low, high = numbers(apply("diversity", SIX, 2))
    assert low in (0, 1, 2, 3, 4)
    assert high in (3, 4, 5)


def test_diversity_of_equal_rationales_still_keeps_as_many():
    same = [made(0, k, "a") for k in range(6)]
    assert len(apply("diversity", same, 4)) == 4


def test_likelihood_is_per_token():
    # Sums -1 -2 -3 -1 -2 -3 over 1 1 1 2 2 2 tokens: -1 -2 -3 -0.5 -1 -1.5.
    assert numbers(apply("likelihood", SIX, 1)) == [3]
    assert numbers(apply("likelihood", SIX, 2)) == [0, 3]  # of equal ones the earlier
    assert numbers(apply("likelihood", SIX, 4)) == [0, 3, 4, 5]
    with pytest.raises(DataError, match="sample 2 of question 0 has no log-probability"):
        apply("likelihood", [made(0, 2, "a", None)], 1)


def test_open_endedness_keeps_more_where_more_is_said():
    words = [
        "one",
        "two",
        "three",
        "four",
        "five",
        "six",
        "seven",
        "eight",
        "nine",
        "ten",
        "eleven",
    ]
    samples = [made(i, k, " ".join(words[: 2 + i])) for i in (4, 2, 0, 1, 3) for k in range(10)]
    kept = apply("open_endedness", samples, 5)
    assert [len(numbers(kept, i)) for i in range(5)] == [1, 3, 5, 7, 9]
    # Ranked by all samples, also by those that an earlier filter has dropped.
    rich = [made(0, 10, " ".join(words))]
    again = apply("open_endedness", samples, 5, whole=[*samples, *rich])
    assert [len(numbers(again, i)) for i in range(5)] == [9, 1, 3, 5, 7]
    alike = [made(i, k, "same words") for i in range(5) for k in range(10)]
    assert [len(q) for q in by_question(apply("open_endedness", alike, 5))] == [1, 3, 5, 7, 9]


@pytest.mark.parametrize("name", BUDGETED)
def test_no_order_of_lines_matters_and_small_questions_keep_all(name):
    mixed = SIX.copy()
    shuffling.Random(1).shuffle(mixed)
    for keep in (2, 5):
        assert apply(name, mixed, keep) == apply(name, SIX, keep)
    if name != "open_endedness":
        assert apply(name, mixed, 7) == SIX


def test_random_draws_without_replacement_and_by_the_seed():
    drawn = {tuple(numbers(apply("random", SIX, 3, seed))) for seed in range(40)}
    assert len(drawn) > 10
    assert all(len(set(one)) == 3 for one in drawn)
    assert numbers(apply("random", SIX, 3, 1)) == numbers(apply("random", SIX, 3, 1))


def test_correct_and_dedup():
    samples = [made(0, 0, "a"), made(0, 1, "a", prediction="2"), made(0, 2, "a"), made(1, 0, "a")]
    assert correct(samples) == [samples[0], samples[2], samples[3]]
    assert dedup(samples) == [samples[0], samples[1], samples[3]]


def test_the_real_corpus(real_data):
    whole = read_corpus(real_data / "date" / "chatgpt_10_samples.jsonl")
    said = Statistics.of(whole)
    assert (said.questions, said.samples) == (369, 3690)
    assert said.right == pytest.approx(0.62, abs=0.01)
    right = correct(whole)
    assert Statistics.of(right).right == 1
    kept = {
        name: {s.key for s in BUDGETED[name](right, Budget(5, 0, whole))}
        for name in ("random", "diversity")
    }
    wanted = sum(min(5, len(of_one)) for of_one in by_question(right))
    assert [len(keys) for keys in kept.values()] == [wanted, wanted]
    assert kept["random"] != kept["diversity"]
    open_ended = BUDGETED["open_endedness"](whole, Budget(5, 0, whole))
    assert len(open_ended) == pytest.approx(5 * 369, rel=0.01)
    with pytest.raises(DataError, match="likelihood"):
        BUDGETED["likelihood"](right, Budget(5, 0, whole))
