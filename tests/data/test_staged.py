"""Held-out examples at a stage, from a store on disk and from one in memory."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from icot.data.batches import collate
from icot.data.staged import StagedExamples
from icot.data.tokenized import tokenize_examples
from icot.data.views import StageView
from icot.removal import IGNORED, length_after
from icot.schedule import Stage
from icot.tasks.base import Example

EOS = 0
EXAMPLES = [Example("1 2", "3 4 5", "6"), Example("1", "", "3 3"), Example("7 8 9", "1 2 3 4", "5")]


@pytest.fixture
def store(symbols):
    return tokenize_examples(EXAMPLES, symbols)


def test_lengths_by_hand(store):
    """Question, separator, chain, separator, mark, answer, separator."""
    whole = StagedExamples(store, np.arange(3), 0, EOS)
    assert whole.lengths.tolist() == [2 + 1 + 3 + 1 + 1 + 1 + 1, 1 + 1 + 0 + 1 + 1 + 2 + 1, 12]
    assert whole.target_lengths.tolist() == [7, 5, 8]
    assert whole.longest_target == 8
    assert whole.at(2).lengths.tolist() == [8, 7, 10]
    assert whole.at(99).lengths.tolist() == [7, 7, 8]
    assert whole.at(99).longest_target == 5


@pytest.mark.parametrize("n_removed", [0, 1, 2, 9])
def test_the_length_is_that_of_the_batch_for_tensors_and_arrays(store, n_removed):
    examples = StagedExamples(store, np.arange(3), n_removed, EOS)
    batch, whole = examples.batch(np.arange(3)), examples.at(0).batch(np.arange(3))
    assert examples.lengths.tolist() == batch.lengths.tolist()
    each = torch.full_like(whole.lengths, n_removed)
    left = length_after(whole.lengths, whole.cot_start, whole.cot_end, each)
    assert torch.equal(left, batch.lengths)


def test_some_rows_alone(store):
    examples = StagedExamples(store, np.arange(3), 1, EOS).part(np.array([2, 0]))
    assert [e.answer for e in examples.texts] == ["5", "6"]
    assert examples.rows.tolist() == [2, 0]
    assert examples.longest_target == 7  # of the whole split


def test_prompts_and_targets(store):
    prompts, targets = StagedExamples(store, np.arange(3), 2, EOS).prompts_and_targets
    assert [len(p) for p in prompts] == [3, 2, 4]
    assert [t.count(EOS) for t in targets] == [2, 2, 2]


def test_one_separator_where_the_whole_chain_is_removed(store):
    """Question, separator, mark, answer, separator: the published text of ICoT-KD."""
    whole = StagedExamples(store, np.arange(3), 4, EOS, separators=1)
    assert whole.lengths.tolist() == [6, 6, 7]
    prompts, targets = whole.prompts_and_targets
    assert [len(p) for p in prompts] == [3, 2, 4]
    assert [t.count(EOS) for t in targets] == [1, 1, 1]
    both = StagedExamples(store, np.arange(3), 4, EOS).prompts_and_targets[1]
    assert [[EOS, *t] for t in targets] == both
    assert whole.longest_target == 4
    part = whole.at(2)  # keeps both
    assert part.prompts_and_targets == replace(part, separators=2).prompts_and_targets


@pytest.mark.parametrize("packing", [False, True])
def test_training_has_the_text_of_validation(store, packing):
    held_out = StagedExamples(store, np.arange(3), 4, EOS, separators=1).batch(np.arange(3))
    view = StageView(EOS, separators=1, packing=packing)
    whole = collate(store, np.arange(3), EOS)
    planned = view.plan(whole, Stage(tokens_removed=4), torch.arange(3))
    short = view.apply(planned)
    places = planned.places
    assert places is not None
    found = short.input_ids[places[:, 0], places[:, 1]]
    supervised = held_out.labels != IGNORED
    assert torch.equal(found, held_out.input_ids[supervised])
    assert int((short.labels != IGNORED).sum()) == len(places) == int(supervised.sum())
    if not packing:
        assert torch.equal(short.input_ids, held_out.input_ids)
