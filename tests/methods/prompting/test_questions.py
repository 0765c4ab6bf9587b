"""Questions with their prompts, and predictions from texts."""

from dataclasses import replace
from pathlib import Path

import pytest

from icot.errors import DataError
from icot.evaluation.loading import Source
from icot.evaluation.predictions import read_predictions, write_predictions
from icot.inference.completions import Completion, as_unicode
from icot.methods.prompting.questions import figures_of, judge_texts, read_questions
from icot.tasks.multiplication import Multiplication
from icot.tasks.prose import long_multiplication
from tests.hostile_texts import hostile_texts
from tests.methods.prompting.test_few_shot import prompt

TASK = Multiplication(2, train_size=40, valid_size=1000, test_size=5, seed=1)


def source(split="valid") -> Source:
    return Source.own(TASK, split)


def test_fewer_questions_have_the_same_prompts():
    every = read_questions(source(), prompt("explicit"), None)
    some = read_questions(source(), prompt("explicit"), 10)
    assert len(every.prompts) == 1000
    assert some.prompts == every.prompts[:10]
    trained = {TASK.prose(one).question for chunk in TASK.chunks("train") for one in chunk}
    for asked, text in zip(some.asked, some.prompts, strict=True):
        lines = text.splitlines()
        shown = [line.removeprefix("Q: ") for line in lines if line.startswith("Q: ")]
        assert len(shown) == 5
        assert set(shown) <= trained
        assert lines[-1] == f"Q:{asked.question}"


def test_examples_of_a_file(tmp_path):
    file = tmp_path / "mine.txt"
    read = [one for chunk in TASK.chunks("valid") for one in chunk][:7]
    file.write_text("".join(f"{one.line()}\n" for one in read))
    fixed = prompt("no_cot").model_copy(update={"exemplars": str(file)})
    found = read_questions(source(), fixed, 9)
    expected = [TASK.prose(one) for one in read]
    for i, asked in enumerate(found.prompts):
        shown = [one for one in expected if one != found.asked[i]][:5]
        text = "".join(f"Q: {one.question}\nA: #### {one.answer}\n" for one in shown)
        assert text in asked
    with pytest.raises(
        DataError, match=r"has 6 examples besides the question, and prompt.shots is 7"
    ):
        read_questions(source(), fixed.model_copy(update={"shots": 7}), 9)
    with pytest.raises(DataError, match="no such file"):
        read_questions(source(), fixed.model_copy(update={"exemplars": "none.txt"}), 9)


def test_no_examples_at_all():
    bare = read_questions(source(), prompt("no_cot").model_copy(update={"shots": 0}), 1)
    assert "Q: " not in bare.prompts[0]


def test_a_text_that_is_cut_is_wrong_whatever_it_says():
    questions = read_questions(source(), prompt("explicit"), 3)
    right = [f"{one.cot} #### {one.answer}" for one in questions.asked]
    whole = [Completion(text, "stop", 10, 20, model="m") for text in right]
    cut = [whole[0], replace(whole[1], finish_reason="length"), whole[2]]
    found = judge_texts(questions, cut, prompt("explicit"))
    assert [one.correct for one in found] == [True, False, True]
    figures = figures_of(found, cut)
    assert (figures["n"], figures["correct"], figures["truncated"]) == (3, 2, 1 / 3)
    assert (figures["tokens_per_example"], figures["models_served"]) == (20, ["m"])


def test_strict_and_numeric_are_both_in_the_record():
    questions = read_questions(source(), prompt("no_cot"), 2)
    texts = [f"#### {one.answer}" for one in questions.asked]
    texts[1] = texts[1].replace("#### ", "#### 0")
    written = [Completion(text, "stop", 1, 1) for text in texts]
    for comparison, correct in (("numeric", 2), ("strict", 1)):
        asked = prompt("no_cot").model_copy(update={"comparison": comparison})
        figures = figures_of(judge_texts(questions, written, asked), written)
        assert figures["correct"] == correct
        assert (figures["accuracy_strict"], figures["accuracy_numeric"]) == (0.5, 1.0)


def test_ten_thousand_hostile_texts_are_written_and_read_again(tmp_path: Path):
    questions = read_questions(source(), prompt("explicit"), 1)
    texts = [as_unicode(text) for text in hostile_texts(10_000)]
    many = replace(
        questions, asked=questions.asked * len(texts), prompts=questions.prompts * len(texts)
    )
    written = [Completion(text, "stop", 1, 1) for text in texts]
    found = judge_texts(many, written, prompt("explicit"))
    assert figures_of(found, written)["n"] == 10_005
    write_predictions(tmp_path / "p.jsonl", found)
    again = read_predictions(tmp_path / "p.jsonl", lambda text, target: False)
    assert [one.prediction for one in again] == texts


def test_published_lines_are_asked_and_judged_as_published(real_data):
    """The published validation questions, as models were asked them."""
    from icot.tasks.text_files import TextFiles

    task = Multiplication(4)
    lines = Source(task, TextFiles(real_data / "mult", None, "4_by_4_valid.txt", None), "valid", "")
    questions = read_questions(lines, prompt("explicit"), 100)
    for asked in questions.asked:
        a, b = map(int, asked.question.split(" * "))
        assert asked == long_multiplication(a, b)
    written = [Completion(f"{one.cot} #### {one.answer}", "stop", 1, 1) for one in questions.asked]
    assert figures_of(judge_texts(questions, written, prompt("explicit")), written)["accuracy"] == 1
