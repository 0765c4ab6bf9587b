import re

import pytest

from icot.errors import DataError
from icot.tasks.gsm8k import difficulty, example_from_row
from icot.tasks.records import Records

WORKED = "He has 48/2 = <<48/2=24>>24.\nAltogether 48+24 = <<48+24=72>>72.\n#### 1,072"


@pytest.mark.parametrize(
    "row",
    [
        {"question": "How\nmany?", "answer": WORKED},
        {"question": "How many?", "steps": ["<<48/2=24>>", "<<48+24=72>>"], "answer": "1072"},
        {"question": "How many?", "cot": "<<48/2=24>> <<48+24=72>>", "answer": "1,072"},
    ],
)
def test_all_shapes_make_the_same_example(row):
    expected = "How many?||<<48/2=24>> <<48+24=72>> #### 1072"
    assert example_from_row(row).line() == expected


@pytest.mark.parametrize(
    ("row", "line"),
    [
        ({"question": "a", "cot": "b\nc", "answer": "1"}, "a||b c #### 1"),
        ({"question": "a", "steps": ["b\r\n", " c\nd "], "answer": 7}, "a||b c d #### 7"),
        ({"question": "a", "steps": [], "answer": 0.5}, "a|| #### 0.5"),
        ({"question": "a", "steps": [2, 3], "answer": "1\n2"}, "a||2 3 #### 1 2"),
        ({"question": "a", "answer": "so #### 1"}, "a|| #### 1"),
    ],
)
def test_odd_rows_that_make_an_example(row, line):
    assert example_from_row(row).line() == line


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"question": "a", "answer": "no mark"}, "no '####'"),
        ({"question": "a", "answer": None}, "answer is None"),
        ({"question": None, "cot": "b", "answer": "1"}, "question is None"),
        ({"question": " ", "cot": "b", "answer": "1"}, "no question"),
        ({"question": "a", "cot": "b", "answer": " "}, "no answer"),
        ({"question": "a", "cot": "b", "answer": float("nan")}, "answer is nan"),
        ({"question": "a", "cot": "b", "answer": True}, "answer is True"),
        ({"question": "a", "cot": None, "answer": "1"}, "cot is None"),
        ({"question": "a", "steps": "b", "answer": "1"}, "not a list"),
        ({"question": "a", "steps": [None], "answer": "1"}, "step is None"),
        ({"question": "a || b", "cot": "c", "answer": "1"}, "2 times"),
        ({"question": "a", "cot": "b #### 2", "answer": "1"}, "in its chain"),
        ({"question": "a", "cot": "b", "answer": ["1"]}, "answer is ['1']"),
    ],
)
def test_rows_that_make_no_example(row, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        example_from_row(row)


def data_set(folder, **splits):
    datasets = pytest.importorskip("datasets")
    for split, rows in splits.items():
        datasets.Dataset.from_list(rows).to_json(folder / f"{split}.jsonl")
    return str(folder)


def gsm8k(name, **options):
    return Records("gsm8k", dataset=name, **options)


def examples(task, split="train"):
    return [e.line() for chunk in task.chunks(split) for e in chunk]


def test_a_bad_row_is_named_or_counted(tmp_path):
    good = [{"question": f"q{i}", "cot": "1\n2", "answer": f"{i}"} for i in range(4)]
    bad = {"question": "a || b", "cot": "1", "answer": "1"}
    name = data_set(tmp_path, train=[good[0], good[1], bad, good[2], bad, good[3]])
    with pytest.raises(DataError, match=r"split train, row 2 .*2 times.*task\.on_bad_line=skip"):
        examples(gsm8k(name, held_out=1))
    task = gsm8k(name, held_out=2, on_bad_line="skip")
    assert [line[:7] for line in examples(task)] == ["q0||1 2", "q1||1 2", "q2||1 2"]
    assert task.skipped("train") == 1
    assert (examples(task, "valid"), task.skipped("valid")) == (["q3||1 2 #### 3"], 1)
    with pytest.raises(DataError, match="row 4 "):
        examples(gsm8k(name, held_out=2), "valid")
    assert len(examples(gsm8k(name, held_out=1, train_size=2))) == 2
    with pytest.raises(DataError, match=r"task\.held_out=6: .* only 6"):
        examples(gsm8k(name, held_out=6, on_bad_line="skip"))


def test_other_columns_and_splits_are_named(tmp_path):
    task = gsm8k(data_set(tmp_path, train=[{"problem": "x", "reply": "1"}] * 3), held_out=1)
    with pytest.raises(DataError, match=r"row 0 .*has no 'answer', it has problem, reply"):
        examples(task)
    with pytest.raises(DataError, match="no test split; it has train"):
        examples(task, "test")


def test_a_data_set_is_read_through_the_library(tmp_path):
    rows = [{"question": f"q{i}?", "answer": f"<<{i}+1={i + 1}>> #### {i + 1}"} for i in range(8)]
    task = gsm8k(data_set(tmp_path, train=rows[:6], test=rows[6:]), held_out=2)
    found = {split: examples(task, split) for split in ("train", "valid", "test")}
    assert found["train"] == [f"q{i}?||<<{i}+1={i + 1}>> #### {i + 1}" for i in range(4)]
    assert [line[:2] for line in found["valid"] + found["test"]] == ["q4", "q5", "q6", "q7"]


def test_without_the_hub_the_message_says_what_to_do():
    with pytest.raises(DataError, match=r"task\.data_dir"):
        list(gsm8k("no/such-data-set").chunks("train"))


def test_difficulty_counts_equations():
    assert difficulty("<<48/2=24>> <<48+24=72>>") == {"equations": 2}
    assert difficulty("He has 24 apples.") == {}
