"""Replaced block inputs, against an own loop over the library's blocks, in four architectures."""

import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

from icot.errors import ModelError
from icot.models.adapters import add_lora
from icot.models.hidden_states import BlockInputs, Overwriting, blocks_of, body_of

SHAPES = {
    "gpt2": {
        **{"n_layer": 3, "n_embd": 16, "n_head": 2, "n_positions": 32},
        **dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0),
    },
    **{
        name: {
            "hidden_size": 16,
            "intermediate_size": 24,
            "num_hidden_layers": 3,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "max_position_embeddings": 32,
            "pad_token_id": 0,
            "bos_token_id": 0,
            "eos_token_id": 0,
        }
        for name in ("llama", "mistral", "phi3")
    },
}


def make(name, attention="eager"):
    torch.manual_seed(0)
    config = AutoConfig.for_model(name, vocab_size=11, **SHAPES[name])
    model = AutoModelForCausalLM.from_config(config, attn_implementation=attention)
    for parameter in model.parameters():  # wider than the library's, so that everything matters
        nn.init.normal_(parameter, std=0.3)
    return model.double().eval()


@pytest.fixture(params=list(SHAPES))
def model(request):
    return make(request.param)


TOKENS = torch.tensor([[1, 2, 3, 4, 5, 6, 7], [7, 6, 5, 4, 3, 2, 1]])
ROWS, COLUMNS = torch.tensor([0, 1]), torch.tensor([2, 4])


def block_inputs(model, tokens=TOKENS, **inputs):
    """[L, B, T, D] as the library gives them."""
    states = model(tokens, output_hidden_states=True, **inputs).hidden_states
    return torch.stack(states[:-1])


def test_inputs_are_kept_as_the_library_gives_them(model):
    columns = torch.tensor([[2, 3], [4, 6]])
    reader = BlockInputs(model)
    with reader.keep(columns) as kept:
        model(TOKENS)
    expected = block_inputs(model)
    for layer, states in enumerate(kept):
        for row in (0, 1):
            assert torch.equal(states[row], expected[layer, row, columns[row]])
    reader.remove()
    with reader.keep(columns) as nothing:
        model(TOKENS)
    assert nothing == []


def test_what_leaves_the_last_block_is_kept_before_the_final_norm(model):
    columns = torch.tensor([[2, 3], [4, 6]])
    reader = BlockInputs(model, after_last=True)
    with reader.keep(columns) as kept:
        normed = model(TOKENS, output_hidden_states=True).hidden_states[-1]
    body = body_of(model)
    norm = body.ln_f if hasattr(body, "ln_f") else body.norm
    assert len(kept) == 4
    for row in (0, 1):
        assert torch.allclose(norm(kept[-1][row]), normed[row, columns[row]])
    reader.remove()


def test_a_layer_without_a_state_keeps_its_own_input(model):
    states = block_inputs(model)[1, ROWS, COLUMNS] + 1
    with Overwriting(model).put(ROWS, COLUMNS, [None, states, None]):
        found = block_inputs(model)
    expected = block_inputs(model)
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[2, 0, :2], expected[2, 0, :2])
    assert not torch.equal(found[2, 0, 2], expected[2, 0, 2])


def test_a_models_own_inputs_change_nothing(model):
    logits, own = model(TOKENS).logits, block_inputs(model)
    overwriting = Overwriting(model)
    with overwriting.put(ROWS, COLUMNS, list(own[:, ROWS, COLUMNS])):
        assert torch.equal(model(TOKENS).logits, logits)
    assert torch.equal(model(TOKENS).logits, logits)


def test_others_change_every_later_column_and_none_before(model):
    logits = model(TOKENS).logits
    states = torch.randn(3, 2, 16, dtype=torch.double, requires_grad=True)
    overwriting = Overwriting(model)
    with overwriting.put(ROWS, COLUMNS, list(states)):
        changed = model(TOKENS).logits
    for row, column in zip(ROWS.tolist(), COLUMNS.tolist(), strict=True):
        assert torch.equal(changed[row, :column], logits[row, :column])
        assert (changed[row, column:] - logits[row, column:]).abs().amax(-1).min() > 1e-6
        with overwriting.put(torch.tensor([0]), COLUMNS[row, None], list(states[:, row, None])):
            alone = model(TOKENS[row, None]).logits
        assert torch.allclose(alone[0], changed[row], atol=1e-12)
    (gradient,) = torch.autograd.grad(changed.sum(), states)
    assert (gradient.abs().amax(-1) > 0).all()


