"""Which overrides each step of a pipeline gets, and what its index says."""

import json
from pathlib import Path

import pytest

from icot.config.entry_points import StepConfig
from icot.errors import ConfigError
from icot.runs.pipelines import plan_steps, split_overrides

STEPS = {
    "one": StepConfig(command="train", fixed=["schedule=explicit"], settings=["seed=1"]),
    "two": StepConfig(
        command="train", fixed=["method=mind_reading", "method.teacher=<one>", "schedule=no_cot"]
    ),
    "judge": StepConfig(command="evaluate", fixed=["run_dir=<two>"], settings=["stage=best"]),
}


def overrides(*typed: str) -> dict[str, tuple[str, ...]]:
    return {step.name: step.overrides for step in plan_steps(STEPS, typed)}


def test_an_override_goes_to_the_steps_that_know_its_key():
    found = overrides("task=mult4", "trainer.max_steps=7", "speed.examples=0", "experiment=null")
    assert found["one"] == (
        *("schedule=explicit", "seed=1", "task=mult4", "trainer.max_steps=7", "experiment=null"),
    )
    assert found["two"][-3:] == ("task=mult4", "trainer.max_steps=7", "experiment=null")
    assert found["judge"] == ("run_dir=<two>", "stage=best", "speed.examples=0")


def test_the_later_and_the_more_specific_counts():
    assert overrides("seed=2")["one"] == ("schedule=explicit", "seed=2")
    assert overrides("one.seed=3", "seed=2")["one"] == ("schedule=explicit", "seed=3")
    assert "seed=2" in overrides("one.seed=3", "seed=2")["two"]
    assert overrides("one.schedule=icot_si")["one"][0] == "schedule=icot_si"
    assert overrides("+one.callbacks.x.y=1")["one"][-1] == "+callbacks.x.y=1"


def test_a_step_reads_the_directories_of_those_it_needs():
    steps = plan_steps(STEPS, [])
    assert [step.needs for step in steps] == [(), ("one",), ("two",)]
    assert steps[1].words(Path("p q"))[1] == "method.teacher='p q/one'"
    assert steps[1].words(Path("p"))[-2:] == ["resume=auto", "hydra.run.dir=p/two"]
    assert steps[2].program(Path("p")) == (
        "python -m icot.evaluate run_dir=p/two stage=best out=p/judge"
    )


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("schedule=icot_si", "the steps of this pipeline set schedule themselves"),
        ("jugde.examples=3", "there is no step jugde; did you mean judge?"),
    ],
)
def test_what_no_step_takes_is_an_error(typed, said):
    with pytest.raises(ConfigError, match=said):
        overrides(typed)


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ({}, "there is no pipeline"),
        ({"a": StepConfig(command="brew")}, "steps.a.command=brew: choose one of train, sample"),
        ({"a": StepConfig(command="train", fixed=["method.teacher=<b>"])}, "<b> is no earlier"),
        ({"model": StepConfig(command="train")}, "model is a key of a command"),
        ({"a b": StepConfig(command="train")}, "letters, digits and _"),
    ],
)
def test_mistakes_in_the_steps_themselves(steps, said):
    with pytest.raises(ConfigError, match=said):
        plan_steps(steps, [])


def test_the_pipelines_own_overrides():
    typed = ["+pipeline=icot_kd", "task=mult4", "out=x", "paths.output_root=y", "paths.data_dir=z"]
    own, for_steps = split_overrides([*typed, "hydra/launcher=slurm", "student.seed=1"])
    assert own == ["+pipeline=icot_kd", "out=x", "paths.output_root=y", "hydra/launcher=slurm"]
    assert for_steps == ["task=mult4", "paths.data_dir=z", "student.seed=1"]


def test_a_step_has_finished_when_its_record_says_so(tmp_path):
    steps = {
        "corpus": StepConfig(command="sample", fixed=["teacher=run"]),
        "judge": StepConfig(command="evaluate", fixed=["run_dir=x"]),
    }
    corpus, judge = plan_steps(steps, [])
    found = []
    for content in ({}, {"content_hash": "1"}, {"accuracy": 0.25, "unfinished": "1 of 2"}):
        for name, file in (("corpus", "samples.json"), ("judge", "evaluation.json")):
            (tmp_path / name).mkdir(exist_ok=True)
            (tmp_path / name / file).write_text(json.dumps(content))
        found.append((corpus.is_finished(tmp_path), judge.is_finished(tmp_path)))
    assert found == [(False, True), (True, True), (False, False)]
    assert judge.result(tmp_path) == "accuracy 0.25"


def test_a_report_has_finished_when_its_page_is_there(tmp_path):
    steps = {
        "base": StepConfig(command="train"),
        "judge": StepConfig(command="evaluate", fixed=["run_dir=<base>"]),
        "page": StepConfig(command="report", fixed=["runs=[<base>,<judge>]"]),
    }
    page = plan_steps(steps, ["task=mult2", "split=test"])[2]
    assert page.needs == ("base", "judge")
    assert page.program(Path("p")) == "python -m icot.report 'runs=[p/base,p/judge]' out=p/page"
    (tmp_path / "page").mkdir()
    (tmp_path / "page" / "report.md").write_text("the last file is another")
    assert not page.is_finished(tmp_path)
    (tmp_path / "page" / "report.html").write_text("<html>")
    assert page.is_finished(tmp_path)
