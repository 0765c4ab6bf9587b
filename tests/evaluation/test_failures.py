import numpy as np
import pytest

from icot.evaluation.failures import Group, answer_positions, by_difficulty
from icot.evaluation.predictions import Prediction
from icot.tasks.answers import extract_answer


def prediction(target: str, written: str) -> Prediction:
    correct = extract_answer(target) == extract_answer(written)
    return Prediction(0, "", target, written, correct)


def test_answer_positions_by_hand():
    found = answer_positions(
        [
            prediction("9 9 #### 1 2 3", "8 #### 1 2 3"),
            prediction("#### 1 2 3", "#### 1 9 3"),
            prediction("#### 1 2 3", "#### 1 2"),  # a missing digit is wrong
            prediction("#### 1 2 3", "nothing"),
            prediction("#### 4 5", "#### 4 5 6"),  # one too many is not counted
        ],
        extract_answer,
    )
    assert found == [Group("1", 5, 4), Group("2", 5, 3), Group("3", 4, 2)]


def test_an_answer_without_blanks_is_read_by_characters():
    found = answer_positions([prediction("#### 1,234", "#### 1235")], extract_answer)
    assert [(g.label, g.correct) for g in found] == [("1", 1), ("2", 1), ("3", 1), ("4", 0)]


def test_few_values_are_groups_of_their_own():
    predictions = [prediction("#### 1", f"#### {i % 2}") for i in range(8)]
    groups = by_difficulty(predictions, [{"equations": i // 4 + 1} for i in range(8)])
    assert groups == {"equations": [Group("1", 4, 2), Group("2", 4, 2)]}


@pytest.mark.parametrize("n", [11, 100, 1000])
def test_many_values_are_cut_into_intervals_that_hold_everything_once(n):
    rng = np.random.default_rng(n)
    values = rng.integers(0, 500, n)
    predictions = [prediction("#### 1", f"#### {i % 2}") for i in range(n)]
    (groups,) = by_difficulty(predictions, [{"size": int(v)} for v in values]).values()
    assert sum(g.n for g in groups) == n
    assert sum(g.correct for g in groups) == sum(p.correct for p in predictions)
    assert 2 <= len(groups) <= 10


def test_examples_without_the_number_are_left_out():
    predictions = [prediction("#### 1", "#### 1")] * 3
    groups = by_difficulty(predictions, [{}, {"carries": 2}, {}])
    assert groups == {"carries": [Group("2", 1, 1)]}
    assert by_difficulty(predictions, [{}, {}, {}]) == {}
