"""Answers to bare questions are what evaluation writes for the same questions."""

from itertools import product

import numpy as np
import pytest
import torch

from icot.data.staged import StagedExamples
from icot.data.tokenized import tokenize_examples
from icot.errors import DataError
from icot.evaluation.scoring import evaluate
from icot.inference.answering import answer
from icot.inference.predictor import GreedyPredictor
from icot.models.loading import load_model

GPT2 = {"n_layer": 2, "n_embd": 32, "n_head": 2}
LLAMA = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
}
CHAIN = 8  # tokens of a chain of two digits by two


def sharp(name: str, symbols, config: dict, positions: int):
    """Sharper random weights, so that the argmax is not always the same."""
    torch.manual_seed(3)
    model = load_model(name, False, symbols, positions=positions, config=config).double()
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(3)
    return model


@pytest.mark.parametrize(("name", "config"), [("gpt2", GPT2), ("llama", LLAMA)])
@pytest.mark.parametrize(
    ("keep", "side"),
    [*product((False, True), ("left", "right")), ("from_separator", "left")],
)
@pytest.mark.parametrize(("removed", "separators"), [(0, 2), (3, 2), (CHAIN, 2), (CHAIN, 1)])
def test_the_texts_are_those_of_evaluate(
    mult2, symbols, name, config, keep, side, removed, separators
):
    store = tokenize_examples(next(mult2.chunks("valid")), symbols)
    model = sharp(name, symbols, config, store.longest)
    examples = StagedExamples(
        store, np.arange(len(store)), removed, 0, side, keep, separators=separators
    )
    expected = evaluate(GreedyPredictor(model), examples, mult2, symbols).predictions
    found = answer(
        model,
        symbols,
        [p.question for p in expected],
        max_new_tokens=examples.longest_target,
        tokens_removed=removed,
        side=side,
        keep_position_ids=keep,
        separators=separators,
        batch_size=7,
    )
    assert found == [p.prediction for p in expected]
    assert len(set(found)) > 1
    assert model.training


def test_kept_positions_make_a_difference(mult2, symbols):
    """Otherwise the test above could not fail."""
    model = sharp("gpt2", symbols, GPT2, 21)
    questions = [e.question for e in next(mult2.chunks("valid"))]
    kept, counted = (
        answer(model, symbols, questions, max_new_tokens=9, tokens_removed=8, keep_position_ids=k)
        for k in (True, False)
    )
    assert kept != counted


def test_questions_of_unequal_length_keep_their_order(symbols):
    model = sharp("gpt2", symbols, GPT2, 64)
    questions = ["1 2 3 4 5 * 6", "1 * 2", "9 9 9 * 8 8 8", "3"]
    together = answer(model, symbols, questions, max_new_tokens=12)
    alone = [answer(model, symbols, [q], max_new_tokens=12)[0] for q in questions]
    assert together == alone
    assert answer(model, symbols, [], max_new_tokens=12) == []


def test_what_cannot_be_answered_is_refused(symbols):
    model = sharp("gpt2", symbols, GPT2, 8)
    with pytest.raises(DataError, match="takes 10 positions, the model has only 8"):
        answer(model, symbols, ["1 2 3 4 * 5 6 7 8"], max_new_tokens=4)
    with pytest.raises(DataError, match="contains the separator"):
        answer(model, symbols, ["1 <eos> 2"], max_new_tokens=4)
    with pytest.raises(ValueError, match="at least 1"):
        answer(model, symbols, ["1"], max_new_tokens=0)
    assert answer(model, symbols, ["1 2 3 * 4 5 6"], max_new_tokens=9) != [""]
