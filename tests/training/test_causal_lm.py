"""Which examples of a batch count as exact."""

import pytest
import torch

from icot.models.forward import parts_of
from icot.removal import IGNORED
from icot.training.causal_lm import CausalLM
from tests.methods.icot_si.test_chain_loss import batch_and_model


@pytest.mark.parametrize("count_first", [False, True])
def test_the_first_token_counts_where_it_is_to(mult2, symbols, count_first):
    batch, _, model, _ = batch_and_model(mult2, symbols, 3)
    model.eval()
    with torch.no_grad():
        predicted = model(input_ids=batch.input_ids, use_cache=False).logits.argmax(-1)
    supervised = batch.labels != IGNORED
    batch.labels[:, 1:][supervised[:, 1:]] = predicted[:, :-1][supervised[:, 1:]]  # all are right
    first, last = batch.cot_start, supervised.shape[1] - 1 - supervised.flip(1).int().argmax(1)
    for wrong in [(row, first[row]) for row in (0, 1, 2)] + [(row, last[row]) for row in (2, 3)]:
        batch.labels[wrong] = (batch.labels[wrong] + 1) % len(symbols)
    module = CausalLM(model, torch.optim.AdamW, count_first=count_first).eval()
    module.log_dict = lambda *_, **__: None  # type: ignore[method-assign]
    module._parts = parts_of(model)
    found = module.step(batch)
    assert found.judged.all()
    expected = [False, False, False, False] if count_first else [True, True, False, False]
    assert found.exact.tolist() == [*expected, *[True] * 8]
