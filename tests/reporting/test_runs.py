"""What a report takes for one series, what it finds, and what it says of what it cannot read."""

import json

import pytest

from icot.config.identity import leaves
from icot.errors import RunError
from icot.reporting.finding import find_runs
from icot.reporting.sections import document
from icot.reporting.series import gather_series
from tests.made_runs import composed, make_index, make_run


def series_of(folder) -> list[list[int]]:
    return [[run.cfg.seed for run in one.runs] for one in gather_series(find_runs([folder]).runs)]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("trainer.max_steps", 77),
        ("trainer.max_epochs", 7),
        ("trainer.finish_steps", 5),
        ("trainer.max_time", "00:01:00:00"),
        ("on_collapse", "rollback"),
        ("on_nonfinite", "rollback"),
        ("optimizer.weight_decay", 0.5),
    ],
)
def test_a_value_that_changes_a_result_makes_another_series(tmp_path, key, value):
    make_run(tmp_path / "a", changes={"seed": 1})
    make_run(tmp_path / "b", changes={"seed": 2, key: value})
    assert sorted(series_of(tmp_path)) == [[1], [2]]
    labels = {one.label for one in gather_series(find_runs([tmp_path]).runs)}
    assert len(labels) == 2


def test_the_precision_is_the_one_that_was_computed_with(tmp_path):
    auto = {"trainer.precision": "auto"}
    make_run(tmp_path / "a", changes={"seed": 1, **auto})
    make_run(tmp_path / "b", changes={"seed": 2, **auto}, precision="bf16-mixed")
    make_run(tmp_path / "c", changes={"seed": 3, "trainer.precision": "32-true"})
    assert sorted(series_of(tmp_path)) == [[1, 3], [2]]


def test_runs_that_differ_in_their_seed_and_in_how_they_were_kept_are_one_series(tmp_path):
    make_run(tmp_path / "a", changes={"seed": 1, "checkpoints.keep": 5, "logger.project": "x"})
    make_run(tmp_path / "b", changes={"seed": 2, "data.num_workers": 2, "validation.shown": 0})
    assert series_of(tmp_path) == [[1, 2]]


def test_every_key_of_the_configuration_is_counted_or_named_as_without_effect(tmp_path):
    (run,) = find_runs([make_run(tmp_path / "a")]).runs
    kept = {key.split(".")[0] for key in leaves(composed("figure3_full_cpu").as_dict())}
    counted = {key.split(".")[0] for key in run.settings}
    assert kept - counted == {"seed", "resume", "trust", "paths", "logger", "paper", "checkpoints"}


def test_a_stage_that_was_trained_again_is_not_another_seed(tmp_path):
    """After a return at 3 removed the run went on from 2 again."""
    curve = ((0, 0.9), (2, 0.8), (3, 0.1), (2, 0.7), (3, 0.6))
    make_run(tmp_path / "a", changes={"seed": 1}, curve=curve)
    make_run(tmp_path / "b", changes={"seed": 2}, curve=((0, 0.7), (2, 0.5)))
    (one,) = gather_series(find_runs([tmp_path]).runs)
    assert one.curve == {0: [0.9, 0.7], 2: [0.7, 0.5], 3: [0.6]}


def every_run(folder) -> dict[str, list[str]]:
    (section,) = [s for s in document(find_runs([folder])).sections if s.title == "Every run"]
    return {row[0]: list(row) for row in section.tables[0].rows}


def test_a_failure_is_told_whatever_other_runs_are_called(tmp_path):
    """Two sweeps of one shape; in the second the same run has failed, once begun and once not."""
    for sweep in ("one", "two"):
        make_run(tmp_path / sweep / "seed_1", changes={"seed": 1}, sweep=sweep)
    make_run(tmp_path / "one" / "seed_2", changes={"seed": 2}, sweep="one")
    make_run(tmp_path / "two" / "seed_2", changes={"seed": 2}, accuracy=None, sweep="two")
    make_run(tmp_path / "one" / "seed_3", changes={"seed": 3}, sweep="one")
    make_index(tmp_path / "one", *[(f"seed={n}", f"seed_{n}", "") for n in (1, 2, 3)])
    make_index(
        tmp_path / "two",
        ("seed=1", "seed_1", ""),
        ("seed=2", "seed_2", "out of memory"),
        ("seed=3", "seed_3", "no space left"),
        ("seed=4", "", ""),
    )
    found = find_runs([tmp_path, tmp_path / "two"])
    assert len(found.missing) == 3
    text = document(found).text
    assert "3 runs of sweeps are unfinished" in text
    (section,) = [s for s in document(found).sections if s.title == "Every run"]
    states = [row[1] for row in section.tables[0].rows]
    assert sorted(states) == sorted(
        ["finished"] * 4 + ["failed: out of memory", "failed: no space left", "not started"]
    )


