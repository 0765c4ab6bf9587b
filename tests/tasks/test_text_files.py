import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icot.errors import DataError
from icot.tasks.base import Example
from icot.tasks.lines import write_line
from icot.tasks.text_files import TextFiles

GOOD = ["a?||<<1+1=2>> #### 2", "b?|| #### 3", "c|d?||x #### 4 #### 5"]


def folder(tmp_path, lines):
    (tmp_path / "train.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (tmp_path / "valid.txt").write_text(GOOD[0] + "\n", encoding="utf-8")
    return tmp_path


def read(task):
    return [e for chunk in task.chunks("train") for e in chunk]


def test_reads_the_format(tmp_path):
    examples = read(TextFiles(folder(tmp_path, GOOD), test_file=None))
    assert [(e.question, e.cot, e.answer) for e in examples] == [
        ("a?", "<<1+1=2>>", "2"),
        ("b?", "", "3"),
        ("c|d?", "x", "4 #### 5"),
    ]


@pytest.mark.parametrize(
    "bad",
    [
        "no bars #### 1",
        "two||bars||here #### 1",
        "no mark||1 + 1 = 2",
        "no answer||x ####  ",
        " || x #### no question",
        "",
    ],
)
def test_a_bad_line_names_file_and_line_or_is_counted(tmp_path, bad):
    path = folder(tmp_path, [GOOD[0], bad, GOOD[1]])
    with pytest.raises(DataError, match=r"train\.txt, line 2: "):
        read(TextFiles(path, test_file=None))
    task = TextFiles(path, test_file=None, on_bad_line="skip")
    assert len(read(task)) == 2
    assert task.skipped("train") == 1


def test_bytes_that_are_no_text_name_the_line(tmp_path):
    path = folder(tmp_path, GOOD)
    (path / "train.txt").write_bytes(GOOD[0].encode() + b"\n\xff\xfe||x #### 1\n")
    with pytest.raises(DataError, match="line 2"):
        read(TextFiles(path, test_file=None))


def test_answers_have_no_commas_as_in_the_published_code_and_the_hub_task(tmp_path):
    task = TextFiles(folder(tmp_path, ["a, b?||1,000 #### 1,234,567", GOOD[0]]), test_file=None)
    assert [(e.question, e.cot, e.answer) for e in read(task)] == [
        ("a, b?", "1,000", "1234567"),
        ("a?", "<<1+1=2>>", "2"),
    ]
    assert Example("a", "b", "1,234").answer == "1234"
    task = TextFiles(folder(tmp_path, ["a||b #### 6 ,", "a||b #### , 7"]), test_file=None)
    assert [e.answer for e in read(task)] == ["6", "7"]
    task = TextFiles(folder(tmp_path, ["a||b #### ,"]), test_file=None)
    with pytest.raises(DataError, match="line 1: has no answer"):
        read(task)


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("last", [True, False])
def test_how_lines_end_and_how_a_file_begins_changes_no_example(tmp_path, end, mark, last):
    path = folder(tmp_path, GOOD)
    expected = read(TextFiles(path, test_file=None))
    content = mark + end.join(line.encode() for line in GOOD) + (end if last else b"")
    (path / "train.txt").write_bytes(content)
    assert read(TextFiles(path, test_file=None)) == expected


@pytest.mark.parametrize(
    ("content", "version"),
    [
        (b"a||b #### 1\nc, d||1,2 #### 3\n", 1),
        (b"a||b #### 1\nc||d #### 1,000\n", 2),
        (b"\xef\xbb\xbfa||b #### 1\n", 2),
        (b"a||b #### 1\n ||c #### 2\n", 2),
        (b"a||b #### 1\nc||d #### \r\n", 2),
    ],
)
def test_only_files_that_are_read_in_another_way_than_before_count_as_other_data(
    tmp_path, content, version
):
    """Else a run of before could not be resumed."""
    path = folder(tmp_path, GOOD)
    (path / "train.txt").write_bytes(content)
    task = TextFiles(path, test_file=None, on_bad_line="skip")
    assert task.fingerprint("train")["version"] == version


def test_a_limit_reads_no_further(tmp_path):
    path = folder(tmp_path, [GOOD[0], "bad", GOOD[1], "nonsense"])
    with pytest.raises(DataError, match="line 2"):
        read(TextFiles(path, test_file=None, train_size=2))
    assert len(read(TextFiles(path, test_file=None, train_size=1))) == 1
    task = TextFiles(path, test_file=None, train_size=2, on_bad_line="skip")
    assert (len(read(task)), task.skipped("train")) == (2, 1)


TEXT = st.text(st.characters() | st.sampled_from("|#, \n\r\ufeff"), max_size=6)


@given(question=TEXT, cot=TEXT, answer=TEXT)
def test_a_line_is_read_back_or_not_written(tmp_path_factory, question, cot, answer):
    example = Example(question, cot, answer)
    try:
        line = write_line(example)
    except ValueError:
        return
    path = tmp_path_factory.getbasetemp() / "written"
    path.mkdir(exist_ok=True)
    (path / "train.txt").write_bytes(f"{line}\n".encode())
    (path / "valid.txt").touch()
    assert read(TextFiles(path, test_file=None)) == [example]


@pytest.mark.parametrize(
    ("example", "said"),
    [
        (Example("a", "b\nc", "1"), "line break"),
        (Example("a || b", "c", "1"), "2 times '||'"),
        (Example("a", "b #### 2", "1"), "'####' in its chain"),
        (Example("a", "b", " "), "no answer"),
        (Example(" a", "b", "1"), "white space"),
        (Example("a", "\ud800", "1"), "UTF-8"),
        (Example("\ufeffa", "b", "1"), "byte order mark"),
    ],
)
def test_why_a_line_is_not_written(example, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        write_line(example)


def test_missing_files_are_named_together(tmp_path):
    with pytest.raises(DataError, match=r"train_file=.*valid_file=.*test_file="):
        TextFiles(tmp_path)


def test_sizes_limit_what_is_read(tmp_path):
    task = TextFiles(folder(tmp_path, GOOD), test_file=None, train_size=2)
    assert len(read(task)) == 2
    assert task.fingerprint("train") != TextFiles(tmp_path, test_file=None).fingerprint("train")


def test_the_published_gsm8k_files_are_in_the_format(real_data):
    task = TextFiles(
        real_data / "gsm8k", train_file="train_no_aug.txt", test_file=None, name="gsm8k"
    )
    assert len(read(task)) == 6973
    (valid,) = task.chunks("valid")
    assert len(valid) == 500
    assert valid[0].cot.startswith("<<4-2=2>> <<2/.5=4>>")
    assert valid[0].line() == (real_data / "gsm8k" / "valid.txt").read_text().splitlines()[0]
