"""Fillers against sequences that are put together by hand, row by row."""

from itertools import product

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from icot.data.batches import collate
from icot.data.fillers import FILLER, NO_FILLER, Filler, add_filler, filler_id, remove_and_fill
from icot.data.staged import StagedExamples
from icot.data.tokenized import tokenize_examples
from icot.data.views import StageView
from icot.inference.answering import answer
from icot.inference.greedy import decode, without_end
from icot.inference.predictor import GreedyPredictor
from icot.models.forward import parts_of, predict
from icot.models.loading import load_model
from icot.models.tokenizers import build_symbol_tokenizer
from icot.removal import IGNORED, CoTBatch
from icot.schedule import Stage
from icot.tasks.base import Example

EOS, F_ = 0, 99
GPT2 = {"n_layer": 2, "n_embd": 32, "n_head": 2}
ONE_FOR_ONE, THREE = Filler(F_, None), Filler(F_, 3)
EXAMPLES = [
    Example("1 2", "3 4 5", "6"),
    Example("1", "", "3 3"),
    Example("7 8 9", "1 2 3 4", "5"),
    Example("5 5", "1 2 3 4 5", "0"),
]


@pytest.fixture
def with_filler():
    return add_filler(build_symbol_tokenizer([*"0123456789", "####"]))


def whole() -> CoTBatch:
    """x1 x2 <eos> z1 z2 z3 z4 <eos> y <eos>, and a row with a chain of one token."""
    ids = torch.tensor([[11, 12, 0, 21, 22, 23, 24, 0, 31, 0], [11, 0, 21, 0, 31, 0, 0, 0, 0, 0]])
    start, end, lengths = torch.tensor([3, 2]), torch.tensor([7, 3]), torch.tensor([10, 6])
    column = torch.arange(10)
    inside = (column >= start[:, None]) & (column < lengths[:, None])
    return CoTBatch(ids, ids.where(inside, IGNORED), start, end, lengths)


@pytest.mark.parametrize(
    ("filler", "side", "rows"),
    [
        (
            ONE_FOR_ONE,
            "left",
            [[11, 12, 0, 99, 99, 23, 24, 0, 31, 0], [11, 0, 99, 0, 31, 0]],
        ),
        (
            ONE_FOR_ONE,
            "right",
            [[11, 12, 0, 99, 99, 21, 22, 0, 31, 0], [11, 0, 99, 0, 31, 0]],
        ),
        (
            THREE,
            "left",
            [[11, 12, 0, 99, 99, 99, 23, 24, 0, 31, 0], [11, 0, 99, 99, 99, 0, 31, 0]],
        ),
        (NO_FILLER, "left", [[11, 12, 0, 23, 24, 0, 31, 0], [11, 0, 0, 31, 0]]),
    ],
)
def test_sequences_by_hand(filler, side, rows):
    short = remove_and_fill(whole(), torch.tensor([2, 2]), side, False, filler)
    assert short.lengths.tolist() == [len(row) for row in rows]
    for i, row in enumerate(rows):
        assert short.input_ids[i, : len(row)].tolist() == row
        start = int(short.cot_start[i])
        assert row[start - 1] in (99, 0)
        assert 99 not in row[start:]
        expected = [IGNORED] * start + row[start:]
        assert short.labels[i].tolist() == expected + [IGNORED] * (short.labels.shape[1] - len(row))
    assert short.position_ids is None
    assert (short.cot_end - short.cot_start).tolist() == [2, 0]


@pytest.mark.parametrize(
    ("side", "keep", "positions"),
    [
        ("left", True, [0, 1, 2, 3, 4, 5, 8, 9, 10, 11, 12]),
        ("left", "from_separator", [0, 1, 4, 5, 6, 7, 8, 9, 10, 11, 12]),
        ("right", True, [0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12]),
    ],
)
def test_positions_by_hand(side, keep, positions):
    """What follows the removed tokens has the ids of a whole example with three fillers."""
    short = remove_and_fill(whole(), torch.tensor([2, 0]), side, keep, THREE)
    assert short.position_ids is not None
    assert short.position_ids[0, : short.lengths[0]].tolist() == positions
    assert short.position_ids[1, : short.lengths[1]].tolist() == list(range(9))


def test_the_first_filler_is_supervised_once_and_only_where_the_row_is():
    batch = whole()
    batch.labels[1] = IGNORED
    filler = Filler(F_, None, supervised=True)
    short = remove_and_fill(batch, torch.tensor([2, 1]), "left", False, filler)
    assert short.labels[0].tolist() == [*[IGNORED] * 3, 99, IGNORED, 23, 24, 0, 31, 0]
    assert (short.labels[1] == IGNORED).all()
    nothing = remove_and_fill(whole(), torch.tensor([0, 0]), "left", False, filler)
    assert not (nothing.labels == F_).any()


