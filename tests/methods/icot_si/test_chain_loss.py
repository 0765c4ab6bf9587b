"""The loss on chains that are not written: what it sums, what it changes, and where it ends."""

import json

import pytest
import torch
from torch.nn import functional as F

import icot
from icot.data.batches import collate
from icot.data.tokenized import tokenize_examples
from icot.methods.icot_si.chain_loss import ChainHead, ChainLossLM
from icot.methods.icot_si.view import SmoothedView
from icot.models.forward import parts_of, predict
from icot.models.loading import load_model
from icot.removal import IGNORED, CoTBatch, whole_chains
from icot.runs.checkpoints import read_checkpoint
from icot.schedule import Stage
from icot.training.optimizers import muon
from tests.chaos.harness import assert_resumes_exactly
from tests.conftest import icot as command
from tests.running import assert_refused
from tests.small import SMALL, TWO_RANKS

EOS = 0
GPT2 = {"n_layer": 3, "n_embd": 32, "n_head": 2}


def test_the_whole_chains_by_hand():
    ids = torch.tensor([[1, EOS, 2, 3, 4, EOS, 5], [1, 6, EOS, 7, EOS, 5, EOS], [1] * 7])
    labels = torch.where(torch.arange(7) >= torch.tensor([[2], [3], [9]]), ids, IGNORED)
    start, end = torch.tensor([2, 3, 2]), torch.tensor([5, 4, 4])
    batch = CoTBatch(ids, labels, start, end, torch.tensor([7, 6, 7]))
    nothing = [IGNORED] * 3  # the row of a device without a share
    chains = whole_chains(batch)
    assert chains.tokens.tolist() == [[2, 3, 4], [7, IGNORED, IGNORED], nothing]
    assert chains.longest_question == int(batch.cot_start.max())


def test_a_head_sees_the_question_and_nothing_behind_it():
    torch.manual_seed(0)
    head = ChainHead(16, 5, 2, 20).eval()
    hidden = torch.randn(2, 2, 6, 16)  # of two layers
    question = torch.arange(6) < torch.tensor([[3], [4]])
    states = head(hidden, question, 4)
    assert states.shape == (2, 4, 16)
    behind = hidden.masked_fill(question[..., None], 0) * 7
    other = head(hidden.masked_fill(~question[..., None], 0) + behind, question, 4)
    torch.testing.assert_close(states, other)
    for layer in (0, 1):
        moved = hidden.clone()
        moved[layer, 1, 3, 0] += 3.0
        assert not torch.allclose(states[1], head(moved, question, 4)[1])


def batch_and_model(mult2, symbols, removed: int):
    store = tokenize_examples(next(mult2.chunks("train"))[:12], symbols)
    torch.manual_seed(1)
    model = load_model("gpt2", False, symbols, store.longest, GPT2)
    view = SmoothedView(EOS, smoothing_lambda=1.0, seed=3, with_chains=True)
    whole = collate(store, torch.arange(12).numpy(), EOS)
    planned = view.plan(whole, Stage(tokens_removed=removed), torch.arange(12))
    return view.apply(planned), whole, model, store.longest_cot


@pytest.mark.parametrize("is_large", [False, True])
@pytest.mark.parametrize(("removed", "layers"), [(0, None), (3, [1, 3]), (8, None)])
def test_a_whole_chain_counts_as_much_as_what_is_supervised(
    mult2, symbols, removed, layers, is_large, monkeypatch
):
    if is_large:
        monkeypatch.setattr("icot.methods.icot_si.chain_loss.LARGE_VOCABULARY", 2)
        monkeypatch.setattr("icot.models.forward.LARGE_VOCABULARY", 2)
    batch, whole, model, longest = batch_and_model(mult2, symbols, removed)
    module = ChainLossLM(
        model, torch.optim.AdamW, weight=0.25, layers=layers, longest_cot=longest
    ).eval()
    module.log = lambda *_, **__: None  # type: ignore[method-assign]
    found = predict(model, batch, parts_of(model), module.hidden_layers)
    assert module.hidden_layers == tuple(layers or [2])  # of three
    all_states = model(
        input_ids=batch.input_ids, output_hidden_states=True, use_cache=False
    ).hidden_states
    hidden = [all_states[layer] for layer in module.hidden_layers]
    for one, other in zip(found.hidden, hidden, strict=True):
        torch.testing.assert_close(one, other)
    output = module.chain_head.output
    if is_large:
        assert output is None
        output = model.lm_head
    expected = 0.0
    for i in range(12):
        chain = whole.input_ids[i, whole.cot_start[i] : whole.cot_end[i]]
        question = [of_layer[i : i + 1, : whole.cot_start[i]] for of_layer in hidden]
        all_ = torch.ones(question[0].shape[:2], dtype=torch.bool)
        logits = output(module.chain_head(question, all_, len(chain)))[0]
        supervised = int((batch.labels[i] != IGNORED).sum())
        expected += 0.25 * supervised * F.cross_entropy(logits, chain)
    loss = module.further_loss(batch, found)
    torch.testing.assert_close(loss, expected)
    weights = list(module.parameters())
    gradients = [torch.autograd.grad(x, weights, allow_unused=True) for x in (loss, expected)]
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)
    module.log_dict = lambda *_, **__: None  # type: ignore[method-assign]
    module._parts = parts_of(model)
    torch.testing.assert_close(module.step(batch).loss, found.loss + expected)


