import pytest

from icot.errors import ModelError
from icot.models.adapters import add_lora
from icot.models.loading import load_model

TINY = {"n_layer": 2, "n_embd": 32, "n_head": 2}


def test_lora_leaves_only_adapters_trainable(symbols):
    pytest.importorskip("peft")
    model = load_model("gpt2", False, symbols, positions=40, config=TINY)
    adapted = add_lora(model, r=2, alpha=4.0, dropout=0.0, target_modules=["c_attn"])
    trainable = [n for n, p in adapted.named_parameters() if p.requires_grad]
    assert trainable
    assert all("lora" in name for name in trainable)
    fresh = load_model("gpt2", False, symbols, positions=40, config=TINY)
    with pytest.raises(ModelError, match=r"model\.lora"):
        add_lora(fresh, r=2, alpha=4.0, dropout=0.0, target_modules=["nothing"])
