"""Batched greedy decoding against one sequence at a time without cache or padding."""

import numpy as np
import pytest
import torch

from icot.data.staged import StagedExamples
from icot.data.tokenized import TokenizedSplit, tokenize_split
from icot.inference.greedy import END_SEPARATORS, Prompts, decode, without_end
from icot.models.loading import load_model
from icot.removal import CoTBatch
from icot.tasks.text_files import TextFiles

EOS = 0
LINES = [
    "1 2 3 4||5 6 7 #### 8",
    "1||2 3 4 5 6 7 8 9 #### 1 2",
    "9 8 7||1 2 #### 3 4 5",
    "5 5||1 2 3 4 5 #### 0",
]
GPT2 = {"n_layer": 2, "n_embd": 32, "n_head": 2}
ROTARY = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
}
ALL = np.arange(len(LINES))


@pytest.fixture
def store(tmp_path, symbols) -> TokenizedSplit:
    (tmp_path / "train.txt").write_text("\n".join(LINES) + "\n")
    (tmp_path / "valid.txt").write_text(LINES[0] + "\n")
    return tokenize_split(TextFiles(tmp_path, test_file=None), "train", symbols, tmp_path)


def sharp(name: str, symbols, config: dict, positions: int = 64):
    """Sharper random weights, so that the argmax is not always the same."""
    model = load_model(name, False, symbols, positions=positions, config=config).double().eval()
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(3)
    return model


def one_by_one(
    model, short: CoTBatch, row: int, limit: int, jump: int, side: str, given: int = 0
) -> list[int]:
    """Greedy decoding of one row by whole forward passes."""
    start = int(short.cot_start[row])
    ids = short.input_ids[row, :start].tolist()
    positions = list(range(start))
    new: list[int] = []
    while len(new) < limit and new.count(EOS) < END_SEPARATORS:
        if len(new) < given:
            token = int(short.input_ids[row, start + len(new)])
        else:
            inputs = torch.tensor([ids])
            logits = model(
                input_ids=inputs,
                position_ids=torch.tensor([positions]),
                attention_mask=torch.ones_like(inputs),
                use_cache=False,
            ).logits
            token = int(logits[0, -1].argmax())
        new.append(token)
        ids.append(token)
        jumped = side == "left" or EOS in new
        positions.append(start + len(new) - 1 + (jump if jumped else 0))
    return new[given:]


@pytest.mark.parametrize(("name", "config"), [("gpt2", GPT2), ("llama", ROTARY)])
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("stage", [0, 2, 99])
@pytest.mark.parametrize("some_given", [False, True])
def test_batched_equals_one_by_one(store, symbols, name, config, side, keep, stage, some_given):
    torch.manual_seed(stage)
    model = sharp(name, symbols, config)
    examples = StagedExamples(store, ALL, stage, EOS, side, keep)
    given = np.array([1, 2, 0, 3]) if some_given else np.zeros(4, dtype=np.int64)
    given = np.minimum(given, examples.target_lengths - 1)
    new = decode(model, examples, ALL, given).tokens
    short, whole = examples.batch(ALL), examples.at(0).batch(ALL)
    jumps = (whole.lengths - short.lengths) * int(keep)
    limit = examples.longest_target
    with torch.no_grad():
        for row in range(len(LINES)):
            jump, k = int(jumps[row]), int(given[row])
            assert new[row] == one_by_one(model, short, row, limit, jump, side, k)


def test_rows_that_have_ended_leave_the_batch_and_equal_prompts_are_read_once(store, symbols):
    """Thirty copies of each row, so that many end while others go on."""
    torch.manual_seed(1)
    model = sharp("gpt2", symbols, GPT2)
    examples = StagedExamples(store, ALL, 0, EOS)
    read = []
    hook = model.register_forward_pre_hook(
        lambda _, given, named: read.append(len(named["input_ids"])), with_kwargs=True
    )
    many = decode(model, examples, np.repeat(ALL, 30)).tokens
    hook.remove()
    assert read[:2] == [len(ALL), 30 * len(ALL)]
    assert read[-1] < 30 * len(ALL)
    alone = [decode(model, examples, np.array([i])).tokens[0] for i in ALL]
    assert len({len(row) for row in alone}) > 1, "the rows must end at different lengths"
    assert many == [row for row in alone for _ in range(30)]


def test_decoding_never_exceeds_the_learned_positions(store, symbols):
    """A long question beside a long target: the batch's longest output does not fit the first."""
    torch.manual_seed(0)
    examples = StagedExamples(store, ALL, 0, EOS)
    positions = int(examples.lengths.max())
    model = load_model("gpt2", False, symbols, positions=positions, config=GPT2).eval()
    new = decode(model, examples, ALL).tokens
    starts = examples.lengths - examples.target_lengths
    # The last token is written but never read, so one more than the positions can stand.
    assert all(start + len(row) <= positions + 1 for start, row in zip(starts, new, strict=True))
    assert max(len(row) for row in new) <= examples.longest_target


def test_kept_positions_in_decoding_are_those_of_training(store):
    for side in ("left", "right"):
        examples = StagedExamples(store, ALL, 2, EOS, side, keep_position_ids=True)
        short = examples.batch(ALL)
        given = torch.from_numpy(examples.target_lengths - 1)
        prompts = Prompts.of(short, EOS, given, side)
        assert prompts.jump.tolist() == [2, 2, 2, 2]
        assert prompts.separators.tolist() == [1, 1, 1, 1]
        for row in range(len(LINES)):
            start, end = int(short.cot_start[row]), int(short.cot_end[row])
            jump_at = start if side == "left" else end
            n = int(prompts.lengths[row])
            expected = [j + (2 if j >= jump_at else 0) for j in range(n)]
            assert prompts.position_ids[row, -n:].tolist() == expected


def test_without_end():
    assert without_end([5, 0, 7, 8, 0, 0, 0], EOS) == [5, 0, 7, 8]
    assert without_end([5, 0, 7], EOS) == [5, 0, 7]


def test_prompts_are_padded_on_the_left(store):
    short = StagedExamples(store, ALL, 1, EOS).batch(ALL)
    prompts = Prompts.of(short, EOS, torch.zeros(4, dtype=torch.long), "left")
    assert prompts.real.sum(1).tolist() == short.cot_start.tolist()
    assert (prompts.ids[:, -1] == EOS).all()
    assert prompts.ids[0].tolist() == short.input_ids[0, :5].tolist()
