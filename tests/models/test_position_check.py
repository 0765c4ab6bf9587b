"""What does not heed position ids is not trained with packing or kept positions."""

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from icot.errors import ModelError
from icot.models.position_check import check_kept_positions, check_packing
from tests.conftest import SMALL, icot
from tests.running import assert_refused

ROTARY = {"num_key_value_heads": 2, "intermediate_size": 64, "num_attention_heads": 4}
SIZE = {"num_hidden_layers": 2, "hidden_size": 32, "vocab_size": 60}
GPT2 = {"n_layer": 2, "n_embd": 32, "n_head": 4, "vocab_size": 60, "n_positions": 32}
OPT = {**SIZE, "ffn_dim": 64, "num_attention_heads": 4, "word_embed_proj_dim": 32}
BLOOM = {"n_layer": 2, "hidden_size": 32, "n_head": 4, "vocab_size": 60}
MPT = {"n_layers": 2, "d_model": 32, "n_heads": 4, "vocab_size": 60, "expansion_ratio": 2}
FALCON = {**SIZE, "num_attention_heads": 4, "alibi": True}
# How each architecture knows positions: learned, rotary, or biases by distance (ALiBi).
HEEDS = {"gpt2": GPT2, "llama": {**SIZE, **ROTARY}, "phi3": {**SIZE, **ROTARY, "pad_token_id": 0}}
IGNORES = {"opt": OPT, "bloom": BLOOM, "mpt": MPT, "falcon": FALCON}
ALL = {**HEEDS, **IGNORES}


def tiny(name: str, scale: float = 1.0, attention: str = "eager", dtype=torch.float32):
    torch.manual_seed(0)
    config = AutoConfig.for_model(name, **ALL[name])
    model = AutoModelForCausalLM.from_config(config, attn_implementation=attention, dtype=dtype)
    with torch.no_grad():
        for p in model.parameters():
            if p.dim() > 1:
                p.mul_(scale)
    return model.train()


@pytest.mark.parametrize("scale", [0.05, 1, 10])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ALL)
def test_packing_is_refused_where_examples_leak(name, dtype, scale):
    model = tiny(name, scale, dtype=dtype)
    if name in HEEDS:
        check_packing(model, name)
    else:
        with pytest.raises(ModelError, match=rf"model 'its-name' \({name}.*data\.packing=false"):
            check_packing(model, "its-name")
    assert model.training


@pytest.mark.parametrize("name", HEEDS)
def test_packing_with_fused_attention(name):
    check_packing(tiny(name, attention="sdpa"), name)


def test_packing_is_refused_with_flash_attention():
    """Only by name: a machine without a GPU cannot run it."""
    model = tiny("gpt2")
    model.config._attn_implementation = "flash_attention_2"
    with pytest.raises(ModelError, match=r"flash_attention_2 .*model\.attn_implementation=sdpa"):
        check_packing(model, "gpt2")


@pytest.mark.parametrize("name", ["gpt2", "llama", "opt"])
def test_positions_can_be_kept_where_they_are_heeded(name):
    check_kept_positions(tiny(name), name)


@pytest.mark.parametrize("name", ["bloom", "mpt", "falcon"])
def test_positions_that_are_ignored_cannot_be_kept(name):
    with pytest.raises(ModelError, match=r"ignores position ids.*keep_position_ids=false"):
        check_kept_positions(tiny(name), name)


def test_examples_of_few_positions_are_tried_too(symbols):
    config = AutoConfig.for_model("gpt2", **{**GPT2, "n_positions": 5})
    model = AutoModelForCausalLM.from_config(config)
    check_packing(model, "gpt2")
    check_kept_positions(model, "gpt2")


@pytest.mark.parametrize(
    ("key", "wrong"),
    [("data.packing", "data.packing=false"), ("schedule.keep_position_ids", "ignores position")],
)
def test_a_run_is_refused_before_it_begins(tmp_path, key, wrong):
    done = icot(
        "train", *SMALL[:4], "data.batch_size=16", "trainer=cpu", "optimizer.decay_steps=0",
        "model.architecture=bloom", "model.name_or_path=bloom",
        "schedule.keep_position_ids=false", "~model.config",
        "+model.config={n_layer: 1, hidden_size: 32, n_head: 2}", f"{key}=true",
        "hydra.run.dir=run", cwd=tmp_path,
    )  # fmt: skip
    assert_refused(done, wrong)
    assert not (tmp_path / "run" / "config.yaml").exists()