def test_the_optimizer_has_the_head_and_leaves_embeddings_to_adamw(mult2, symbols):
    *_, model, longest = batch_and_model(mult2, symbols, 0)
    module = ChainLossLM(model, torch.optim.AdamW, weight=1.0, layers=[1], longest_cot=longest)
    optimizer = muon(module.trained, lr=1e-3, adamw_lr=1e-3)
    in_muon, in_adamw = ({id(p) for p in g["params"]} for g in optimizer.param_groups)
    assert in_muon | in_adamw == {id(p) for p in module.parameters()}
    assert not in_muon & in_adamw
    assert id(model.lm_head.weight) in in_adamw
    assert {id(p) for p in module.chain_head.parameters()} <= in_adamw


CHAIN_LOSS = (
    *SMALL,
    *("schedule=adaptive", "schedule.patience=12", "schedule.chain_loss=0.5", "optimizer=adamw"),
    *("paths.cache_dir=cache", "trainer.precision=32-true"),
)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("chain_loss")
    done = command("train", *CHAIN_LOSS, "trainer.max_steps=60", "hydra.run.dir=run", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


def test_a_run_is_resumed_exactly_with_its_head(place):
    assert_resumes_exactly(place, *CHAIN_LOSS)
    state = torch.load(place / "run/checkpoints/last.ckpt", weights_only=True)["state_dict"]
    assert any(name.startswith("chain_head.") for name in state)
    header, *rows = (place / "run" / "metrics.csv").read_text().splitlines()
    assert "train/chain_loss" in header
    assert rows


def test_the_trained_model_has_no_head(place, tmp_path):
    weights = read_checkpoint(place / "run" / "checkpoints" / "last.ckpt").weights
    assert not any("chain_head" in name for name in weights)
    run = icot.load(place / "run")
    rows = [json.loads(line) for line in (place / "run" / "predictions.jsonl").open()]
    assert run.answer([row["question"] for row in rows]) == [row["prediction"] for row in rows]
    done = command("export", f"run_dir={place / 'run'}", "out=x", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "40 of 40 prompts" in done.stdout


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_processes_equal_one(place, strategy):
    pair = [o for o in CHAIN_LOSS if o not in ("trainer=cpu", "data.batch_size=16")]
    ranks = (*pair, "data.batch_size=8", f"trainer={strategy}", *TWO_RANKS)
    more = ("trainer.max_steps=30", f"hydra.run.dir={strategy}")
    done = command("train", *ranks, *more, cwd=place)
    assert done.returncode == 0, done.stderr
    alone = (*CHAIN_LOSS, "trainer.max_steps=30", f"hydra.run.dir=one_{strategy}")
    done = command("train", *alone, cwd=place)
    assert done.returncode == 0, done.stderr
    one, two = (
        torch.load(place / name / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
        for name in (f"one_{strategy}", strategy)
    )
    assert set(one) == set(two)
    for name in one:
        torch.testing.assert_close(two[name], one[name], rtol=1e-3, atol=1e-4, msg=name)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["schedule.chain_loss_layers=[1,9]"], "has only 1 layers"),
        (["schedule.keep_position_ids=false", "data.packing=true"], "set data.packing=false"),
        (["schedule.chain_loss=-1"], "schedule.chain_loss"),
    ],
)
def test_what_cannot_be_is_told(overrides, said, tmp_path):
    done = command("train", *CHAIN_LOSS, "trainer.max_steps=2", *overrides, cwd=tmp_path)
    assert_refused(done, said)
