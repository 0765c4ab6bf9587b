"""The attention implementation is measured where none is named, and stays the run's."""

import json

import torch
from transformers import GPT2Config, GPT2LMHeadModel

from icot.models import attention_choice
from icot.models.attention_choice import IMPLEMENTATIONS, fastest_attention
from icot.models.introspection import config_of
from tests.conftest import icot
from tests.small import SMALL


def test_measuring_leaves_model_and_random_state_alone():
    config = GPT2Config(vocab_size=9, n_layer=2, n_embd=16, n_head=2, n_positions=32)
    config.bos_token_id = config.eos_token_id = 0
    model = GPT2LMHeadModel(config)
    before = torch.get_rng_state()
    assert fastest_attention(model, rows=4, columns=20) in IMPLEMENTATIONS
    assert fastest_attention(model, rows=4, columns=20, autocast=torch.bfloat16) in IMPLEMENTATIONS
    assert torch.equal(before, torch.get_rng_state())
    assert (model.config.num_hidden_layers, model.config.vocab_size) == (2, 9)


def test_each_implementation_is_tried_and_the_quicker_taken(monkeypatch):
    config = GPT2Config(vocab_size=9, n_layer=2, n_embd=16, n_head=2, n_positions=32)
    config.bos_token_id = config.eos_token_id = 0
    model = GPT2LMHeadModel(config)
    for quicker in IMPLEMENTATIONS:
        tried = []

        def seconds(layer, tokens, autocast, quicker=quicker, tried=tried):
            tried.append((config_of(layer)._attn_implementation, len(tokens)))
            return 1.0 if tried[-1][0] == quicker else 2.0

        monkeypatch.setattr(attention_choice, "_seconds", seconds)
        assert fastest_attention(model, rows=4, columns=20) == quicker
        assert {name for name, _ in tried} == set(IMPLEMENTATIONS)
        assert max(rows for _, rows in tried) == 4


def test_a_resumed_run_keeps_what_was_measured(tmp_path):
    begun = [*SMALL, "model.attn_implementation=null", "trainer.max_epochs=-1", "resume=auto"]
    begun.append("hydra.run.dir=run")
    assert icot("train", *begun, "trainer.max_steps=2", cwd=tmp_path).returncode == 0
    path = tmp_path / "run" / "environment.json"
    chosen = json.loads(path.read_text())["attn_implementation"]
    assert chosen in IMPLEMENTATIONS
    done = icot("train", *begun, "trainer.max_steps=4", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"attn_implementation: {chosen}" in (tmp_path / "run" / "config.yaml").read_text()
    (other,) = set(IMPLEMENTATIONS) - {chosen}
    again = [*begun, "trainer.max_steps=6", f"model.attn_implementation={other}"]
    done = icot("train", *again, cwd=tmp_path)
    assert done.returncode == 2
    assert f"attn_implementation is {chosen} there and {other} here" in done.stderr
