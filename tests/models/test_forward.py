"""The loss of a large vocabulary, computed in parts, is the loss computed at once."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    CohereConfig,
    CohereForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
)
from transformers.modeling_outputs import BaseModelOutput

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


SIZE = {
    "vocab_size": 30, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1,
    "num_attention_heads": 2, "num_key_value_heads": 2, "pad_token_id": 0,
}  # fmt: skip


@pytest.mark.parametrize(
    ("architecture", "changes"),
    [
        ("gemma2", {"head_dim": 8, "final_logit_softcapping": 30.0}),  # bends
        ("gemma2", {"head_dim": 8, "final_logit_softcapping": 2000.0}),
        ("cohere", {"logit_scale": 1.004}),  # scales
        ("granite", {"logits_scaling": 8.0}),
        ("minicpm3", {"dim_model_base": 8, "kv_lora_rank": 8, "q_lora_rank": 8}),  # before it
    ],
)
def test_logits_that_are_bent_or_scaled_are_the_models_own(architecture, changes):
    """With the tiny logits of random weights, a cap differs by less than rounding."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(architecture, **SIZE, **changes)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    assert parts_of(model) is None
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize(
    ("architecture", "changes"),
    [
        ("gemma2", {"head_dim": 8, "final_logit_softcapping": None}),
        ("cohere", {"logit_scale": 1.0}),
        ("llama", {}),
        ("mistral", {}),
        ("phi3", {}),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_other_models_come_apart(architecture, changes, dtype):
    torch.manual_seed(0)
    config = AutoConfig.for_model(architecture, **SIZE, **changes)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager", dtype=dtype)
    assert parts_of(model) is not None
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.float32):
        assert parts_of(model) is not None


class KnownStates(nn.Module):
    """A body whose hidden states are known, so that its own rounding does not count."""

    def forward(self, input_ids, **_):
        draw = torch.Generator().manual_seed(0)
        states = torch.randn(*input_ids.shape, 16, generator=draw, dtype=torch.float64)
        return BaseModelOutput(last_hidden_state=states)


def test_the_weight_gradient_is_summed_in_float32(monkeypatch):
    """Against float64, the error over many chunks is that of rounding each one, not of the sum."""
    monkeypatch.setattr(forward, "CPU_LOGITS", 16 * LARGE_VOCABULARY)
    batch = ragged(64, seed=1)
    gradients = []
    for dtype in (torch.float64, torch.float32):
        head = gpt2(LARGE_VOCABULARY).to(dtype).lm_head
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.float32):
            predict(head, batch, forward.Parts(KnownStates(), head)).loss.backward()
        gradients.append(head.weight.grad.double())
    exact, found = gradients
    error = float((found - exact).norm() / exact.norm())
    assert error < 0.003, error
