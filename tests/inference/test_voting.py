"""Votes: who wins, what a majority of independent samples is worth, and no effect of the batch."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from transformers import GPT2Config
from transformers.modeling_outputs import CausalLMOutput

from icot.data.staged import StagedExamples
from icot.data.tokenized import tokenize_examples
from icot.evaluation.scoring import evaluate
from icot.evaluation.votes import vote_figures
from icot.inference.predictor import GreedyPredictor, Vote
from icot.inference.voting import VotingPredictor, answer_in, count_votes
from icot.models.loading import load_model
from icot.tasks.answers import extract_answer
from icot.tasks.base import Example


def votes(*answers, logprobs=None):
    logprobs = logprobs or [-1.0] * len(answers)
    return [Vote(a, p) for a, p in zip(answers, logprobs, strict=True)]


@pytest.mark.parametrize(
    ("cast", "first", "is_tie"),
    [
        (votes("a", "b", "b"), 1, False),
        (votes(None, None, "c"), 2, False),
        (votes("a", "b", "b", "a"), 0, True),  # equal sums: the earlier
        (votes("a", "b", "b", "a", logprobs=[-9, -1, -2, -1]), 1, True),
        (votes("a", "b", None, logprobs=[-3, -2, 0]), 1, True),
    ],
)
def test_who_wins(cast, first, is_tie):
    winner = count_votes(cast)
    assert (winner.first, winner.is_tie) == (first, is_tie)


def test_nobody_votes():
    assert count_votes(votes(None, None)) is None


@pytest.mark.parametrize(
    ("text", "answer"), [("1 #### 2", "#### 2"), ("1 2", None), ("1 ####", None), ("", None)]
)
def test_an_answer_is_a_vote(text, answer):
    assert answer_in(text, extract_answer) == answer


def test_figures_by_hand(mult2):
    of_examples = [votes("#### 1", "#### 2", "#### 2", None), votes("#### 1", "#### 2", None, None)]
    found = vote_figures(of_examples, ["#### 2", "#### 1"], mult2.is_correct)
    assert found == {
        "accuracy_by_votes": {"1": 0.5, "4": 1.0},
        "accuracy_of_one": 3 / 8,
        "any_right": 1.0,
        "ties": 0.5,
        "unparsed": 3 / 8,
        "without_a_vote": 0.0,
    }


@pytest.fixture
def examples(mult2, symbols) -> StagedExamples:
    store = tokenize_examples(next(mult2.chunks("valid")), symbols)
    return StagedExamples(store, np.arange(len(store)), 0, 0)


def predictor(model, symbols, batch_size=64, **settings):
    greedy = GreedyPredictor(model, batch_size)
    return VotingPredictor(greedy, symbols, extract_answer, **{"n": 6, **settings})


@pytest.mark.parametrize("size", [1, 7, 64])
def test_no_batch_changes_a_vote(symbols, examples, size):
    torch.manual_seed(0)
    config = {"n_layer": 1, "n_embd": 32, "n_head": 2}
    model = load_model("gpt2", False, symbols, positions=examples.store.longest, config=config)
    whole = predictor(model, symbols, 500, temperature=1.0).predict(examples)
    assert len({tuple(tokens) for tokens in whole.tokens}) == 20
    parts = predictor(model, symbols, size, temperature=1.0).predict(examples)
    assert parts.tokens == whole.tokens
    answers = [[v.answer for v in of_one] for of_one in whole.votes]
    assert [[v.answer for v in of_one] for of_one in parts.votes] == answers
    alone = predictor(model, symbols, temperature=1.0).decode(examples, np.array([7]))
    assert alone.tokens == [whole.tokens[7]]
    few = predictor(model, symbols, temperature=1.0).predict(examples.part(np.arange(3, 6)))
    assert few.tokens == whole.tokens[3:6]  # keyed by the example, not by its place
    other = predictor(model, symbols, temperature=1.0, seed=1).predict(examples)
    assert other.tokens != whole.tokens


class Coin(nn.Module):
    """Writes ``<eos> #### digit <eos>``; the digit is 1 with probability ``p``, else 2."""

    def __init__(self, symbols, p: float):
        super().__init__()
        self.config = GPT2Config(
            vocab_size=len(symbols), n_positions=64, n_layer=1, n_embd=8, n_head=1
        )
        self.weight = nn.Parameter(torch.zeros(()))
        self.eos = symbols.eos_token_id
        self.mark, self.one, self.two = symbols.convert_tokens_to_ids(["####", "1", "2"])
        self.p = p

    def forward(self, input_ids, past_key_values, **_):
        last = input_ids[:, -1]
        logits = torch.full((len(last), self.config.vocab_size), -math.inf)
        state = torch.zeros(1, 1, input_ids.shape[1], 8).expand(len(last), 1, -1, 8)
        past_key_values.update(state, state, 0)
        behind_mark, digits = last == self.mark, (last == self.one) | (last == self.two)
        begun = past_key_values.get_seq_length() > input_ids.shape[1]
        logits[behind_mark, self.one] = math.log(self.p)
        logits[behind_mark, self.two] = math.log(1 - self.p)
        logits[digits & begun, self.eos] = 0
        logits[(last == self.eos) & begun, self.mark] = 0
        logits[~behind_mark & ~(digits & begun) & ~((last == self.eos) & begun), self.eos] = 0
        return CausalLMOutput(logits=logits[:, None])


def test_the_majority_is_right_as_often_as_the_binomial_says(mult2, symbols):
    texts = [Example("5 6", "", "1") for _ in range(1500)]
    store = tokenize_examples(texts, symbols)
    examples = StagedExamples(store, np.arange(len(store)), store.longest_cot, symbols.eos_token_id)
    voting = predictor(Coin(symbols, 0.6), symbols, 5000, n=5, temperature=1.0)
    found = evaluate(voting, examples, mult2, symbols)
    expected = sum(math.comb(5, k) * 0.6**k * 0.4 ** (5 - k) for k in (3, 4, 5))
    assert found.votes["accuracy_by_votes"]["5"] == found.correct / found.n
    assert found.correct / found.n == pytest.approx(expected, abs=0.04)
    assert found.votes["accuracy_of_one"] == pytest.approx(0.6, abs=0.02)
    assert found.votes["unparsed"] == found.votes["ties"] == 0
    assert found.perplexity is None
    assert voting.answer(["5 6"], symbols, max_new_tokens=6) == ["#### 1"]
