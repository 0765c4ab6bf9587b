"""The view's two halves: what the host plans is what the device makes, and no more is needed."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from icot.data.views import StagePlan, StageView
from icot.methods.icot_si.view import SmoothedView
from icot.removal import (
    IGNORED,
    CoTBatch,
    draw_dial,
    draw_offsets,
    length_after,
    remove_cot,
)
from icot.schedule import Stage

EOS = 0


def whole() -> CoTBatch:
    """Three rows: chains of 4, 2 and 0 tokens, 9, 7 and 5 tokens long."""
    lengths = torch.tensor([9, 7, 5])
    start, end = torch.tensor([2, 2, 2]), torch.tensor([6, 4, 2])
    column = torch.arange(9)[None]
    inside = column < lengths[:, None]
    ids = (10 * torch.arange(1, 4)[:, None] + column).where(inside, EOS)
    labels = ids.where(inside & (column >= start[:, None]), IGNORED)
    return CoTBatch(ids, labels, start, end, lengths, examples=torch.tensor([7, 8, 9]))


POSITIONS = torch.tensor([40, 41, 42])


def test_what_is_left_by_hand():
    view = StageView(EOS)
    planned = view.plan(whole(), Stage(index=1, tokens_removed=3), POSITIONS)
    assert isinstance(planned.plan, StagePlan)
    assert (planned.plan.width, planned.plan.tokens, planned.plan.dropped) == (6, 16, 0)
    assert torch.equal(planned.input_ids, whole().input_ids)  # nothing is removed on the host
    short = view.apply(planned)
    assert short.input_ids.tolist() == [
        [10, 11, 15, 16, 17, 18],
        [20, 21, 24, 25, 26, EOS],
        [30, 31, 32, 33, 34, EOS],
    ]
    assert short.places is not None
    assert short.places.tolist() == (short.labels != IGNORED).nonzero().tolist()


def test_too_long_rows_are_dropped_and_counted():
    view = StageView(EOS, max_train_tokens=7)
    planned = view.plan(whole(), Stage(), POSITIONS)
    assert planned.examples is not None
    assert planned.examples.tolist() == [8, 9]
    assert planned.plan is not None
    assert (planned.plan.dropped, planned.plan.tokens) == (1, 12)
    nothing = StageView(EOS, max_train_tokens=3).plan(whole(), Stage(), POSITIONS)
    assert nothing.plan is not None
    assert (nothing.plan.dropped, nothing.plan.tokens) == (3, 0)
    assert (nothing.labels == IGNORED).all()


@pytest.mark.parametrize("most", [None, 3])
def test_the_row_of_a_device_without_a_share_counts_nowhere(most):
    batch = whole()
    batch = replace(batch, labels=torch.full_like(batch.labels, IGNORED), examples=None)
    planned = StageView(EOS, max_train_tokens=most).plan(batch, Stage(), POSITIONS)
    assert planned.plan is not None
    assert (planned.plan.dropped, planned.plan.tokens) == (0, 0)
    assert planned.examples is None


def test_widths_are_multiples():
    view = StageView(EOS, width_multiple=4)
    for removed, width in ((0, 9), (3, 8)):  # never wider than the whole batch
        planned = view.plan(whole(), Stage(tokens_removed=removed), POSITIONS)
        assert view.apply(planned).input_ids.shape[1] == width


@pytest.mark.parametrize("packing", [False, True])
def test_the_device_half_is_a_function_of_the_batch_alone(packing):
    """Plans of two batches may lie between; another view of the same kind does the same."""
    view = SmoothedView(EOS, smoothing_lambda=0.5, seed=1, packing=packing)
    one = view.plan(whole(), Stage(tokens_removed=1), POSITIONS)
    before = view.apply(one)
    view.plan(whole(), Stage(tokens_removed=4), POSITIONS + 3)
    after = SmoothedView(EOS, smoothing_lambda=9.0, seed=2, packing=packing).apply(one.to("cpu"))
    assert torch.equal(before.input_ids, after.input_ids)
    assert torch.equal(before.labels, after.labels)


def test_the_plan_moves_with_the_batch():
    view = StageView(EOS, packing=True)
    planned = view.plan(whole(), Stage(), POSITIONS).to("meta")
    assert isinstance(planned.plan, StagePlan)
    assert planned.plan.layout is not None
    for tensor in (planned.plan.n_removed, planned.plan.places, planned.plan.layout.source):
        assert tensor is not None
        assert tensor.device.type == "meta"


def test_offsets_are_those_of_the_rows_positions_and_none_in_a_warm_up():
    view = SmoothedView(EOS, smoothing_lambda=0.5, seed=1)
    planned = view.plan(whole(), Stage(tokens_removed=1), POSITIONS)
    expected = draw_offsets(0.5, 1, POSITIONS)
    assert expected.any()
    assert planned.plan is not None
    assert planned.plan.offsets is not None
    assert planned.plan.offsets.tolist() == expected.tolist()
    held = view.plan(whole(), Stage(tokens_removed=1, warming_up=True), POSITIONS)
    assert held.plan is not None
    assert held.plan.offsets is not None
    assert not held.plan.offsets.any()


@given(
    st.lists(st.tuples(*[st.integers(0, 9)] * 3, st.integers(-3, 12)), min_size=1, max_size=9),
)
def test_one_length_for_tensors_arrays_and_removal(rows):
    before, chain, rest, removed = torch.tensor(rows).T
    start, end = before + 1, before + 1 + chain
    lengths = end + rest + 1
    left = length_after(lengths, start, end, removed)
    assert left.tolist() == [b + max(c - max(n, 0), 0) + r + 2 for b, c, r, n in rows]
    arrays = length_after(*(t.numpy() for t in (lengths, start, end, removed)))
    assert arrays.tolist() == left.tolist()
    ids = torch.ones(len(rows), int(lengths.max()), dtype=torch.long)
    batch = CoTBatch(ids, ids, start, end, lengths)
    assert remove_cot(batch, removed).lengths.tolist() == left.tolist()
    one = length_after(lengths.numpy(), start.numpy().astype("int32"), end.numpy(), 2)
    assert one.tolist() == length_after(lengths, start, end, torch.full_like(end, 2)).tolist()


def test_a_plan_is_lost_where_rows_are_chosen():
    planned = StageView(EOS).plan(whole(), Stage(), POSITIONS)
    assert planned.rows(torch.tensor([0])).plan is None
    assert planned.columns(4).plan is planned.plan
    assert replace(planned, plan=None).places is None


def test_rows_of_the_dial_lose_fewer_tokens_and_no_offset():
    view = SmoothedView(
        EOS, smoothing_lambda=0.5, seed=3, dial_share=0.5, keep_position_ids="from_separator"
    )
    fewer = draw_dial(0.5, 3, POSITIONS, 3)
    offsets = draw_offsets(0.5, 3, POSITIONS)
    assert (fewer.tolist(), offsets.tolist()) == ([0, 3, 3], [1, 0, 1])
    planned = view.plan(whole(), Stage(tokens_removed=3), POSITIONS)
    assert isinstance(planned.plan, StagePlan)
    lost = torch.where(fewer > 0, 3 - fewer, 3 + offsets)
    assert planned.plan.n_removed.tolist() == lost.tolist()
    short = view.apply(planned)
    expected = remove_cot(whole(), lost, "left", "from_separator").columns(planned.plan.width)
    assert short.position_ids is not None
    assert torch.equal(short.position_ids, expected.position_ids)
    held = view.plan(whole(), Stage(tokens_removed=3, warming_up=True), POSITIONS)
    assert isinstance(held.plan, StagePlan)
    assert held.plan.n_removed.tolist() == [3, 3, 3]
