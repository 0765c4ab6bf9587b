"""``icot.sample teacher=endpoint``: the real client, and a real server that fails as servers do."""

import json
import signal
import time
from collections import Counter
from itertools import count

import pytest

from icot.errors import DataError
from icot.inference.request_cache import FILE
from icot.methods.scotd.corpus import read_corpus, read_settings
from icot.methods.scotd.filters import Budget, likelihood
from icot.tasks.multiplication import Multiplication
from tests.conftest import icot
from tests.hostile_texts import hostile_texts
from tests.http_server import Reply, Server, error
from tests.running import REPOSITORY, Forked, assert_refused

KEY = "sk-very-secret-0123456789"
TASK = ("task=mult2", "task.train_size=200", "task.valid_size=10", "task.test_size=10")
SOLVED = {
    one.question: one
    for chunk in Multiplication(2, train_size=200, valid_size=10, test_size=10).chunks("train")
    for one in chunk
}
PRICE = "teacher.price_per_million={prompt: 1000000, completion: 2000000}"
serial = count()


def question_in(prompt: str) -> str:
    return prompt.rpartition("Q: ")[2].partition("\n")[0]


def solve(prompt: str, choice: int) -> str:
    """Every text is another one; those of odd choices have a wrong answer."""
    one = SOLVED[question_in(prompt)]
    return f"{next(serial)} {one.cot} #### {one.answer if choice % 2 == 0 else '1'}\n\nQ: more"


def prompt_of(body: dict) -> str:
    return body["messages"][0]["content"] if "messages" in body else body["prompt"]


def texts_asked(server: Server, since: int = 0) -> Counter:
    """By question."""
    asked: Counter[str] = Counter()
    for body in server.bodies[since:]:
        asked[question_in(prompt_of(body))] += body.get("n", 1)
    return asked


@pytest.fixture
def server():
    started = Server(write=solve)
    yield started
    started.close()


@pytest.fixture
def overrides(server):
    return (
        *("teacher=endpoint", f"teacher.base_url={server.base_url}", "teacher.model=m", *TASK),
        *("examples=8", "samples=4", "shots=2", "paths.cache_dir=cache"),
    )


@pytest.fixture
def sample(overrides, tmp_path):
    def run(*more: str, out: str = "c"):
        return icot("sample", *overrides, *more, f"out={out}", cwd=tmp_path, OPENAI_API_KEY=KEY)

    return run


def usage_in(folder):
    return json.loads((folder / "usage.json").read_text())


@pytest.mark.parametrize("api", ["chat", "completions"])
def test_a_corpus_and_a_second_run_that_sends_nothing(server, sample, tmp_path, api):
    done = sample(f"teacher.api={api}", PRICE)
    assert done.returncode == 0, done.stderr
    samples = read_corpus(tmp_path / "c")
    asked = sorted({s.index for s in samples})
    assert [s.key for s in samples] == [(i, k) for i in asked for k in range(4)]
    settings = read_settings(tmp_path / "c")
    shown = [line.partition("||")[0] for line in settings["prompt"]["exemplars"]]
    assert len(asked) == 8 - len(set(shown) & set(list(SOLVED)[:8]))
    (body,) = [b for b in server.bodies if question_in(prompt_of(b)) == samples[0].question]
    one, two = (SOLVED[question] for question in shown)
    prompt = (
        f"Q: {one.question}\nA: {one.cot} #### {one.answer}\n\n"
        f"Q: {two.question}\nA: {two.cot} #### {two.answer}\n\nQ: {samples[0].question}\nA: "
    )
    said = {"messages": [{"role": "user", "content": prompt}]}
    assert body == {
        **(said if api == "chat" else {"prompt": prompt}),
        **{"model": "m", "n": 4, "temperature": 1.0, "top_p": 1.0, "stop": ["\n\n"]},
        **{"max_tokens": 256, "logprobs": True if api == "chat" else 1},
    }
    for s in samples:
        assert s.text.endswith(f" {s.rationale.partition(' ')[2]} #### {s.prediction}")
        assert s.correct == (s.prediction == SOLVED[s.question].answer)
        assert (s.finish_reason, s.seed, s.model) == ("stop", None, "m")
        assert s.logprob < 0
    assert len({s.text for s in samples}) == len(samples)
    assert settings["models_served"] == ["m"]
    decides = {"kind", "base_url", "api", "model", "extra_body", "decoding"}
    assert set(settings["teacher"]) == decides
    usage = usage_in(tmp_path / "c")
    n = len(asked)
    words = sum(len(prompt_of(body).split()) for body in server.bodies)
    assert (usage["samples"], usage["correct"], usage["without_logprob"]) == (4 * n, 2 * n, 0)
    assert usage["requests"] == {"sent": n, "answered": n, "retried": 0, "failed": 0}
    assert usage["prompt_tokens"] == words
    assert usage["cost"] == words + 2 * usage["completion_tokens"]
    assert f"{n} requests sent, 0 answers from the cache, 0 retries" in done.stdout

    again = sample(f"teacher.api={api}", PRICE)
    assert again.returncode == 0, again.stderr
    assert len(server.bodies) == n
    assert f"0 requests sent, {4 * n} answers from the cache" in again.stdout
    assert read_corpus(tmp_path / "c") == samples
    second = usage_in(tmp_path / "c")
    for key in ("samples", "prompt_tokens", "completion_tokens", "requests", "cost", "models"):
        assert second[key] == usage[key]
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not [path for path in files if b"very-secret" in path.read_bytes()]


