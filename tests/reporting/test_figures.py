import numpy as np
import pytest
from matplotlib.image import imread

from icot.evaluation.failures import Group
from icot.evaluation.tradeoff import TradeoffPoint, tradeoff_rows
from icot.reporting.figures import accuracy_by_tokens_removed, failures, tradeoff


def drawn(path) -> np.ndarray:
    """A picture's pixels, of which some must not be white."""
    pixels = imread(path)[..., :3]
    assert (pixels < 0.9).any()
    return pixels


def test_a_picture_is_written_also_without_any_measurement(tmp_path):
    measured = {"val_accuracy": 0.5, "val_accuracy_low": 0.4, "val_accuracy_high": 0.6}
    for i, rows in enumerate([[{"tokens_removed": 3, **measured}], [{"tokens_removed": 0}]]):
        path = tmp_path / f"{i}.png"
        accuracy_by_tokens_removed(rows, 24, path, "mult3")
        drawn(path)


def point(name: str, accuracy: float, speed: float, baseline: bool = False) -> TradeoffPoint:
    return TradeoffPoint(name, 3, 9.0, accuracy, accuracy, accuracy, 10.0, speed, baseline)


@pytest.mark.parametrize("speed", [0.5, 2.7])
def test_the_trade_off_is_drawn_for_one_stage_and_for_many(tmp_path, speed):
    points = [point("0", 0.9, 0.2), point("1", 0.5, speed), point("No CoT", 0.1, 1.0, True)]
    for count in (1, 3):
        path = tmp_path / f"{count}.png"
        tradeoff(tradeoff_rows(points[:count]), path, "mult3", " (cpu)")
        drawn(path)


def test_failures_have_a_panel_for_each_kind_of_group(tmp_path):
    groups = [Group(str(i), 10, i % 10) for i in range(40)]
    failures({"answer position": groups[:3]}, tmp_path / "1.png")
    failures({"answer position": groups[:3], "carries": groups}, tmp_path / "2.png", "mult3")
    assert drawn(tmp_path / "2.png").shape[0] == 2 * drawn(tmp_path / "1.png").shape[0]