def test_what_cannot_be_read_is_named_and_the_rest_is_reported(tmp_path):
    good = make_run(tmp_path / "good")
    (good / "evaluations" / "final_valid").mkdir(parents=True)
    damage = {
        good / "evaluations" / "final_valid" / "evaluation.json": "[]",
        make_run(tmp_path / "a") / "config.yaml": "a: [1",
        make_run(tmp_path / "b") / "summary.json": "{",
        make_run(tmp_path / "c") / "stages.csv": "stage,tokens_removed\n0,\n",
        make_run(tmp_path / "d") / "environment.json": "7",
        make_run(tmp_path / "e") / "summary.json": '{"accuracy": 1.0}',
        make_run(tmp_path / "f") / "tradeoff.csv": "x\n1\n",
        tmp_path / "index.csv": "not,an,index\n1,2,3\n",
    }
    for path, text in damage.items():
        path.write_text(text)
    found = find_runs([tmp_path])
    assert sorted(run.folder.name for run in found.runs) == ["f", "good"]
    assert len(found.unreadable) == len(damage)
    for path in damage:
        assert any(message.startswith(f"{path}: ") for message in found.unreadable)
    (section,) = [s for s in document(found).sections if s.title == "Not read"]
    assert len(section.tables[0].rows) == len(damage)
    with pytest.raises(RunError, match=r"no run can be read.*config\.yaml"):
        find_runs([tmp_path / "a"])


def keep_evaluation(run, name, **record) -> None:
    folder = run / "evaluations" / name
    folder.mkdir(parents=True)
    whole = {"n": 100, "accuracy": 0.75, "data": "task mult2", "split": "test", **record}
    (folder / "evaluation.json").write_text(json.dumps(whole))


def test_the_speed_is_that_of_the_newest_evaluation_of_the_final_weights(tmp_path):
    def speed(value: float) -> dict:
        return {"speed": {"speed_over_no_cot": value}, "stage": 1, "fully_internalized": True}

    run = make_run(tmp_path / "run", curve=((0, 0.9), (8, 0.5)))
    assert find_runs([run]).runs[0].speed is None
    keep_evaluation(run, "a", **speed(0.97), tokens_removed=8, evaluated="2026-01-01T00:00:00")
    keep_evaluation(run, "b", **speed(1.02), tokens_removed=7, evaluated="2026-01-02T00:00:00")
    for name, other in (
        ("stage", {"stage": 0, "fully_internalized": False, "tokens_removed": 0}),
        ("asked", {"fully_internalized": False, "tokens_removed": 3}),
        ("mine", {"data": "mine.txt", "tokens_removed": 8}),
        ("untimed", {"speed": None}),
    ):
        keep_evaluation(run, name, **{**speed(0.1), "evaluated": "2026-02-02T00:00:00", **other})
    found = find_runs([run])
    assert found.unreadable == []
    assert found.runs[0].speed == 1.02
    (section,) = [s for s in document(found).sections if s.title == "Evaluations"]
    assert len(section.tables[0].rows) == 6


def test_the_trade_off_is_found_where_each_version_wrote_it(tmp_path):
    header = "name,tokens_removed,accuracy,speed,baseline,dominated\n"
    run = make_run(tmp_path / "run", curve=((0, 0.9), (8, 0.5)))
    (run / "tradeoff.csv").write_text(header + "0,0,0.9,0.2,False,True\n1,8,0.5,0.9,False,False\n")
    (old,) = find_runs([run]).runs
    assert [(p["accuracy"], p["dominated"]) for p in old.tradeoff] == [(0.9, True), (0.5, False)]
    assert old.speed == 0.9
    keep_evaluation(run, "all_test", stage=1)
    (run / "evaluations" / "all_test" / "tradeoff.csv").write_text(header + "1,8,1,1,False,False\n")
    (new,) = find_runs([run]).runs
    assert [p["accuracy"] for p in new.tradeoff] == [1.0]


def test_an_evaluation_outside_of_its_run_belongs_to_it(tmp_path):
    run = make_run(tmp_path / "p" / "student")
    judged = {"run_dir": str(run), "data": "task x", "accuracy": 0.5, "n": 4, "title": "the end"}
    voted = {"samples": 30, "votes": {"accuracy_by_votes": {"1": 0.25, "30": 0.75}}}
    for name, record in (("greedy", judged), ("vote", judged | voted), ("other", {"accuracy": 1})):
        (tmp_path / "p" / name).mkdir()
        (tmp_path / "p" / name / "evaluation.json").write_text(json.dumps(record))
    for places in ([tmp_path], [run, tmp_path / "p" / "greedy", tmp_path / "p" / "vote"]):
        found = find_runs(places)
        assert {e.folder.name for e in found.runs[0].evaluations} == {"greedy", "vote"}
        assert found.runs[0].majority == 0.75
    (table,) = next(s for s in document(found).sections if s.title == "Evaluations").tables
    assert sorted(row[1] for row in table.rows) == ["the end", "the end, majority of 30"]
    with pytest.raises(RunError, match="no run can be read"):
        find_runs([tmp_path / "p" / "greedy"])
