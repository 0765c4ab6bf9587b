"""``python -m icot.sample`` with teachers of this machine, interrupted and continued."""

import json
import random
import time

import pytest
import torch
from omegaconf import OmegaConf

from icot.commands import sample as command
from icot.config.command_line import compose_config
from icot.errors import ConfigError
from icot.methods.scotd.corpus import CorpusWriter, content_hash, read_corpus, read_settings
from icot.models.loading import load_model
from icot.models.tokenizers import train_symbol_tokenizer
from tests.conftest import icot
from tests.interruptions import append, interrupt
from tests.running import REPOSITORY, Forked, assert_refused

TRAIN_ALONE = ("task.valid_file=null", "task.test_file=null")


def composed(run, out, *overrides):
    return compose_config(
        "sample",
        [
            "teacher=run",
            f"teacher.run_dir={run}",
            "teacher.stage=0",
            "samples=3",
            "examples=20",
            "batch_size=8",
            "max_truncated=1",
            f"out={out}",
            *overrides,
        ],
    )


@pytest.fixture(scope="module")
def whole(small_run, tmp_path_factory):
    """A corpus that was never interrupted."""
    out = tmp_path_factory.mktemp("whole") / "corpus"
    command.sample(composed(small_run, out))
    return out


def test_a_corpus_says_what_made_it(whole, small_run):
    samples = read_corpus(whole)
    assert [s.key for s in samples] == [(i, k) for i in range(20) for k in range(3)]
    assert len({s.text for s in samples}) > 30
    settings = read_settings(whole)
    assert settings["content_hash"] == content_hash(samples)
    assert (
        settings["task"]
        == OmegaConf.to_container(OmegaConf.load(small_run / "config.yaml"))["task"]
    )
    assert len(settings["teacher"]["weights"]) == 64
    usage = json.loads((whole / "usage.json").read_text())
    assert usage["samples"] == 60
    assert usage["prompt_tokens"] == 60 * 6
    assert usage["completion_tokens"] == sum(s.completion_tokens for s in samples)
    assert usage["truncated"] == sum(s.is_cut for s in samples)
    for s in samples:
        assert s.logprob < 0
        assert s.correct == (s.prediction is not None and s.prediction == s.answer)


def test_at_temperature_0_it_writes_what_evaluate_writes(small_run, tmp_path):
    done = icot(
        "evaluate", f"run_dir={small_run}", "stage=0", "speed.examples=0", "out=e",
        "paths.cache_dir=cache", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in (tmp_path / "e" / "predictions.jsonl").open()]
    done = icot(
        "sample", "teacher=run", f"teacher.run_dir={small_run}", "teacher.stage=0", "split=valid",
        "samples=1", "temperature=0", "max_truncated=1", "out=c", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "40 questions x 1 samples" in done.stdout
    samples = read_corpus(tmp_path / "c")
    assert [s.text for s in samples] == [line["prediction"] for line in lines]
    assert [s.correct for s in samples] == [line["correct"] for line in lines]


def test_thirty_interruptions_change_nothing(whole, small_run, tmp_path, monkeypatch):
    """After any number of samples, and with the last line cut anywhere."""
    draw, out = random.Random(3), tmp_path / "c"
    path = out / "samples.jsonl"
    for _ in range(30):
        interrupt(monkeypatch, draw.randrange(1, 8))
        try:
            command.sample(composed(small_run, out))
            break
        except KeyboardInterrupt:
            content = path.read_bytes()
            path.write_bytes(content[: len(content) - draw.randrange(0, 60)])
    else:
        monkeypatch.setattr(CorpusWriter, "append", append)
        command.sample(composed(small_run, out))
    assert read_corpus(out) == read_corpus(whole)
    assert read_settings(out)["content_hash"] == read_settings(whole)["content_hash"]


def test_a_killed_process_is_continued(whole, small_run, tmp_path):
    overrides = [
        "teacher=run", f"teacher.run_dir={small_run}", "teacher.stage=0", "samples=3",
        "examples=20", "batch_size=8", "max_truncated=1", "out=c",
    ]  # fmt: skip
    process = Forked("icot.sample", overrides, tmp_path, {"PYTHONPATH": str(REPOSITORY)})
    path = tmp_path / "c" / "samples.jsonl"
    while not (path.exists() and path.stat().st_size) and process.poll() is None:
        time.sleep(0.01)
    process.kill()
    process.wait(60)
    done = icot("sample", *overrides, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert read_corpus(tmp_path / "c") == read_corpus(whole)
    again = icot("sample", *overrides, cwd=tmp_path)
    assert "60 samples are there already" in again.stdout
    assert " 0 new ones" in again.stdout


def test_a_complete_corpus_asks_for_nothing(whole, small_run, monkeypatch):
    monkeypatch.setattr("icot.inference.teachers.LocalTeacher.sample", None)
    command.sample(composed(small_run, whole))


def test_other_settings_are_refused(whole, small_run, tmp_path):
    done = icot(
        "sample", "teacher=run", f"teacher.run_dir={small_run}", "teacher.stage=0", "samples=4",
        "examples=20", "batch_size=8", f"out={whole}", cwd=tmp_path,
    )  # fmt: skip
    assert_refused(done, "samples was 3, now 4")


def test_a_students_task_asks_each_question_once(whole, small_run, tmp_path):
    """``task=rationales`` is the task of a student's run."""
    command.sample(composed(small_run, tmp_path / "c", "task=rationales", f"task.samples={whole}"))
    assert read_corpus(tmp_path / "c") == read_corpus(whole)
    assert read_settings(tmp_path / "c") == read_settings(whole)
    file = composed(small_run, tmp_path / "d", "task=rationales", f"task.samples={whole}.jsonl")
    with pytest.raises(ConfigError, match="is not a folder that names its task"):
        command.sample(file)


def test_a_dry_run_writes_nothing(small_run, tmp_path):
    done = icot(
        "sample", "teacher=run", f"teacher.run_dir={small_run}", "dry_run=true", "samples=3",
        "out=c", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert " questions x 3 samples" in done.stdout
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["shots=2"], "teacher=run takes no exemplars"),
        (["max_truncated=0", "max_new_tokens=3", "examples=40"], "samples were cut at 3 tokens"),
        (["teacher.stage=all"], "a teacher has the weights of one stage"),
        (["temperature=-1"], "temperature=-1 must be at least 0"),
        (["teacher.name_or_path=x"], "teacher.name_or_path"),
    ],
)
def test_mistakes_are_one_message(small_run, tmp_path, overrides, said):
    done = icot(
        "sample", "teacher=run", f"teacher.run_dir={small_run}", "out=c", *overrides, cwd=tmp_path
    )
    assert_refused(done, said)


