import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from icot.data.sampler import BatchSampler


@given(
    examples=st.integers(1, 60),
    batch_size=st.integers(1, 8),
    world=st.integers(1, 3),
    epoch=st.integers(0, 3),
)
def test_every_example_once_and_ranks_make_up_the_one_process_batch(
    examples, batch_size, world, epoch
):
    one = BatchSampler(examples, batch_size * world, seed=5)
    ranks = [BatchSampler(examples, batch_size, 5, r, world) for r in range(world)]
    for sampler in (one, *ranks):
        sampler.set_epoch(epoch)
    batches = list(one)
    assert sorted(np.concatenate(batches).tolist()) == list(range(examples))
    shares = [list(r) for r in ranks]
    assert {len(s) for s in shares} == {len(one)} == {len(r) for r in ranks}
    for i, batch in enumerate(batches):
        for rank in range(world):
            assert shares[rank][i].tolist() == batch[rank::world].tolist()


def test_phases_are_visited_in_order_and_resumed_across_their_border():
    sampler = BatchSampler(10, batch_size=3, seed=1, phases=[4, 6])
    whole = [batch.tolist() for batch in sampler]
    rows = [row for batch in whole for row in batch]
    assert sorted(rows[:4]) == [0, 1, 2, 3]
    assert sorted(rows[4:]) == [4, 5, 6, 7, 8, 9]
    sampler.cursor = 1
    assert [batch.tolist() for batch in sampler] == whole[1:]
    sampler.set_epoch(1)
    assert [batch.tolist() for batch in sampler] != whole


def test_epochs_differ_and_a_cursor_resumes():
    sampler = BatchSampler(20, 3, seed=1)
    first = [b.tolist() for b in sampler]
    assert [b.tolist() for b in sampler] == first
    sampler.cursor = 4
    assert [b.tolist() for b in sampler] == first[4:]
    sampler.set_epoch(1)
    assert [b.tolist() for b in sampler] != first
