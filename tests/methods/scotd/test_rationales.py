"""The task of a corpus: what it yields, what it never looks at, and students trained on it."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from icot.commands.build import build_task
from icot.config.command_line import compose_config
from icot.data.batches import collate
from icot.data.sampler import BatchSampler
from icot.data.tokenized import question_boundaries, separator_id, tokenize_examples
from icot.data.views import StageView
from icot.errors import ConfigError, DataError
from icot.methods.scotd.corpus import CorpusWriter, Sample, read_corpus
from icot.methods.scotd.rationales import Rationales
from icot.models.loading import load_model
from icot.models.tokenizers import load_tokenizer
from icot.removal import remove_cot
from icot.tasks.base import Example
from icot.training.datamodule import CoTDataModule
from tests.conftest import icot
from tests.small import SMALL
from tests.tokenizers_with_bos import opt_type

TASK = {"_target_": "icot.tasks.multiplication.Multiplication", "digits": 2, "valid_size": 40}


def made(index, number, prediction, answer="1", rationale=None, **more) -> Sample:
    rationale = f"{index % 7} {number}" if rationale is None else rationale
    right = None if answer is None else prediction == answer
    question = f"{index // 10} {index % 10} * 1"
    return Sample(index, number, question, answer, rationale, rationale, prediction, right, **more)


def write(folder, samples, **settings):
    with CorpusWriter(folder, {"task": TASK, **settings}) as corpus:
        for one in samples:
            corpus.append(one)
    return folder


@pytest.fixture
def corpus(tmp_path):
    """20 questions of 4 samples: two right, one wrong, one without an answer."""
    answers = ("1", "1", "2", None)
    return write(
        tmp_path / "c", [made(i, k, answer) for i in range(20) for k, answer in enumerate(answers)]
    )


def examples(task, split="train"):
    return [example for part in task.chunks(split) for example in part]


def test_gold_labels_keep_right_samples_and_hold_out_a_tenth_of_the_questions(corpus):
    task = Rationales(corpus)
    train, valid = examples(task), examples(task, "valid")
    assert len(train) == 2 * 18
    assert {e.answer for e in [*train, *valid]} == {"1"}
    assert len(valid) == 2
    assert not {e.question for e in train} & {e.question for e in valid}
    assert len(examples(task, "test")) == 40  # the sampled task's valid
    assert task.symbols() == task.sampled.symbols()
    published = Rationales(corpus, selection="valid")
    assert len(examples(published)) == 2 * 20
    assert examples(published, "valid") == examples(task, "test")


def test_the_teachers_labels_keep_wrong_samples_too(corpus):
    train = examples(Rationales(corpus, labels="teacher"))
    assert len(train) == 3 * 18
    assert [e.answer for e in train[:3]] == ["1", "1", "2"]


@pytest.mark.parametrize(
    ("settings", "count"),
    [
        ({"filter": "random", "keep": 1}, 18),
        ({"filter": "diversity", "keep": 1}, 18),
        ({"filter": "none"}, 3 * 18),
        ({"labels": "teacher", "filter": "random", "keep": 2}, 2 * 18),
        ({"dedup": True}, 2 * 18),
        ({"samples_per_question": 1}, 18),
        ({"labels": "teacher", "samples_per_question": 3}, 3 * 18),
        ({"train_size": 5}, 2 * 5),
    ],
)
def test_filters(corpus, settings, count):
    task = Rationales(corpus, **settings)
    assert len(examples(task)) == count
    assert task.fingerprint("train") != Rationales(corpus, seed=9, **settings).fingerprint("train")
    assert task.fingerprint("train") == Rationales(corpus, **settings).fingerprint("train")


def test_n_samples_of_many_are_the_corpus_of_n(tmp_path):
    answers = ("2", "1", "1", None)
    whole = [made(i, k, answer) for i in range(20) for k, answer in enumerate(answers)]
    few = [s for s in whole if s.sample < 2]
    many, own = (write(tmp_path / str(len(x)), x) for x in (whole, few))
    for settings in ({}, {"labels": "teacher"}, {"filter": "open_endedness"}):
        one, two = Rationales(many, samples_per_question=2, **settings), Rationales(own, **settings)
        for split in ("train", "valid"):
            assert examples(one, split) == examples(two, split)
    with pytest.raises(DataError, match="no sample is left"):
        examples(Rationales(many, samples_per_question=1))


def test_what_would_be_misread_is_never_trained_on(tmp_path):
    samples = [
        made(0, 0, "1", rationale="a #### 7 b"),
        made(0, 1, "1", finish_reason="length"),
        made(0, 3, "1", finish_reason="content_filter"),
        made(0, 2, "1", rationale="two\nlines"),
        made(1, 0, None),
    ]
    task = Rationales(write(tmp_path / "c", samples), selection="valid")
    assert examples(task) == [Example("0 0 * 1", "two lines", "1")]
    assert "1 rationales hold the mark ####" in task.notes("train")[2]
    with pytest.raises(DataError, match="no sample is left to train on: 1 rationales hold"):
        examples(Rationales(write(tmp_path / "d", samples[:3]), selection="valid"))


def test_few_shot_never_looks_at_a_label(corpus, tmp_path):
    draw = np.random.default_rng(0)
    shuffled = [
        replace(s, answer=str(draw.integers(9)), correct=bool(draw.integers(2)))
        for s in read_corpus(corpus)
    ]
    other = write(tmp_path / "other", shuffled)
    for filter in ("none", "random", "diversity", "open_endedness"):
        one, two = (Rationales(c, labels="teacher", filter=filter) for c in (corpus, other))
        for split in ("train", "valid"):
            assert examples(one, split) == examples(two, split)
    assert examples(Rationales(corpus)) != examples(Rationales(other))


def test_a_file_of_another_program(real_data):
    task = Rationales(real_data / "date" / "chatgpt_10_samples.jsonl")
    train, valid = examples(task), examples(task, "valid")
    assert len(valid) == 36
    assert len({e.question for e in train}) <= 369 - 36
    assert task.size("test") == 0
    assert task.is_correct("so #### 1", "#### 1")


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["task.samples=nowhere"], "nowhere: there is no such corpus"),
        (["task.labels=teacher", "task.filter=correct"], "looks at the labels"),
        (["task.filter=likelihood"], "sample 0 of question"),
        (["task.filter=diversity", "task.embedding=nowhere"], "task.embedding=nowhere"),
    ],
)
def test_mistakes(corpus, overrides, said):
    cfg = compose_config("train", ["task=rationales", f"task.samples={corpus}", *overrides])
    with pytest.raises((ConfigError, DataError, ValueError), match=said):
        examples(build_task(cfg.task))


def lines(path, **changes):
    """A file of another program, with only what is needed, and what ``changes`` says."""
    needed = ("index", "sample", "question", "answer", "text", "prediction")
    rows = [
        {k: v for k, v in asdict(s).items() if k in needed} | changes for s in read_corpus(path)
    ]
    file = path.parent / "lines.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def test_a_file_that_does_not_say_what_is_right_is_judged(corpus):
    assert examples(Rationales(lines(corpus))) == examples(Rationales(corpus))
    assert examples(Rationales(lines(corpus, rationale=None))) == examples(Rationales(corpus))
    with pytest.raises(DataError, match="no sample is left"):
        examples(Rationales(lines(corpus, correct=False)))


@pytest.mark.parametrize("changes", [{"correct": "yes"}, {"rationale": 7}, {"logprob": "low"}])
def test_a_value_of_the_wrong_type_is_named(corpus, changes):
    (name,) = changes
    with pytest.raises(
        DataError, match=rf'line 1: has a "{name}" of the wrong type.*Remove the line\.'
    ):
        examples(Rationales(lines(corpus, **changes)))


def test_a_file_has_no_task_whose_splits_could_be_taken(corpus):
    task = Rationales(lines(corpus), selection="valid")
    for split in ("valid", "test"):
        with pytest.raises(DataError, match=rf"no {split} split: use split=valid"):
            task.fingerprint(split)


@pytest.mark.parametrize("task", [None, {"_target_": TASK["_target_"], "digit": 2}, {}])
def test_a_task_that_cannot_be_made_is_named(corpus, task):
    (corpus / "samples.json").write_text(json.dumps({"task": task}))
    with pytest.raises(
        DataError, match=r"samples\.json: (its task cannot be made|the task that was sampled)"
    ):
        Rationales(corpus).symbols()


def test_a_corpus_that_has_been_moved_away(tmp_path):
    for split in ("train", "valid", "test"):
        with pytest.raises(DataError, match="there is no such corpus"):
            Rationales(tmp_path / "gone").fingerprint(split)


def test_a_corpus_runs_no_code_of_strangers(tmp_path, corpus):
    settings = json.loads((corpus / "samples.json").read_text())
    settings["task"] = {"_target_": "os.system", "command": "true"}
    (corpus / "samples.json").write_text(json.dumps(settings))
    with pytest.raises(DataError, match=r"os\.system"):
        Rationales(corpus).symbols()


def test_each_sample_of_a_question_is_shown_equally_often(corpus, symbols):
    store = tokenize_examples(examples(Rationales(corpus, labels="teacher")), symbols)
    groups = question_boundaries(store)
    assert groups.tolist() == list(range(0, 3 * 18 + 1, 3))
    sampler = BatchSampler(len(store), 5, seed=1, groups=groups)
    shown = np.zeros(len(store), dtype=int)
    for epoch in range(300):
        sampler.set_epoch(epoch)
        rows = np.concatenate(list(sampler))
        assert sorted(rows // 3) == list(range(18))  # each question once
        shown[rows] += 1
    assert chisquare(shown.reshape(18, 3), axis=1).pvalue.min() > 0.001
    ranks = [BatchSampler(len(store), 5, 1, r, 2, groups=groups) for r in range(2)]
    joint = BatchSampler(len(store), 10, 1, groups=groups)
    for one, two, both in zip(*ranks, joint, strict=True):
        assert sorted([*one, *two]) == sorted(both)
    resumed = BatchSampler(len(store), 5, 1, groups=groups)
    resumed.cursor = 2
    whole = BatchSampler(len(store), 5, 1, groups=groups)
    assert [b.tolist() for b in resumed] == [b.tolist() for b in whole][2:]


@pytest.mark.parametrize(("visit", "rows"), [("one", 18), ("all", 3 * 18)])
def test_an_epoch_shows_a_row_of_each_question_or_every_row_once(
    corpus, symbols, tmp_path, visit, rows
):
    task = Rationales(corpus, labels="teacher", visit=visit)
    view = StageView(separator_id(symbols))
    sampler = CoTDataModule(task, symbols, tmp_path / "cache", view, 5, seed=1).sampler()
    orders = []
    for epoch in range(2):
        sampler.set_epoch(epoch)
        orders.append(np.concatenate(list(sampler)).tolist())
        assert len(orders[epoch]) == len(set(orders[epoch])) == rows
    assert orders[0] != orders[1]


@pytest.mark.parametrize("kind", ["bytes", "gpt2"])
def test_label_only_has_the_tokens_of_a_removed_chain(kind, tmp_path, request):
    """An empty chain is a token or two between its separators, which go with the chain."""
    folder = opt_type(tmp_path) if kind == "bytes" else None
    if folder is None:
        folder = request.getfixturevalue("real_data") / "gpt2-tokenizer"
    tokenizer = load_tokenizer(str(folder), None)
    samples = [made(0, 0, "1", rationale="0 * 1 + 0 0"), made(0, 1, "1", rationale="")]
    task = Rationales(write(tmp_path / "c", samples), selection="valid")
    store = tokenize_examples(examples(task), tokenizer)
    assert (store.cot_end > store.cot_start).all()  # a blank is a token
    batch = remove_cot(
        collate(store, np.arange(2), separator_id(tokenizer)), torch.full((2,), store.longest)
    )
    eos = tokenizer.eos_token
    expected = tokenizer(f" 0 0 * 1 {eos}{eos} #### 1 {eos}", add_special_tokens=False)["input_ids"]
    for row in range(2):
        length, start = int(batch.lengths[row]), int(batch.cot_start[row])
        assert batch.input_ids[row, :length].tolist() == expected
        assert batch.labels[row, :length].tolist() == [-100] * start + expected[start:]


def test_the_loss_is_that_of_rationale_and_answer(symbols):
    """Against plain transformers; the question's tokens are not in it."""
    samples = [Example("2 1 * 3", "4 2", "1"), Example("2 1 * 3", "4", "1 3")]
    store = tokenize_examples(samples, symbols)
    batch = collate(store, np.arange(2), 0)
    tokens = symbols("2 1 * 3 <eos> 4 2 <eos> #### 1 <eos>", add_special_tokens=False)["input_ids"]
    assert batch.input_ids[0].tolist() == tokens
    assert batch.labels[0].tolist() == [-100] * 5 + tokens[5:]
    model = load_model("gpt2", False, symbols, 16, {"n_layer": 1, "n_embd": 8, "n_head": 1}).eval()
    with torch.no_grad():
        whole = model(batch.input_ids, labels=batch.labels).loss
        log_p = model(batch.input_ids).logits.log_softmax(-1)
    parts = [
        -log_p[row, column - 1, batch.input_ids[row, column]]
        for row in range(2)
        for column in range(5, int(batch.lengths[row]))
    ]
    assert whole == pytest.approx(float(torch.stack(parts).mean()), rel=1e-5)


