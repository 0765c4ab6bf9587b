"""Evaluations keep out of each other's way, and out of the way of what training wrote."""

import csv
import json
import shutil
from pathlib import Path

import pytest

import icot
from icot.commands import evaluate as evaluate_command
from icot.errors import RunError
from icot.runs.evaluations import find_evaluations, keep_evaluation
from icot.runs.layout import EVALUATION

OLD = Path(__file__).parents[1] / "fixtures" / "run_0_1_0" / "run"
OF_TRAINING = {"predictions.jsonl": "what training wrote\n"}


@pytest.fixture
def run(tmp_path) -> Path:
    """A run of version 0.1.0, with what its training and its evaluations have left there."""
    folder = tmp_path / "run"
    shutil.copytree(OLD, folder)
    earlier = {"name": "final", "split": "valid", "n": 20, "accuracy": 0.25}
    for name, text in {**OF_TRAINING, EVALUATION: json.dumps(earlier)}.items():
        (folder / name).write_text(text)
    return folder


def evaluate(run: Path, **options) -> dict:
    paths = {"output_dir": "", "cache_dir": str(run.parent / "cache")}
    return icot.evaluate(run_dir=str(run), speed={"examples": 0}, paths=paths, **options)


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_nothing_is_written_over_and_the_newest_is_in_the_run_directory(run):
    before = content(run)
    results = [evaluate(run), evaluate(run), evaluate(run, stage="all", tokens_removed=3)]
    data = run.parent / "my lines.txt"
    data.write_text("1 2 * 3 4||5 6 #### 7 8 9 1\n")
    results.append(evaluate(run, stage="2", data_file=str(data)))
    after = content(run)
    names = ["final_valid", "final_valid-2", "all_valid_removed-3", "stage-2_my-lines"]
    for name, found in zip(names, results, strict=True):
        folder = run / "evaluations" / name
        assert json.loads((folder / EVALUATION).read_text()) == found
        assert (folder / "predictions.jsonl").is_file()
    assert json.loads((run / EVALUATION).read_text()) == results[-1]
    # What an earlier version wrote has a folder now; all else is as it was.
    earlier = before.pop(EVALUATION)
    assert after[f"evaluations/earlier/{EVALUATION}"] == earlier
    assert before.items() <= after.items()
    with (run / "evaluations.csv").open() as file:
        rows = {row["folder"]: row for row in csv.DictReader(file)}
    assert set(rows) == {f"evaluations/{name}" for name in (*names, "earlier")}
    assert rows["evaluations/stage-2_my-lines"]["n"] == "1"
    assert float(rows["evaluations/earlier"]["accuracy"]) == 0.25
    assert not [path for path in (run / "evaluations").iterdir() if path.name.startswith(".")]


def test_a_folder_that_the_user_names_holds_one_evaluation(run):
    out = run.parent / "out"
    found = evaluate(run, out=str(out))
    written = content(out)
    assert json.loads(written[EVALUATION]) == found
    for place in (out, run):
        before = content(place)
        with pytest.raises(RunError, match=r"holds evaluation\.json already"):
            evaluate(run, out=str(place), stage="2")
        assert content(place) == before
    (out / EVALUATION).unlink()
    with pytest.raises(RunError, match=r"holds predictions\.jsonl already"):
        evaluate(run, out=str(out))
    assert not (run / "evaluations").exists()


def test_what_other_programs_wrote_is_scored_beside_it(tmp_path):
    for name, text in (("a", "#### 1"), ("b", "#### 2")):
        line = json.dumps({"target": "#### 1", "prediction": text})
        (tmp_path / f"{name}.jsonl").write_text(line + "\n")
        icot.evaluate(predictions=str(tmp_path / f"{name}.jsonl"))
    found = {e.folder.name: e.record["accuracy"] for e in find_evaluations(tmp_path)[0]}
    assert found == {"a": 1.0, "b": 0.0}
    assert json.loads((tmp_path / EVALUATION).read_text())["accuracy"] == 0.0


def test_a_folder_has_another_name_and_a_damaged_one_is_named(tmp_path):
    with pytest.raises(ZeroDivisionError), keep_evaluation(tmp_path, None, (), "a") as place:
        place.keep({"accuracy": 1 / 0})
    assert list(tmp_path.iterdir()) == []
    for _ in range(2):
        with keep_evaluation(tmp_path, None, (), "../../a b") as place:
            place.keep({"accuracy": 1.0, "n": 1})
    assert place.folder == tmp_path / "evaluations" / "a-b-2"
    (place.folder / EVALUATION).write_text("{")
    found, unreadable = find_evaluations(tmp_path)
    assert [one.folder.name for one in found] == ["a-b"]
    assert unreadable == [place.folder / EVALUATION]


@pytest.mark.parametrize("out", [None, "out"])
def test_a_stage_stands_as_soon_as_it_is_measured(run, out, monkeypatch, caplog):
    """A process that ends between two stages loses neither, and is no obstacle for the next."""
    folder = run / "evaluations" / "all_valid_removed-3" if out is None else run.parent / out
    options = {"stage": "all", "tokens_removed": 3, "out": out and str(folder)}
    measured = iter(range(2))
    measure = evaluate_command.measure

    def measure_one(*args, **kwargs):
        if next(measured) == 1:
            raise KeyboardInterrupt
        return measure(*args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(evaluate_command, "measure", measure_one)
        with pytest.raises(KeyboardInterrupt):
            evaluate(run, **options)
    killed = content(folder)
    record = json.loads(killed[EVALUATION])
    assert record["unfinished"] == "1 of 2 measured"
    assert [stage["name"] for stage in record["stages"]] == ["2"]
    assert set(killed) == {EVALUATION, "predictions-2.jsonl"}
    again = evaluate(run, **options)
    assert len(again["stages"]) == 2
    assert "unfinished" not in again
    if out is None:
        assert content(folder) == killed
        assert json.loads((folder.with_name(f"{folder.name}-2") / EVALUATION).read_text()) == again
        found = [one.record.get("unfinished") for one in find_evaluations(run)[0]]
        assert found.count("1 of 2 measured") == 1
    else:
        assert content(folder / "unfinished") == killed
        assert json.loads((folder / EVALUATION).read_text()) == again
        assert "did not end (1 of 2 measured)" in caplog.text


def test_two_processes_do_not_write_one_folder(run):
    out = run.parent / "out"
    with (
        keep_evaluation(run, str(out), (EVALUATION,)),
        pytest.raises(RunError, match=r"out: another process is writing there \(process \d+"),
        keep_evaluation(run, str(out), (EVALUATION,)),
    ):
        pass
    assert not list(run.parent.glob(".*"))
