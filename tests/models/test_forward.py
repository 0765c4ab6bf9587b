"""The loss of a large vocabulary, computed in parts, is the loss computed at once."""

import pytest
import torch
from torch.nn import functional as F
from transformers import CohereConfig, CohereForCausalLM, GPT2Config, GPT2LMHeadModel

from icot.models import forward
from icot.models.forward import LARGE_VOCABULARY, parts_of, predict, supervised_logits
from tests.data.test_packing import ragged


def gpt2(vocabulary: int) -> GPT2LMHeadModel:
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=vocabulary, n_layer=1, n_embd=16, n_head=2, n_positions=64,
        resid_pdrop=0, embd_pdrop=0, attn_pdrop=0, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    return GPT2LMHeadModel(config)


@pytest.mark.parametrize("logits_at_once", [LARGE_VOCABULARY, 2**24])
def test_in_parts(monkeypatch, logits_at_once):
    monkeypatch.setattr(forward, "CPU_LOGITS", logits_at_once)
    model = gpt2(LARGE_VOCABULARY).double()
    batch = ragged(6, seed=1)
    logits, targets, _ = supervised_logits(model, batch)
    expected = F.cross_entropy(logits, targets, reduction="sum")
    (expected * 0.5).backward()
    gradients = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    found = predict(model, batch, parts_of(model))
    (found.loss * 0.5).backward()
    assert found.loss.item() == pytest.approx(expected.item(), rel=1e-12)
    assert torch.equal(found.predicted, logits.argmax(-1))
    assert torch.equal(found.targets, targets)
    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-9, atol=1e-12)


def test_in_parts_under_autocast():
    model = gpt2(LARGE_VOCABULARY)
    batch = ragged(6, seed=1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        whole = predict(model, batch)
        apart = predict(model, batch, parts_of(model))
    assert apart.loss.dtype == torch.float32
    assert apart.loss.item() == pytest.approx(whole.loss.item(), rel=1e-3)
    apart.loss.backward()
    assert all(p.grad.dtype == torch.float32 for p in model.parameters())


def test_nothing_supervised():
    model = gpt2(LARGE_VOCABULARY)
    batch = ragged(2, seed=1)
    batch.labels.fill_(-100)
    found = predict(model, batch, parts_of(model))
    found.loss.backward()
    assert found.loss.item() == 0
    assert len(found.predicted) == 0


def test_a_model_that_scales_its_logits_stays_whole():
    config = CohereConfig(
        vocab_size=30, hidden_size=16, intermediate_size=16, num_hidden_layers=1,
        num_attention_heads=2, logit_scale=0.1,
    )  # fmt: skip
    assert parts_of(CohereForCausalLM(config)) is None
    model = gpt2(30).train()
    assert parts_of(model) is not None
    assert model.training
