"""The examples of ``icot.evaluate`` besides the run's own: their names, splits and refusals."""

import json
from pathlib import Path

import pytest

from icot.commands.evaluate_prompted import score_prompted
from icot.commands.sources import column_names, further_sources, own_source
from icot.config.command_line import CommandLine, compose_config
from icot.errors import ConfigError, DataError
from icot.runs.directory import describe
from icot.runs.kept_run import KeptRun

LINE = "1 0 1 1||1 1 0 1 #### 1\n"
SIZES = ("task.train_size=8", "task.valid_size=2", "task.test_size=2")


def run_on(folder: Path, *task: str) -> KeptRun:
    """A run directory with its configuration, without weights."""
    cfg = compose_config("train", list(task))
    describe(folder, cfg, "python -m icot.train", {}, {}, 0)
    return KeptRun(folder)


def sources(run: KeptRun, *also, split="valid"):
    cfg = compose_config("evaluate", [f"run_dir={run.folder}", f"split={split}"])
    return further_sources(cfg.model_copy(update={"also": list(also)}), run)


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("test.txt", "a/test.txt", "b/test.txt", "mult2.txt", "length-8.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(LINE)
    return tmp_path


@pytest.mark.parametrize(
    ("also", "names"),
    [
        (["a/test.txt"], ["test"]),
        (["a/test.txt", "b/test.txt"], ["a/test.txt", "b/test.txt"]),
        (["mult2.txt", "mult2"], ["mult2.txt", "mult2"]),
        ([{"length": 8}, "length-8.txt"], ["length=8", "length-8.txt"]),
        ([{"task": "sum", "digits": 1}, {"digits": 1}], ["sum digits=1", "digits=1"]),
    ],
)
def test_each_column_has_a_name_of_its_own(files, also, names):
    assert column_names(also) == names


def test_files_of_one_name_are_two_columns(files):
    run = run_on(files / "run", "task=parity", "task.bits=4", *SIZES)
    found = sources(run, "test.txt", "b/test.txt")
    assert [source.name for source in found.values()] == ["test.txt", "b/test.txt"]


@pytest.mark.parametrize("also", [["test.txt", "./test.txt"], ["mult2", {"task": "mult2"}]])
def test_the_same_examples_twice_are_refused(files, also):
    with pytest.raises(ConfigError, match="also: two entries have the name"):
        column_names(also)


def test_other_hidden_positions_are_refused(tmp_path):
    run = run_on(tmp_path / "hidden", "task=parity", "task.bits=20", "task.hidden=6")
    for also in ({"bits": 24}, {"seed": 1}, {"task": "parity", "bits": 24, "hidden": 6}):
        with pytest.raises(ConfigError, match=r"other hidden positions.*set distractors="):
            sources(run, also)
    assert list(sources(run, {"distractors": 4, "train_size": 8})) == ["distractors=4 train_size=8"]
    every = run_on(tmp_path / "every", "task=parity", "task.bits=8", *SIZES)
    assert list(sources(every, {"bits": 12})) == ["bits=12"]


def test_records_are_not_lines(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"question": "q?", "answer": "It is 1. #### 1"}) + "\n")
    run = run_on(tmp_path / "run", "task=parity", "task.bits=4", *SIZES)
    message = rf"rows.jsonl: holds records.*also=\[\{{task: NAME, data_dir: {tmp_path}, test_file: "
    with pytest.raises(DataError, match=message):
        sources(run, str(path))
    own = compose_config("evaluate", [f"run_dir={run.folder}", f"data_file={path}"])
    with pytest.raises(DataError, match=message):
        own_source(own, run)
    prompted = ["predictor=prompted", "prompt=native", "task=gsm8k_nl", f"data_file={path}"]
    model = ["predictor.name_or_path=none"]
    with pytest.raises(DataError, match=r"task=NAME task\.data_dir="):
        score_prompted(compose_config("evaluate", prompted + model), CommandLine("evaluate"))
    also = {"task": "gsm8k_nl", "data_dir": str(tmp_path), "test_file": "rows.jsonl"}
    (source,) = sources(run, also).values()
    assert [e.answer for part in source.texts.chunks(source.split) for e in part] == ["1"]