def test_equal_to_a_loop_over_the_blocks():
    """GPT-2's forward pass by hand, with the column replaced before each block."""
    model = make("gpt2")
    states = torch.randn(3, 2, 16, dtype=torch.double)
    body = model.transformer
    hidden = body.wte(TOKENS) + body.wpe(torch.arange(7))
    for layer, block in enumerate(body.h):
        hidden = hidden.clone()
        hidden[ROWS, COLUMNS] = states[layer]
        mask = torch.full((7, 7), float("-inf"), dtype=torch.double).triu(1)
        found = block(hidden, attention_mask=mask[None, None])
        hidden = found[0] if isinstance(found, tuple) else found
    expected = model.lm_head(body.ln_f(hidden))
    with Overwriting(model).put(ROWS, COLUMNS, list(states)):
        assert torch.allclose(model(TOKENS).logits, expected, atol=1e-12)


def test_a_cache_keeps_the_replaced_column(model):
    states = list(torch.randn(3, 2, 16, dtype=torch.double))
    overwriting = Overwriting(model)
    with overwriting.put(ROWS, COLUMNS, states):
        whole = model(TOKENS).logits
        prefill = model(TOKENS[:, :5], use_cache=True)
    step = model(TOKENS[:, 5:6], past_key_values=prefill.past_key_values).logits
    assert torch.allclose(step[:, 0], whole[:, 5], atol=1e-10)


def test_prompts_padded_on_the_left(model):
    model = model.float()
    states = list(torch.randn(3, 1, 16))
    padded = torch.tensor([[0, 0, 1, 2, 3, 4]])
    mask, ids = (padded > 0).long(), torch.tensor([[0, 0, 0, 1, 2, 3]])
    overwriting = Overwriting(model)
    with overwriting.put(torch.tensor([0]), torch.tensor([2]), states):
        plain = model(padded[:, 2:]).logits
    with overwriting.put(torch.tensor([0]), torch.tensor([4]), states):
        left = model(padded, attention_mask=mask, position_ids=ids).logits
    assert torch.allclose(left[:, 2:], plain, atol=1e-5)


def test_gradient_checkpointing_changes_nothing(model):
    overwriting = Overwriting(model)
    gradients = []
    for checkpointing in (False, True):
        states = torch.linspace(-1, 1, 3 * 2 * 16, dtype=torch.double).view(3, 2, 16)
        states.requires_grad_()
        if checkpointing:
            model.train()
            model.gradient_checkpointing_enable()
        with overwriting.put(ROWS, COLUMNS, list(states)):
            loss = model(TOKENS, use_cache=False).logits.square().sum()
            gradients.append(torch.autograd.grad(loss, states)[0])
    assert torch.allclose(*gradients, atol=1e-10)


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_a_compiled_model_follows_what_is_put_in_place(name):
    model = make(name)
    overwriting = Overwriting(model)
    compiled = torch.compile(model.forward, backend="aot_eager", fullgraph=True)
    for columns in (COLUMNS, COLUMNS - 1):
        states = list(torch.randn(3, 2, 16, dtype=torch.double))
        with overwriting.put(ROWS, columns, states):
            expected = model(TOKENS, use_cache=False).logits
            assert torch.allclose(compiled(TOKENS, use_cache=False).logits, expected, atol=1e-10)
    expected = model(TOKENS, use_cache=False).logits
    assert torch.allclose(compiled(TOKENS, use_cache=False).logits, expected, atol=1e-10)


def test_adapters_and_autocast():
    model = make("gpt2").float()
    states = list(torch.randn(3, 2, 16))
    with Overwriting(model).put(ROWS, COLUMNS, states):
        expected = model(TOKENS).logits
    adapted = add_lora(make("gpt2").float(), r=2, alpha=4, dropout=0.0, target_modules=None)
    with Overwriting(adapted).put(ROWS, COLUMNS, states):  # untrained adapters change nothing
        assert torch.allclose(adapted(TOKENS).logits, expected, atol=1e-5)
        with torch.autocast("cpu", torch.bfloat16):
            rounded = adapted(TOKENS).logits.float()
    assert (rounded - expected).abs().max() < 0.05 * expected.abs().max()


def test_a_model_whose_blocks_cannot_be_told_is_refused():
    model = make("gpt2")
    model.transformer.others = nn.ModuleList(nn.Linear(1, 1) for _ in range(3))
    with pytest.raises(ModelError, match="its 3 blocks cannot be told"):
        blocks_of(model)
