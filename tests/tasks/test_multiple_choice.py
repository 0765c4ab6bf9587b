"""Multiple-choice records of all shapes, and which outputs are right."""

import json

import pytest

from icot.errors import DataError
from icot.inference.voting import answer_in
from icot.tasks.base import Example
from icot.tasks.multiple_choice import MultipleChoice, example_from_row

LINE = "Where do people read? Answer Choices: (a) bunk (b) library|| #### (b)"
OPTIONS = ["bunk", "library"]


@pytest.mark.parametrize(
    "row",
    [
        {"question": "Where do people read?", "choices": OPTIONS, "label": "B"},
        {"question": "Where do people read?", "choices": OPTIONS, "label": 1},
        {"question": "Where do people read?", "options": OPTIONS, "answer": "library"},
        {"question": "Where do people read?", "options": OPTIONS, "answer": "(b)"},
        {
            "answerKey": "B",
            "question": {
                "stem": "Where do people read?",
                "choices": [{"label": "A", "text": "bunk"}, {"label": "B", "text": "library"}],
            },
        },
        {
            "question_stem": "Where do people read?",
            "choices": {"label": ["A", "B"], "text": OPTIONS},
            "answerKey": "B",
        },
        {"question": "Where do people read?", "choices": OPTIONS, "label": 1.0},
        {"question": "Where do people read?", "choices": OPTIONS, "label": "Library "},
        {"question": "Where do people read?", "choices": OPTIONS, "answer_index": 1},
        {
            "question": "Where do people read?",
            "options": {"A": "bunk", "B": "library"},
            "answer": "B",
        },
        {
            "question": "Where do people read?",
            "choices": [{"text": text} for text in OPTIONS],
            "label": 1,
        },
        {
            "question": "Where do people read?",
            "choices": {"label": ["1", "2"], "text": OPTIONS},
            "answerKey": 2,
        },
        {"input": "Where do people read?", "target_scores": {"bunk": 0, "library": 1}},
        {
            "question": "Where do people read?",
            "choices": {"label": ["1", "2"], "text": OPTIONS},
            "answerKey": "2",
        },
    ],
)
def test_all_shapes_make_the_same_example(row):
    assert example_from_row(row).line() == LINE


def test_options_in_the_question_and_yes_or_no():
    quarel = {"question": "Which is smoother? (A) ice (B) wood", "answer_index": 0}
    assert example_from_row(quarel).line() == "Which is smoother? (A) ice (B) wood|| #### (a)"
    strategy = {"question": "Can fish fly?", "answer": False, "facts": ["Fish swim.", "No wings."]}
    line = "Can fish fly? Answer Choices: (a) yes (b) no||Fish swim. No wings. #### (b)"
    assert example_from_row(strategy).line() == line
    with_rationale = {
        "question": "q?",
        "choices": ["x", "y"],
        "label": "a",
        "rationale": "It is x.",
    }
    assert example_from_row(with_rationale).cot == "It is x."


@pytest.mark.parametrize(
    ("scores", "target", "line"),
    [
        ({"Yes": 0, "No": 1}, "No. They swim. No wings.", "They swim. No wings. #### (b)"),
        ({"No": 0, "Yes": 1}, "yes, nothing else", "nothing else #### (a)"),
        ({"Yes": 0, "No": 1}, "Nobody has seen it.", "Nobody has seen it. #### (b)"),
        ({"Yes": 1, "No": 0}, "Yes", " #### (a)"),
    ],
)
def test_what_follows_the_answer_in_big_bench_is_the_chain(scores, target, line):
    row = {"input": "Can fish fly?", "target_scores": scores, "target": target}
    expected = f"Can fish fly? Answer Choices: (a) yes (b) no||{line}"
    assert example_from_row(row).line() == expected


