import json

import pytest

from icot.errors import DataError
from icot.evaluation.predictions import Prediction, WrongToken, read_predictions, write_predictions
from icot.tasks.answers import extract_answer


def same(text: str, target: str) -> bool:
    return extract_answer(text) == extract_answer(target)


def test_what_is_written_is_read_and_scored_anew(tmp_path):
    path = tmp_path / "p.jsonl"
    wrong = Prediction(1, "q", "#### é1", "#### 2", True, 3, WrongToken(1, "1", "2"))
    write_predictions(path, [Prediction(0, "q", "x #### 1,0", "y #### 10", False), wrong])
    assert [p.correct for p in read_predictions(path, same)] == [True, False]
    assert json.loads(path.read_text().splitlines()[1])["first_wrong"]["expected"] == "1"
    assert "é" in path.read_text(encoding="utf-8")


def test_other_keys_order_and_blank_lines_do_not_matter(tmp_path):
    path = tmp_path / "p.jsonl"
    path.write_text('{"prediction": "#### 1", "x": 1, "target": "#### 1"}\n\n  \n')
    (found,) = read_predictions(path, same)
    assert found.correct


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "the file is empty"),
        (b"1 + 1||2 #### 2\n", "line 1: is not JSON"),
        (b'{"target": "1", "prediction": "1"}\n{"target": "1"}\n', 'line 2: has no "prediction"'),
        (b'{"target": 1, "prediction": "1"}\n', '"target" is not a string'),
        (b"[1]\n", "is not a JSON object"),
        (b"\xff\xfe\x00\n", "line 1: is not JSON"),
        (b"[" * 100_000, "line 1: is not JSON"),
        (rb'{"target": "1", "prediction": "\ud83d"}', '"prediction" contains half of a character'),
    ],
)
def test_a_file_of_another_format_is_named_with_its_line(tmp_path, content, expected):
    path = tmp_path / "p.jsonl"
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"(?s)p.jsonl.*{expected}"):
        read_predictions(path, same)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match="nowhere"):
        read_predictions(tmp_path / "nowhere", same)
