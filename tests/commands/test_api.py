"""icot from Python: what the shell does, as functions; the documentation's own example runs."""

import json
import re
import subprocess
import sys

import pytest

import icot
from icot.errors import ConfigError, RunError
from tests.conftest import REPOSITORY
from tests.small import SMALL

PAGE = (REPOSITORY / "docs" / "python.md").read_text(encoding="utf-8")


def test_importing_the_package_imports_nothing_else():
    code = (
        "import sys; before = set(sys.modules); import icot; icot.__version__; dir(icot); "
        "print(sorted(m.split('.')[0] for m in set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    brought = set(json.loads(done.stdout.replace("'", '"')))
    assert not brought & {"torch", "lightning", "transformers", "hydra", "pydantic", "numpy"}


def test_a_public_name_stays_a_function_when_the_entry_point_is_imported():
    from icot.train import main

    assert callable(main)
    assert callable(icot.train)
    assert icot.Example("1", "2", "3").line() == "1||2 #### 3"
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = icot.no_such_name


def test_the_documented_example(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    names: dict = {}
    for block in blocks:
        exec(block, names)
    run = names["run"]
    assert run.summary["steps"] == 20
    assert run.stages[-1]["tokens_removed"] == 8
    assert len(run.answer(["2 1 * 3 4"])) == 1
    printed = capsys.readouterr().out
    assert "did you mean task?" in printed
    assert "has no effect with schedule.kind=fixed" in printed
    assert names["found"]["n"] == 50


def test_a_run_answers_what_its_predictions_say(small_run, tmp_path):
    run = icot.load(small_run)
    rows = [json.loads(line) for line in (small_run / "predictions.jsonl").open()]
    assert run.answer([row["question"] for row in rows]) == [row["prediction"] for row in rows]
    places = {"output_dir": "", "cache_dir": str(tmp_path / "cache")}
    options = {"examples": 10, "speed": {"examples": 0}, "out": str(tmp_path), "paths": places}
    of_stage = run.evaluate(stage="all", **options)
    assert [stage["tokens_removed"] for stage in of_stage["stages"]] == list(range(9))


def test_mistakes_are_the_shells_messages(small_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="did you mean task"):
        icot.train("taks=mult2", "data.batch_size=0")
    with pytest.raises(RunError, match="no such directory"):
        icot.load("nowhere")
    with pytest.raises(ConfigError, match="choose one of"):
        icot.evaluate(run_dir=str(small_run), decode="sometimes")
    with pytest.raises(RunError, match="already holds a run"):
        icot.train(*SMALL, f"hydra.run.dir={small_run}")
    assert list(tmp_path.iterdir()) == []


def test_wrong_arguments_are_messages_too(small_run, tmp_path):
    run = icot.load(small_run, trust="mine")
    assert run.trusted == ("mine",)
    for call, said in (
        (lambda: icot.train("--help"), "of a command line"),
        (lambda: icot.evaluate(), "nothing to evaluate"),
        (lambda: run.answer("2 1 * 3 4"), "a list of questions"),
        (lambda: run.answer(["2 1 * 3 4"], stage="all"), "one stage"),
        (lambda: icot.load(tmp_path / "no.ckpt"), "no such file"),
        (lambda: icot.evaluate(run_dir=str(small_run), predictions="x"), "scored without a run"),
    ):
        with pytest.raises((ConfigError, RunError), match=said):
            call()
    assert run.answer(["2 1 * 3 4"], stage=0) == run.answer(["2 1 * 3 4"], stage="0")