def test_few_shot_students_of_other_labels_are_the_same_to_the_bit(corpus, tmp_path):
    draw = np.random.default_rng(0)
    other = [
        replace(s, answer=str(draw.integers(9)), correct=bool(draw.integers(2)))
        for s in read_corpus(corpus)
    ]
    corpora = {"one": corpus, "two": write(tmp_path / "other", other)}
    weights = {}
    for labels, runs in (("teacher", ("one", "two")), ("gold", ("two",))):
        for run in runs:
            place = f"{labels}_{run}"
            done = icot(
                "train", *(text for text in SMALL if not text.startswith("task")),
                "task=rationales", f"task.samples={corpora[run]}", f"task.labels={labels}",
                "task.filter=none", "schedule=explicit", "trainer.max_steps=3",
                "+model.config.n_positions=32", f"hydra.run.dir={place}", cwd=tmp_path,
            )  # fmt: skip
            assert done.returncode == 0, done.stderr
            file = tmp_path / place / "checkpoints" / "last.ckpt"
            weights[place] = torch.load(file, weights_only=False)["state_dict"]

    def are_equal(one, two):
        return all(torch.equal(weights[one][k], weights[two][k]) for k in weights[one])

    assert are_equal("teacher_one", "teacher_two")
    assert not are_equal("teacher_two", "gold_two")  # which looks at the labels


