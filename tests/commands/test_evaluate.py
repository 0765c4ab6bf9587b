"""``python -m icot.evaluate`` as a user calls it, on a real run and on real files."""

import csv
import json
import shutil
from collections import Counter

import pytest
import torch

from icot.tasks.carries import difficulty
from icot.tasks.multiplication import Multiplication, example
from tests.conftest import icot

QUICK = ["speed.examples=2", "paths.cache_dir=cache"]
UNTIMED = ["speed.examples=0", "paths.cache_dir=cache"]


def evaluation(folder) -> dict:
    return json.loads((folder / "evaluation.json").read_text())


def test_the_final_weights_have_the_accuracy_that_training_said(small_run, tmp_path):
    done = icot("evaluate", f"run_dir={small_run}", "out=e", *QUICK, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = evaluation(tmp_path / "e")
    summary = json.loads((small_run / "summary.json").read_text())
    assert found["n"] == summary["validation_examples"] == 40
    assert found["accuracy"] == pytest.approx(summary["accuracy"], abs=1e-6)
    assert found["token_accuracy"] == pytest.approx(summary["token_accuracy"], abs=1e-5)
    assert found["perplexity"] == pytest.approx(summary["perplexity"], rel=1e-3)
    assert found["tokens_removed"] == summary["tokens_removed"] == 8
    assert found["fully_internalized"] is True
    assert found["accuracy_low"] <= found["accuracy"] <= found["accuracy_high"]
    speed = found["speed"]
    # separator, ####, four digits, separator: as many tokens as the right answer has
    assert speed["no_cot"]["tokens_per_example"] == 1 + 1 + 4 + 1
    assert speed["speed_over_no_cot_low"] <= speed["speed_over_no_cot"]
    assert speed["best_batch_size"] in (8, 32)
    assert {"answer position", "carries", "operand size"} == set(found["failures"])
    lines = [json.loads(line) for line in (tmp_path / "e" / "predictions.jsonl").open()]
    assert [line["index"] for line in lines] == list(range(40))
    assert sum(line["correct"] for line in lines) == found["correct"]
    for line in lines:
        assert set(line) >= {"question", "target", "prediction", "correct", "tokens", "first_wrong"}
        assert (line["first_wrong"] is None) == line["correct"]
        a, b = (int(x.replace(" ", "")[::-1]) for x in line["question"].split(" * "))
        assert line["target"] == f"#### {example(a, b, 2).answer}"
    assert found["tokens_per_example"] == pytest.approx(sum(x["tokens"] for x in lines) / 40)
    assert (tmp_path / "e" / "failures.png").read_bytes().startswith(b"\x89PNG")
    assert "Evaluation of 40 examples" in done.stdout


def test_all_stages_make_the_trade_off_curve(small_run, tmp_path):
    done = icot(
        "evaluate",
        f"run_dir={small_run}",
        "stage=all",
        "split=test",
        f"baselines=[{small_run}]",
        "out=e",
        *QUICK,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    found = evaluation(tmp_path / "e")
    assert [s["tokens_removed"] for s in found["stages"]] == list(range(9))
    assert [s["stage"] for s in found["stages"]] == list(range(9))
    assert found["n"] == 10
    assert found["tokens_removed"] == 8
    with (tmp_path / "e" / "tradeoff.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [r["baseline"] for r in rows] == ["False"] * 9 + ["True"]
    assert (tmp_path / "e" / "tradeoff.png").read_bytes().startswith(b"\x89PNG")
    for stage in range(9):
        lines = (tmp_path / "e" / f"predictions-{stage}.jsonl").read_text().splitlines()
        assert len(lines) == 10
        assert json.loads(lines[0])["target"].count(" ") >= 4
    last = (tmp_path / "e" / "predictions-8.jsonl").read_text()
    assert (tmp_path / "e" / "predictions.jsonl").read_text() == last


def test_further_examples_have_a_column_at_each_stage(small_run, tmp_path):
    trained = next(Multiplication(2, train_size=200, valid_size=40, test_size=10).chunks("train"))
    lines = [e.line() for e in trained[:3]]
    (tmp_path / "mine.txt").write_text("\n".join(lines) + "\n")
    others = [
        "mine.txt",
        "{easy_held_out: 1, train_size: 100}",
        "{task: sum, numbers: 3, digits: 1}",
    ]
    done = icot(
        "evaluate",
        f"run_dir={small_run}",
        "stage=all",
        f"also=[{','.join(others)}]",
        f"baselines=[{small_run}]",
        "examples=20",
        "out=e",
        *QUICK,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    names = ["mine", "easy_held_out=1 train_size=100", "sum numbers=3 digits=1"]
    stages = evaluation(tmp_path / "e")["stages"]
    assert len(stages) == 9
    for stage in stages:
        assert list(stage["also"]) == names
        assert [stage["also"][name]["n"] for name in names] == [3, 20, 20]
        assert stage["also"]["mine"]["tokens_removed"] == stage["tokens_removed"]
    with (tmp_path / "e" / "tradeoff.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 10
    for name in names:
        assert [float(row[f"accuracy on {name}"]) for row in rows[:9]] == [
            stage["also"][name]["accuracy"] for stage in stages
        ]
    written = (tmp_path / "e" / "predictions-3-sum-numbers-3-digits-1.jsonl").read_text()
    assert len(written.splitlines()) == 20
    assert "Accuracy on further examples" in done.stdout
    assert "also, mine: 3 questions are among the training questions." in done.stderr + done.stdout
    assert "contain symbols that the tokenizer does not know" in done.stderr + done.stdout


def test_further_examples_may_be_those_of_a_file_alone(small_run, tmp_path):
    """The same file as data and as further examples is judged the same."""
    (tmp_path / "mine.txt").write_text(example(12, 34, 2).line() + "\n")
    done = icot(
        "evaluate",
        f"run_dir={small_run}",
        "data_file=mine.txt",
        "also=[mine.txt]",
        "out=e",
        *UNTIMED,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    found = evaluation(tmp_path / "e")
    same = ("accuracy", "token_accuracy", "perplexity", "tokens_per_example", "failures")
    assert {key: found[key] for key in same} == {key: found["also"]["mine"][key] for key in same}


@pytest.mark.parametrize(
    ("also", "message"),
    [
        ("[mlut3]", "also: mlut3 is neither a file nor a task"),
        ("[{digit: 3}]", "task.digit"),
        ("[{digits: x}]", "task.digits"),
        ("[{digits: 5}]", "a larger model.config.n_positions"),
    ],
)
def test_further_examples_that_cannot_be_are_refused_before_any_work(
    small_run, tmp_path, also, message
):
    done = icot("evaluate", f"run_dir={small_run}", f"also={also}", "out=e", *QUICK, cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert not (tmp_path / "e" / "evaluation.json").exists()


@pytest.mark.parametrize("decode", ["verify", "always"])
def test_one_stage_of_a_file_of_weights_on_a_users_data(small_run, tmp_path, decode):
    lines = [example(a, b, 2).line() for a, b in ((12, 34), (56, 78), (99, 99))]
    (tmp_path / "mine.txt").write_text("\n".join(lines) + "\n")
    done = icot(
        "evaluate",
        f"checkpoint={small_run}/checkpoints/stage-0003.ckpt",
        "data_file=mine.txt",
        f"decode={decode}",
        "out=e",
        *UNTIMED,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    found = evaluation(tmp_path / "e")
    assert (found["stage"], found["tokens_removed"], found["n"]) == (3, 3, 3)
    assert "speed" not in found
    first = json.loads((tmp_path / "e" / "predictions.jsonl").read_text().splitlines()[0])
    assert first["question"] == "2 1 * 4 3"
    assert first["target"] == "+ 0 6 3 0 #### 8 0 4 0"  # 8 4 0 of the chain are removed


def test_failures_are_grouped_by_the_difficulty_of_their_own_examples(small_run, tmp_path):
    """Also behind lines that are left out, when they are read or when they are tokenized."""
    examples = [example(a, b, 2) for a, b in ((11, 11), (99, 99), (12, 34), (78, 89), (11, 12))]
    lines = [e.line() for e in examples]
    lines[1:1] = ["nonsense", lines[0].replace("1", "<eos>", 1)]
    (tmp_path / "mine.txt").write_text("\n".join(lines) + "\n")
    done = icot(
        "evaluate",
        f"run_dir={small_run}",
        "data_file=mine.txt",
        "on_bad_line=skip",
        "out=e",
        *UNTIMED,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    groups = evaluation(tmp_path / "e")["failures"]["carries"]
    expected = Counter(difficulty(e.question)["carries"] for e in examples)
    assert {float(g["label"]): g["n"] for g in groups} == expected


def test_published_lines_are_data_too(tmp_path, real_data):
    """A model for four digits, and the published file, of a task that reads text files."""
    folder = real_data / "mult"
    name = "4_by_4_valid.txt"
    trained = icot(
        "train",
        "task=text",
        f"task.data_dir={folder}",
        f"task.train_file={name}",
        f"task.valid_file={name}",
        "task.test_file=null",
        "task.train_size=64",
        "task.valid_size=16",
        "model.config.n_layer=1",
        "model.config.n_embd=16",
        "model.config.n_head=2",
        "data.batch_size=32",
        "trainer=cpu",
        "optimizer.decay_steps=0",
        "schedule=no_cot",
        "trainer.max_steps=2",
        "hydra.run.dir=run",
        cwd=tmp_path,
    )
    assert trained.returncode == 0, trained.stderr
    done = icot(
        "evaluate",
        "run_dir=run",
        f"data_file={folder / name}",
        "examples=50",
        *UNTIMED,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    found = evaluation(tmp_path / "run")
    assert found["n"] == 50
    assert {"answer position", "carries", "operand size"} == set(found["failures"])


def test_gsm8k_is_broken_down_by_equations(tmp_path, real_data):
    overrides = [
        "task=gsm8k",
        f"task.data_dir={real_data / 'gsm8k'}",
        "task.train_file=valid.txt",
        "task.test_file=null",
        "task.train_size=64",
        "task.valid_size=40",
        "model.config.n_layer=1",
        "model.config.n_embd=32",
        "model.config.n_head=2",
        "data.batch_size=8",
        "trainer=cpu",
        "optimizer.decay_steps=0",
        "schedule=explicit",
        "trainer.max_steps=2",
        "hydra.run.dir=run",
    ]
    assert icot("train", *overrides, cwd=tmp_path).returncode == 0
    done = icot("evaluate", "run_dir=run", *QUICK, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    groups = evaluation(tmp_path / "run")["failures"]["equations"]
    assert sum(g["n"] for g in groups) <= 40
    assert groups[0]["label"] == "1"


def test_what_another_program_wrote_is_scored(tmp_path):
    """Commas do not count, text before the mark does not count, 2 of 3 to the last digit."""
    lines = [
        {"target": "5 6 #### 1,234", "prediction": "x y #### 1234"},
        {"target": "#### 7", "prediction": "#### 8"},
        {"target": "9", "prediction": " 9 "},
    ]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    done = icot("evaluate", "predictions=log.jsonl", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = evaluation(tmp_path)
    assert (found["n"], found["correct"], found["accuracy"]) == (3, 2, 2 / 3)
    assert "0.6667" in done.stdout


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ([], "set run_dir= or checkpoint= or predictions="),
        (["run_dir=nowhere"], "run directory nowhere: no such directory"),
        (["run_dir=."], "is not a run directory: it has no config.yaml"),
        (["run_dir=RUN", "stage=77"], "there are final, best, 0, 1, 2, 3, 4, 5, 6, 7, 8, and all"),
        (["run_dir=RUN", "stage=last"], "stage=last"),
        (["run_dir=RUN", "stage=all", "baselines=[nowhere]"], "run directory nowhere"),
        (["run_dir=RUN", "baselines=[RUN]"], "set stage=all"),
        (["run_dir=RUN", "split=all"], "choose one of train, valid, test"),
        (["run_dir=RUN", "decode=never"], "choose one of verify, always"),
        (["run_dir=RUN", "stag=1"], "did you mean stage?"),
        (["run_dir=RUN", "data_file=nowhere.txt"], "data_file=nowhere.txt: no such file"),
        (["run_dir=RUN", "data_file=bad.txt"], "bad.txt, line 2"),
        (["run_dir=RUN", "data_file=long.txt"], "the model has only"),
        (["checkpoint=nowhere.ckpt"], "checkpoint nowhere.ckpt: no such file"),
        (["checkpoint=truncated.ckpt"], "is truncated or damaged"),
        (["checkpoint=bad.txt"], "is truncated or damaged"),
        (["checkpoint=other.ckpt"], "other.ckpt: is not a checkpoint of icot"),
        (["checkpoint=lost.ckpt"], "set run_dir= to the run it comes from"),
        (["predictions=nowhere.jsonl"], "nowhere.jsonl: cannot be read"),
        (["predictions=bad.txt"], "bad.txt, line 1: is not JSON"),
        (["predictions=bad.txt", "run_dir=RUN"], "leave out run_dir and checkpoint"),
    ],
)
def test_bad_input_ends_in_one_clear_line(small_run, tmp_path, overrides, expected):
    good = small_run / "checkpoints" / "last.ckpt"
    (tmp_path / "truncated.ckpt").write_bytes(good.read_bytes()[:5000])
    (tmp_path / "bad.txt").write_text("1 2 * 3 4||5 #### 6\nnonsense\n")
    (tmp_path / "long.txt").write_text(example(12345, 54321, 5).line() + "\n")
    torch.save({"weights": 1}, tmp_path / "other.ckpt")
    shutil.copy(good, tmp_path / "lost.ckpt")
    overrides = [o.replace("RUN", str(small_run)) for o in overrides]
    done = icot("evaluate", *overrides, *UNTIMED, "out=e", cwd=tmp_path)
    assert done.returncode == 2, done.stdout + done.stderr
    assert expected in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "e" / "evaluation.json").exists()


def test_a_damaged_weights_file_in_a_run_is_named(small_run, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(small_run, run)
    path = run / "checkpoints" / "stage-0002.ckpt"
    path.write_bytes(path.read_bytes()[:-3000])
    done = icot("evaluate", "run_dir=run", "stage=2", *UNTIMED, cwd=tmp_path)
    assert done.returncode == 2
    assert "stage-0002.ckpt" in done.stderr
    (run / "config.yaml").write_text("a: [1\n")
    done = icot("evaluate", "run_dir=run", *UNTIMED, cwd=tmp_path)
    assert done.returncode == 2
    assert "config.yaml: cannot be read as a configuration" in done.stderr


def test_a_vote_over_samples(small_run, tmp_path):
    """The figures of any number of votes are those of one set, whatever is decoded at once."""
    records = []
    for size in (500, 7):
        done = icot(
            "evaluate", f"run_dir={small_run}", "stage=0", "predictor=vote", "predictor.n=6",
            f"batch_size={size}", f"out={size}", *UNTIMED, cwd=tmp_path,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        records.append(evaluation(tmp_path / str(size)))
    one, other = records
    assert one["votes"] == other["votes"]
    assert list(one["votes"]["accuracy_by_votes"]) == ["1", "5", "6"]
    assert one["accuracy"] == one["votes"]["accuracy_by_votes"]["6"]
    assert (one["predictor"], one["samples"], one["perplexity"]) == ("vote", 6, None)
    assert "Accuracy of the majority" in done.stdout
    timed = icot(
        "evaluate", f"run_dir={small_run}", "predictor=vote", "predictor.n=3", "examples=8",
        "out=timed", *QUICK, cwd=tmp_path,
    )  # fmt: skip
    assert timed.returncode == 0, timed.stderr
    assert evaluation(tmp_path / "timed")["speed"]["no_cot"]["tokens_per_example"] == 7
