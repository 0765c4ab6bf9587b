"""Log-probabilities of texts are those with which a teacher has written them."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from icot.data.batches import collate
from icot.data.leading_tokens import decide_bos
from icot.data.tokenized import separator_id, tokenize_examples
from icot.inference.completions import Completion, Decoding, Request
from icot.inference.rating import rate
from icot.inference.teachers import ModelTeacher, RunTeacher
from icot.models.loading import load_model
from icot.models.tokenizers import load_tokenizer
from tests.tokenizers_with_bos import opt_type

CONFIG = {"n_layer": 2, "n_embd": 32, "n_head": 2}


def write(teacher, prompts):
    """400 completions, the tokens of each, and its prompt."""
    rows: list[list[int]] = []
    read = teacher.texts
    teacher.texts = lambda written: rows.extend(written) or read(written)
    requests = [Request(p, k, seed=i) for i, p in enumerate(prompts) for k in range(200)]
    written = [one for _, one in teacher.sample(requests)]
    return written, rows, [request.prompt for request in requests]


def bare(written):
    return [replace(one, logprob=None, logprob_tokens=None) for one in written]


@pytest.mark.parametrize(
    "stage",
    [
        {"tokens_removed": 0, "side": "left", "keep_position_ids": False},
        {"tokens_removed": 4, "side": "left", "keep_position_ids": True},
        {"tokens_removed": 4, "side": "left", "keep_position_ids": "from_separator"},
        {"tokens_removed": 4, "side": "right", "keep_position_ids": True},
        {"tokens_removed": 4, "side": "left", "keep_position_ids": True, "before_answer": 1},
    ],
)
def test_a_runs_texts(symbols, stage):
    torch.manual_seed(0)
    model = load_model("gpt2", False, symbols, positions=40, config=CONFIG)
    teacher = RunTeacher(model, symbols, Decoding(6, 1.0), 64, **stage)
    written, rows, prompts = write(teacher, ["2 1 * 3 1", "7 * 1"])
    eos, equal, whole = separator_id(symbols), 0, 0
    for one, row, rated in zip(written, rows, rate(teacher, prompts, bare(written)), strict=True):
        end = [] if one.truncated else [eos]
        if [*teacher.tokens_of(one), *end] != row:
            continue  # a random model writes what no example looks like
        equal, whole = equal + 1, whole + (not one.truncated)
        assert rated.logprob == pytest.approx(one.logprob, abs=1e-4)
        assert replace(rated, logprob=one.logprob) == one
    assert equal > 20
    assert whole > 0


def test_a_runs_texts_are_those_of_examples(symbols, mult2):
    """Chain, mark and answer of an example: the loss of its labels."""
    torch.manual_seed(0)
    model = load_model("gpt2", False, symbols, positions=40, config=CONFIG).eval()
    stage = {"tokens_removed": 0, "side": "left", "keep_position_ids": False}
    teacher = RunTeacher(model, symbols, Decoding(6, 1.0), 64, **stage)
    examples = next(mult2.chunks("valid"))[:5]
    texts = [Completion(f"{e.cot} #### {e.answer}", "stop", 0, 0) for e in examples]
    rated = rate(teacher, [e.question for e in examples], texts)
    store = tokenize_examples(examples, symbols)
    for row, one in enumerate(rated):
        batch = collate(store, np.array([row]), 0)
        with torch.no_grad():
            loss = model(batch.input_ids, labels=batch.labels).loss
        assert one.logprob_tokens == int((batch.labels != -100).sum())
        assert one.logprob == pytest.approx(-float(loss) * one.logprob_tokens, rel=1e-5)


@pytest.mark.parametrize("stop", ["#", "##"])
def test_a_models_texts_end_in_the_most_probable_way(stop, tmp_path):
    tokenizer = decide_bos(load_tokenizer(str(opt_type(tmp_path)), None), None)
    torch.manual_seed(0)
    model = load_model("gpt2", False, tokenizer, positions=40, config=CONFIG)
    teacher = ModelTeacher(model, tokenizer, Decoding(12, 1.0, stop=(stop,)), 64)
    written, rows, prompts = write(teacher, ["1 + 1 ", "1 + 1 2 (3"])
    eos, equal, ends = separator_id(tokenizer), 0, set()
    for one, row, rated in zip(written, rows, rate(teacher, prompts, bare(written)), strict=True):
        way = [] if one.truncated else [eos] if row[-1] == eos else teacher.ending
        if [*teacher.tokens_of(one), *way] != row:
            continue
        if one.truncated:
            assert rated.logprob == pytest.approx(one.logprob, abs=1e-4)
        assert rated.logprob >= one.logprob - 1e-4
        if rated.logprob == pytest.approx(one.logprob, abs=1e-4):
            assert rated.logprob_tokens == one.logprob_tokens
            equal += 1
            ends.add(tuple(way))
    assert equal > 100
    assert ends >= ({(), (eos,), tuple(teacher.ending)} if stop == "#" else {(), (eos,)})


def test_a_text_that_does_not_fit_has_none(symbols):
    model = load_model("gpt2", False, symbols, positions=8, config=CONFIG)
    teacher = ModelTeacher(model, symbols, Decoding(6, 1.0), 64)
    texts = [Completion(" ".join("1" * n), "stop", 0, 0) for n in (3, 4, 2)]
    rated = list(rate(teacher, ["2 1 * 3 1"] * 3, texts))
    assert [one.logprob_tokens for one in rated] == [4, None, 3]
    assert rated[1] == texts[1]
    assert next(rate(teacher, ["2 1 * 3 1"], texts[1:2])) == texts[1]
