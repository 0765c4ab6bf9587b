"""The emulator against its equations, written out row by row."""

import copy

import pytest
import torch
from torch import nn, tensor

from icot.methods.icot_kd.emulator import Emulator
from tests.models.test_hidden_states import make

TOKENS = tensor([[1, 2, 3, 0, 4, 5], [7, 6, 0, 4, 3, 2]])
COLUMNS = tensor([3, 2])


def emulator(name="gpt2", **options):
    model = make(name)
    torch.manual_seed(3)
    return Emulator(model, **options).double().eval()


def by_hand(made: Emulator, whole: nn.Module, row: int, gold=None):
    """f_l and the scores of one question by a loop over GPT-2's blocks."""
    column = int(COLUMNS[row])
    body = whole.transformer
    hidden = (body.wte(TOKENS[row]) + body.wpe(torch.arange(6)))[None]
    mask = torch.full((6, 6), float("-inf"), dtype=torch.double).triu(1)[None, None]
    width = hidden.shape[-1]
    state, cell, context = torch.zeros(3, 1, width, dtype=torch.double)
    keys, found, scores = [], [], []
    weights = made.components.weight
    for layer, block in enumerate(body.h):
        z = hidden[:, column]
        scores.append(z @ weights.T)
        if gold is None:
            share = torch.softmax(scores[-1] / made.temperature, -1)
            component = share @ weights
        else:
            component = weights[gold[row, layer]][None]
        f = made.maps[layer](torch.cat([z, component], -1))
        found.append(f[0])
        state, cell = made.cell(f + context, (state, cell))
        if keys:
            query = made.query(state)
            attention = torch.softmax(torch.stack([(k * query).sum() for k in keys]), 0)
            context = sum(a * k for a, k in zip(attention, keys, strict=True))
        keys.append(made.key(state))
        hidden = hidden.clone()
        hidden[:, column] = made.output(torch.cat([state, context], -1))
        output = block(hidden, attention_mask=mask)
        hidden = output[0] if isinstance(output, tuple) else output
    return torch.stack(found), torch.cat(scores)


@pytest.mark.parametrize("mixture", [1, 11])
@pytest.mark.parametrize("gold", [False, True])
def test_the_equations_row_by_row(mixture, gold):
    whole = make("gpt2")
    made = emulator(mixture_size=mixture)
    known = torch.arange(6).view(2, 3) % mixture if gold else None
    found = made(TOKENS, COLUMNS, gold=known)
    for row in (0, 1):
        states, scores = by_hand(made, whole, row, known)
        assert torch.allclose(found.states[row], states, atol=1e-10)
        assert torch.allclose(found.scores[row], scores, atol=1e-10)


@pytest.mark.parametrize("name", ["gpt2", "llama", "mistral", "phi3"])
def test_only_the_question_plays_a_part(name):
    made = emulator(name)
    states = made(TOKENS, COLUMNS).states
    other = TOKENS.clone()
    other[0, 4:], other[1, 3:] = 9, 9
    assert torch.equal(made(other, COLUMNS).states, states)
    changed = TOKENS.clone()
    changed[:, 0] = 9
    assert not torch.allclose(made(changed, COLUMNS).states[:, 1:], states[:, 1:])


def test_the_first_state_knows_only_where_the_question_ends():
    made = emulator()
    same_end = made(tensor([[1, 2, 0], [5, 6, 0]]), tensor([2, 2])).states
    assert torch.equal(same_end[0, 0], same_end[1, 0])
    assert not torch.allclose(same_end[0, 1], same_end[1, 1])


def test_one_component_does_not_depend_on_the_temperature():
    cold, warm = (emulator(temperature=t)(TOKENS, COLUMNS).states for t in (0.05, 5.0))
    assert torch.allclose(cold, warm, atol=1e-12)


def test_a_temperature_near_zero_takes_the_nearest_component():
    made = emulator(mixture_size=11, temperature=1e-6)
    mixed = made(TOKENS, COLUMNS)
    chosen = made(TOKENS, COLUMNS, gold=mixed.scores.argmax(-1))
    assert torch.allclose(mixed.states, chosen.states, atol=1e-9)


def test_prompts_padded_on_the_left():
    made = emulator()
    plain = made(TOKENS[1:, :3], COLUMNS[1:]).states
    padded = tensor([[0, 0, 7, 6, 0]])
    mask, ids = tensor([[0, 0, 1, 1, 1]]), tensor([[0, 0, 0, 1, 2]])
    left = made(padded, tensor([4]), attention_mask=mask, position_ids=ids).states
    assert torch.allclose(left, plain, atol=1e-8)


@pytest.mark.parametrize("name", ["gpt2", "llama", "mistral", "phi3"])
def test_every_trained_weight_has_a_gradient(name):
    made = emulator(name, mixture_size=11)
    loss = made(TOKENS, COLUMNS).states.square().sum()
    loss.backward()
    without = [n for n, p in made.named_parameters() if p.requires_grad and p.grad is None]
    # What the last state needs: the last map reads no further, and the last key is not attended to.
    assert without == []
    frozen = [n for n, p in made.named_parameters() if not p.requires_grad]
    assert all("ln_f" in n or n.endswith("norm.weight") or "lm_head" in n for n in frozen)


def test_states_of_zero_lie_half_the_width_a_layer_from_normalised_ones():
    made = emulator()
    targets = torch.randn(2, 3, 16, dtype=torch.double)
    targets = (targets - targets.mean(-1, True)) / targets.std(-1, correction=0, keepdim=True)
    assert targets.square().sum(-1).mean() == pytest.approx(16)
    with torch.no_grad():
        for of_layer in made.maps:
            of_layer[-1].weight.mul_(0)
            of_layer[-1].bias.mul_(0)
        states = made(TOKENS, COLUMNS).states
    distance = 0.5 * (states - targets).square().sum((1, 2)).mean()
    assert float(distance) == pytest.approx(3 * 16 / 2)


def test_a_model_of_one_layer_is_refused():
    model = make("gpt2")
    model.config = copy.deepcopy(model.config)
    model.config.num_hidden_layers = 1
    with pytest.raises(ValueError, match="at least two layers"):
        Emulator(model)