@pytest.mark.parametrize("packing", [False, True])
@pytest.mark.parametrize(
    "filler", [Filler(11, None), Filler(11, 2), Filler(11, None, True), Filler(11, 2, True)]
)
@pytest.mark.parametrize("removed", [0, 2, 9])
def test_the_host_plans_what_the_device_makes(with_filler, packing, filler, removed):
    store = tokenize_examples(EXAMPLES, with_filler)
    batch = collate(store, np.arange(4), EOS)
    view = StageView(EOS, packing=packing, filler=filler)
    planned = view.plan(batch, Stage(tokens_removed=removed), torch.arange(4))
    short = view.apply(planned)
    assert planned.plan is not None
    assert short.places is not None
    supervised = (short.labels != IGNORED).nonzero().tolist()
    assert sorted(short.places.tolist()) == supervised
    if not packing:
        assert planned.plan.tokens == int(short.lengths.sum())
        assert short.input_ids.shape[1] == int(short.lengths.max())
        staged = StagedExamples(store, np.arange(4), removed, EOS, filler=filler)
        held_out = staged.batch(np.arange(4))
        assert torch.equal(held_out.input_ids, short.input_ids)
        assert staged.lengths.tolist() == short.lengths.tolist()
        targets = short.lengths - short.cot_start
        assert staged.target_lengths.tolist() == targets.tolist()
        assert [len(t) for t in staged.prompts_and_targets[1]] == targets.tolist()


@pytest.mark.parametrize("most", [9, 11, 12])
def test_the_limit_of_tokens_counts_fillers(with_filler, most):
    batch = collate(tokenize_examples(EXAMPLES, with_filler), np.arange(4), EOS)
    view = StageView(EOS, max_train_tokens=most, filler=Filler(11, 2))
    planned = view.plan(batch, Stage(tokens_removed=2), torch.arange(4))
    lengths = [10, 9, 12, 12]  # of 10, 7, 12 and 12 tokens: two go where there are two, two come
    assert view.apply(planned).lengths.tolist() == [n for n in lengths if n <= most]
    assert planned.plan is not None
    assert planned.plan.dropped == sum(n > most for n in lengths)


def sharp(tokenizer, positions: int = 40):
    """Random weights that are sharper, so that the argmax is not always the same."""
    model = load_model("gpt2", False, tokenizer, positions, GPT2).double().eval()
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(3)
    return model


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize(("count", "supervised"), [(None, False), (None, True), (3, False)])
def test_losses_are_those_of_sequences_built_by_hand_packed_and_not(
    with_filler, side, count, supervised
):
    torch.manual_seed(1)
    model = sharp(with_filler)
    filler = Filler(filler_id(with_filler), count, supervised)
    store = tokenize_examples(EXAMPLES, with_filler)
    removed, expected = 2, 0.0
    for example in EXAMPLES:
        chain = example.cot.split()
        lost = min(removed, len(chain))
        rest = chain[lost:] if side == "left" else chain[: len(chain) - lost]
        fillers = lost if count is None else count
        prompt = f"{example.question} <eos>"
        text = " ".join([*rest, "<eos>", "####", example.answer, "<eos>"])
        before = with_filler(prompt)["input_ids"] + [filler.token_id] * fillers
        ids = torch.tensor([before + with_filler(text)["input_ids"]])
        logits = model(input_ids=ids).logits[0]
        at = torch.arange(len(before), ids.shape[1])
        if supervised and fillers:
            at = torch.cat([torch.tensor([len(before) - fillers]), at])
        expected += F.cross_entropy(logits[at - 1], ids[0, at], reduction="sum")
    parts = parts_of(model)
    for packing, of_parts in product((False, True), (parts, None)):
        view = StageView(EOS, side=side, packing=packing, filler=filler)
        whole_batch = collate(store, np.arange(4), EOS)
        batch = view.apply(view.plan(whole_batch, Stage(tokens_removed=2), torch.arange(4)))
        torch.testing.assert_close(predict(model, batch, of_parts).loss, expected)


