"""The cards that a report begins with."""

import json

from icot.reporting.finding import find_runs
from icot.reporting.run_cards import runs_at_hand
from icot.reporting.series import gather_series
from icot.runs.layout import ENVIRONMENT
from tests.made_runs import make_run


def cards(folder) -> dict:
    section = runs_at_hand(gather_series(find_runs([folder]).runs))
    return {card.title: card for card in section.cards}


def test_one_run_has_its_interval_over_the_questions_and_its_curve(tmp_path):
    make_run(tmp_path / "a", accuracy=0.5, curve=((0, 0.9), (4, 0.7), (8, 0.5)))
    (card,) = cards(tmp_path).values()
    assert card.figure == "0.500 (0.400-0.600)"
    assert card.facts["removed"] == "8 of 8 chain tokens"
    assert card.tables == []
    (picture,) = card.pictures
    rows = [["seed 3456", x, y] for x, y in (("0", "0.900"), ("4", "0.700"), ("8", "0.500"))]
    assert picture.table.rows == rows


def test_a_run_is_held_against_each_baseline_of_its_task_but_not_of_another(tmp_path):
    make_run(tmp_path / "a", accuracy=0.9)
    make_run(tmp_path / "b", "table2_4x4_no_cot_cpu", accuracy=0.2)
    make_run(tmp_path / "c", "table2_4x4_explicit_cpu", accuracy=1.0, removed=0)
    make_run(tmp_path / "d", "table2_4x4_no_cot_cpu", {"task.digits": 3}, accuracy=0.1)
    found = cards(tmp_path)
    assert list(found) == [
        "2 × 2 digits: full method",
        "2 × 2 digits: Explicit CoT",
        "2 × 2 digits: No CoT",
        "3 × 3 digits: No CoT",
    ]
    (table,) = found["2 × 2 digits: full method"].tables
    assert [row[:3] for row in table.rows] == [
        ["Explicit CoT", "1.000 (0.900-1.000)", "-0.100"],
        ["No CoT", "0.200 (0.100-0.300)", "+0.700"],
    ]
    assert found["2 × 2 digits: No CoT"].tables == []
    assert found["2 × 2 digits: No CoT"].facts["removed"].endswith("from the first batch on")
    assert found["2 × 2 digits: Explicit CoT"].facts["removed"] == "0 of 8 chain tokens"


def test_a_run_of_another_method_is_named_by_it_and_is_no_baseline(tmp_path):
    changes = {"trainer.max_steps": 77}
    path = make_run(tmp_path / "a", "table2_4x4_no_cot_cpu", changes, accuracy=0.8) / ENVIRONMENT
    facts = {"choices": {"method": "mind_reading"}, "schedule": "no_cot", "experiment": None}
    path.write_text(json.dumps(json.loads(path.read_text()) | facts))
    make_run(tmp_path / "b", "table2_4x4_no_cot_cpu", accuracy=0.2)
    found = cards(tmp_path)
    (table,) = found["2 × 2 digits: mind_reading"].tables
    assert [row[2] for row in table.rows] == ["+0.600"]


def test_seeds_that_have_not_ended_are_named(tmp_path):
    for seed, accuracy in ((1, 0.5), (2, None)):
        curve = ((0, 0.9), (4, 0.7))
        make_run(tmp_path / f"{seed}", changes={"seed": seed}, accuracy=accuracy, curve=curve)
    (card,) = cards(tmp_path).values()
    assert card.facts["not finished"] == "seed 2 after stage 1"
    assert card.figure == "0.500 (0.400-0.600)"
    assert {row[0] for row in card.pictures[0].table.rows} == {"seed 1", "seed 2"}


def test_a_name_has_the_settings_that_tell_and_the_card_has_the_others(tmp_path):
    for name, decay, clip in (("a", 0.1, 1.0), ("b", 0.2, 2.0), ("c", 0.3, 2.0)):
        changes = {"optimizer.weight_decay": decay, "trainer.gradient_clip_val": clip}
        make_run(tmp_path / name, changes=changes)
    found = cards(tmp_path)
    assert list(found) == [
        f"2 × 2 digits: full method, weight decay {d:g}" for d in (0.1, 0.2, 0.3)
    ]
    assert [card.facts["other settings"] for card in found.values()] == [
        f"gradient clip val {clip}" for clip in (1, 2, 2)
    ]


def test_seeds_with_runs_of_their_own_to_build_on_are_one_card_that_counts_all_trainings(tmp_path):
    def make(place, method, changes):
        facts = {"choices": {"method": method}, "schedule": "no_cot", "experiment": None}
        path = make_run(place, "table2_4x4_no_cot_cpu", changes) / ENVIRONMENT
        path.write_text(json.dumps(json.loads(path.read_text()) | facts))

    for name, seed, decay in (("p1", 1, 0.1), ("p2", 2, 0.1), ("q", 1, 0.2)):
        pipeline = tmp_path / name
        make(pipeline / "student", "mind_reading", {"seed": seed, "optimizer.weight_decay": decay})
        make(pipeline / "coupled", "coupled", {"seed": seed, "method.student": "elsewhere/student"})
    found = cards(tmp_path)
    coupled = {title: card for title, card in found.items() if "coupled" in title}
    assert list(coupled) == [f"2 × 2 digits: coupled, weight decay {d}" for d in (0.1, 0.2)]
    assert (
        coupled["2 × 2 digits: coupled, weight decay 0.1"]
        .facts["cost"]
        .startswith("1,280 examples, 416 tokens, ")
    )
    endings = (" in 2 trainings a run", " in 2 trainings")
    for card, ending in zip(coupled.values(), endings, strict=True):
        assert card.facts["cost"].endswith(ending)
        assert card.facts["time"].startswith("2.0 min")


def test_cards_stand_in_the_order_of_their_numbers(tmp_path):
    for decay in (0.5, 10, 0.05, 2):
        make_run(tmp_path / f"{decay}", changes={"optimizer.weight_decay": decay})
    titles = list(cards(tmp_path))
    assert [float(title.rpartition(" ")[2]) for title in titles] == [0.05, 0.5, 2, 10]


def test_runs_that_name_each_other_in_a_circle_are_read(tmp_path):
    for name, other in (("a", "b"), ("b", "a")):
        folder = make_run(tmp_path / name, changes={"method.teacher": str(tmp_path / other)})
        path = folder / ENVIRONMENT
        path.write_text(json.dumps(json.loads(path.read_text()) | {"choices": {"method": "x"}}))
    assert len(cards(tmp_path)) == 2
