"""Drawing tokens: the distribution, the nucleus, and independence of the batch."""

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from icot.inference.completions import Decoding, Request
from icot.inference.greedy import most_probable
from icot.inference.sampling import draw, next_tokens
from icot.inference.teachers import ModelTeacher, RunTeacher
from icot.models.loading import load_model
from icot.models.tokenizers import load_tokenizer

CPU = torch.device("cpu")


@pytest.fixture
def model(symbols):
    torch.manual_seed(0)
    config = {"n_layer": 2, "n_embd": 32, "n_head": 2}
    return load_model("gpt2", False, symbols, positions=40, config=config)


def run_teacher(model, symbols, temperature=1.0, batch_size=64, most=16):
    decoding = Decoding(max_tokens=most, temperature=temperature)
    return RunTeacher(
        model,
        symbols,
        decoding,
        batch_size,
        tokens_removed=0,
        side="left",
        keep_position_ids=False,
    )


def test_tokens_are_drawn_as_often_as_the_model_says():
    shares = torch.tensor([0.5, 0.2, 0.2, 0.1, 0.0])
    uniform = torch.from_numpy(np.random.default_rng(0).random(20_000))
    logits = shares.log().double().expand(20_000, 5)
    counts = torch.bincount(draw(logits, uniform), minlength=5)
    assert counts[4] == 0
    assert chisquare(counts[:4], 20_000 * shares[:4]).pvalue > 0.01


@pytest.mark.parametrize(
    ("top_p", "kept"), [(1.0, {0, 1, 2, 3}), (0.95, {0, 1, 2, 3}), (0.85, {0, 1, 3}), (0.49, {1})]
)
def test_the_nucleus_is_the_smallest_one(top_p, kept):
    logits = torch.tensor([0.2, 0.5, 0.1, 0.2]).double().log().expand(101, 4)
    uniform = torch.linspace(0, 1 - 1e-9, 101, dtype=torch.float64)
    assert set(draw(logits, uniform, top_p).tolist()) == kept


def test_each_row_has_numbers_of_its_own():
    logits = torch.zeros(3, 1000)
    choose = next_tokens(1.0, 1.0, [(1, 0), (1, 1), (2, 0)], 2, CPU)
    rows = torch.arange(3)
    first, second = choose(logits, rows, 1), choose(logits, rows, 2)
    assert len({*first.tolist(), *second.tolist()}) == 6
    assert choose(logits[:1], rows[1:2], 2).tolist() == second[1:2].tolist()
    assert next_tokens(0, 1.0, [(1, 0)], 2, CPU) is most_probable


@pytest.mark.parametrize("size", [1, 3, 7])
def test_no_batch_changes_a_sample(model, symbols, mult2, size):
    questions = [e.question for e in next(mult2.chunks("valid"))][:7]
    requests = [Request(q, k, seed=i) for i, q in enumerate(questions) for k in range(3)]
    whole = [c for _, c in run_teacher(model, symbols).sample(requests)]
    assert len({c.text for c in whole}) > 15
    parts = [c for _, c in run_teacher(model, symbols, batch_size=size).sample(requests)]
    assert [c.text for c in parts] == [c.text for c in whole]
    assert [i for i, _ in run_teacher(model, symbols, batch_size=size).sample(requests)] == list(
        range(21)
    )


def test_a_text_and_its_log_probability(model, symbols):
    teacher, rows = run_teacher(model.eval(), symbols, most=6), []
    read = teacher.texts
    teacher.texts = lambda written: rows.extend(written) or read(written)
    ((_, one),) = teacher.sample([Request("2 1 * 3 1", 0, 5)])
    assert one.prompt_tokens == 6
    assert one.completion_tokens == one.logprob_tokens == len(rows[0])
    prompt = symbols(f"2 1 * 3 1 {symbols.eos_token}", add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        logp = model(torch.tensor([prompt + rows[0]])).logits.log_softmax(-1)
    expected = logp[0, 5:-1].gather(-1, torch.tensor(rows[0])[:, None]).sum()
    assert one.logprob == pytest.approx(float(expected), abs=1e-4)


def byte_model(real_data):
    tokenizer = load_tokenizer(str(real_data / "gpt2-tokenizer"), None)
    torch.manual_seed(1)
    config = {"n_layer": 1, "n_embd": 32, "n_head": 2}
    return load_model("gpt2", False, tokenizer, positions=64, config=config), tokenizer


def test_a_model_stops_at_the_stopping_text_and_writes_what_generate_writes(real_data):
    model, tokenizer = byte_model(real_data)
    model.eval()
    prompts = ["Q: 1 + 1\nA: ", "Q: what is the capital of France?\nA: "]
    greedy = Decoding(max_tokens=12, temperature=0.0, stop=("\n\n",))
    written = [
        c
        for _, c in ModelTeacher(model, tokenizer, greedy, 2).sample([Request(p) for p in prompts])
    ]
    for prompt, one in zip(prompts, written, strict=True):
        ids = tokenizer(prompt, return_tensors="pt")
        out = model.generate(**ids, do_sample=False, max_new_tokens=12, use_cache=True)
        assert one.text == tokenizer.decode(out[0, ids["input_ids"].shape[1] :])
        assert one.finish_reason == "length"
    # Stopped by a text that it does write, in the middle.
    stop = tokenizer.decode(tokenizer(written[0].text)["input_ids"][4:6])
    stopping = Decoding(max_tokens=12, temperature=0.0, stop=(stop,))
    ((_, one),) = ModelTeacher(model, tokenizer, stopping, 2).sample([Request(prompts[0])])
    assert one.finish_reason == "stop"
    assert one.text == written[0].text.partition(stop)[0]
    assert one.completion_tokens <= 6
