"""Verify-then-decode writes what decoding always writes, and rounding stays within its bound."""

import copy
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from transformers.cache_utils import Cache

from icot.data.staged import StagedExamples
from icot.data.tokenized import TokenizedSplit, tokenize_split
from icot.evaluation.scoring import evaluate
from icot.inference import verification
from icot.inference.greedy import GrowingLayer
from icot.inference.predictor import GreedyPredictor
from icot.inference.verification import ROUNDING, Verified, verify
from icot.models.forward import supervised_logits
from icot.models.loading import load_model
from icot.models.tokenizers import build_symbol_tokenizer
from icot.tasks.multiplication import Multiplication

EOS = 0
GPT2 = {"n_layer": 2, "n_embd": 64, "n_head": 4, "resid_pdrop": 0, "attn_pdrop": 0, "embd_pdrop": 0}
LLAMA = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
STEPS = {"random": 0, "half trained": 35, "fully internalized": 150}
STAGES = (0, 3, 7, 8)


@pytest.fixture(scope="module")
def task() -> Multiplication:
    return Multiplication(2, train_size=96, valid_size=20, test_size=5, seed=1)


@pytest.fixture(scope="module")
def tokenizer(task):
    return build_symbol_tokenizer(task.symbols())


@pytest.fixture(scope="module")
def store(task, tokenizer, tmp_path_factory) -> TokenizedSplit:
    return tokenize_split(task, "train", tokenizer, tmp_path_factory.mktemp("cache"))


def examples_at(store: TokenizedSplit, stage: int, keep: bool, side: str = "left"):
    return StagedExamples(store, np.arange(len(store)), stage, EOS, side, keep)


@pytest.fixture(scope="module")
def trained(store, tokenizer):
    """A model that has learned these examples by heart at full removal, more or less."""
    made = {}

    def one(name: str, config: dict, state: str, keep: bool = False):
        if (name, state, keep) not in made:
            made[name, state, keep] = learned(name, config, STEPS[state], store, tokenizer, keep)
        return copy.deepcopy(made[name, state, keep])

    return one


def learned(name: str, config: dict, steps: int, store, tokenizer, keep: bool):
    torch.manual_seed(0)
    model = load_model(name, False, tokenizer, positions=store.longest, config=config)
    batch = examples_at(store, 99, keep).batch(np.arange(len(store)))
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    for _ in range(steps):
        logits, targets, _ = supervised_logits(model, batch)
        F.cross_entropy(logits, targets).backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.eval()


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("screened", [False, True])
@pytest.mark.parametrize(("name", "config"), [("gpt2", GPT2), ("llama", LLAMA)])
@pytest.mark.parametrize("state", STEPS)
def test_verifying_and_decoding_agree_on_every_row_of_every_stage(
    task, tokenizer, store, trained, monkeypatch, precision, screened, name, config, state
):
    monkeypatch.setattr(verification, "computes_bf16", lambda _: screened)
    keep = screened
    model = trained(name, config, state, keep)
    bf16 = torch.autocast("cpu", torch.bfloat16) if precision == "bfloat16" else nullcontext()
    right = []
    for stage in STAGES:
        examples = examples_at(store, stage, keep)
        with bf16:
            quick = evaluate(GreedyPredictor(model, 17), examples, task, tokenizer)
            plain = evaluate(GreedyPredictor(model, 40, "always"), examples, task, tokenizer)
        assert plain.decoded == len(examples)
        assert quick.tokens == plain.tokens
        differ = [
            q.index
            for q, p in zip(quick.predictions, plain.predictions, strict=True)
            if (q.prediction, q.tokens, q.correct) != (p.prediction, p.tokens, p.correct)
        ]
        # In bf16, rounding decides ties: that of a target's token, and those of what a row writes
        # after its first wrong token, when both are wrong.
        if precision == "float32":
            assert not differ
        assert abs(quick.correct - plain.correct) <= quick.near_ties
        assert sum(quick.predictions[i].correct for i in differ) <= quick.near_ties
        assert quick.perplexity == pytest.approx(plain.perplexity, rel=2e-2)
        right.append(quick.accuracy)
    expected = {"random": (0, 0.1), "half trained": (0, 0.95), "fully internalized": (0.99, 1)}
    low, high = expected[state]
    assert low <= right[-1] <= high


