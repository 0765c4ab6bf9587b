"""A teacher's states: positions by hand, and states equal to a loop over rows."""

import pytest
import torch
from torch import tensor

from icot.methods.icot_kd.mind_reading import first_separator
from icot.methods.icot_kd.states import Subset, Teacher, places, positions
from icot.removal import CoTBatch
from tests.models.test_hidden_states import make

SUBSETS = ("diagonal", "first_column", "last_column", "top_row", "bottom_row")


@pytest.mark.parametrize(
    ("first", "second", "layers", "delta", "expected"),
    [
        (10, 58, 12, "dynamic", [10, 14, 19, 23, 27, 32, 36, 41, 45, 49, 54, 58]),
        (12, 88, 12, "dynamic", [12, 19, 26, 33, 40, 47, 53, 60, 67, 74, 81, 88]),
        (7, 32, 8, "dynamic", [7, 11, 14, 18, 21, 25, 28, 32]),
        (7, 32, 4, "dynamic", [7, 15, 24, 32]),
        (10, 12, 5, "dynamic", [10, 10, 11, 12, 12]),
        (10, 15, 5, 2, [10, 12, 14, 15, 15]),
    ],
)
def test_positions_by_hand(first, second, layers, delta, expected):
    assert positions(tensor([first]), tensor([second]), layers, delta).tolist() == [expected]


def test_a_begin_token_with_the_separators_id_is_no_separator():
    """OPT's rows begin with the token that separates here; prompts are padded with it, too."""
    ids = tensor([[2, 2, 2, 5, 6, 2, 2], [2, 5, 6, 7, 8, 2, 2]])
    mask = tensor([[0, 0, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1, 1]])
    assert first_separator(ids, 2, mask).tolist() == [5, 5]
    without = tensor([[5, 6, 2, 2], [5, 2, 2, 2]])
    assert first_separator(without, 2, None).tolist() == [2, 1]


def test_each_row_has_its_own_spacing():
    first, second = tensor([10, 3]), tensor([58, 9])
    both = positions(first, second, 12)
    for row in (0, 1):
        alone = positions(first[row, None], second[row, None], 12)
        assert torch.equal(both[row], alone[0])
    with pytest.raises(ValueError, match="at least two layers"):
        positions(first, second, 1)
    with pytest.raises(ValueError, match="subset must be one of diagonal"):
        places(first, second, 3, subset="column")


def batch(lengths=((2, 4), (3, 2)), answer=5, chain=None) -> CoTBatch:
    """Rows of question, separator 0, chain, separator, answer."""
    torch.manual_seed(1)
    rows, starts, ends = [], [], []
    for question, cot in lengths:
        text = torch.randint(1, 11, (question,)).tolist()
        thought = torch.randint(1, 11, (cot,)).tolist() if chain is None else chain[:cot]
        rows.append([*text, 0, *thought, 0, answer, 0])
        starts.append(question + 1)
        ends.append(question + 1 + cot)
    width = max(map(len, rows))
    ids = tensor([row + [0] * (width - len(row)) for row in rows])
    sizes = tensor([len(row) for row in rows])
    return CoTBatch(ids, torch.full_like(ids, -100), tensor(starts), tensor(ends), sizes)


@pytest.mark.parametrize("subset", SUBSETS)
@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_states_equal_a_loop_over_rows(name, subset: Subset):
    model, examples = make(name), batch()
    found = Teacher(model, subset=subset).states(examples)
    columns, blocks = places(examples.cot_start - 1, examples.cot_end, 3, subset=subset)
    for row in range(2):
        ids = examples.input_ids[row, None, : examples.lengths[row]]
        states = model(ids, output_hidden_states=True).hidden_states
        for layer in range(3):
            x = states[blocks[layer]][0, columns[row, layer]]
            expected = (x - x.mean()) / (x.var(correction=0) + 1e-5).sqrt()
            assert torch.allclose(found[row, layer].double(), expected, atol=1e-5)
    assert found.mean(-1).abs().max() < 1e-5
    assert (found.var(-1, correction=0) - 1).abs().max() < 1e-2
    assert not found.requires_grad


def test_padding_the_answer_and_what_is_right_of_a_state_play_no_part():
    teacher = Teacher(make("gpt2"))
    both = teacher.states(batch())
    assert torch.allclose(both[1, None], teacher.states(batch(((2, 4), (3, 2))))[1, None])
    assert torch.equal(both, teacher.states(batch(answer=9)))
    short = batch(((2, 4),))
    assert torch.allclose(teacher.states(short)[0], both[0], atol=1e-6)
    one, other = (teacher.states(batch(((2, 4),), chain=[1, 2, 3, x])) for x in (4, 8))
    columns = positions(tensor([2]), tensor([7]), 3)[0]  # 2, 4 or 5, 7
    for layer, column in enumerate(columns.tolist()):
        assert torch.equal(one[0, layer], other[0, layer]) == (column < 6)


def test_the_teacher_is_frozen_and_has_no_dropout():
    model = make("gpt2").train()
    model.config.resid_pdrop = 0.5
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.5
    teacher = Teacher(model)
    assert not any(p.requires_grad for p in model.parameters())
    assert torch.equal(teacher.states(batch()), teacher.states(batch()))
