"""``icot.evaluate`` of models that get prompts, as a user calls it: real server, real model."""

import json
import re

import pytest

from icot.inference.endpoint_requests import ENVELOPE
from icot.tasks.multiplication import Multiplication
from icot.tasks.prose import long_multiplication
from tests.conftest import icot
from tests.hostile_texts import hostile_texts
from tests.http_server import Reply, Server, error
from tests.running import assert_refused

TASK = ("task=mult2", "task.train_size=50", "task.valid_size=40", "task.test_size=30")
KEY = "sk-very-secret-0123456789"


def calculate(prompt: str, choice: int = 0) -> str:
    """What a model writes that can multiply, with a chain if the examples have one."""
    a, b = map(int, re.findall(r"\nQ:(\d+) \* (\d+)$", prompt)[0])
    solved = long_multiplication(a, b)
    chain = f"{solved.cot} " if "partial sum" in prompt else ""
    return f"A: {chain}#### {solved.answer}"


@pytest.fixture
def server():
    started = Server(write=calculate)
    yield started
    started.close()


@pytest.fixture
def evaluate(server, tmp_path):
    def run(*overrides: str, prompt: str = "explicit"):
        return icot(
            "evaluate",
            *("predictor=endpoint", f"predictor.base_url={server.base_url}", "predictor.model=m"),
            *(f"prompt={prompt}", "paths.cache_dir=cache", "paths.output_root=o"),
            *TASK,
            *overrides,
            cwd=tmp_path,
            OPENAI_API_KEY=KEY,
        )

    return run


def read(folder, name="evaluation.json"):
    return json.loads((folder / name).read_text())


def test_a_model_on_a_server(server, evaluate, tmp_path):
    done = evaluate("out=e", "speed.examples=6")
    assert done.returncode == 0, done.stderr
    found = read(tmp_path / "e")
    assert (found["accuracy"], found["n"], found["broken_format"]) == (1.0, 40, 0.0)
    assert (found["accuracy_strict"], found["accuracy_numeric"]) == (1.0, 1.0)
    assert (found["model"], found["models_served"], found["task"]) == ("m", ["m"], "mult2")
    assert found["title"] == "m, 5-shot explicit CoT"
    assert found["speed"]["examples"] == 6
    assert set(found["failures"]) == {"carries", "operand size"}
    assert found["usage"]["requests"]["sent"] == 40 == len(server.bodies)
    lines = [json.loads(line) for line in (tmp_path / "e" / "predictions.jsonl").open()]
    valid = [
        one for chunk in Multiplication(2, "long", 50, 40, 30).chunks("valid") for one in chunk
    ]
    asked = [Multiplication(2).prose(one) for one in valid]
    assert [line["question"] for line in lines] == [one.question for one in asked]
    assert [line["target"] for line in lines] == [f"#### {one.answer}" for one in asked]
    assert all(line["correct"] and line["finish_reason"] == "stop" for line in lines)
    for name in ("config.yaml", "environment.json", "summary.json", "usage.json", "command.txt"):
        assert (tmp_path / "e" / name).is_file()
    assert "accuracy (numeric)" in done.stdout
    again = evaluate("out=again", "speed.examples=6")
    assert len(server.bodies) == 40
    assert "0 requests sent, 40 answers from the cache" in again.stdout
    second = read(tmp_path / "again")
    for key in ("accuracy", "speed", "prompts_hash", "failures"):
        assert second[key] == found[key]
    files = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert not [text for text in files if b"very-secret" in text]
    assert_refused(evaluate("out=e"), "holds evaluation.json already")


def test_without_a_chain_and_the_report_of_both(server, evaluate, tmp_path):
    for prompt in ("no_cot", "explicit"):
        assert evaluate("speed.examples=5", prompt=prompt).returncode == 0
    folders = {path.name for path in (tmp_path / "o/prompted/evaluations").iterdir()}
    assert folders >= {"mult2_m_5-shot-No-CoT_valid", "mult2_m_5-shot-explicit-CoT_valid"}
    done = icot("report", "o", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "o/report/report.md").read_text()
    section = text[text.index("Prompted models") :]
    assert "m, 5-shot explicit CoT" in section
    assert re.search(r"No CoT \|.*\| 1\.000 \(0\.912-1\.000\) .* 1\.00× ", section)