def test_a_row_that_is_sure_is_not_decoded(task, tokenizer, store, trained):
    model = trained("gpt2", GPT2, "fully internalized")
    found = evaluate(GreedyPredictor(model), examples_at(store, 99, False), task, tokenizer)
    assert found.accuracy == 1
    assert found.decoded == found.near_ties
    always = GreedyPredictor(model, decode="always")
    plain = evaluate(always, examples_at(store, 99, False), task, tokenizer)
    assert found.perplexity == pytest.approx(plain.perplexity, rel=1e-3)
    assert found.token_accuracy == plain.token_accuracy == 1


def relative_leads(logits, targets):
    others = logits.clone().scatter_(1, targets[:, None], -torch.inf).amax(-1)
    lead = logits.gather(1, targets[:, None])[:, 0].double() - others.double()
    return lead / logits.abs().amax(-1).double()


def leads_in_one_pass(model, examples):
    logits, targets, _ = supervised_logits(model, examples.batch(np.arange(len(examples))))
    return relative_leads(logits, targets)


def leads_step_by_step(model, examples, size: int):
    """The same, each token of the target fed alone through the cache."""
    found = []
    for start in range(0, len(examples), size):
        batch = examples.batch(np.arange(start, min(start + size, len(examples))))
        begin, end = int(batch.cot_start[0]), int(batch.lengths[0])
        cache = Cache(layer_class_to_replicate=GrowingLayer)
        steps, before = [], 0
        for at in range(begin, end):
            logits = model(
                input_ids=batch.input_ids[:, before:at],
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            ).logits[:, -1]
            steps.append(relative_leads(logits, batch.input_ids[:, at]))
            before = at
        found.append(torch.stack(steps, 1).flatten())
    return torch.cat(found)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("state", STEPS)
def test_rounding_stays_within_its_bound(store, trained, dtype, state):
    """One pass against decoding with a cache, in batches of different shape."""
    model = trained("gpt2", GPT2, state)
    if dtype == torch.float64:
        model = model.double()
    bf16 = torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16)
    with torch.no_grad(), bf16:
        for stage in (0, 8):
            examples = examples_at(store, stage, False)
            whole = leads_in_one_pass(model, examples)
            for size in (1, 96):
                apart = (leads_step_by_step(model, examples, size) - whole).abs().max()
                assert float(apart) < ROUNDING[dtype]


@pytest.mark.parametrize("state", STEPS)
def test_screening_accepts_only_what_float32_accepts(store, trained, monkeypatch, state):
    model = trained("gpt2", GPT2, state)
    for stage in STAGES:
        monkeypatch.setattr(verification, "computes_bf16", lambda _: False)
        whole = verify(model, examples_at(store, stage, False))
        # The surest rows first, so that what the first pass sees is not what the others are like.
        order = np.argsort(-whole.least)
        examples = examples_at(store, stage, False).part(order)
        whole = verify(model, examples)
        monkeypatch.setattr(verification, "computes_bf16", lambda _: True)
        monkeypatch.setattr(verification, "CPU_TOKENS", 8 * int(examples.lengths.max()))
        screened = verify(model, examples)
        lengths = examples.target_lengths
        assert (whole.least[screened.leading >= lengths] > 0).all()
        # Nothing that float32 is sure of is lost either: what is left open was passed in float32.
        assert ((screened.leading >= lengths) >= (whole.leading >= lengths)).all()


def test_leads_are_those_of_the_argmax():
    torch.manual_seed(0)
    logits = torch.randn(200, 7).bfloat16().round(decimals=0)  # many exact ties
    targets = torch.randint(0, 7, (200,))
    expected = logits.argmax(-1) == targets
    lead, first = verification._leads(logits.clone(), targets)
    assert torch.equal(first, expected)
    assert ((lead > 0) <= first).all()
    assert ((lead < 0) <= ~first).all()


def test_parts_are_put_together():
    whole, part = Verified.empty(4), Verified.empty(2)
    part.leading[:] = [3, 5]
    whole.put(np.array([2, 0]), part)
    assert whole.leading.tolist() == [5, 0, 3, 0]