@pytest.mark.parametrize("schedule", ["explicit", "no_cot", "icot_si"])
def test_a_student_is_trained_evaluated_and_resumed(corpus, tmp_path, schedule):
    train = [
        *(text for text in SMALL if not text.startswith("task")), "task=rationales",
        f"task.samples={corpus}", "task.labels=teacher", f"schedule={schedule}",
        "trainer.max_epochs=4", "trainer.max_steps=-1", "paths.cache_dir=cache",
        "+model.config.n_positions=32",
    ]  # fmt: skip
    whole = icot("train", *train, "hydra.run.dir=whole", cwd=tmp_path)
    assert whole.returncode == 0, whole.stderr
    summary = json.loads((tmp_path / "whole" / "summary.json").read_text())
    assert summary["examples_seen"] == 4 * 18  # each question once an epoch
    part = icot("train", *train, "hydra.run.dir=part", "trainer.max_epochs=2", cwd=tmp_path)
    assert part.returncode == 0, part.stderr
    more = icot("train", "resume=part", "trainer.max_epochs=4", cwd=tmp_path)
    assert more.returncode == 0, more.stderr
    for run in ("whole", "part"):  # the second finds its tokens in the cache
        said = (tmp_path / run / "train.log").read_text()
        assert "all: 80 samples of 20 questions" in said
        assert "to train on (labels teacher, filter none)" in said
    weights = [
        torch.load(tmp_path / run / "checkpoints" / "last.ckpt", weights_only=False)["state_dict"]
        for run in ("whole", "part")
    ]
    assert all(torch.equal(weights[0][k], weights[1][k]) for k in weights[0])
    done = icot(
        "evaluate", "run_dir=whole", "split=test", "speed.examples=0", "paths.cache_dir=cache",
        "out=e", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "e" / "evaluation.json").read_text())["n"] == 40
