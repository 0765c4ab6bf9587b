import pytest
import torch
from transformers import AutoModelForCausalLM

from icot.models.loading import load_model
from icot.models.positions import learned_positions, position_tables, rows_before

TINY = {"n_layer": 2, "n_embd": 32, "n_head": 2}
OPT = {
    "hidden_size": 32,
    "ffn_dim": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "word_embed_proj_dim": 16,
    "do_layer_norm_before": False,
    "dropout": 0.0,
}


def test_positions_of_a_pretrained_model_are_extended_with_a_warning(tmp_path, symbols, caplog):
    model = load_model("gpt2", False, symbols, positions=16, config=TINY)
    model.save_pretrained(tmp_path)
    longer = load_model(str(tmp_path), True, symbols, positions=24)
    assert "24 tokens, the model 16 positions" in caplog.text
    old, new = model.transformer.wpe.weight, longer.transformer.wpe.weight
    assert new.shape == (24, 32)
    assert (new[:16] == old).all()


def test_opt_has_two_rows_before_its_positions(tmp_path, symbols, caplog):
    model = load_model("opt", False, symbols, positions=16, config=OPT)
    assert learned_positions(model.config) == 16
    (table,) = position_tables(model)
    assert (len(table.weight), rows_before(table)) == (18, 2)
    model.save_pretrained(tmp_path)
    longer = load_model(str(tmp_path), True, symbols, positions=24)
    assert "24 tokens, the model 16 positions" in caplog.text
    (new,) = position_tables(longer)
    assert len(new.weight) == 26
    assert (new.weight[:18] == table.weight).all()
    tokens = torch.arange(24)[None] % len(symbols)
    short = longer(tokens[:, :16]).logits
    assert torch.equal(short, model(tokens[:, :16]).logits)
    assert longer(tokens).logits.shape[1] == 24
    with pytest.raises(IndexError):
        model(tokens)
    longer.save_pretrained(tmp_path / "longer")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "longer")
    assert torch.equal(again(tokens).logits, longer(tokens).logits)
