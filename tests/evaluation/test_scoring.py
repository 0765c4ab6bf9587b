import math
from typing import ClassVar

import numpy as np
import pytest
import torch

from icot.data.staged import StagedExamples
from icot.data.tokenized import tokenize_examples
from icot.evaluation.predictions import Prediction
from icot.evaluation.scoring import Evaluation, evaluate, wilson_interval
from icot.evaluation.speed import time_single_examples
from icot.inference.predictor import Outputs
from icot.tasks.base import Example


@pytest.mark.parametrize(
    ("correct", "n", "low", "high"),
    [
        (0, 10, 0.0, 0.27753),
        (10, 10, 0.72247, 1.0),
        (5, 10, 0.23659, 0.76341),
        (950, 1000, 0.93469, 0.96187),
    ],
)
def test_wilson_interval_by_hand(correct, n, low, high):
    assert wilson_interval(correct, n) == pytest.approx((low, high), abs=1e-5)


def test_an_interval_of_nothing_is_refused():
    with pytest.raises(ValueError, match="at least one"):
        wilson_interval(0, 0)


def test_evaluations_add_up():
    total = Evaluation(2, 1, 10, 9, 3.0) + Evaluation(3, 3, 20, 20, 1.5)
    assert total.accuracy == 4 / 5
    assert total.token_accuracy == 29 / 30
    assert total.perplexity == pytest.approx(math.exp(4.5 / 30))


def test_what_one_device_does_not_know_the_sum_does_not_know():
    total = Evaluation(2, 1, 10, None, None) + Evaluation(3, 3, 20, 20, 1.5)
    assert (total.token_accuracy, total.perplexity) == (None, None)
    assert total.accuracy == 4 / 5


EXAMPLES = [Example("1 2", "3 4", "5 6"), Example("7", "8", "1,000"), Example("2", "2", "2")]


class Server:
    """A predictor that knows neither tokens nor likelihood."""

    device = torch.device("cpu")
    settings: ClassVar = {"name": "a server"}

    def predict(self, examples: StagedExamples) -> Outputs:
        written = {"1 2": "3 4 #### 5 6", "7": "it is #### 1000", "2": "#### 3"}
        texts = [written[example.question] for example in examples.texts]
        return Outputs(texts=texts, decoded=len(texts))

    def decode(self, examples, index, own_length=False) -> Outputs:
        return self.predict(examples.part(index))


@pytest.mark.parametrize(("removed", "target"), [(0, "3 4 #### 5 6"), (9, "#### 5 6")])
def test_a_predictor_of_texts_is_scored_without_likelihood(symbols, mult2, removed, target):
    store = tokenize_examples(EXAMPLES, symbols)
    examples = StagedExamples(store, np.array([0, 1, 2]), removed, 0)
    found = evaluate(Server(), examples, mult2, symbols)
    assert [p.correct for p in found.predictions] == [True, True, False]
    assert (found.token_accuracy, found.perplexity, found.tokens_per_example) == (None, None, None)
    assert found.predictions[0] == Prediction(0, "1 2", target, "3 4 #### 5 6", True)
    timed = time_single_examples(Server(), {"stage": (examples, False)}, examples=5, seconds=1)
    assert timed["stage"].summary()["tokens_per_example"] is None


def test_outputs_are_tokens_or_texts():
    with pytest.raises(ValueError, match="either"):
        Outputs()
    with pytest.raises(ValueError, match="either"):
        Outputs(tokens=[], texts=[])
