"""Packed rows hold every token once, and give the update of the padded batch."""

import csv

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from icot.data.packing import layout, locate_supervised_tokens, pack
from icot.models.forward import parts_of, predict
from icot.removal import IGNORED, CoTBatch, remove_cot
from tests.conftest import icot

VOCABULARY = 23


def ragged(rows: int, seed: int) -> CoTBatch:
    """Random examples of 6 to 40 tokens, some of their chain removed."""
    draw = torch.Generator().manual_seed(seed)

    def number(low: int, high: int) -> Tensor:
        return torch.randint(low, high, (rows,), generator=draw)

    start, chain, answer = number(2, 12), number(0, 20), number(2, 9)
    end = start + chain
    lengths = end + answer
    column = torch.arange(int(lengths.max()))[None]
    inside = column < lengths[:, None]
    tokens = torch.randint(1, VOCABULARY, inside.shape, generator=draw)
    input_ids = tokens.where(inside, 0)
    labels = input_ids.where(inside & (column >= start[:, None]), IGNORED)
    whole = CoTBatch(input_ids, labels, start, end, lengths, examples=torch.arange(rows))
    return remove_cot(whole, number(0, 12))


@given(st.lists(st.integers(1, 50), min_size=1, max_size=40))
def test_every_token_has_one_place(lengths):
    sizes = torch.tensor(lengths)
    plan = layout(sizes, columns=60)
    rows, columns = plan.shape
    assert columns == max(lengths)
    assert rows <= len(lengths)
    assert len(plan.target) == sum(lengths) == len(set(plan.target.tolist()))
    assert int(plan.target.max()) < rows * columns
    for i, length in enumerate(lengths):  # one after the other, in one row
        own = plan.target[plan.example == i]
        assert own.tolist() == list(range(int(own[0]), int(own[0]) + length))
        assert int(own[0]) // columns == int(own[-1]) // columns
        assert plan.source[plan.example == i].tolist() == [i * 60 + j for j in range(length)]


def test_rows_are_filled():
    plan = layout(torch.tensor([10, 4, 6, 3, 7, 5, 5]), columns=10)
    assert plan.shape == (4, 10)


MODELS = {
    "gpt2": lambda attention: GPT2LMHeadModel._from_config(
        GPT2Config(
            vocab_size=VOCABULARY, n_layer=2, n_embd=32, n_head=4, n_positions=64,
            resid_pdrop=0, embd_pdrop=0, attn_pdrop=0, bos_token_id=0, eos_token_id=0,
        ),
        attn_implementation=attention,
    ),
    "llama": lambda attention: LlamaForCausalLM._from_config(
        LlamaConfig(
            vocab_size=VOCABULARY, num_hidden_layers=2, hidden_size=32, num_attention_heads=4,
            intermediate_size=64, max_position_embeddings=64,
        ),
        attn_implementation=attention,
    ),
}  # fmt: skip


@pytest.mark.parametrize("packing", [False, True])
def test_the_host_finds_the_supervised_tokens(packing):
    for seed in range(20):
        batch = ragged(9, seed)
        batch.labels[3] = IGNORED  # one that is left out
        columns = batch.input_ids.shape[1]
        removed = torch.randint(0, 9, (9,), generator=torch.Generator().manual_seed(seed))
        removed = torch.minimum(removed, batch.cot_end - batch.cot_start)
        short = remove_cot(batch, removed)
        plan = layout(short.lengths, columns) if packing else None
        places = locate_supervised_tokens(batch, short.lengths, plan)
        if plan is not None:
            short = pack(short, plan, 0)
        expected = (short.labels != IGNORED).nonzero()
        assert sorted(map(tuple, places.tolist())) == sorted(map(tuple, expected.tolist()))
        example, position = short.of_examples(places)
        assert (position >= short.cot_start[example]).all()


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("in_parts", [True, False])
@pytest.mark.parametrize("name", MODELS)
def test_the_update_is_that_of_the_padded_batch(name, attention, in_parts):
    torch.manual_seed(0)
    model = MODELS[name](attention).double()
    parts = parts_of(model) if in_parts else None
    assert (parts is not None) is in_parts
    for seed in range(5):
        batch = ragged(12, seed)
        short = pack(batch, layout(batch.lengths, batch.input_ids.shape[1]), 0)
        assert short.input_ids.shape[0] < 12
        found = []
        for one in (batch, short):
            model.zero_grad()
            prediction = predict(model, one, parts)
            prediction.loss.backward()
            gradients = [p.grad.clone() for p in model.parameters()]
            example, position = one.of_examples(prediction.places)
            order = torch.argsort(example * 100 + position)
            tokens = [t[order] for t in (example, position, prediction.predicted)]
            found.append((prediction.loss.item(), gradients, tokens))
        (loss, gradients, tokens), (packed_loss, packed_gradients, packed_tokens) = found
        assert packed_loss == pytest.approx(loss, rel=1e-8)
        for a, b in zip(gradients, packed_gradients, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-7)  # softmax may be float32
        for a, b in zip(tokens, packed_tokens, strict=True):
            assert torch.equal(a, b)


def test_a_run_with_packing_is_the_run_without(tmp_path):
    lines = [
        f"Tom has {a} boxes{' of pens' * (a % 7)}, {b} each?||<<{a}*{b}={a * b}>> #### {a * b}\n"
        for a in range(2, 12)
        for b in range(2, 12)
    ]
    for split in ("train", "valid", "test"):
        (tmp_path / f"{split}.txt").write_text("".join(lines))
    rows = []
    for packing in ("true", "false"):
        done = icot(
            "train", "task=gsm8k", "task.data_dir=.", "schedule=icot_si", "optimizer=adamw",
            "schedule.tokens_per_epoch=4", "model.config.n_layer=1", "model.config.n_embd=32",
            "trainer=cpu", "trainer.max_epochs=2", "trainer.max_steps=-1", "data.batch_size=16",
            "optimizer.decay_steps=0", "trainer.log_every_n_steps=1", "data.max_train_tokens=20",
            f"data.packing={packing}", f"hydra.run.dir=run_{packing}", cwd=tmp_path,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        with (tmp_path / f"run_{packing}" / "metrics.csv").open() as file:
            rows.append([row for row in csv.DictReader(file) if row["train/loss"]])
    assert len(rows[0]) == len(rows[1]) == 9  # in five batches of 14 all are too long
    for one, other in zip(*rows, strict=True):
        for key in ("step", "cot/tokens_removed", "train/exact_match", "train/token_accuracy"):
            assert float(one[key]) == pytest.approx(float(other[key]), abs=1e-6)
        assert float(one["train/loss"]) == pytest.approx(float(other["train/loss"]), rel=1e-5)
