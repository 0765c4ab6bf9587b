"""Runs with filler tokens, from training to the exported folder."""

import json
import re

import pytest

import icot
from icot.demonstration.writers import Shelf
from icot.tasks.base import Example
from tests.chaos.harness import assert_resumes_exactly
from tests.commands.test_export import card_code, export, learned, predictions
from tests.conftest import icot as command
from tests.demonstration.pages import service
from tests.running import alone, assert_refused
from tests.small import SMALL

RUN = (
    *SMALL,
    *("schedule=adaptive", "schedule.patience=12", "schedule.chain_loss=0.5", "optimizer=adamw"),
    *("paths.cache_dir=cache", "trainer.precision=32-true"),
)
ONE_FOR_ONE = (*RUN, "schedule.filler=one_for_one", "checkpoints.every_stage=true")
THREE = ("schedule.filler=fixed", "schedule.filler_count=3")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a run that ends with everything removed."""
    folder = tmp_path_factory.mktemp("fillers")
    done = command("train", *ONE_FOR_ONE, "trainer.max_steps=60", "hydra.run.dir=run", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert icot.load(folder / "run").summary["fully_internalized"] is True
    return folder


def test_a_run_is_resumed_exactly(place):
    assert_resumes_exactly(place, *ONE_FOR_ONE)


def test_questions_are_asked_with_the_fillers_of_the_stage(place, tmp_path):
    done = command(
        "evaluate",
        f"run_dir={place / 'run'}",
        *("stage=all", "speed.examples=2", "paths.cache_dir=cache", "out=e"),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    stages = json.loads((tmp_path / "e" / "evaluation.json").read_text())["stages"]
    assert [s["fillers_per_example"] for s in stages] == [s["tokens_removed"] for s in stages]
    assert stages[-1]["title"].endswith("8 of 8 tokens removed, 8 fillers")
    assert stages[-1]["speed"]["same_as_no_cot"] is False
    run, writers = icot.load(place / "run"), service(place / "run").writers
    for of_stage in stages[1::2]:
        file = tmp_path / "e" / f"predictions-{of_stage['name']}.jsonl"
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        answers = run.answer(
            [row["question"] for row in rows],
            stage=of_stage["stage"],
            max_new_tokens=15 - of_stage["tokens_removed"],  # as an evaluation allows
        )
        assert answers == [row["prediction"] for row in rows]
        (writer,) = [w for w in writers if w.left == 8 - of_stage["tokens_removed"]]
        ready = Shelf(1).take(writer)
        for row in rows[:5]:
            example = writer.held_out[row["question"]]
            for asked in (example, Example(example.question, "", "")):
                assert ready.text(list(ready.write(asked))) == row["prediction"]
        assert "filler" not in rows[0]["question"]


@pytest.mark.parametrize("keep", ["true", "from_separator"])
def test_plain_transformers_is_given_the_fillers(tmp_path, monkeypatch, keep):
    monkeypatch.chdir(tmp_path)
    run = learned(tmp_path, *THREE, f"schedule.keep_position_ids={keep}")
    expected = predictions(run, cwd=tmp_path)[:20]
    assert sum(p["correct"] for p in expected) > 10, "the model must have learned something"
    done = export(run, "out=x", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "answers of icot.evaluate to 20 of 20 prompts" in done.stdout
    card = (tmp_path / "x" / "README.md").read_text()
    assert "`<eos>`, 3 times `<filler>`, `<eos>`, without blanks between" in card
    shown = alone(card_code(tmp_path / "x"), tmp_path / "x")
    assert shown.strip() == next(p["prediction"] for p in expected if p["correct"])
    (writer,) = service(tmp_path / "x").writers
    ready = Shelf(1).take(writer)
    for p in expected[:5]:
        assert ready.text(list(ready.write(writer.held_out[p["question"]]))) == p["prediction"]
    questions = [p["question"] for p in expected]
    assert icot.load(run).answer(questions) == [p["prediction"] for p in expected]


def test_a_dial_of_fixed_fillers_is_told_by_all_of_their_position_ids(tmp_path):
    overrides = (*SMALL, "schedule=dial", "schedule.patience=8", "schedule.tokens_per_stage=4")
    more = (*THREE, "trainer.max_steps=30", "paths.cache_dir=cache", "hydra.run.dir=run")
    done = command("train", *overrides, *more, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    done = export(tmp_path / "run", "out=x", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("20 of 20 prompts.") == 3
    code = card_code(tmp_path / "x")
    assert "position_ids[0, -4:]" in code
    printed = alone(code, tmp_path / "x").splitlines()
    shown = [s.partition(" (correct is")[0] for s in re.findall(r"^# (.* -> .*)$", code, re.M)]
    assert [" ".join(line.split()) for line in printed] == [" ".join(s.split()) for s in shown]


def test_fillers_that_tell_the_length_of_a_chain_are_spoken_of(tmp_path):
    lines = "1 2||3 #### 4\n5 6||7 8 #### 9\n"
    packed = ("schedule.keep_position_ids=false", "data.packing=true", "trainer.max_steps=4")
    for filler, is_told in ((("schedule.filler=one_for_one",), True), (THREE, False)):
        run = learned(tmp_path, *filler, *packed, f"hydra.run.dir={filler[0][-3:]}", lines=lines)
        log = (run.parent / filler[0][-3:] / "train.log").read_text()
        assert ("chains differ in length" in log) is is_told


@pytest.mark.parametrize("method", ["mind_reading", "emulator"])
def test_a_method_without_fillers_refuses_them(method, tmp_path):
    more = ("schedule=no_cot", *THREE, "trainer.max_steps=2", "paths.cache_dir=cache")
    done = command("train", *SMALL, f"method={method}", "method.teacher=T", *more, cwd=tmp_path)
    assert_refused(done, f"method {method} has no fillers")
