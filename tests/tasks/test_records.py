"""Records of published files and shapes, whole and damaged."""

import json
import re
from collections import Counter

import pytest

from icot.commands.build import build_task
from icot.config.command_line import compose_config
from icot.errors import ConfigError, DataError
from icot.tasks.prosqa import NEXT, shortest_paths
from icot.tasks.records import FORMATS, Records, read_records
from icot.tasks.text_files import TextFiles


def examples(task, split):
    return [e for part in task.chunks(split) for e in part]


def test_published_prosqa_problems(real_data):
    task = Records("prosqa", real_data / "prosqa", valid_file="prosqa_valid.json")
    found = examples(task, "valid")
    assert len(found) == 300
    assert task.size("train") == task.size("test") == 0
    for e in found:
        edges = NEXT.findall(e.question)
        path = NEXT.findall(e.cot)
        person, target = path[0][0], path[-1][1]
        assert e.answer == f"{person} is a {target}."
        assert path in shortest_paths(edges, person)[target]
    assert Counter(len(NEXT.findall(e.cot)) for e in found) == {4: 133, 3: 124, 5: 36, 6: 7}


def test_published_prontoqa_problems(real_data):
    task = Records("prontoqa", real_data / "prontoqa", test_file="prontoqa_dev_first300.json")
    found = examples(task, "test")
    assert Counter(e.answer for e in found) == {"True": 155, "False": 145}
    for e in found:
        facts, statement = e.question.split(" Is the following statement true or false? ")
        last = e.cot.split(". ")[-1].removesuffix(".")
        negated = (" not " in last) != (" not " in statement)
        assert last.replace(" not", "") == statement.removesuffix(".").replace(" not", "")
        assert e.answer == str(not negated)
        assert e.cot.split(". ")[0] in facts


def test_prontoqa_rows_of_two_publications():
    steps = ["Max is a yumpus.", "Max is not wooden."]
    published = {
        "context": "Each yumpus is not wooden. Max is a yumpus.",
        "question": "Is the following statement true or false? Max is wooden.",
        "options": ["A) True", "B) False"],
        "explanation": steps,
        "answer": "B",
    }
    prepared = {
        "question": f"{published['context']} {published['question']}",
        "steps": steps,
        "answer": "False",
    }
    assert FORMATS["prontoqa"](prepared) == FORMATS["prontoqa"](published)


def test_natural_chains_are_the_published_ones(real_data):
    """6,973 of OpenAI's 7,473 problems are in the published file, word by word."""
    folder = real_data / "gsm8k"
    task = Records("gsm8k_nl", folder, train_file="openai_train.jsonl", held_out=0)
    ours = {e.question: e for e in examples(task, "train")}
    published = TextFiles(folder, "train_no_aug.txt", None, None)
    theirs = examples(published, "train")
    assert (len(ours), len(theirs)) == (7_473, 6_973)
    for e in theirs:
        mine = ours[" ".join(e.question.split())]
        assert (mine.cot, mine.answer) == (" ".join(e.cot.split()), e.answer)


def test_the_last_training_records_are_held_out(real_data):
    folder = real_data / "gsm8k"
    task = Records("gsm8k", folder, train_file="openai_train.jsonl", held_out=473)
    train, valid = examples(task, "train"), examples(task, "valid")
    assert (len(train), len(valid)) == (7_000, 473)
    whole = Records("gsm8k", folder, train_file="openai_train.jsonl", held_out=0)
    assert train + valid == examples(whole, "train")
    assert task.fingerprint("valid") != task.fingerprint("train")


@pytest.mark.parametrize(
    ("format", "row", "line"),
    [
        (
            "svamp",
            {"Body": "Jack got 10 emails", "Question": "How many?", "Answer": 10.0},
            "Jack got 10 emails. How many?|| #### 10",
        ),
        ("svamp", {"Body": "Is it 5?", "Question": "How many?", "Answer": "0.5"}, None),
        ("multiarith", {"question": "How\nmany?", "final_ans": "9"}, "How many?|| #### 9"),
        ("multiarith", {"sQuestion": "How many?", "lSolutions": [9.0]}, "How many?|| #### 9"),
        ("gsm_hard", {"input": "How many?", "target": 9867630.0}, "How many?|| #### 9867630"),
        ("gsm_hard", {"input": "How many?", "target": 1234567.25}, "How many?|| #### 1234567.25"),
    ],
)
def test_word_problems(format, row, line):
    found = FORMATS[format](row).line()
    assert found == (line or "Is it 5? How many?|| #### 0.5")


@pytest.mark.parametrize("shape", ["list", "object", "lines"])
def test_a_file_is_a_list_an_object_with_one_or_lines(tmp_path, shape):
    rows = [{"input": f"q{i}", "target": i} for i in range(3)]
    text = {
        "list": json.dumps(rows, indent=1),
        "object": json.dumps({"name": "x", "notes": [1, 2], "examples": rows}),
        "lines": "\ufeff" + "\n\n".join(json.dumps(row) for row in rows) + "\n",
    }[shape]
    (tmp_path / "test.json").write_text(text, encoding="utf-8")
    found = examples(Records("gsm_hard", tmp_path), "test")
    assert [e.line() for e in found] == [f"q{i}|| #### {i}" for i in range(3)]


