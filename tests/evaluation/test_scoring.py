import math

import numpy as np
import pytest

from icot.data.staged import StagedExamples
from icot.data.tokenized import tokenize_split
from icot.evaluation import scoring
from icot.evaluation.scoring import Evaluation, wilson_interval
from icot.models.loading import load_model


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


def test_a_batch_is_no_larger_than_its_cache_may_be(tmp_path, symbols, mult2, monkeypatch):
    """2 layers x 2 tensors x 32 numbers x 4 bytes = 512 bytes a token; 21 tokens at the most."""
    store = tokenize_split(mult2, "valid", symbols, tmp_path)
    config = {"n_layer": 2, "n_embd": 32, "n_head": 2}
    model = load_model("gpt2", False, symbols, positions=store.longest, config=config)
    examples = StagedExamples(store, np.arange(20), 0, 0)
    # Question of 5, separator; chain of 8, separator, mark, answer of 4, separator.
    assert int(examples.lengths.max()) == 21
    monkeypatch.setattr(scoring, "CACHE_BYTES", 512 * 21 * 3)
    assert scoring._most_rows(model, examples) == 3
    monkeypatch.setattr(scoring, "CACHE_BYTES", 1)
    assert scoring._most_rows(model, examples) == 1
    assert scoring.evaluate(model, examples, mult2, symbols, how="always").n == 20
