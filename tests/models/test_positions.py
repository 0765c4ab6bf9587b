from icot.models.loading import load_model

TINY = {"n_layer": 2, "n_embd": 32, "n_head": 2}


def test_positions_of_a_pretrained_model_are_extended_with_a_warning(tmp_path, symbols, caplog):
    model = load_model("gpt2", False, symbols, positions=16, config=TINY)
    model.save_pretrained(tmp_path)
    longer = load_model(str(tmp_path), True, symbols, positions=24)
    assert "24 tokens, the model 16 positions" in caplog.text
    old, new = model.transformer.wpe.weight, longer.transformer.wpe.weight
    assert new.shape == (24, 32)
    assert (new[:16] == old).all()
