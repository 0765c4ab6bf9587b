"""Accuracy against a setting that is a number: which runs make a line."""

from icot.reporting.by_setting import by_setting
from icot.reporting.finding import find_runs
from tests.made_runs import make_run

N = "task.samples_per_question"


def students(folder, seed, **accuracies):
    """Runs of one seed, of a corpus of its own; ``gold_5`` has gold labels and N = 5."""
    for name, accuracy in accuracies.items():
        labels, n = name.split("_")
        changes = {"seed": seed, "task.labels": labels, N: int(n)}
        changes["task.samples"] = f"{folder}/{seed}/corpus"
        place = folder / f"{seed}" / name
        facts = {"schedule": "explicit"}
        make_run(place, "scotd_mult3_cpu", changes, accuracy=accuracy, removed=0, **facts)


def lines_of(folder):
    (section,) = by_setting(find_runs([folder]).runs)
    (picture,) = section.pictures
    found = {}
    for label, x, y in picture.table.rows:
        found.setdefault(label, []).append((x, y))
    return found


def test_students_of_more_samples_are_a_line_for_each_kind_of_label(tmp_path):
    students(tmp_path, 1, gold_1=0.1, gold_10=0.7, gold_5=0.4, teacher_1=0.3, teacher_10=0.6)
    students(tmp_path, 2, gold_1=0.0, gold_10=0.8, gold_5=0.5)
    assert lines_of(tmp_path) == {
        "explicit, labels gold": [
            ("1", "0.050 (0.000-0.100)"),
            ("5", "0.450 (0.400-0.500)"),
            ("10", "0.750 (0.700-0.800)"),
        ],
        "explicit, labels teacher": [
            ("1", "0.300 (0.200-0.400)"),
            ("10", "0.600 (0.500-0.700)"),
        ],
    }


def test_runs_with_one_value_are_levels(tmp_path):
    students(tmp_path, 1, gold_1=0.1, gold_10=0.7, teacher_30=0.25)
    assert lines_of(tmp_path)["explicit, labels teacher"] == [("", "0.250")]


def test_without_two_values_there_is_no_picture(tmp_path):
    students(tmp_path, 1, gold_10=0.7, teacher_30=0.25)
    make_run(tmp_path / "other")
    assert by_setting(find_runs([tmp_path]).runs) == []