def test_a_dry_run_sends_nothing_and_writes_nothing(server, evaluate, tmp_path):
    price = "predictor.price_per_million={prompt: 1, completion: 1000000}"
    done = evaluate("dry_run=true", "examples=3", "max_new_tokens=10", price)
    assert done.returncode == 0, done.stderr
    assert server.bodies == []
    assert not (tmp_path / "o").exists()
    assert "Solved examples:\n\nQ: " in done.stdout
    most = re.search(r"At most ([\d,]+) prompt tokens", done.stdout)
    assert "3 requests would be sent, 0 answers are in the cache" in done.stdout
    assert most is not None
    assert int(most[1].replace(",", "")) > 3 * ENVELOPE
    assert "30 completion tokens; cost 30.00" in done.stdout


def test_too_many_cut_answers_end_the_command_and_are_kept(server, evaluate, tmp_path):
    server.script = lambda number, body: (
        Reply(server.answer(body, finish_reason="length")) if number % 5 == 0 else None
    )
    refused = evaluate("out=e", "speed.examples=0", "predictor.concurrency=1")
    assert_refused(refused, "more than 5% of the 40 answers are cut at 600 tokens: set")
    sent = len(server.bodies)
    assert sent < 20  # it does not go on paying
    server.script = lambda number, body: None
    done = evaluate("out=e", "speed.examples=0", "prompt.max_truncated=1")
    assert done.returncode == 0, done.stderr
    assert len(server.bodies) == 40
    found = read(tmp_path / "e")
    assert (found["truncated"], found["accuracy"]) == (3 / 40, 37 / 40)


def test_an_answer_that_the_server_cuts_is_no_whole_one(server, evaluate, tmp_path):
    server.script = lambda number, body: (
        Reply(server.answer(body, finish_reason="content_filter")) if number % 5 == 0 else None
    )
    one = ("speed.examples=0", "predictor.concurrency=1")
    refused = evaluate(*one)
    assert_refused(refused, "are cut at 600 tokens or by the server (content_filter): set")
    done = evaluate(*one, "out=e", "prompt.max_truncated=1")
    assert done.returncode == 0, done.stderr
    found = read(tmp_path / "e")
    assert (found["truncated"], found["accuracy"]) == (0.2, 0.8)


def test_a_server_that_gives_no_more_for_now(server, evaluate):
    """The last line is the command to go on, which asks for nothing twice."""
    server.script = lambda number, body: error(503, "down") if number >= 12 else None
    one = ("speed.examples=0", "predictor.concurrency=1", "predictor.patience=0")
    done = evaluate(*one)
    assert_refused(done, "the same command, started again, goes on from there.")
    command = done.stderr.splitlines()[-1].strip()
    assert command.startswith("python -m icot.evaluate predictor=endpoint ")
    assert command.endswith(" ".join((*TASK, *one)))
    server.script = lambda number, body: None
    again = evaluate(*one)
    assert "28 requests sent, 12 answers from the cache" in again.stdout


def test_hidden_reasoning_is_counted_and_marked(server, evaluate, tmp_path):
    def script(number, body):
        content = server.answer(body)
        content["usage"]["completion_tokens_details"] = {"reasoning_tokens": 7}
        return Reply(content)

    server.script = script
    assert evaluate("out=o/e", "speed.examples=5", prompt="no_cot").returncode == 0
    assert read(tmp_path / "o/e")["reasoning_tokens_per_example"] == 7
    icot("report", "o", cwd=tmp_path)
    section = (tmp_path / "o/report/report.md").read_text().split("Prompted models")[1]
    assert "No CoT (reasons unseen)" in section
    assert "1.00×" not in section.split("\n## ")[0]


