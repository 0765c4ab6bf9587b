"""Questions that are not of the task, as ``data_file`` and ``also`` may have them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from icot.tasks.automaton import Automaton
from icot.tasks.base import Example
from icot.tasks.mixed_digits import MixedMultiplication
from icot.tasks.modular import Modular
from icot.tasks.multiple_choice import MultipleChoice
from icot.tasks.multiplication import Multiplication
from icot.tasks.parity import Parity
from icot.tasks.prosqa import ProsQA
from icot.tasks.records import Records
from icot.tasks.sums import Sum
from icot.tasks.text_files import TextFiles

MADE = [
    Multiplication(2),
    MixedMultiplication(1, 2),
    MixedMultiplication(1, 2, order="plain", padding=True),
    Parity(8, hidden=3, distractors=2),
    Automaton("cyclic", 4),
    Automaton("s3", 4),
    Automaton("flip_flop", 4),
    Automaton("grid", 4),
    Modular(2),
    Sum(2, 2),
    ProsQA(6, 2),
]
PIECES = [
    *("0", "1", "2", "9", "+", "-", "*", "(", ")", ";", "<", ">", "-1", "1.5", "1e9", "nan", "213"),
    *("٣", "²", "九", "🎲", "\0", "\u2028", "####", "<<1+1=2>>", "(a)"),
    *("Every lempus is a rompus.", " ".join("9" * 5000), "9" * 5000),
]


@pytest.fixture(scope="module")
def read(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    (folder / "test.json").write_text("[]")
    (folder / "test.txt").write_text("")
    return [
        Records("prosqa", folder),
        MultipleChoice("multiple_choice", folder),
        TextFiles(folder, None, None),
    ]


texts = st.one_of(
    st.lists(st.sampled_from(PIECES), max_size=10).map(" ".join),
    st.lists(st.sampled_from(PIECES), max_size=10).map("".join),
    st.text(max_size=20),
)


@settings(max_examples=100, deadline=None)
@given(question=texts, cot=texts, answer=texts)
def test_no_task_fails_on_a_foreign_line(read, question, cot, answer):
    example = Example(question, cot, answer)
    for task in [*MADE, *read]:
        task.difficulty(example)
        task.quantities(example)
        assert isinstance(task.prose(example), Example)


@pytest.mark.parametrize("task", MADE, ids=lambda task: task.name)
@pytest.mark.parametrize("question", ["1 2 : 3 4", "0 1 x", "", "How many apples are left?"])
def test_a_question_of_another_task_has_no_measures(task, question):
    example = Example(question, "5", "6")
    assert task.difficulty(example) == task.quantities(example) == {}
    assert task.prose(example) == example
