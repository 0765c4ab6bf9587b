"""What stands beside the paper's numbers, and what does not."""

import json

import pytest

from icot.reporting import paper
from icot.reporting.finding import find_runs
from icot.reporting.paper import paper_rows
from icot.reporting.sections import against_the_paper
from tests.made_runs import make_run


def cells(folder, experiment: str) -> list[str]:
    """The row of an experiment's number: its own runs, those at CPU size."""
    (row,) = [row for row in paper_rows() if row.experiment == experiment]
    tables = against_the_paper(find_runs([folder]).runs).tables
    (found,) = [line for table in tables for line in table.rows if line[-1] == row.command]
    return list(found[2:4])


def differences(folder) -> dict[str, str]:
    return {row[0]: row[1] for row in against_the_paper(find_runs([folder]).runs).tables[1].rows}


def test_a_run_with_part_of_its_chain_left_stands_beside_no_number_of_icot_si(tmp_path):
    for seed, accuracy, removed in ((1, 1.0, 3), (2, 1.0, 0)):
        values = {"accuracy": accuracy, "removed": removed}
        make_run(tmp_path / f"{seed}", "table2_4x4_icot_si_cpu", {"seed": seed}, **values)
    assert cells(tmp_path, "table2_4x4_icot_si") == [
        "missing",
        "missing, left out 2: 3 of 8 removed, 0 of 8 removed",
    ]
    make_run(tmp_path / "3", "table2_4x4_icot_si_cpu", {"seed": 3}, accuracy=0.75)
    assert cells(tmp_path, "table2_4x4_icot_si")[1].startswith("0.750, left out 2")


@pytest.mark.parametrize(
    ("row", "removed", "expected"),
    [
        ("explicit", 0, "0.500"),
        ("explicit", 8, "missing"),
        ("no_cot", 8, "0.500"),
        ("no_cot", 2, "missing"),
    ],
)
def test_a_baseline_is_one_by_what_it_removed(tmp_path, row, removed, expected):
    make_run(tmp_path / "run", f"table2_4x4_{row}_cpu", removed=removed)
    assert cells(tmp_path, f"table2_4x4_{row}")[1].split(",")[0] == expected


def test_a_run_with_several_numbers_tells_its_pairs_apart(tmp_path):
    run = make_run(tmp_path / "run", "table2_mathglm_100m", accuracy=0.25)
    assert cells(tmp_path, "table2_mathglm_100m")[0] == "0.250 over all pairs"
    groups = [{"label": "4 × 4", "accuracy": 0.75}, {"label": "2 × 5", "accuracy": 0.5}]
    place = run / "evaluations" / "final-test"
    place.mkdir(parents=True)
    record = {"accuracy": 0.25, "n": 4, "data": "task mixed_digits", "stage": 0}
    record |= {"tokens_removed": 8, "failures": {"digits": groups}}
    (place / "evaluation.json").write_text(json.dumps(record))
    assert cells(tmp_path, "table2_mathglm_100m")[0] == "0.250 over all pairs, 0.750 (4 × 4)"


def test_differences_are_those_of_all_runs_of_a_row(tmp_path):
    for seed, machine in ((1, "a processor"), (2, "another processor")):
        changes = {"seed": seed, "optimizer.weight_decay": 0.5}
        facts = {"processor": machine, "precision": "bf16-mixed"}
        make_run(tmp_path / f"{seed}", "table2_4x4_icot_si_cpu", changes, **facts)
    found = differences(tmp_path)["table2_4x4_icot_si_cpu"]
    for words in (
        "digits 2 (paper 4)",
        "optimizer muon (paper adamw)",
        "optimizer.weight_decay 0.5 (paper 0.01)",
        "precision bf16-mixed (paper 32-true)",
        "on a processor, 1 thread; another processor, 1 thread (paper: one H100)",
        "0.4 million weights",
    ):
        assert words in found
    assert "seed" not in found


def test_an_experiment_may_be_for_no_number(tmp_path, monkeypatch):
    """Files of a package that has one with a number of an unknown place, and two without any."""
    folder = tmp_path / "a_users_conf" / "experiment" / "icot_si"
    folder.mkdir(parents=True)
    (tmp_path / "a_users_conf" / "__init__.py").write_text("")
    (folder / "one.yaml").write_text("paper: {place: Section 7, row: mine, accuracy: 0.5}\n")
    (folder / "two.yaml").write_text("seed: 3\n")
    (folder / "three.yaml").write_text("paper:\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(paper, "CONFIG_MODULE", "a_users_conf")
    names = ("one", "two", "three")
    monkeypatch.setattr(paper, "rows", lambda: tuple(("icot_si", name) for name in names))
    assert [row.experiment for row in paper_rows.__wrapped__()] == ["one"]