def test_the_cache_serves_another_folder_but_not_another_seed(server, sample, tmp_path):
    exemplars = tmp_path / "exemplars.txt"
    exemplars.write_text("9 9 * 9 9||nine #### 1\n")
    fixed = (f"exemplars={exemplars}", "shots=1")
    assert sample(*fixed).returncode == 0
    sent = len(server.bodies)
    assert sample(*fixed, out="copy").returncode == 0
    assert len(server.bodies) == sent
    assert read_corpus(tmp_path / "copy") == read_corpus(tmp_path / "c")
    assert sample(*fixed, "seed=7", out="other").returncode == 0
    assert len(server.bodies) == 2 * sent


def test_what_is_in_the_corpus_is_not_asked_for_though_the_cache_is_gone(server, sample, tmp_path):
    assert sample().returncode == 0
    whole, sent = read_corpus(tmp_path / "c"), len(server.bodies)
    path = tmp_path / "c" / "samples.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    lost = json.loads(lines[-1])
    path.write_bytes(b"".join(lines[:-1]))
    (tmp_path / "cache" / FILE).unlink()
    assert sample().returncode == 0
    assert texts_asked(server, sent) == {lost["question"]: 1}
    kept = [s for s in whole if s.key != (lost["index"], lost["sample"])]
    assert [s for s in read_corpus(tmp_path / "c") if s in kept] == kept


def test_a_dry_run_sends_nothing_and_gives_bounds(server, sample, tmp_path):
    done = sample("dry_run=true", PRICE, "max_new_tokens=10", "exemplars=e.txt", "examples=3")
    assert_refused(done, "e.txt")
    done = sample("dry_run=true", PRICE, "max_new_tokens=10", "examples=3", "shots=0")
    assert done.returncode == 0, done.stderr
    assert server.bodies == []
    assert not (tmp_path / "c").exists()
    assert "3 questions x 4 samples = 12 texts of at most 10 tokens" in done.stdout
    together, alone = [line for line in done.stdout.splitlines() if "would be sent" in line]
    assert together.startswith("3 requests would be sent, 0 answers are in the cache")
    assert "12 requests would be sent" in alone
    prompts = [sum(len(f"Q: {q}\nA: ") + 64 for q in list(SOLVED)[:3]) * k for k in (1, 4)]
    for line, most in zip((together, alone), prompts, strict=True):
        assert f"At most {most:,} prompt tokens" in line
        assert f"120 completion tokens; cost {most + 240:,.2f}" in line


def test_a_server_that_gives_one_text_a_request(server, sample, tmp_path):
    server.script = lambda number, body: Reply(server.answer({**body, "n": 1}))
    done = sample("teacher.concurrency=1")
    assert done.returncode == 0, done.stderr
    n = len(read_corpus(tmp_path / "c"))
    assert [body.get("n", 1) for body in server.bodies] == [4, *[1] * (n - 1)]
    assert done.stdout.count("The server gives 1 texts where it is asked for 4") == 1
    assert len({s.text for s in read_corpus(tmp_path / "c")}) == n


def test_missing_log_probabilities_are_counted_and_the_filter_refuses(server, sample, tmp_path):
    server.script = lambda number, body: Reply(server.answer({**body, "logprobs": None}))
    done = sample()
    assert done.returncode == 0, done.stderr
    samples = read_corpus(tmp_path / "c")
    assert usage_in(tmp_path / "c")["without_logprob"] == len(samples)
    assert done.stdout.count("The server sends texts without log-probabilities") == 1
    assert f"{len(samples)} without log-probabilities" in done.stdout
    with pytest.raises(DataError, match="has no log-probability"):
        likelihood(samples, Budget(2, 0, samples))
    sent = len(server.bodies)
    done = sample("teacher.logprobs=false", out="without")
    assert done.returncode == 0, done.stderr
    assert not [body for body in server.bodies[sent:] if "logprobs" in body]
    assert "without log-probabilities" not in done.stdout


