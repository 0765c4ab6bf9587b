"""A replaced embedding is a replaced token: the causal check against changed questions."""

import numpy as np
import torch

from icot.probing.attention import attend
from icot.probing.places import names_of
from icot.probing.replacing import replace_states
from icot.probing.states import batch_with_columns, collect
from tests.probing.known import examples_at, random_model

CPU = torch.device("cpu")
N = 60


def test_the_other_question_s_embedding_does_what_its_token_would(tmp_path):
    model, examples = random_model(), examples_at(6, N)
    names = names_of(examples)
    states = collect(model, examples, [0, 1], names, 25, tmp_path)
    index, place = np.arange(10, N), names.index("x-1")
    written = [name for name in names if name[0] in "zy"]
    (found,) = replace_states(model, examples, states, index, [(0, place)], written, 20)

    batch, columns = batch_with_columns(examples, index, [*written, "x-1"], CPU)
    columns, at = columns[:, :-1], columns[:, -1:]
    own = batch.input_ids.gather(1, columns)
    given = batch.input_ids.gather(1, at).roll(-1, 0)
    ids = batch.input_ids.scatter(1, at, given)
    logits = model(ids, use_cache=False).logits.argmax(-1)
    says, other = logits.gather(1, columns - 1), own.roll(-1, 0)
    plain = model(batch.input_ids, use_cache=False).logits.argmax(-1).gather(1, columns - 1)
    differ = own != other
    shown = [i for i in range(len(written)) if differ[:, i].any()]
    assert found.position == "x-1"
    assert found.layer == 0
    assert found.names == [written[i] for i in shown]
    for i, pairs, follows, stays in zip(
        shown, found.pairs, found.follows, found.stays, strict=True
    ):
        assert pairs == int(differ[:, i].sum())
        assert follows == int(((says == other) & differ)[:, i].sum())
        assert stays == int(((says == plain) & differ)[:, i].sum())
    assert sum(found.stays) < sum(found.pairs)


def test_a_state_that_is_the_same_everywhere_changes_nothing(tmp_path):
    model, examples = random_model(), examples_at(6, N)
    names = names_of(examples)
    states = collect(model, examples, [0, 1], names, 25, tmp_path)
    places = [(0, names.index("sep")), (1, names.index("sep")), (0, names.index("y3"))]
    written = ["z7", "z8", "y2", "y3", "y4", "y5"]
    same, other, late = replace_states(model, examples, states, np.arange(N), places, written, 25)
    assert same.follows == same.before
    assert same.stays == same.pairs
    assert sum(other.stays) < sum(other.pairs)
    assert set(late.names) == {"y4", "y5"}  # what was written before the place is not asked for
    described = late.as_dict()["written"][0]
    assert set(described) == {"token", "pairs", "follows", "stays", "follows_without"}


def test_attention_is_the_library_s():
    model, examples = random_model(), examples_at(6, 25)
    found = attend(model, examples, 3)
    tokens = examples.batch(np.array([3])).input_ids[0].tolist()
    assert found.tokens == tokens
    assert found.weights.shape == (2, 2, len(tokens), len(tokens))
    assert np.allclose(found.weights.sum(-1), 1, atol=1e-5)
    assert (np.triu(found.weights, 1) == 0).all()