@pytest.mark.parametrize("count", [None, 3])
@pytest.mark.parametrize(("side", "keep"), [("left", False), ("right", False), ("left", True)])
@pytest.mark.parametrize("removed", [0, 2, 9])
def test_decoding_is_that_of_one_prompt_after_the_other(with_filler, count, side, keep, removed):
    """The library's ``generate``, one prompt at a time and without any padding."""
    if count is None and keep:
        return  # no id jumps
    torch.manual_seed(removed)
    model = sharp(with_filler)
    store = tokenize_examples(EXAMPLES, with_filler)
    filler = Filler(filler_id(with_filler), count)
    examples = StagedExamples(store, np.arange(4), removed, EOS, side, keep, filler=filler)
    written = decode(model, examples, np.arange(4)).tokens
    assert len({tuple(row) for row in written}) > 1
    lost = [min(removed, len(e.cot.split())) for e in EXAMPLES]
    for i, example in enumerate(EXAMPLES):
        prompt = with_filler(f"{example.question} <eos>")["input_ids"]
        prompt += [filler.token_id] * (lost[i] if count is None else count)
        assert examples.prompts_and_targets[0][i] == prompt
        ids, position = torch.tensor([prompt]), list(range(len(prompt)))
        jump, new = lost[i] * keep, []
        if jump:  # generate cannot let ids jump behind the prompt
            while len(new) < examples.longest_target and new.count(EOS) < 2:
                logits = model(
                    input_ids=ids,
                    position_ids=torch.tensor([position]),
                    attention_mask=torch.ones_like(ids),
                    use_cache=False,
                ).logits
                new.append(int(logits[0, -1].argmax()))
                ids = torch.tensor([prompt + new])
                position.append(len(prompt) + jump + len(new) - 1)
        else:
            new = model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=examples.longest_target,
                do_sample=False,
                eos_token_id=None,
            )[0, len(prompt) :].tolist()
            ends = [n for n, token in enumerate(new) if token == EOS]
            new = new[: ends[1] + 1] if len(ends) > 1 else new
        assert written[i] == new
    outputs = [GreedyPredictor(model, decode=how).predict(examples) for how in ("verify", "always")]
    assert [o.tokens for o in outputs] == [written, written]


@pytest.mark.parametrize("keep", [False, "from_separator"])
def test_bare_questions_are_answered_as_in_the_evaluation(with_filler, keep):
    torch.manual_seed(3)
    model = sharp(with_filler)
    same = [Example("1 2", "3 4 5", "6"), Example("4 4 1", "5 1 0", "7")]
    store = tokenize_examples(same, with_filler)
    filler = Filler(filler_id(with_filler), 4)
    examples = StagedExamples(store, np.arange(2), 3, EOS, "left", keep, filler=filler)
    written = decode(model, examples, np.arange(2)).tokens
    texts = answer(
        model,
        with_filler,
        [e.question for e in same],
        max_new_tokens=examples.longest_target,
        tokens_removed=3,
        keep_position_ids=keep,
        fillers=4,
    )
    ids = [without_end(row, EOS) for row in written]
    shown = [" ".join(with_filler.decode(r, skip_special_tokens=True).split()) for r in ids]
    assert texts == shown


def test_the_jump_that_an_export_cuts_out_is_that_of_the_batch(with_filler):
    same = [Example("1 2", "3 4 5", "6"), Example("4 4", "5 1 0", "7")]
    store = tokenize_examples(same, with_filler)
    for side, keep in (("left", True), ("left", "from_separator"), ("right", True)):
        examples = StagedExamples(store, np.arange(2), 2, EOS, side, keep, filler=THREE)
        (positions, other) = examples.batch(np.arange(2)).position_ids
        assert torch.equal(positions, other)
        steps = positions.diff()
        at, jump = examples.position_jump
        assert jump == 2
        assert steps.tolist() == [3 if i + 1 == at else 1 for i in range(len(steps))]
        assert examples.positions == int(positions.max()) + 1


def test_the_filler_is_one_further_special_token(tmp_path, with_filler):
    before = build_symbol_tokenizer([*"0123456789", "####"])
    assert filler_id(with_filler) == len(before) == len(with_filler) - 1
    assert add_filler(with_filler)(f"1 <eos>{FILLER}{FILLER}<eos>")["input_ids"] == [
        *before("1 <eos>")["input_ids"],
        *[filler_id(with_filler)] * 2,
        EOS,
    ]
    assert len(with_filler) == len(before) + 1
    load_model("gpt2", False, before, 16, GPT2).save_pretrained(tmp_path)
    old = load_model(str(tmp_path), True, before, 16)
    grown = load_model(str(tmp_path), True, with_filler, 16, may_grow=True)
    assert grown.config.vocab_size == len(with_filler)
    table = grown.get_input_embeddings().weight
    assert torch.equal(table[:-1], old.get_input_embeddings().weight)
    assert table[-1].abs().sum() > 0
    assert grown.get_output_embeddings().weight is table