def test_hostile_answers_do_not_end_the_command(server, evaluate, tmp_path):
    texts = list(hostile_texts(2_000))[:500]
    server.script = lambda number, body: Reply(
        server.answer(body, message={"role": "assistant", "content": texts[number]})
    )
    done = evaluate(
        *("out=e", "task.valid_size=500", "speed.examples=0", "prompt.stop=[Q:]"),
    )
    assert done.returncode == 0, done.stderr
    assert (read(tmp_path / "e")["n"], len(server.bodies)) == (500, 500)
    assert read(tmp_path / "e")["broken_format"] > 0.9


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (("run_dir=o",), "run_dir has no effect with predictor=endpoint"),
        (("stage=all",), "stage=all is for a run"),
        (("predictor.budget.cost=3",), "predictor.budget.cost needs a price"),
        (("predictor.base_url=http://a:b@c/v1",), "must have no user name, password or query"),
        (("predictor.name_or_path=x",), "predictor.name_or_path has no effect"),
        (("prompt.exemplars=none.txt",), "prompt.exemplars=none.txt: no such file"),
        (("prompt.shots=51",), "and prompt.shots is 51"),
        (("predictor.n=5",), "predictor.temperature=0 writes the same text every time"),
    ],
)
def test_mistakes(evaluate, server, overrides, says):
    assert_refused(evaluate(*overrides), says)
    assert server.bodies == []


def hesitate(prompt: str, choice: int) -> str:
    """Three of five texts have the right answer, one a wrong one, one has none."""
    right = calculate(prompt)
    texts = ("#### 1", right, "I do not know.", f"so {right}.0", f"thus {right}")
    return texts[choice]


VOTE = ("predictor.n=5", "predictor.temperature=0.7", "speed.examples=0")


def test_the_texts_of_a_server_vote(server, evaluate, tmp_path):
    server.write = hesitate
    done = evaluate(*VOTE, "predictor.top_p=0.9", "out=o/e", "examples=20")
    assert done.returncode == 0, done.stderr
    assert [body["n"] for body in server.bodies] == [5] * 20
    assert {(b["temperature"], b["top_p"], b.get("seed")) for b in server.bodies} == {
        (0.7, 0.9, None)
    }
    found = read(tmp_path / "o/e")
    assert found["votes"] == {
        "accuracy_by_votes": {"1": 0.0, "5": 1.0},
        "accuracy_of_one": pytest.approx(0.6),
        **{"any_right": 1.0, "ties": 0.0, "unparsed": 0.2, "without_a_vote": 0.0},
    }
    assert (found["accuracy"], found["n"], found["samples"]) == (1.0, 20, 5)
    assert found["title"] == "m, 5-shot explicit CoT, majority of 5"
    assert "speed" not in found
    lines = [json.loads(line) for line in (tmp_path / "o/e/predictions.jsonl").open()]
    assert all(line["prediction"].startswith("A: ") and line["correct"] for line in lines)
    assert "Accuracy of the majority" in done.stdout
    again = evaluate(*VOTE, "predictor.top_p=0.9", "examples=20")
    assert "0 requests sent, 100 answers from the cache" in again.stdout
    assert (tmp_path / "o/prompted/evaluations/mult2_m_5-shot-explicit-CoT_valid_vote-5").is_dir()
    assert evaluate(*VOTE, "predictor.top_p=0.9", "examples=20", "predictor.seed=1").returncode == 0
    assert len(server.bodies) == 40
    icot("report", "o", cwd=tmp_path)
    assert "CoT, majority of 5 |" in (tmp_path / "o/report/report.md").read_text()


def test_a_dry_run_of_a_vote_tells_both_bounds(server, evaluate):
    done = evaluate(*VOTE, "dry_run=true", "examples=3", "max_new_tokens=10")
    assert done.returncode == 0, done.stderr
    together, alone = re.findall(r"(\d+) requests would be sent.* (\d+) completion", done.stdout)
    assert (together, alone) == (("3", "150"), ("15", "150"))
    assert server.bodies == []


