"""What visitors type, and what the models are asked."""

import pytest

from icot.demonstration.questions import Numbers, RefusedError, Text, questions_for
from icot.tasks.base import Example
from icot.tasks.mixed_digits import MixedMultiplication
from icot.tasks.multiplication import Multiplication
from icot.tasks.parity import Parity

MULT3 = Multiplication(3, train_size=10, valid_size=5, test_size=5)
MIXED = MixedMultiplication(1, 3, train_size=50, valid_size=9, test_size=9)


def test_numbers_are_turned_into_the_text_of_the_task():
    asked = Numbers().example(["123", "456"], MULT3, {})
    assert asked.question == "3 2 1 * 6 5 4"
    assert asked.answer == "8 8 0 6 5 0"  # 56088
    assert Numbers().check(["1 234", "5,678"]) == "1,234 × 5,678"


@pytest.mark.parametrize("task", [MULT3, MIXED, MixedMultiplication(1, 3, order="plain"),
                                  MixedMultiplication(1, 3, order="reversed_product")])  # fmt: skip
def test_a_held_out_question_is_typed_and_asked_again_as_it_was(task):
    for example in next(task.chunks("valid"))[:20]:
        assert Numbers().example(Numbers().type(example, task), task, {}) == example


@pytest.mark.parametrize("typed", [
    ["", "1"], ["-5", "1"], ["5", "+1"], ["abc", "1"], ["1.5", "1"], ["1,23", "1"], ["0", "1"],
    ["1e5", "1"], ["٣", "1"], ["9" * 200, "1"], ["<b>", "1"],
])  # fmt: skip
def test_what_is_no_number_is_refused_with_a_sentence(typed):
    with pytest.raises(RefusedError, match=r"^First number: .*\.$|^Second number: .*\.$"):
        Numbers().check(typed)


def test_a_model_is_not_asked_what_it_was_not_trained_on():
    with pytest.raises(RefusedError, match="exactly 3 digits; yours have 2 and 3"):
        Numbers().example(["12", "345"], MULT3, {})
    with pytest.raises(RefusedError, match="1 to 3 digits; yours have 4 and 3"):
        Numbers().example(["1234", "345"], MIXED, {})


@pytest.mark.parametrize("task", [MULT3, MIXED, MixedMultiplication(1, 3, order="plain"),
                                  MixedMultiplication(1, 3, padding=True)])  # fmt: skip
def test_a_text_that_is_a_product_has_its_answer(task):
    for example in next(task.chunks("valid"))[:5]:
        assert Text().example([example.question], task, {}) == example


@pytest.mark.parametrize("text", ["1 0 1 1 0", "1 * 2 * 3", "2 0 * 1 2", "1 2 *", "12 * 34"])
def test_a_text_that_is_no_product_is_asked_alone(text):
    assert Text().example([text], MIXED, {}) == Example(text, "", "")


def test_a_product_of_other_numbers_is_refused_in_a_text_too():
    with pytest.raises(RefusedError, match="exactly 3 digits; yours have 2 and 2"):
        Text().example(["2 1 * 2 1"], MULT3, {})


def test_a_text_is_looked_up_among_the_held_out_questions():
    known = {"1 0 1": Example("1 0 1", "1 1 0", "0")}
    task = Parity(train_size=10, valid_size=5, test_size=5)
    assert isinstance(questions_for([task, MULT3]), Text)
    assert Text().example([" 1 0  1"], task, known) is known["1 0 1"]
    assert Text().example(["1 1 1"], task, known) == Example("1 1 1", "", "")
    for text in (" ", "x" * 2001):
        with pytest.raises(RefusedError, match="Question"):
            Text().check([text])
