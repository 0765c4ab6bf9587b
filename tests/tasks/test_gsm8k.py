import pytest

from icot.errors import DataError
from icot.tasks.gsm8k import HubGSM8K, difficulty, example_from_row

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


@pytest.mark.parametrize("row", [{"problem": "x"}, {"question": "x", "answer": "no mark"}])
def test_other_shapes_are_refused(row):
    with pytest.raises(ValueError, match=r"columns|####"):
        example_from_row(row)


def test_a_data_set_is_read_through_the_library(tmp_path):
    datasets = pytest.importorskip("datasets")
    rows = [{"question": f"q{i}?", "answer": f"<<{i}+1={i + 1}>> #### {i + 1}"} for i in range(8)]
    for split, part in (("train", rows[:6]), ("test", rows[6:])):
        datasets.Dataset.from_list(part).to_json(tmp_path / f"{split}.jsonl")
    task = HubGSM8K(str(tmp_path), held_out=2)
    found = {s: [e.line() for c in task.chunks(s) for e in c] for s in ("train", "valid", "test")}
    assert found["train"] == [f"q{i}?||<<{i}+1={i + 1}>> #### {i + 1}" for i in range(4)]
    assert [line[:2] for line in found["valid"] + found["test"]] == ["q4", "q5", "q6", "q7"]


def test_without_the_hub_the_message_says_what_to_do():
    with pytest.raises(DataError, match=r"task\.data_dir"):
        list(HubGSM8K("no/such-data-set").chunks("train"))


def test_difficulty_counts_equations():
    assert difficulty("<<48/2=24>> <<48+24=72>>") == {"equations": 2}
    assert difficulty("He has 24 apples.") == {}
