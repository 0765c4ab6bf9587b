"""Multiple-choice records of all shapes, and which outputs are right."""

import json

import pytest

from icot.errors import DataError
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
    big_bench = {"input": "Can fish fly?", "target_scores": {"Yes": 0, "No": 1}}
    assert example_from_row(big_bench).answer == "(b)"
    with_rationale = {
        "question": "q?",
        "choices": ["x", "y"],
        "label": "a",
        "rationale": "It is x.",
    }
    assert example_from_row(with_rationale).cot == "It is x."


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"question": "q?", "choices": ["x", "y"], "label": "c"}, "answer is 'c'"),
        ({"question": "q?", "choices": ["x", "y"], "label": 2}, "answer is 2"),
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
    ],
)
def test_the_first_letter_after_the_mark_counts(written, right, tmp_path):
    (tmp_path / "valid.jsonl").write_text(json.dumps({"question": "q?", "choices": ["x", "y"]}))
    task = MultipleChoice("multiple_choice", tmp_path)
    assert task.is_correct(written, "#### (b)") is right
    assert not task.is_correct("nothing", "nothing")


def test_difficulty_counts_options_and_words(tmp_path):
    row = {"question": "Where do people read?", "choices": OPTIONS, "label": "B"}
    (tmp_path / "valid.jsonl").write_text(json.dumps(row))
    task = MultipleChoice("multiple_choice", tmp_path)
    ((example,),) = task.chunks("valid")
    assert task.difficulty(example) == {"options": 2, "words": 10}
