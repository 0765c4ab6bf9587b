"""examples/stepwise_internalization.py does what the framework does."""

import random
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from examples import stepwise_internalization as alone
from icot.data.batches import collate
from icot.data.tokenized import tokenize_examples
from icot.methods.icot_si.view import SmoothedView
from icot.models.tokenizers import build_symbol_tokenizer
from icot.removal import CoTBatch, offset_probabilities
from icot.schedule import Stage
from icot.tasks.parity import Parity
from icot.training.causal_lm import CausalLM

NUMBERS = [0, 1, 2**alone.BITS - 1, 123_456, 654_321, 777_777]
CHAIN = len(alone.COUNTED)


@pytest.fixture
def batch() -> CoTBatch:
    """The framework's batch of ``NUMBERS``, in the tokens of the file."""
    tokenizer = build_symbol_tokenizer(alone.SYMBOLS[1:])
    task = Parity(bits=alone.BITS, hidden=CHAIN)
    task.positions = list(alone.COUNTED)
    examples = [task.example([int(bit) for bit in f"{n:0{alone.BITS}b}"]) for n in NUMBERS]
    store = tokenize_examples(examples, tokenizer)
    whole = collate(store, np.arange(len(NUMBERS)), tokenizer.eos_token_id)

    def without_unknown(ids):  # the token 1, which the file does not have
        assert (ids != 1).all()
        return torch.where(ids > 1, ids - 1, ids)

    return replace(
        whole, input_ids=without_unknown(whole.input_ids), labels=without_unknown(whole.labels)
    )


@pytest.mark.parametrize("removed", [0, 1, 5, CHAIN])
def test_its_loss_and_gradient_are_the_frameworks(batch, removed):
    torch.manual_seed(0)
    size = {"n_layer": 2, "n_embd": 32, "n_head": 2, "n_positions": 32}
    model = GPT2LMHeadModel(GPT2Config(vocab_size=len(alone.SYMBOLS), **size)).double().eval()
    # So much smoothing that rows of one batch lose different numbers of tokens. The framework sums
    # in float32.
    view = SmoothedView(eos_token_id=alone.EOS, smoothing_lambda=0.5, seed=1)
    planned = view.plan(batch, Stage(tokens_removed=removed), torch.arange(len(NUMBERS)))
    counts = [removed + int(offset) for offset in planned.plan.offsets]
    assert len(set(counts)) > 1

    module = CausalLM(model, torch.optim.AdamW)
    losses, _ = module.losses(view.apply(planned))
    expected = torch.autograd.grad(losses.mean(), model.transformer.wte.weight)[0]

    loss = alone.loss_of(model, [alone.example(n) for n in NUMBERS], counts)
    found = torch.autograd.grad(loss, model.transformer.wte.weight)[0]
    assert loss.item() == pytest.approx(losses.mean().item(), abs=1e-6)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)


def test_its_offsets_have_the_frameworks_probabilities():
    random.seed(0)
    drawn = Counter(alone.smoothing_offset() for _ in range(100_000))
    for k, probability in enumerate(offset_probabilities(alone.SMOOTHING)[:3].tolist()):
        assert drawn[k] / 100_000 == pytest.approx(probability, abs=2e-3)


def test_it_ends_with_nothing_written(monkeypatch, capsys):
    monkeypatch.setattr(alone, "STEPS", 1)
    alone.main(training_size=64, held_out_size=8)
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(" removed")[0] for line in lines] == [
        f"step {step}: {removed} of {CHAIN}" for step, removed in enumerate(alone.STAGES, start=1)
    ]
    assert alone.STAGES[-1] == CHAIN
