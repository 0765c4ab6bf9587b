"""The greedy predictor: its batches, its outputs, and the mode that it leaves the model in."""

import numpy as np
import pytest
import torch

from icot.data.staged import StagedExamples
from icot.data.tokenized import tokenize_examples
from icot.inference import greedy
from icot.inference.greedy import rows_per_cache
from icot.inference.predictor import GreedyPredictor
from icot.models.loading import load_model
from icot.tasks.base import Example


@pytest.fixture
def examples(mult2, symbols) -> StagedExamples:
    store = tokenize_examples(next(mult2.chunks("valid")), symbols)
    return StagedExamples(store, np.arange(len(store)), 0, 0)


@pytest.fixture
def model(symbols, examples):
    torch.manual_seed(0)
    config = {"n_layer": 2, "n_embd": 32, "n_head": 2}
    return load_model("gpt2", False, symbols, positions=examples.store.longest, config=config)


def test_a_batch_is_no_larger_than_its_cache_may_be(model, examples, monkeypatch):
    """2 layers x 2 tensors x 32 numbers x 4 bytes = 512 bytes a token; 21 tokens at the most."""
    # Question of 5, separator; chain of 8, separator, mark, answer of 4, separator.
    assert int(examples.lengths.max()) == 21
    monkeypatch.setattr(greedy, "CACHE_BYTES", 512 * 21 * 3)
    assert rows_per_cache(model, examples) == 3
    monkeypatch.setattr(greedy, "CACHE_BYTES", 1)
    assert rows_per_cache(model, examples) == 1
    outputs = GreedyPredictor(model, decode="always").predict(examples)
    assert outputs.tokens is not None
    assert len(outputs.tokens) == outputs.decoded == 20


@pytest.mark.parametrize("decode", ["verify", "always"])
@pytest.mark.parametrize("training", [False, True])
def test_dropout_is_off_meanwhile_and_the_mode_is_restored(model, examples, decode, training):
    predictor = GreedyPredictor(model.train(training), 7, decode)
    one, two = predictor.predict(examples), predictor.predict(examples)
    alone = predictor.decode(examples, np.array([3]))
    assert model.training == training
    assert one.tokens == two.tokens
    assert alone.tokens == [one.tokens[3]]
    assert one.nll.tolist() == two.nll.tolist()
    assert predictor.settings == {"decode": decode, "batch_size": 7}


def test_an_output_of_its_own_length_is_as_long_as_its_target(model, symbols):
    texts = [Example("1 2", "3", "4"), Example("1", "3 3 3", "4 4 4 4"), Example("5", "6", "7 7")]
    examples = StagedExamples(tokenize_examples(texts, symbols), np.arange(3), 1, 0)
    written = GreedyPredictor(model.eval()).decode(examples, np.array([1, 0, 2]), own_length=True)
    assert [len(tokens) for tokens in written.tokens] == [2 + 1 + 1 + 4 + 1, 4, 5]