def test_cut_texts_are_counted_and_too_many_end_the_command(server, sample, tmp_path):
    server.write = lambda prompt, choice: solve(prompt, choice).partition("\n\n")[0]
    server.script = lambda number, body: Reply(
        server.answer(body, finish_reason="length") if number % 4 == 0 else server.answer(body)
    )
    many = ("examples=60", "teacher.concurrency=2")
    assert_refused(sample(*many), "samples were cut at 256 tokens, more than max_truncated=0.05")
    assert 25 <= len(server.bodies) <= 28  # at 100 texts
    written = {s.text for s in read_corpus(tmp_path / "c")}
    done = sample(*many, "max_truncated=1")
    assert done.returncode == 0, done.stderr
    samples = read_corpus(tmp_path / "c")
    assert set(texts_asked(server).values()) == {4}
    assert written <= {s.text for s in samples}
    cut = [s for s in samples if s.is_cut]
    n = len({s.index for s in samples})
    assert len(cut) == usage_in(tmp_path / "c")["truncated"] == 4 * len(range(0, n, 4))
    assert not [s for s in cut if s.is_usable]


def test_a_model_of_another_name_is_said_and_recorded(server, sample, tmp_path):
    server.script = lambda number, body: Reply({**server.answer(body), "model": "cheap"})
    done = sample()
    assert done.stdout.count("names its model 'cheap'; it was asked for 'm'") == 1
    samples = read_corpus(tmp_path / "c")
    assert {s.model for s in samples} == {"cheap"}
    assert usage_in(tmp_path / "c")["models"] == {"cheap": len(samples)}
    assert read_settings(tmp_path / "c")["models_served"] == ["cheap"]


def test_a_server_that_decodes_greedily_is_found_out_once_and_for_all(server, sample):
    server.write = lambda prompt, choice: f"the same for {question_in(prompt)} #### 1"
    greedy = "each of 20 prompts are the same, although temperature=1.0: the server decodes"
    assert_refused(sample("examples=60", "teacher.concurrency=1"), greedy)
    assert len(server.bodies) == 20
    assert_refused(sample("examples=60", "teacher.concurrency=1"), greedy)
    assert len(server.bodies) == 20
    assert_refused(sample("examples=60", "temperature=null", out="d"), "although temperature=null")
    done = sample("examples=60", "temperature=0", "samples=1", out="g")
    assert done.returncode == 0, done.stderr


def test_what_a_server_does_not_take_is_not_sent_and_what_only_it_knows_is(server, sample):
    limit = "teacher.token_limit=max_completion_tokens"
    done = sample("temperature=null", "top_p=null", limit, "teacher.extra_body={top_k: -1}")
    assert done.returncode == 0, done.stderr
    assert not {"temperature", "top_p", "max_tokens"} & set(server.bodies[0])
    assert (server.bodies[0]["max_completion_tokens"], server.bodies[0]["top_k"]) == (256, -1)


def test_failures_that_pass_are_tried_again(server, sample, tmp_path):
    failures = [
        error(429, Retry_After="0"),
        error(429),
        error(500),
        Reply(reset=True),
        Reply({"choices": "a text that is cut"}, cut=9),
        Reply(b'{"id": "1", "choices": [{"mess'),
    ]
    server.script = lambda number, body: failures[number] if number < len(failures) else None
    done = sample("examples=12")
    assert done.returncode == 0, done.stderr
    samples = read_corpus(tmp_path / "c")
    n = len({s.index for s in samples})
    assert len(samples) == len({s.text for s in samples}) == 4 * n
    found = usage_in(tmp_path / "c")["requests"]
    assert found == {"sent": n + 6, "answered": n, "retried": 6, "failed": 0}
    assert len(server.bodies) == n + 6


def went_on(done, server, sample, *more):
    """The command has stopped with the command to go on, which asks for nothing twice."""
    assert_refused(done, "the same command, started again, goes on from there.")
    assert done.stderr.splitlines()[-1].startswith("  python -m icot.sample teacher=endpoint ")
    arrived = texts_asked(server)
    before = len(server.bodies)
    again = sample(*more)
    assert again.returncode == 0, again.stderr
    return arrived, texts_asked(server, before)