def test_a_server_that_writes_one_text_n_times_gets_no_vote(server, evaluate):
    refused = evaluate(*VOTE)
    assert_refused(refused, "each of 20 prompts are the same, although temperature=0.7")


@pytest.fixture
def in_this_process(small_run, tmp_path):
    """What asks the run's exported model the questions of its validation split."""
    exported = icot("export", f"run_dir={small_run}", "out=m", "paths.cache_dir=c", cwd=tmp_path)
    assert exported.returncode == 0, exported.stderr
    asked = ("predictor=prompted", "predictor.name_or_path=m", "prompt=native", "max_new_tokens=12")
    return (*asked, "task=mult2", "task.train_size=200", "task.valid_size=40", "task.test_size=10")


def test_the_texts_of_a_model_in_this_process_vote(in_this_process, tmp_path):
    """Whatever the batch, and whatever else is asked: a text is its question's and its number's."""
    vote = (*VOTE[:1], "predictor.temperature=2", "prompt.max_truncated=1")
    found = {}
    for name, more in {
        "a": (),
        "b": ("batch_size=7",),
        "few": ("examples=10",),
        "other": ("predictor.seed=1",),
    }.items():
        done = icot("evaluate", *in_this_process, *vote, *more, f"out={name}", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        lines = [json.loads(line) for line in (tmp_path / name / "predictions.jsonl").open()]
        found[name] = [line["prediction"] for line in lines]
    assert found["a"] == found["b"] != found["other"]
    assert found["few"] == found["a"][:10]
    record = read(tmp_path / "a")
    assert record["votes"] == read(tmp_path / "b")["votes"]
    assert record["accuracy"] == record["votes"]["accuracy_by_votes"]["5"]
    assert record["votes"]["accuracy_by_votes"].keys() == {"1", "5"}


def test_a_folder_that_is_not_there_is_named_by_its_key(tmp_path):
    asked = ("predictor=prompted", "predictor.name_or_path=nowhere", "prompt=no_cot", *TASK)
    done = icot("evaluate", *asked, "paths.output_root=o", cwd=tmp_path)
    assert_refused(done, "Set predictor.name_or_path to a folder that holds it.")


def test_a_prompt_needs_something_to_ask(tmp_path):
    assert_refused(icot("evaluate", "task=mult2", cwd=tmp_path), "task is for predictor=endpoint")
    done = icot("evaluate", "experiment=table2_4x4_icot_si", cwd=tmp_path)
    assert_refused(done, "is evaluated: python -m icot.train experiment=table2_4x4_icot_si")
    done = icot("train", "experiment=table2_4x4_gpt4_explicit", cwd=tmp_path)
    assert_refused(done, "python -m icot.evaluate experiment=table2_4x4_gpt4_explicit")


def test_a_model_in_this_process_writes_what_icot_evaluate_says(
    in_this_process, small_run, tmp_path
):
    done = icot("evaluate", *in_this_process, "speed.examples=5", "out=e", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    own = ("speed.examples=0", "paths.cache_dir=c", "max_new_tokens=12", "out=own")
    assert icot("evaluate", f"run_dir={small_run}", *own, cwd=tmp_path).returncode == 0
    written, expected = (
        [json.loads(line) for line in (tmp_path / name / "predictions.jsonl").open()]
        for name in ("e", "own")
    )
    for key in ("question", "target", "correct"):
        assert [one[key] for one in written] == [one[key] for one in expected]
    texts = [" ".join(one["prediction"].split()) for one in written]
    assert texts == [one["prediction"] for one in expected]
    found = read(tmp_path / "e")
    assert (found["predictor"], found["speed"]["examples"], found["n"]) == ("prompted", 5, 40)
    assert found["accuracy"] == read(tmp_path / "own")["accuracy"]
