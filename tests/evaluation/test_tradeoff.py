import csv

from icot.evaluation.tradeoff import TradeoffPoint, find_dominated, tradeoff_rows, write_tradeoff


def point(name: str, accuracy: float, speed: float, baseline: bool = False) -> TradeoffPoint:
    return TradeoffPoint(name, 3, 9.0, accuracy, accuracy, accuracy, 10.0, speed, baseline)


def test_dominated_points_by_hand():
    points = [
        point("slow and best", 1.0, 0.2),
        point("slower and worse", 0.9, 0.1),
        point("faster, less accurate", 0.8, 0.5),
        point("as fast, less accurate still", 0.7, 0.5),
        point("No CoT's speed", 0.6, 1.0),
        point("a twin of it", 0.6, 1.0),
    ]
    assert find_dominated(points) == [False, True, False, True, False, False]


def test_nothing_is_faster_than_writing_the_answer_alone():
    """Outputs that break off are quick, and no use."""
    assert find_dominated([point("7", 1.0, 1.01), point("6", 0.01, 2.7)]) == [False, True]
    assert find_dominated([point("7", 1.0, 0.99), point("6", 0.01, 2.7)]) == [False, True]


def test_baselines_are_written_but_not_compared_with_the_stages(tmp_path):
    rows = tradeoff_rows([point("0", 0.5, 0.2), point("explicit CoT", 1.0, 0.3, True)])
    write_tradeoff(tmp_path / "tradeoff.csv", rows)
    with (tmp_path / "tradeoff.csv").open() as file:
        written = list(csv.DictReader(file))
    assert [r["dominated"] for r in written] == ["False", "False"]
    assert [r["baseline"] for r in written] == ["False", "True"]
    assert written[0]["accuracy"] == "0.5"