@pytest.mark.parametrize(
    ("failure", "says"),
    [(error(503), "no answer for 0 s"), (error(429, "pay", "insufficient_quota"), "credit")],
)
def test_a_server_that_gives_no_more(server, sample, tmp_path, failure, says):
    server.script = lambda number, body: failure if number >= 3 else None
    one = ("teacher.concurrency=1", "teacher.patience=0")
    done = sample(*one)
    assert says in done.stderr
    written = read_corpus(tmp_path / "c")
    assert len(written) == 12 == usage_in(tmp_path / "c")["samples"]
    server.script = lambda number, body: None
    arrived, later = went_on(done, server, sample, *one)
    assert not set(list(arrived)[:3]) & set(later)
    assert [s for s in read_corpus(tmp_path / "c") if s in written] == written
    assert usage_in(tmp_path / "c")["requests"]["failed"] == 1


@pytest.mark.parametrize("limit", ["tokens", "cost"])
def test_a_budget_is_not_passed_and_covers_earlier_commands(server, sample, tmp_path, limit):
    priced = (PRICE, "max_new_tokens=40")
    bound = 900 if limit == "tokens" else 1400
    done = sample(*priced, f"budget.{limit}={bound}")
    assert f"budget.{limit}={bound}: the next request could pass it" in done.stderr
    usage = usage_in(tmp_path / "c")
    tokens = usage["prompt_tokens"] + usage["completion_tokens"]
    assert bound / 3 < (tokens if limit == "tokens" else usage["cost"]) <= bound
    sent = len(server.bodies)
    assert sample(*priced, f"budget.{limit}={bound}").returncode == 2
    assert len(server.bodies) == sent
    arrived, later = went_on(done, server, sample, *priced, f"budget.{limit}={bound * 100}")
    assert not set(arrived) & set(later)
    assert set((arrived + later).values()) == {4}


def test_the_key_is_nowhere_though_the_server_repeats_it(server, sample, tmp_path):
    def script(number, body):
        if number == 0:
            return None
        return error(401, f"bad header {server.authorizations[-1]}; try sk-another-key-9876")

    server.script = script
    done = sample("teacher.concurrency=1")
    assert_refused(done, "the key, environment variable OPENAI_API_KEY, is refused")
    assert "bad header Bearer ***; try sk-***" in done.stderr
    assert set(server.authorizations) == {f"Bearer {KEY}"}
    files = {str(path): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert any(b"bad header" in content for content in files.values())  # masked
    said = [done.stdout.encode(), done.stderr.encode(), *files.values()]
    assert not [text for text in said if b"very-secret" in text or b"another-key" in text]


def test_an_interrupt_waits_for_what_is_paid_for(server, sample, overrides, tmp_path):
    """Ctrl-C: what is in flight is received, so that no text is ever asked for twice."""
    server.script = lambda number, body: Reply(server.answer(body), after=0.1)
    more = ("teacher.concurrency=2", "examples=30", "out=c")
    process = Forked(
        "icot.sample", (*overrides, *more), tmp_path,
        {"PYTHONPATH": str(REPOSITORY), "OPENAI_API_KEY": KEY},
    )  # fmt: skip
    while len(server.bodies) < 5 and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 128 + signal.SIGINT, process.stderr
    before = len(server.bodies)
    done = sample(*more)
    assert done.returncode == 0, done.stderr
    assert 5 <= before < len(server.bodies)
    assert set(texts_asked(server).values()) == {4}


def test_hostile_texts_are_judged_or_counted(server, sample, tmp_path):
    texts = hostile_texts(1_000)
    server.write = lambda prompt, choice: next(texts)
    done = sample("examples=100", "samples=2", "teacher.concurrency=1")
    assert done.returncode == 0, done.stderr
    samples = read_corpus(tmp_path / "c")
    assert len(samples) == 2 * len({s.index for s in samples}) > 190
    assert usage_in(tmp_path / "c")["unparsed"] == sum(s.prediction is None for s in samples) > 20


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (("budget.cost=3",), "budget.cost needs a price: teacher.price_per_million="),
        (("temperature=0",), "temperature=0 writes the same text every time: set samples=1"),
        (("teacher.patience=-1",), "teacher.patience=-1 must be at least 0"),
        (("teacher.run_dir=x",), "teacher.run_dir has no effect with teacher.kind=endpoint"),
        (("teacher.base_url=http://me:hush@host/v1",), "must have no user name, password"),
    ],
)
def test_mistakes_are_one_message(server, sample, more, says):
    done = sample(*more)
    assert_refused(done, says)
    assert server.bodies == []
    assert "hush" not in done.stdout + done.stderr


@pytest.mark.parametrize("more", ["budget.tokens=5", "temperature=null"])
def test_what_is_for_a_server_is_refused_elsewhere(tmp_path, more):
    done = icot("sample", "teacher=run", "teacher.run_dir=r", "out=c", more, cwd=tmp_path)
    assert_refused(done, "with teacher=run")
