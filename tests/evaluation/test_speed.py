"""What the reference of a speed decodes, and what a speed is made of; nothing is timed here."""

import numpy as np
import pytest
import torch

from icot.data.staged import StagedExamples
from icot.data.tokenized import tokenize_examples
from icot.evaluation.measurement import measure_speed
from icot.evaluation.speed import Timing, compare, time_single_examples
from icot.inference.predictor import GreedyPredictor
from icot.models.loading import load_model
from icot.tasks.base import Example

# Answers of 1, 3 and 6 symbols: with ####, and the separators before and behind it, 4, 6 and 9.
EXAMPLES = [
    Example("1 2", "3 4 5", "5"),
    Example("7", "8 8", "1 0 0"),
    Example("2", "2 2 2 2", "2 2 2 2 2 2"),
]


@pytest.fixture
def examples(symbols) -> StagedExamples:
    return StagedExamples(tokenize_examples(EXAMPLES, symbols), np.arange(3), 0, 0)


@pytest.fixture
def predictor(symbols, examples) -> GreedyPredictor:
    torch.manual_seed(0)
    config = {"n_layer": 1, "n_embd": 16, "n_head": 2}
    model = load_model("gpt2", False, symbols, positions=examples.store.longest, config=config)
    return GreedyPredictor(model.eval())


def test_the_reference_writes_as_many_tokens_as_each_examples_own_answer_has(predictor, examples):
    reference = examples.at(examples.store.longest_cot)
    timed = time_single_examples(
        predictor, {"stage": (examples, False), "reference": (reference, True)}, 3, 60.0
    )
    assert [len(tokens) for tokens in timed["reference"].outputs] == [4, 6, 9]
    # Each is asked with its question and one separator alone, as at the stage.
    asked = [examples.prompts_and_targets[0][i] for i in range(3)]
    assert reference.prompts_and_targets[0] == asked
    found = measure_speed(predictor, examples, timed=6, seconds=60.0)
    assert found["no_cot"]["tokens_per_example"] == (4 + 6 + 9) / 3
    assert found["no_cot"]["examples"] == found["examples"] == 6


def test_where_both_write_the_same_the_speed_is_said_to_be_of_one_computation(predictor, examples):
    everything = examples.at(examples.store.longest_cot)
    own_length = {"a": (everything, True), "b": (everything, True), "c": (examples, True)}
    timed = time_single_examples(predictor, own_length, 3, 60.0)
    assert compare(timed["a"], timed["b"]).same
    assert not compare(timed["c"], timed["b"]).same  # as long as chain and answer
    assert [len(tokens) for tokens in timed["c"].outputs] == [7, 8, 13]


def test_a_speed_is_the_median_of_what_was_timed_side_by_side():
    """Ten questions; the machine is three times slower for six of them, which both sides meet."""
    slow = [1.0, 1.0, 3.0, 3.0, 3.0, 3.0, 3.0, 3.0, 1.0, 1.0]
    reference = Timing(slow, None)
    # Half as fast throughout; but once the machine was busy for the stage, once for the reference.
    seconds = [2 * s for s in slow]
    seconds[0], seconds[1] = 20.0, 0.5
    found = compare(Timing(seconds, None), reference)
    # Of the ratios 0.05, 0.5 eight times, 2.0 the interval is from the second to the ninth.
    assert (found.speed, found.low, found.high) == (0.5, 0.5, 0.5)
    assert found.same is False
    # A slow phase that only one side's median falls into does not move it either.
    late = compare(Timing([1.0] * 4 + [3.0] * 6, None), Timing([1.0] * 5 + [3.0] * 5, None))
    assert late.speed == 1.0


@pytest.mark.parametrize(
    ("n", "low", "high"), [(1, 1, 1), (5, 1, 5), (6, 1, 6), (10, 2, 9), (50, 18, 33)]
)
def test_the_interval_of_a_median_by_hand(n, low, high):
    """Ranks k and n + 1 - k, the largest k with P(fewer than k of n coins show heads) <= 2.5 %."""
    speeds = list(range(1, n + 1))
    found = compare(Timing([1 / s for s in speeds], None), Timing([1.0] * n, None))
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))
