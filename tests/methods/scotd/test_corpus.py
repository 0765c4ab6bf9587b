"""The corpus on disk: torn and damaged lines, and what a text says."""

import json

import pytest

from icot.errors import DataError, RunError
from icot.methods.scotd.corpus import (
    CorpusWriter,
    Sample,
    content_hash,
    judge,
    read_corpus,
    read_settings,
    split_text,
)
from icot.tasks.base import Example
from icot.tasks.multiple_choice import MultipleChoice
from icot.tasks.text_files import TextFiles

SETTINGS = {"seed": 1, "samples": 2}


def sample(index=0, number=0, **changes) -> Sample:
    values = {
        "question": "1 + 1",
        "answer": "2",
        "text": "so #### 2",
        "rationale": "so",
        "prediction": "2",
        "correct": True,
    }
    return Sample(index, number, **{**values, **changes})


@pytest.fixture
def text_task(tmp_path):
    (tmp_path / "train.txt").write_text("1 + 1||so #### 2\n")
    return TextFiles(tmp_path, "train.txt", None, None)


def write(folder, samples):
    with CorpusWriter(folder, SETTINGS) as corpus:
        for one in samples:
            corpus.append(one)
    return corpus


def test_what_is_written_is_read_and_order_does_not_matter(tmp_path):
    samples = [sample(i, k, text=f"{i} {k}\n\u2028é #### 2") for k in range(2) for i in range(3)]
    corpus = write(tmp_path / "a", samples)
    assert read_corpus(tmp_path / "a") == sorted(samples, key=lambda s: s.key)
    assert content_hash(reversed(samples)) == content_hash(samples) == corpus.finish()
    assert read_settings(tmp_path / "a")["content_hash"] == content_hash(samples)
    assert content_hash(samples[1:]) != content_hash(samples)


def test_a_last_line_that_is_cut_anywhere_is_written_again(tmp_path):
    write(tmp_path, [sample(0), sample(1)])
    path = tmp_path / "samples.jsonl"
    whole = path.read_bytes()
    first = whole.index(b"\n") + 1
    for end in range(first, len(whole)):
        path.write_bytes(whole[:end])
        corpus = CorpusWriter(tmp_path, SETTINGS)
        assert [s.index for s in corpus.samples] == [0]
        with corpus:
            corpus.append(sample(1))
        assert path.read_bytes() == whole


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda line: line.replace("so", "no"), "line 1: is damaged"),
        (lambda line: line[: len(line) // 2] + "\n", "line 1: is not JSON"),
        (lambda line: "[]\n", "line 1: is not a JSON object"),
        (lambda line: '{"index": 0}\n', 'line 1: has no "sample"'),
        (lambda line: '{"index": true, "sample": 0}\n', "wrong type: True"),
    ],
)
def test_a_damaged_line_is_named(tmp_path, change, said):
    write(tmp_path, [sample(0), sample(1)])
    path = tmp_path / "samples.jsonl"
    first, second = path.read_text().splitlines(keepends=True)
    path.write_text(change(first) + second)
    with pytest.raises(DataError, match=said):
        CorpusWriter(tmp_path, SETTINGS)
    with pytest.raises(DataError, match=said):
        read_corpus(tmp_path)


def test_other_settings_are_refused_by_name(tmp_path):
    write(tmp_path, [sample()])
    with pytest.raises(RunError, match="samples was 2, now 3; temperature was null, now 1"):
        CorpusWriter(tmp_path, {"seed": 1, "samples": 3, "temperature": 1})


def test_a_sample_that_is_there_twice_is_an_error(tmp_path):
    write(tmp_path, [sample(), sample()])
    with pytest.raises(DataError, match="sample 0 of question 0 is twice"):
        read_corpus(tmp_path)


def test_another_programs_lines(tmp_path):
    line = {"index": 3, "sample": 1, "question": "q", "answer": None, "text": "a\nb"}
    (tmp_path / "x.jsonl").write_text(json.dumps({**line, "prediction": None, "more": 1}) + "\n")
    (read,) = read_corpus(tmp_path / "x.jsonl")
    assert (read.rationale, read.correct, read.is_usable) == ("a b", None, False)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("so\n it is #### 2", ("so it is", "2")),
        ("a #### 1 and #### 1,234 ", ("a #### 1 and", "1234")),
        ("no mark", ("no mark", None)),
        ("nothing behind ####  ", ("nothing behind", None)),
        ("", ("", None)),
        ("#### 7", ("", "7")),
    ],
)
def test_rationale_and_answer(text, expected, text_task):
    assert split_text(text, " #### ", text_task) == expected


def test_the_answer_is_the_tasks(tmp_path):
    row = {"question": "Where?", "choices": ["bunk", "library"], "label": "B"}
    (tmp_path / "train.jsonl").write_text(json.dumps(row) + "\n")
    task = MultipleChoice("multiple_choice", tmp_path, held_out=0)
    example = Example("Where? Answer Choices: (a) bunk (b) library", "", "(b)")
    trigger = " So the answer is: "
    text = "One reads there. So the answer is: (B).\n"
    assert split_text(text, trigger, task) == ("One reads there.", "(b)")
    assert split_text("So the answer is: library", trigger, task) == ("", None)
    assert judge("(b)", example, task)
    assert not judge("(a)", example, task)
    assert not judge(None, example, task)
