"""Removal against a row-by-row reference, and the loss against sequences cut before batching."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from icot.removal import (
    IGNORED,
    CoTBatch,
    draw_dial,
    draw_offsets,
    offset_probabilities,
    remove_cot,
)

PAD = 0


def padded(rows: list[tuple[list[int], list[int], list[int]]]) -> CoTBatch:
    """A batch from (question with separator, chain, rest) token lists."""
    width = max(len(q) + len(c) + len(r) for q, c, r in rows)
    ids, labels = [], []
    for q, c, r in rows:
        padding = width - len(q) - len(c) - len(r)
        ids.append(q + c + r + [PAD] * padding)
        labels.append([IGNORED] * len(q) + c + r + [IGNORED] * padding)
    return CoTBatch(
        input_ids=torch.tensor(ids),
        labels=torch.tensor(labels),
        cot_start=torch.tensor([len(q) for q, _, _ in rows]),
        cot_end=torch.tensor([len(q) + len(c) for q, c, _ in rows]),
        lengths=torch.tensor([len(q) + len(c) + len(r) for q, c, r in rows]),
    )


tokens = st.integers(1, 99)
row = st.tuples(
    st.lists(tokens, min_size=1, max_size=6),
    st.lists(tokens, max_size=8),
    st.lists(tokens, min_size=1, max_size=5),
)


@settings(max_examples=300, deadline=None)
@given(
    rows=st.lists(row, min_size=1, max_size=6),
    counts=st.lists(st.integers(-3, 12), min_size=6, max_size=6),
    side=st.sampled_from(["left", "right"]),
    keep=st.sampled_from([False, True, "from_separator"]),
)
def test_equals_the_row_by_row_reference(rows, counts, side, keep):
    side = "left" if keep == "from_separator" else side
    batch = padded(rows)
    result = remove_cot(batch, torch.tensor(counts[: len(rows)]), side, keep)
    for i, (question, chain, rest) in enumerate(rows):
        removed = min(max(counts[i], 0), len(chain))
        kept = chain[removed:] if side == "left" else chain[: len(chain) - removed]
        expected = question + kept + rest
        n = len(expected)
        assert result.lengths[i] == n
        assert result.cot_start[i] == len(question)
        assert result.cot_end[i] == len(question) + len(kept)
        assert result.input_ids[i, :n].tolist() == expected
        assert result.labels[i, :n].tolist() == [IGNORED] * len(question) + kept + rest
        assert (result.labels[i, n:] == IGNORED).all()
        if keep:
            before = len(question) if side == "left" else len(question) + len(kept)
            before -= keep == "from_separator"
            positions = [*range(before), *range(before + removed, n + removed)]
            assert result.position_ids is not None
            assert result.position_ids[i, :n].tolist() == positions
        else:
            assert result.position_ids is None


def test_removed_in_two_steps_the_separator_tells_both():
    batch = padded([([1, 2], [3, 4, 5, 6], [7]), ([1], [2], [3])])
    once = remove_cot(batch, torch.tensor([3, 1]), keep_position_ids="from_separator")
    twice = remove_cot(batch, torch.tensor([1, 0]), keep_position_ids="from_separator")
    twice = remove_cot(twice, torch.tensor([2, 1]), keep_position_ids="from_separator")
    assert once.position_ids is not None
    assert twice.position_ids is not None
    assert once.position_ids[0, :4].tolist() == [0, 4, 5, 6]
    assert once.position_ids[1, :2].tolist() == [1, 2]
    for i, length in enumerate(once.lengths):
        assert torch.equal(once.position_ids[i, :length], twice.position_ids[i, :length])


def test_the_dial_draws_each_number_below_the_stages_equally_often():
    fewer = draw_dial(0.5, 7, torch.arange(60_000), 6)
    counts = fewer.bincount(minlength=7).double() / 60_000
    assert counts[0] == pytest.approx(0.5, abs=0.01)
    assert counts[1:].tolist() == pytest.approx([0.5 / 6] * 6, abs=0.006)
    assert not draw_dial(0.0, 7, torch.arange(1000), 6).any()
    assert (draw_dial(1.0, 7, torch.arange(1000), 6) > 0).all()
    assert not draw_dial(1.0, 7, torch.arange(1000), 0).any()
    some = torch.tensor([3, 500, 12_345])
    assert draw_dial(0.5, 7, some, 6).tolist() == fewer[some].tolist()
    offsets = draw_offsets(0.5, 7, torch.arange(60_000))
    mean = float(offsets[fewer > 0].double().mean())
    assert mean == pytest.approx(float(offsets.double().mean()), abs=0.05)


def test_an_unknown_side_is_refused():
    with pytest.raises(ValueError, match="left, right"):
        remove_cot(padded([([1], [2], [3])]), torch.tensor([1]), side="middle")  # type: ignore[arg-type]


def summed_loss(model: torch.nn.Module, ids: Tensor, labels: Tensor) -> Tensor:
    logits = model(input_ids=ids).logits[:, :-1].flatten(0, 1)
    return torch.nn.functional.cross_entropy(logits, labels[:, 1:].flatten(), reduction="sum")


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("stage", [0, 1, 3, 7])
def test_the_loss_is_that_of_sequences_cut_before_batching(side, stage):
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=100,
        n_positions=32,
        n_embd=32,
        n_layer=2,
        n_head=2,
        bos_token_id=0,
        eos_token_id=0,
    )
    model = GPT2LMHeadModel(config).double().eval()
    rows = [
        ([5, 6, 7, 9], [11, 12, 13, 14, 15], [9, 21, 9]),
        ([5, 9], [31, 32, 33], [9, 22, 23, 9]),
        ([8, 7, 6, 5, 4, 9], [], [9, 24, 9]),
    ]
    short = remove_cot(padded(rows), torch.full((3,), stage), side)
    batched = summed_loss(model, short.input_ids, short.labels)
    alone = torch.zeros((), dtype=torch.float64)
    for question, chain, rest in rows:
        kept = chain[stage:] if side == "left" else chain[: max(0, len(chain) - stage)]
        cut = padded([(question, kept, rest)])
        alone += summed_loss(model, cut.input_ids, cut.labels)
    assert abs((batched - alone).item()) < 1e-6


def test_offset_probabilities_by_hand():
    p = offset_probabilities(4.0)
    assert p[:3].tolist() == pytest.approx([0.98168, 0.01798, 0.00033], abs=5e-6)
    assert p.shape == (100,)
    assert float(p.sum()) == pytest.approx(1, abs=1e-12)
    # The last bin holds what is left of the tail: exp(-0.01 * 99) of the mass.
    assert float(offset_probabilities(0.01)[-1]) == pytest.approx(math.exp(-0.99))
    assert offset_probabilities(math.inf).tolist() == [1.0] + [0.0] * 99


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan])
def test_a_lambda_without_a_distribution_is_refused(bad):
    with pytest.raises(ValueError, match="above 0"):
        offset_probabilities(bad)


def test_offsets_follow_their_distribution_and_depend_on_the_row_alone():
    positions = torch.arange(200_000)
    drawn = draw_offsets(1.0, seed=7, position=positions)
    shares = drawn.bincount(minlength=100)[:6] / len(positions)
    assert shares.tolist() == pytest.approx(offset_probabilities(1.0)[:6].tolist(), abs=4e-3)
    some = torch.tensor([5, 17, 199_999])
    assert draw_offsets(1.0, 7, some).tolist() == drawn[some].tolist()
    assert not torch.equal(drawn, draw_offsets(1.0, seed=8, position=positions))
    assert (draw_offsets(math.inf, 7, positions) == 0).all()
