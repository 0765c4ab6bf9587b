"""Texts of a prompted model vote: what each votes for, who wins, and what is scored."""

from dataclasses import replace

import pytest

from icot.evaluation.loading import Source
from icot.inference.completions import Completion
from icot.methods.prompting.election import answer_of, hold_election
from icot.methods.prompting.questions import judge_texts, read_questions
from icot.tasks.multiple_choice import MultipleChoice
from icot.tasks.multiplication import Multiplication
from tests.methods.prompting.test_few_shot import prompt

TASK = Multiplication(2, train_size=40, valid_size=10, test_size=5)


@pytest.mark.parametrize(
    ("text", "chain", "numeric", "strict"),
    [
        ("1 + 1 = 2 #### $1,234.00", True, "#### 1234", "#### $1,234.00"),
        ("#### 12 #### 007", True, "#### 7", "#### 007"),
        ("1234", True, "#### 1234", "#### 1234"),
        ("it is small", True, None, None),
        ("it is small", False, "#### it is small", "#### it is small"),
        ("it is #### ", True, None, None),
        ("", False, None, None),
    ],
)
def test_what_a_text_votes_for(text, chain, numeric, strict):
    assert answer_of(text, TASK, chain, False) == numeric
    assert answer_of(text, TASK, chain, True) == strict


def test_the_letter_of_a_choice_is_a_vote_without_a_mark_too(tmp_path):
    (tmp_path / "test.jsonl").touch()
    task = MultipleChoice("multiple_choice", data_dir=tmp_path)
    for text in ("So it is (B), I think.", "#### (b)", "A: #### (b) library"):
        assert answer_of(text, task, True, False) == "#### (b)"
    assert answer_of("So it is b.", task, False, False) is None


def election(texts, comparison="numeric"):
    """Of one question and the votes of these texts, in which R stands for the right answer."""
    questions = read_questions(Source.own(TASK, "valid"), prompt("explicit"), 1)
    asked = prompt("explicit").model_copy(update={"comparison": comparison})
    right = questions.asked[0].answer
    written = [Completion(text.replace("R", right), "stop", 9, 9) for text in texts]
    held = hold_election(questions, written, asked)
    (found,) = judge_texts(questions, held.chosen, asked, held.voted)
    return held, found


def test_the_majority_is_scored_and_equal_numbers_are_one_answer():
    held, found = election(["#### 1", "#### 2", "so #### R", "#### R.0", "#### 2.0", "#### 0R"])
    assert found.prediction == f"so {found.target}"
    assert found.correct
    assert held.figures["accuracy_by_votes"] == {"1": 0, "5": 0, "6": 1}
    assert (held.figures["accuracy_of_one"], held.figures["ties"]) == (0.5, 0)
    held, found = election(["#### 1", "#### 2", "#### R", "#### R.0", "#### 2"], "strict")
    assert (found.prediction, found.correct) == ("#### 2", False)
    assert held.figures["accuracy_of_one"] == 0.2


def test_a_text_that_is_cut_has_no_vote():
    questions = read_questions(Source.own(TASK, "valid"), prompt("explicit"), 1)
    cut, whole = Completion("#### 1", "length", 9, 9), Completion("#### 2", "stop", 9, 9)
    held = hold_election(questions, [cut, cut, whole], prompt("explicit"))
    assert (held.chosen, held.figures["unparsed"]) == ([whole], 2 / 3)
    held = hold_election(questions, [cut, replace(cut, text="#### 3")], prompt("explicit"))
    assert (held.chosen, held.voted, held.figures["without_a_vote"]) == ([cut], [False], 1)


def test_a_question_on_which_nobody_votes_is_wrong():
    questions = read_questions(Source.own(TASK, "valid"), prompt("explicit"), 1)
    questions = replace(questions, asked=[replace(questions.asked[0], answer="yes")])
    texts = [Completion("yes", "stop", 1, 1), Completion("it may be", "stop", 1, 1)]
    held = hold_election(questions, texts, prompt("explicit"))
    (found,) = judge_texts(questions, held.chosen, prompt("explicit"), held.voted)
    assert (found.correct, held.figures["accuracy_by_votes"]) == (False, {"1": 0, "2": 0})
