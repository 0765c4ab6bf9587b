"""metrics.csv: rows at once, new columns when they come, and only as many rows as are known."""

import csv

from icot.training.metrics_file import MetricsFile


def rows(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_rows_are_there_at_once_and_columns_may_come_later(tmp_path):
    metrics = MetricsFile(tmp_path / "metrics.csv")
    metrics.keep(0)
    metrics.log_metrics({"epoch": 0, "train/loss": 0.1}, 4)
    assert rows(metrics.path) == [{"step": "4", "epoch": "0", "train/loss": "0.1"}]
    metrics.log_metrics({"val/accuracy": 1.0}, 5)
    metrics.log_metrics({"epoch": 1, "train/loss": 1 / 3}, 6)
    assert rows(metrics.path) == [
        {"step": "4", "epoch": "0", "train/loss": "0.1", "val/accuracy": ""},
        {"step": "5", "epoch": "", "train/loss": "", "val/accuracy": "1.0"},
        {"step": "6", "epoch": "1", "train/loss": str(1 / 3), "val/accuracy": ""},
    ]
    assert metrics.rows == 3


def test_a_resumed_run_writes_its_later_rows_again(tmp_path):
    path = tmp_path / "metrics.csv"
    whole = MetricsFile(path)
    whole.keep(0)
    logged = [{"train/loss": 0.5}, {"train/loss": 0.4}, {"val/accuracy": 0.3}, {"train/loss": 0.2}]
    for step, values in enumerate(logged):
        whole.log_metrics(values, step)
    uninterrupted = path.read_bytes()
    with path.open("ab") as file:
        file.write(b"4,0.1")  # a killed process's last words
    resumed = MetricsFile(path)
    resumed.keep(2)
    for step in (2, 3):
        resumed.log_metrics(logged[step], step)
    assert path.read_bytes() == uninterrupted
