"""Quick forms of elementwise layers against torch's own."""

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM, GPT2Config

from icot.models.fast_layers import QuickDropout, use_fast_layers


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dropout_drops_its_share_and_scales_the_rest(p, dtype):
    torch.manual_seed(0)
    x = torch.full((331, 997), 2.0, dtype=dtype, requires_grad=True)
    y = QuickDropout(p)(x)
    kept = y != 0
    assert y.dtype == dtype
    # Five standard deviations of a share of 330,007 draws.
    assert abs(float(kept.float().mean()) - (1 - p)) < 5 * (p * (1 - p) / x.numel()) ** 0.5
    assert torch.allclose(y[kept].float(), torch.tensor(2 / (1 - p)), rtol=1e-2)
    # Neighbours are drawn by themselves: four share one number.
    both = (kept[:, 1:] & kept[:, :-1]).float().mean()
    assert float(both) == pytest.approx((1 - p) ** 2, abs=0.01)
    y.float().sum().backward()
    assert torch.equal(x.grad != 0, kept)
    assert torch.allclose(x.grad[kept].float(), torch.tensor(1 / (1 - p)), rtol=1e-2)


def test_dropout_follows_the_seed_and_rests_in_evaluation():
    layer, x = QuickDropout(0.3), torch.ones(7)  # not a multiple of four
    torch.manual_seed(1)
    first = layer(x)
    torch.manual_seed(1)
    assert torch.equal(layer(x), first)
    assert torch.equal(layer.eval()(x), x)
    assert torch.equal(QuickDropout(0.0)(x), x)
    assert torch.equal(QuickDropout(1.0)(x), torch.zeros(7))


def test_a_model_with_fast_layers_gives_the_same_output():
    config = GPT2Config(n_layer=2, n_embd=16, n_head=2, vocab_size=50, n_positions=8)
    model = AutoModelForCausalLM.from_config(config).eval()
    tokens = torch.arange(16).view(2, 8)
    before = model(input_ids=tokens).logits
    use_fast_layers(model)
    assert torch.allclose(model(input_ids=tokens).logits, before, atol=1e-6)
    kinds = {type(m) for m in model.modules() if isinstance(m, nn.Dropout)}
    assert kinds == {QuickDropout}