def test_a_folder_that_is_not_there_is_named_by_its_key(tmp_path):
    asked = ("teacher=model", "teacher.name_or_path=nowhere", "task=mult2", "out=c")
    assert_refused(icot("sample", *asked, cwd=tmp_path), "Set teacher.name_or_")


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    """A GPT-2 from random weights with a tokenizer of words."""
    folder = tmp_path_factory.mktemp("model")
    lines = [f"what is {i} and {j}?||a sum #### {i + j}" for i in range(4) for j in range(4)]
    (folder / "train.txt").write_text("\n".join(lines))
    tokenizer = train_symbol_tokenizer([*lines, "Q:", "A:"])
    torch.manual_seed(0)
    config = {"n_layer": 1, "n_embd": 32, "n_head": 2}
    model = load_model("gpt2", False, tokenizer, positions=128, config=config)
    tokenizer.save_pretrained(folder)
    model.save_pretrained(folder)
    return folder


def test_a_model_is_shown_exemplars_which_are_not_asked(model_folder, tmp_path):
    overrides = [
        "task=text", f"task.data_dir={model_folder}", *TRAIN_ALONE, "teacher=model",
        f"teacher.name_or_path={model_folder}", "shots=2", "samples=2", "max_new_tokens=20",
        "max_truncated=1", "shuffle_exemplars=true", "out=c",
    ]  # fmt: skip
    shown = icot("sample", *overrides, "dry_run=true", cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.count("Q: ") == shown.stdout.count("A: ") == 3
    assert shown.stdout.count("a sum #### ") == 2
    done = icot("sample", *overrides, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    samples = read_corpus(tmp_path / "c")
    exemplars = read_settings(tmp_path / "c")["prompt"]["exemplars"]
    assert len({s.index for s in samples}) == 16 - 2
    assert not {line.split("||")[0] for line in exemplars} & {s.question for s in samples}
    assert {s.completion_tokens for s in samples} != {0}


def test_a_model_needs_a_task_and_enough_exemplars(model_folder, tmp_path):
    model = ["teacher=model", f"teacher.name_or_path={model_folder}", "out=c"]
    assert_refused(icot("sample", *model, cwd=tmp_path), "task must be set")
    task = ["task=text", f"task.data_dir={model_folder}", *TRAIN_ALONE, "shots=17"]
    assert_refused(icot("sample", *model, *task, cwd=tmp_path), "has only 16 examples with a chain")


def test_questions_without_an_answer_are_asked(model_folder, tmp_path):
    """As in the test files of CommonsenseQA."""
    choices = [{"label": label, "text": text} for label, text in zip("ABCDE", "vwxyz", strict=True)]
    rows = [{"id": str(i), "question": {"stem": f"what is {i}?", "choices": choices}} for i in "12"]
    (tmp_path / "test.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    task = ["task=csqa", "task.data_dir=.", "split=test"]
    done = icot(
        "sample", *task, "teacher=model", f"teacher.name_or_path={model_folder}", "samples=2",
        "max_new_tokens=5", "max_truncated=1", "out=c", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "2 questions x 2 samples, no label," in done.stdout
    samples = read_corpus(tmp_path / "c")
    assert len(samples) == 4
    assert {(s.answer, s.correct) for s in samples} == {(None, None)}
    task += ["predictor=endpoint", "prompt=no_cot", "predictor.model=m", "out=e"]
    refused = icot("evaluate", *task, "predictor.base_url=http://127.0.0.1:9/v1", cwd=tmp_path)
    assert_refused(refused, "line 1: its answer is None")
