"""Methods on several tasks, and each stage on examples outside the training examples."""

import json

import pytest

from icot.reporting.comparison import outside, tasks_and_methods
from icot.reporting.finding import find_runs
from icot.reporting.series import gather_series
from icot.reporting.theme import DARK, LIGHT
from tests.made_runs import LONGEST, make_run


def judged(accuracy, removed=LONGEST, **also):
    ends = {"accuracy_low": accuracy - 0.1, "accuracy_high": accuracy + 0.1, "n": 100}
    record = {"name": str(removed), "accuracy": accuracy, "tokens_removed": removed, **ends}
    if also:
        record["also"] = {name: judged(value) for name, value in also.items()}
    return record


@pytest.fixture
def suite(tmp_path):
    """Two tasks, two methods, two seeds; one run ended early, one task was judged further."""
    accuracies = {("parity", "no_cot"): (0.5, 0.5), ("parity", "adaptive"): (0.8, 1.0),
                  ("sum", "no_cot"): (0.2, 0.4), ("sum", "adaptive"): (0.9, 0.9)}  # fmt: skip
    for (task, schedule), values in accuracies.items():
        for seed, accuracy in enumerate(values, start=1):
            facts = {"sweep": "suite", "task": task, "schedule": schedule}
            removed = 5 if (task, schedule, seed) == ("sum", "adaptive", 2) else LONGEST
            folder = tmp_path / f"{task}_{schedule}_{seed}"
            make_run(folder, changes={"seed": seed}, accuracy=accuracy, removed=removed, **facts)
            if task == "parity":
                stages = [judged(0.9, 0, longer=0.6), judged(accuracy, LONGEST, longer=0.1 * seed)]
                place = folder / "evaluations" / "all_valid"
                place.mkdir(parents=True)
                text = json.dumps({**stages[-1], "stages": stages})
                (place / "evaluation.json").write_text(text)
    return find_runs([tmp_path]).runs


def test_the_matrix_has_means_intervals_and_unfinished_chains(suite):
    (section,) = tasks_and_methods(suite)
    inside, beyond = section.tables
    assert inside.header == ("task", "chain", "examples", "adaptive", "no_cot")
    rows = {row[0]: row for row in inside.rows}
    assert rows["parity"] == ["parity", "8", "640", "0.900 (0.00-1.00)", "0.500 (0.50-0.50)"]
    assert rows["sum"][3] == "0.900 (0.90-0.90) [1]"
    assert beyond.rows == [["parity", "longer", *["0.150 (0.00-0.79)"] * 2]]
    assert section.title == "Tasks and methods: suite"


def test_a_run_of_another_method_joins_the_sweep_that_has_its_task_and_model(suite, tmp_path):
    facts = {"choices": {"method": "coupled"}, "task": "parity"}
    for name, changes in (("c", {}), ("d", {"task.digits": 5}), ("e", {"model.add_bos": True})):
        make_run(tmp_path / name, changes=changes, accuracy=0.7, **facts)
    added = find_runs([tmp_path / name for name in "cde"]).runs
    inside, _ = tasks_and_methods([*suite, *added])[0].tables
    assert inside.header[3:] == ("adaptive", "no_cot", "coupled")
    assert {row[0]: row[-1] for row in inside.rows} == {"parity": "0.700", "sum": ""}


def test_the_loss_on_chains_makes_another_column(suite, tmp_path):
    facts = {"sweep": "with the loss", "task": "sum", "schedule": "no_cot"}
    make_run(tmp_path / "c", changes={"schedule.chain_loss": 1.0}, accuracy=0.7, **facts)
    (section,) = tasks_and_methods([*suite, *find_runs([tmp_path / "c"]).runs])
    inside, _ = section.tables
    assert inside.header[-1] == "no_cot + chain loss"
    assert {row[0]: row[-1] for row in inside.rows} == {"parity": "", "sum": "0.700"}


def test_one_task_or_one_method_makes_no_matrix(suite):
    assert not tasks_and_methods([run for run in suite if run.environment["task"] == "sum"])
    assert not tasks_and_methods([r for r in suite if r.environment["schedule"] == "adaptive"])


def test_each_stage_on_further_examples(suite):
    section = outside(gather_series(suite))
    assert len(section.pictures) == 4
    picture = section.pictures[0]
    assert picture.table.header == ("weights", "removed", "own examples", "longer")
    assert picture.table.rows[0] == ["0", "0", "0.900 (0.800-1.000)", "0.600 (0.500-0.700)"]
    assert (
        "longer: exact match 0.600 (0.500-0.700), chain tokens removed 0",
        0,
        0.6,
    ) in picture.points
    for theme in (LIGHT, DARK):
        (axes,) = picture.draw(theme).axes
        drawn = [list(line.get_ydata()) for line in axes.get_lines()]
        assert drawn[1] == [0.6, pytest.approx(0.1)]
