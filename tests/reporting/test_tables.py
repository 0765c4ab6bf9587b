from io import StringIO

from rich.console import Console

from icot.evaluation.failures import Group
from icot.evaluation.predictions import Prediction
from icot.reporting.tables import print_evaluations, print_examples, print_grid, print_stages

ROW = {
    "stage": 107,
    "tokens_removed": 246,
    "step": 1_234_567,
    "examples_seen": 39_506_144,
    "seconds": 86_400.0,
    "val_accuracy": 0.9876,
    "val_accuracy_low": 0.98,
    "val_accuracy_high": 0.99,
    "val_token_accuracy": 0.999,
    "val_perplexity": 1.001,
}


def test_eighty_columns_hold_a_long_runs_stages():
    console = Console(file=StringIO(), width=80)
    print_stages(console, [ROW, {**ROW, "val_accuracy": None}], 246)
    shown = console.file.getvalue()
    for cell in ("107", "1,234,567", "39,506,144", "1440.0", "0.988", "0.98-0.99", "1.001"):
        assert cell in shown
    assert "…" not in shown


def test_eighty_columns_hold_an_evaluation():
    record = {
        "name": "107",
        "tokens_removed": 246,
        "n": 1_000,
        "accuracy": 1.0,
        "accuracy_low": 0.9962,
        "accuracy_high": 1.0,
        "token_accuracy": 1.0,
        "perplexity": 1.0001,
        "tokens_per_example": 266.0,
        "speed": {
            "examples_per_second": 181.3,
            "speed_over_no_cot": 0.094,
            "speed_over_no_cot_low": 0.091,
            "speed_over_no_cot_high": 0.097,
            "same_as_no_cot": True,
            "best_batch_size": 512,
            "best_batch_examples_per_second": 12_345.6,
        },
    }
    console = Console(file=StringIO(), width=80)
    untimed = {k: v for k, v in record.items() if k != "speed"}
    print_evaluations(console, [untimed, record])
    shown = " ".join(console.file.getvalue().split())
    for cell in ("107", "246", "1.0000", "0.996-1.000", "266.0", "181.3", "0.09=", "12,346"):
        assert cell in shown
    assert "for 107 0.09 (0.09-0.10, 95 %)" in shown
    assert "…" not in shown


def test_examples_are_of_both_kinds_and_long_texts_keep_their_end():
    target = "x" * 500 + " #### 7"
    predictions = [Prediction(i, f"q{i}", target, "#### 7", i > 3) for i in range(8)]
    console = Console(file=StringIO(), width=80)
    print_examples(console, predictions, 3)
    shown = console.file.getvalue()
    assert "right" in shown
    assert "wrong" in shown
    assert "#### 7" in shown
    assert shown.count("x") < 600


def test_the_grid_of_digits_is_shown_by_pair():
    out = StringIO()
    groups = [Group("1 × 2", 4, 3), Group("2 × 10", 5, 5)]
    print_grid(Console(file=out, width=80), groups)
    lines = [line.split() for line in out.getvalue().splitlines() if line.strip()]
    assert lines[1] == ["a", "×", "b", "2", "10"]
    assert lines[3:] == [["1", "0.750"], ["2", "1.000"]]
    print_grid(Console(file=out), [Group("3", 4, 3)])
    assert out.getvalue().count("by digits") == 1
