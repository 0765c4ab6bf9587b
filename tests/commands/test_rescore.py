"""``python -m icot.sample rescore=``: a corpus gets its teacher's log-probabilities back."""

import json
from dataclasses import replace
from itertools import chain

import pytest
import torch

from icot.commands import sample as command
from icot.commands.rescore import rescore
from icot.config.command_line import compose_config
from icot.errors import ConfigError, DataError
from icot.methods.scotd.corpus import (
    CorpusWriter,
    content_hash,
    read_corpus,
    read_settings,
)
from icot.methods.scotd.rationales import Rationales
from icot.models.loading import load_model
from icot.models.tokenizers import build_symbol_tokenizer
from icot.tasks.multiplication import Multiplication
from tests.conftest import icot
from tests.interruptions import interrupt
from tests.running import assert_refused


def composed(teacher, out, *overrides):
    return compose_config("sample", [*teacher, "batch_size=8", f"out={out}", *overrides])


@pytest.fixture(scope="module")
def run(small_run):
    return "teacher=run", f"teacher.run_dir={small_run}", "teacher.stage=0"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A GPT-2 from random weights."""
    folder = tmp_path_factory.mktemp("model")
    tokenizer = build_symbol_tokenizer(["Q:", "A:", *Multiplication(2).symbols()])
    torch.manual_seed(0)
    config = {"n_layer": 1, "n_embd": 32, "n_head": 2}
    load_model("gpt2", False, tokenizer, positions=200, config=config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return "teacher=model", f"teacher.name_or_path={folder}"


MULT2 = ("task=mult2", "shots=2", "shuffle_exemplars=true")


def sampled(teacher, folder, *overrides):
    """A corpus, and the same one without log-probabilities."""
    few = ("samples=4", "examples=10", "max_truncated=1")
    command.sample(composed(teacher, folder / "whole", *few, *overrides))
    settings = read_settings(folder / "whole")
    del settings["content_hash"]
    whole = read_corpus(folder / "whole")
    with CorpusWriter(folder / "bare", settings) as corpus:
        for one in whole:
            corpus.append(replace(one, logprob=None, logprob_tokens=None))
    return whole, folder / "bare"


@pytest.fixture(scope="module")
def corpus(run, tmp_path_factory):
    return sampled(run, tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def rescored(run, corpus, tmp_path_factory):
    """The corpus with new log-probabilities, without an interruption."""
    out = tmp_path_factory.mktemp("rescored") / "c"
    rescore(composed(run, out, f"rescore={corpus[1]}"))
    return out


def test_a_runs_texts_get_their_log_probabilities_back(corpus, rescored):
    whole, _ = corpus
    found = read_corpus(rescored)
    equal = 0
    for one, other in zip(whole, found, strict=True):
        assert replace(other, logprob=one.logprob, logprob_tokens=one.logprob_tokens) == one
        equal += other.logprob == pytest.approx(one.logprob, abs=1e-3)
        assert other.logprob is not None or other.is_cut
    assert equal > 0  # the run has hardly learned anything: most texts do not look like an example
    assert read_settings(rescored)["content_hash"] == content_hash(found)


def test_a_models_texts_get_their_log_probabilities_back(model, tmp_path):
    decoding = ("max_new_tokens=5", "batch_size=7")
    whole, bare = sampled(model, tmp_path, *MULT2, *decoding)
    for task in (MULT2[:1], ()):  # the corpus names it, too
        out = tmp_path / f"{len(task)}"
        rescore(composed(model, out, f"rescore={bare}", *task, *MULT2[1:], "batch_size=9"))
        found = read_corpus(out)
        equal = sum(
            other.logprob == pytest.approx(one.logprob, abs=1e-3)
            for one, other in zip(whole, found, strict=True)
        )
        assert equal > 0.5 * len(whole)  # the others had words that are no symbols


def test_interruptions_change_nothing(run, corpus, rescored, tmp_path, monkeypatch):
    out = tmp_path / "c"
    for left in (3, 8, 13, 40):
        interrupt(monkeypatch, left)
        try:
            rescore(composed(run, out, f"rescore={corpus[1]}"))
        except KeyboardInterrupt:
            path = out / "samples.jsonl"
            path.write_bytes(path.read_bytes()[:-5])
    assert (out / "samples.jsonl").read_bytes() == (rescored / "samples.jsonl").read_bytes()
    assert read_settings(out) == read_settings(rescored)


def test_likelihood_then_has_what_it_needs(corpus, rescored):
    filter = {"filter": "likelihood", "labels": "teacher", "keep": 1, "selection": "valid"}
    with pytest.raises(DataError, match="rescore=CORPUS"):
        list(Rationales(corpus[1], **filter).chunks("train"))
    kept = list(chain.from_iterable(Rationales(rescored, **filter).chunks("train")))
    assert len(kept) == len({e.question for e in kept}) > 0


def test_the_lines_of_another_program(model, tmp_path):
    line = {"index": 0, "sample": 0, "question": "2 1 * 3", "answer": "6 3", "prediction": "6 3"}
    lines = [{**line, "sample": k, "text": f"{k} #### 6 3", "cost": 1} for k in range(3)]
    file = tmp_path / "theirs.jsonl"
    file.write_text("".join(f"{json.dumps(one)}\n" for one in lines))
    rescoring = [*model, f"rescore={file}", "out=c"]
    done = icot("sample", *rescoring, "dry_run=true", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "3 texts to rate" in done.stdout
    assert "Q: 2 1 * 3\nA: " in done.stdout
    assert not (tmp_path / "c").exists()
    done = icot("sample", *rescoring, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "3 samples rated" in done.stdout
    assert all(s.logprob < 0 for s in read_corpus(tmp_path / "c" / "samples.jsonl"))
    assert_refused(icot("sample", *rescoring, "batch_size=2", cwd=tmp_path), "of other settings")


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["teacher=endpoint", "teacher.base_url=http://h/v1", "teacher.model=m"], "teacher=model"),
        (["samples=3", "top_p=0.9"], "samples has no effect with rescore="),
        (["rescore=nowhere"], "nowhere: cannot be read"),
        (["rescore=theirs.jsonl", "shots=3"], "no task to draw them from"),
        (["rescore=theirs.jsonl", "batch_size=0"], "batch_size=0 must be at least 1"),
    ],
)
def test_mistakes_are_one_message(model, corpus, overrides, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "theirs.jsonl").write_text((corpus[1] / "samples.jsonl").read_text())
    teacher = [] if "teacher=endpoint" in overrides else model
    with pytest.raises((ConfigError, DataError), match=said):
        rescore(composed(teacher, "c", "rescore=theirs.jsonl", *overrides))