@pytest.mark.parametrize(
    "row",
    [
        {"question": "Where do people read?", "choices": OPTIONS, "answerKey": ""},
        {"question": "Where do people read?", "options": OPTIONS, "answer": None},
        {
            "question": {
                "stem": "Where do people read?",
                "choices": [{"label": "A", "text": "bunk"}, {"label": "B", "text": "library"}],
            }
        },
    ],
)
def test_a_question_without_an_answer_can_only_be_asked(row, tmp_path):
    (tmp_path / "test.jsonl").write_text(f"{json.dumps(row)}\n{json.dumps(row)}\n")
    task = MultipleChoice("multiple_choice", tmp_path)
    question = LINE.partition("||")[0]
    assert list(task.questions("test")) == [[Example(question, "", "")] * 2]
    with pytest.raises(DataError, match="line 1: its answer is"):
        list(task.chunks("test"))


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"question": "q?", "choices": ["x", "y"], "label": "c"}, "answer is 'c'"),
        ({"question": "q?", "choices": ["x", "y"], "label": 2}, "answer is 2"),
        ({"question": "q?", "choices": ["x", "y"], "label": 0.5}, "answer is 0.5"),
        ({"question": "q?", "choices": ["x", "y"], "label": "1"}, "without quotation marks"),
        ({"question": "q?", "choices": ["x"] * 27, "label": "a"}, "has 27 options"),
        (
            {"question": "q?", "choices": {"label": ["A"], "text": ["x", "y"]}, "answerKey": "A"},
            "has 1 labels for 2 options",
        ),
        ({"input": "q?", "target_scores": {"x": 1}}, "not those of two or more options"),
        ({"input": "q?", "target_scores": {"x": 1, "y": 1}}, "no single best option"),
        ({"question": "q?", "choices": ["x", "y"]}, "answer is None"),
        ({"question": "q?", "choices": ["x"], "label": "a"}, "not two or more"),
        ({"question": "q?", "label": "a"}, "choices are None"),
        ({"question": "no options", "answer_index": 0}, "answer is 0"),
        ({"question": "q?", "choices": {"label": ["A"], "text": ["x"]}, "answerKey": ""}, "answer"),
    ],
)
def test_rows_without_options_or_without_the_right_one(row, said, tmp_path):
    (tmp_path / "valid.jsonl").write_text(json.dumps(row))
    task = MultipleChoice("multiple_choice", tmp_path)
    with pytest.raises(DataError, match="record 0") as refused:
        list(task.chunks("valid"))
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("written", "right"),
    [
        ("It is a library. #### (b)", True),
        ("#### (B) library", True),
        ("#### The answer is (b), not (a)", True),
        ("#### (a) or (b)", False),
        ("#### b", False),
        ("(b)", True),
        ("#### (bb)", False),
        ("", False),
        ("(a) is wrong #### (b)", True),
        ("#### (z), so (b)", True),
        ("#### (c)", False),
    ],
)
def test_the_first_letter_of_an_option_after_the_mark_counts(written, right, tmp_path):
    (tmp_path / "valid.jsonl").write_text(json.dumps({"question": "q?", "choices": ["x", "y"]}))
    task = MultipleChoice("multiple_choice", tmp_path, options=2)
    assert task.is_correct(written, "#### (b)") is right
    assert not task.is_correct("nothing", "nothing")


def test_difficulty_counts_options_and_words(tmp_path):
    row = {"question": "Where do people read?", "choices": OPTIONS, "label": "B"}
    (tmp_path / "valid.jsonl").write_text(json.dumps(row))
    task = MultipleChoice("multiple_choice", tmp_path)
    ((example,),) = task.chunks("valid")
    assert task.difficulty(example) == {"options": 2, "words": 10}


def test_more_options_than_the_task_has_are_refused(tmp_path):
    row = {"question": "Which?", "choices": ["x", "y", "z"], "label": "B"}
    (tmp_path / "valid.jsonl").write_text(json.dumps(row))
    three, two = (MultipleChoice("multiple_choice", tmp_path, options=n) for n in (3, 2))
    assert answer_in("#### (c)", three.extract_answer) == "#### (c)"
    assert answer_in("#### (c)", two.extract_answer) is None  # it has no vote
    assert len(next(three.chunks("valid"))) == 1
    with pytest.raises(DataError, match=r"record 0 .* has 3 options, but there are 2 letters"):
        list(two.chunks("valid"))
    assert two.fingerprint("valid") != three.fingerprint("valid")


def test_a_number_counts_options_and_a_truth_value_is_yes_or_no():
    assert example_from_row({"question": "q?", "choices": ["1", "3"], "label": 1}).answer == "(b)"
    assert (
        example_from_row({"question": "q?", "choices": ["no", "yes"], "label": True}).answer
        == "(b)"
    )