def test_a_bad_record_is_named_or_counted(tmp_path):
    rows = [
        {"input": "q", "target": 1},
        {"input": "a || b", "target": 2},
        {"input": "no answer"},
        7,
    ]
    (tmp_path / "test.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(DataError, match=r"test.jsonl, line 2: has 2 times '\|\|'.*on_bad_line"):
        examples(Records("gsm_hard", tmp_path), "test")
    task = Records("gsm_hard", tmp_path, on_bad_line="skip")
    assert len(examples(task, "test")) == 1
    assert task.skipped("test") == 3
    (tmp_path / "test.jsonl").write_text(json.dumps(rows[2]))
    with pytest.raises(DataError, match=r"record 0 .*has no 'target', it has input"):
        examples(Records("gsm_hard", tmp_path), "test")
    (tmp_path / "test.jsonl").write_text('{"input": "q", "target": 1}\n{"input": ')
    with pytest.raises(DataError, match=r"test.jsonl, line 2: is not JSON"):
        read_records(tmp_path / "test.jsonl")


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(DataError, match=re.escape(f"task.test_file={tmp_path / 'x.json'}")):
        Records("svamp", tmp_path, test_file="x.json")
    with pytest.raises(DataError, match=re.escape(f"task.train_file={tmp_path / 'x'}")):
        Records("svamp", tmp_path, train_file="x")
    with pytest.raises(DataError, match="neither train, valid nor test"):
        Records("svamp", tmp_path)
    with pytest.raises(ValueError, match=r"task\.data_dir or task\.dataset"):
        Records("svamp")
    with pytest.raises(ValueError, match=r"task\.test_file=x.json is a file.*set task\.data_dir"):
        Records("svamp", dataset="x/svamp", test_file="x.json")
    with pytest.raises(ValueError, match="format must be one of gsm8k, "):
        Records("gsm9k", tmp_path)


def test_splits_of_a_data_set_by_its_own_names(tmp_path):
    datasets = pytest.importorskip("datasets")
    rows = [{"input": f"q{i}", "target": i} for i in range(6)]
    datasets.Dataset.from_list(rows).to_json(tmp_path / "train.jsonl")
    only_test = Records("gsm_hard", dataset=str(tmp_path), test_file="train")
    assert len(examples(only_test, "test")) == 6
    assert only_test.size("train") == only_test.size("valid") == 0
    both = Records("gsm_hard", dataset=str(tmp_path), held_out=2)
    assert [e.question for e in examples(both, "valid")] == ["q4", "q5"]
    assert [e.question for e in examples(both, "train")] == ["q0", "q1", "q2", "q3"]
    with pytest.raises(DataError, match="has no test split"):
        examples(both, "test")


ROWS = {
    "svamp": {"Body": "b", "Question": "q?", "Answer": 1},
    "multiarith": {"question": "q?", "final_ans": "1"},
    "gsm_hard": {"input": "q?", "target": 1},
    "gsm8k_nl": {"question": "q?", "answer": "It is one. #### 1"},
}


def write_rows(path, row, count):
    path.write_text("\n".join([json.dumps(row)] * count))


@pytest.mark.parametrize("name", ROWS)
def test_evaluation_sets_by_one_option_from_local_files(tmp_path, name):
    write_rows(tmp_path / "test.json", ROWS[name], 1)
    options = [f"task={name}", f"task.data_dir={tmp_path}", "task.test_file=test.json"]
    task = build_task(compose_config("train", options).task)
    assert [e.answer for e in examples(task, "test")] == ["1"]
    assert task.name == name


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("multiarith", {"train": 420, "test": 180}),
        ("svamp", {"train": 700, "test": 300}),
        ("gsm_hard", {"test": 5}),
    ],
)
def test_word_problems_are_judged_on_their_test_split(tmp_path, name, files):
    """Never on training records, in files as on the hub."""
    for split, count in files.items():
        write_rows(tmp_path / f"{split}.jsonl", ROWS[name], count)
    local = build_task(compose_config("train", [f"task={name}", f"task.data_dir={tmp_path}"]).task)
    hub = build_task(compose_config("train", [f"task={name}"]).task)
    assert local.size("valid") == hub.size("valid") == 0
    assert len(examples(local, "test")) == files["test"]
    assert len(examples(local, "train")) == files.get("train", 0)


def test_a_missing_training_file_is_missed_when_it_is_read(tmp_path):
    row = {"question": "q?", "steps": ["s."], "answer": "a"}
    for split in ("valid", "test"):
        write_rows(tmp_path / f"prosqa_{split}.json", row, 3)
    options = ["task=prosqa_files", f"task.data_dir={tmp_path}"]
    task = build_task(compose_config("train", options).task)
    assert len(examples(task, "valid")) == len(examples(task, "test")) == 3
    message = rf"missing data files: task\.train_file={tmp_path / 'prosqa_train.json'}\. Set task"
    for read in (task.fingerprint, lambda split: examples(task, split)):
        with pytest.raises(DataError, match=message):
            read("train")
    (tmp_path / "prosqa_test.json").unlink()
    with pytest.raises(DataError, match=r"task\.test_file="):
        build_task(compose_config("train", options).task)


def test_a_format_that_does_not_exist_is_an_error_of_the_command_line():
    with pytest.raises(ConfigError, match=r"task\.format"):
        compose_config("train", ["task=svamp", "task.format=svump"])
