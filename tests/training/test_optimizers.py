import copy

import pytest
import torch
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from icot.training.optimizers import (
    Float32Muon,
    _hidden_matrices,
    adamw,
    learning_rate_factor,
    muon,
)


def small_model() -> GPT2LMHeadModel:
    torch.manual_seed(0)
    return GPT2LMHeadModel(
        GPT2Config(vocab_size=12, n_positions=8, n_embd=8, n_layer=1, n_head=2, bos_token_id=0)
    ).eval()  # no dropout


def train(model, optimizer, steps: int, first: int = 0) -> None:
    for step in range(first, first + steps):
        ids = torch.randint(0, 12, (4, 8), generator=torch.Generator().manual_seed(step))
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def test_muon_takes_hidden_matrices_and_adamw_the_rest():
    model = small_model()
    optimizer = muon(model, lr=0.01, adamw_lr=0.001)
    names = {id(p): n for n, p in model.named_parameters()}
    hidden = {names[id(p)] for p in optimizer.param_groups[0]["params"]}
    rest = {names[id(p)] for p in optimizer.param_groups[1]["params"]}
    assert hidden == {
        n for n in names.values() if ".h." in n and n.endswith("weight") and "ln" not in n
    }
    assert hidden | rest == set(names.values())
    assert [g["lr"] for g in optimizer.param_groups] == [0.01, 0.001]


def test_muon_equals_its_two_parts():
    joint, apart = small_model(), small_model()
    optimizer = muon(joint, lr=0.01, adamw_lr=0.001)
    reference = muon(apart, lr=0.01, adamw_lr=0.001)
    train(joint, optimizer, 3)
    for step in range(3):
        ids = torch.randint(0, 12, (4, 8), generator=torch.Generator().manual_seed(step))
        apart(input_ids=ids, labels=ids).loss.backward()
        for part in reference.parts:
            part.step()
            part.zero_grad()
    for p, q in zip(joint.parameters(), apart.parameters(), strict=True):
        assert torch.equal(p, q)


def test_float32_muon_computes_what_torchs_own_does():
    generator = torch.Generator().manual_seed(1)
    shapes = [(16, 48), (48, 16), (16, 48)]
    ours = [torch.randn(shape, generator=generator).requires_grad_() for shape in shapes]
    theirs = [p.detach().clone().requires_grad_() for p in ours]
    options = {"lr": 0.01, "weight_decay": 0.1, "adjust_lr_fn": "match_rms_adamw"}
    optimizers = [Float32Muon(ours, **options), torch.optim.Muon(theirs, **options)]
    before = [p.detach().clone() for p in ours]
    for _ in range(5):
        for p, q in zip(ours, theirs, strict=True):
            p.grad = torch.randn(p.shape, generator=generator)
            q.grad = p.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    for start, p, q in zip(before, ours, theirs, strict=True):
        moved = (p - start).norm()
        assert moved > 0.1
        assert (p - q).norm() < 0.02 * moved  # torch's own rounds to bf16


@pytest.mark.parametrize("make", [adamw, muon])
def test_state_survives_a_round_trip_and_clearing_it_is_a_fresh_start(make):
    arguments = {"lr": 0.01} if make is adamw else {"lr": 0.01, "adamw_lr": 0.001}
    whole = small_model()
    optimizer = make(whole, **arguments)
    train(whole, optimizer, 4)

    resumed = small_model()
    first = make(resumed, **arguments)
    train(resumed, first, 2)
    saved = copy.deepcopy(first.state_dict())
    second = make(resumed, **arguments)
    second.load_state_dict(saved)
    train(resumed, second, 2, first=2)
    for p, q in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(p, q)

    cleared, fresh = copy.deepcopy(whole), copy.deepcopy(whole)
    old = make(cleared, **arguments)
    train(cleared, old, 1)
    cleared.load_state_dict(whole.state_dict())
    old.state.clear()
    new = make(fresh, **arguments)
    train(cleared, old, 2)
    train(fresh, new, 2)
    for p, q in zip(cleared.parameters(), fresh.parameters(), strict=True):
        assert torch.equal(p, q)


def test_learning_rate_factor_by_hand():
    assert [learning_rate_factor(s, 4, 0, None) for s in range(6)] == [0.25, 0.5, 0.75, 1, 1, 1]
    assert [learning_rate_factor(s, 0, 4, 10) for s in (0, 6, 7, 8, 9, 10)] == [
        1,
        1,
        0.75,
        0.5,
        0.25,
        0,
    ]


def test_the_output_layer_of_a_model_within_a_model_is_no_hidden_matrix():
    class Holder(nn.Module):
        def __init__(self, model):
            super().__init__()
            self.inner = nn.ModuleDict({"model": model})

    config = LlamaConfig(
        vocab_size=9, hidden_size=8, intermediate_size=8, num_hidden_layers=1,
        num_attention_heads=2, tie_word_embeddings=False,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    hidden, rest = _hidden_matrices(Holder(model))
    assert id(model.lm_head.weight) in {id(p) for p in rest}
    assert len(hidden) == 7  # q, k, v, o, gate, up, down
