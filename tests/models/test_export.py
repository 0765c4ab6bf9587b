"""The exported folder as plain transformers reads it."""

import pytest
import torch
from torch import nn
from transformers import AutoTokenizer, GPTNeoXTokenizer

from icot.errors import ModelError
from icot.models.adapters import add_lora
from icot.models.export import make_standalone, save_standalone
from icot.models.loading import load_model
from icot.models.tokenizers import load_tokenizer
from tests.tokenizers_with_bos import SHAPES, SIGNS

TINY = {"n_layer": 1, "n_embd": 16, "n_head": 2}


def gpt_neox_type(folder):
    """GPT-NeoX: its class makes its own post-processor when it is loaded, without BOS."""
    tokens = ["<|endoftext|>", "<s>", *SIGNS.replace(" ", "Ġ")]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    GPTNeoXTokenizer(vocab=vocabulary, merges=[], bos_token="<s>").save_pretrained(folder)
    return folder


@pytest.mark.parametrize("begins", [True, False])
@pytest.mark.parametrize("shape", [*SHAPES, "gpt_neox"])
def test_the_tokenizer_adds_what_training_had(tmp_path, mult2, shape, begins):
    make = gpt_neox_type if shape == "gpt_neox" else SHAPES[shape][0]
    tokenizer = load_tokenizer(str(make(tmp_path / "own")), mult2)
    leading = (tokenizer.bos_token_id,) if begins else ()
    model = load_model("gpt2", False, tokenizer, 16, TINY)
    save_standalone(tmp_path / "x", model, tokenizer, 4, True, leading)
    exported = AutoTokenizer.from_pretrained(tmp_path / "x")
    text = f" 1 2 * 3 4 {tokenizer.eos_token}"
    own = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert exported(text)["input_ids"] == [*leading, *own]
    assert exported.decode(own) == tokenizer.decode(own)
    assert exported.eos_token_id == tokenizer.eos_token_id


def test_adapters_that_lack_the_lengthened_positions_are_refused(tmp_path, symbols):
    """As 0.1.0 trained them."""
    pytest.importorskip("peft")
    base = str(tmp_path / "base")
    load_model("gpt2", False, symbols, 16, TINY).save_pretrained(base)
    model = load_model(base, True, symbols, 16)
    model.transformer.wpe = nn.Embedding(24, 16)
    model.config.n_positions = 24
    adapted = add_lora(model, 2, 4.0, 0.0, ["c_attn"])
    with pytest.raises(ModelError, match=r"has 16 positions.*merge_lora=true"):
        make_standalone(adapted, (None, 0), False, base)
    merged, needs = make_standalone(adapted, (None, 0), True, base)
    assert needs is None
    assert merged(input_ids=torch.zeros(1, 24, dtype=torch.long)).logits.isfinite().all()
