"""One set of weights that is told how much of its chain is missing, from training to export."""

import csv
import json
import re
import shutil

import pytest

import icot
from icot.errors import ConfigError, DataError, RunError
from icot.reporting.finding import read_run
from tests.conftest import icot as command
from tests.running import alone, assert_refused
from tests.small import SMALL

BUDGETS = (0, 3, 8)


@pytest.fixture(scope="module")
def dial_run(tmp_path_factory):
    """A run that has removed everything of its chains of 8 tokens."""
    folder = tmp_path_factory.mktemp("dial")
    done = command(
        "train",
        *SMALL,
        "schedule=dial",
        "schedule.tokens_per_stage=4",
        "schedule.patience=30",
        "optimizer.lr=0.01",
        "trainer.max_steps=150",
        "paths.cache_dir=cache",
        "hydra.run.dir=run",
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr
    return folder / "run"


def test_budgets_make_the_curve_of_one_set_of_weights(dial_run, tmp_path):
    assert icot.load(dial_run).summary["fully_internalized"] is True
    done = command(
        "evaluate",
        f"run_dir={dial_run}",
        f"budget={list(BUDGETS)}".replace(" ", ""),
        f"baselines=[{dial_run}]",
        "speed.examples=2",
        "paths.cache_dir=cache",
        "out=e",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "e" / "evaluation.json").read_text())
    assert [s["tokens_removed"] for s in record["stages"]] == [8, 5, 0]
    assert [s["name"] for s in record["stages"]] == ["budget-0", "budget-3", "budget-8"]
    assert [s["fully_internalized"] for s in record["stages"]] == [True, False, False]
    with (tmp_path / "e" / "tradeoff.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["baseline"] for row in rows] == ["False"] * 3 + ["True"]
    run = icot.load(dial_run)
    for budget in BUDGETS:
        lines = (tmp_path / "e" / f"predictions-budget-{budget}.jsonl").read_text().splitlines()
        predictions = [json.loads(line) for line in lines]
        questions = [p["question"] for p in predictions]
        written = [p["prediction"] for p in predictions]
        assert run.answer(questions, budget=budget) == written
        assert max(text.partition("####")[0].count(" ") for text in written) <= budget + 1
    assert (tmp_path / "e" / "tradeoff.png").is_file()


def test_the_exported_folder_is_told_by_position_ids(dial_run, tmp_path):
    """The card's code writes what the evaluation with each budget wrote."""
    overrides = (f"run_dir={dial_run}", "out=x", "paths.cache_dir=cache")
    done = command("export", *overrides, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("20 of 20 prompts.") == 3
    card = (tmp_path / "x" / "README.md").read_text()
    assert "any part of the chain of thought removed" in card
    assert [f"| exact match, budget {b} |" in card for b in (8, 4, 0)] == [True] * 3
    (code,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    printed = alone(code.replace("FOLDER", str(tmp_path / "x")), tmp_path).splitlines()
    shown = [
        line[2:].partition(" (correct is")[0] for line in re.findall(r"^# .* -> .*$", code, re.M)
    ]
    assert [" ".join(line.split()) for line in printed] == [" ".join(s.split()) for s in shown]
    assert len(shown) == 3
    one = command(
        "export", *overrides[:1], "tokens_removed=8", "out=y", *overrides[2:], cwd=tmp_path
    )
    assert one.returncode == 0, one.stderr
    assert "20 of 20 prompts" in one.stdout
    assert "position_ids=position_ids" not in (tmp_path / "y" / "README.md").read_text()


def test_the_report_knows_the_speed_of_the_runs_own_stage(dial_run, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(dial_run, run)
    done = command(
        "evaluate",
        f"run_dir={run}",
        "budget=[0,8]",
        "speed.examples=2",
        "paths.cache_dir=cache",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    read, messages = read_run(run)
    assert messages == []
    by_removed = {row["tokens_removed"]: row["speed"] for row in read.tradeoff}
    assert set(by_removed) == {0.0, 8.0}
    assert read.speed == by_removed[8.0]


def test_questions_and_budgets_that_do_not_fit(dial_run, tmp_path):
    run = icot.load(dial_run)
    long = " ".join("1" * 15)
    assert len(run.answer([long], budget=8)) == 1
    with pytest.raises(DataError, match="24 positions, the model has only 21"):
        run.answer([long], budget=0)
    with pytest.raises(ConfigError, match="at least 0"):
        run.answer(["1 2 * 3 4"], budget=-1)
    shutil.copytree(dial_run, tmp_path / "run")
    (tmp_path / "run" / "summary.json").unlink()
    with pytest.raises(RunError, match="has not finished"):
        icot.load(tmp_path / "run").answer(["1 2 * 3 4"], budget=3)


def test_weights_that_were_not_trained_without_a_chain_are_exported_at_their_stage(
    dial_run, tmp_path
):
    stages = [path for path in (dial_run / "checkpoints").glob("stage-*") if path.is_file()]
    first = min(stages)
    done = command("export", f"checkpoint={first}", "out=x", "paths.cache_dir=cache", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "budget" not in (tmp_path / "x" / "README.md").read_text()


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["budget=[0,0]"], "none twice"),
        (["budget=[]"], "at least one"),
        (["budget=4", "stage=all"], "one set of weights"),
        (["budget=4", "tokens_removed=4"], "say the same thing"),
        (["budget=-1"], "budget"),
    ],
)
def test_budgets_that_make_no_sense(overrides, said, tmp_path):
    done = command("evaluate", "run_dir=RUN", *overrides, cwd=tmp_path)
    assert_refused(done, said)
