"""The client against a real server that fails in every way we know, with the real library."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import openai
import pytest
from tenacity import wait_none

from icot.config.endpoint_options import BudgetConfig, EndpointOptions, PriceConfig
from icot.errors import RunError
from icot.inference import endpoint as module
from icot.inference.completions import Completion, Decoding, Request
from icot.inference.endpoint import Endpoint
from icot.inference.endpoint_errors import retry_after
from icot.inference.endpoint_requests import ENVELOPE
from icot.inference.request_cache import FILE, RequestCache
from tests.http_server import Reply, Server, error
from tests.running import REPOSITORY

KEY = "sk-very-secret-0123456789"
GREEDY = Decoding(max_tokens=16)
SAMPLED = Decoding(max_tokens=16, temperature=1.0)


@pytest.fixture
def start(request):
    """Starts servers, and stops them in the end."""

    def begin(*arguments, **more) -> Server:
        server = Server(*arguments, **more)
        request.addfinalizer(server.close)
        return server

    return begin


@pytest.fixture
def ask(tmp_path, monkeypatch):
    """A client of a server with a cache of the test's own, which does not wait between tries."""
    monkeypatch.setattr(module, "BACK_OFF", wait_none())
    monkeypatch.setenv("OPENAI_API_KEY", KEY)

    def client(server: Server, decoding=GREEDY, budget=None, **options) -> Endpoint:
        values = {"base_url": server.base_url, "model": "m", "timeout": 20.0, **options}
        cache = RequestCache(tmp_path / "cache")
        return Endpoint(EndpointOptions(**values), decoding, cache, budget)

    return client


def texts(client: Endpoint, requests, **options) -> list[str]:
    found = dict(client.sample(requests, **options))
    return [found[i].text for i in range(len(requests))]


def said(choice: dict, usage: dict | None = None) -> dict:
    """An answer with these things in its choice and its usage."""
    message = {"role": "assistant", "content": "a text of five bytes"}
    whole = {"index": 0, "finish_reason": "stop", "message": message, **choice}
    return {"id": "1", "model": "m", "choices": [whole], "usage": usage}


def prompts(count: int) -> list[Request]:
    return [Request(f"question {i}") for i in range(count)]


@pytest.mark.parametrize("api", ["chat", "completions"])
def test_what_is_asked_and_what_comes_back(start, ask, api):
    server = start()
    decoding = Decoding(20, 0.7, 0.9, ("\n\n",), logprobs=True)
    client = ask(server, decoding, api=api, extra_body={"top_k": -1})
    ((index, one),) = client.sample([Request("1 + 1", seed=3)])
    (body,) = server.bodies
    said = {"messages": [{"role": "user", "content": "1 + 1"}]} if api == "chat" else {}
    assert body == {
        "model": "m",
        **(said or {"prompt": "1 + 1"}),
        "max_tokens": 20,
        "temperature": 0.7,
        "top_p": 0.9,
        "stop": ["\n\n"],
        "seed": 3,
        "logprobs": True if api == "chat" else 1,
        "top_k": -1,
    }
    assert (index, one.text, one.finish_reason, one.model) == (0, "echo of 1 + 1", "stop", "m")
    assert (one.prompt_tokens, one.completion_tokens, one.is_estimate) == (3, 5, False)
    assert (one.logprob, one.logprob_tokens) == (-2.5, 5)
    assert server.authorizations == [f"Bearer {KEY}"]


def test_no_temperature_and_another_name_of_the_limit(start, ask):
    for api in ("chat", "completions"):
        server = start()
        limit = "max_completion_tokens"
        texts(ask(server, Decoding(7, None), api=api, token_limit=limit), prompts(1))
        assert server.bodies[0][limit] == 7
        assert not {"temperature", "max_tokens", "n", "stop"} & set(server.bodies[0])


def test_a_second_run_sends_nothing_and_counts_the_same_tokens(start, ask):
    server = start()
    first = ask(server, price_per_million=PriceConfig(prompt=1e6, completion=2e6))
    expected = texts(first, prompts(30))
    assert (first.usage.sent, first.usage.cached, len(server.bodies)) == (30, 0, 30)
    assert first.usage.cost == 30 * (2 * 1 + 4 * 2)
    second = ask(server, price_per_million=PriceConfig(prompt=1e6, completion=2e6))
    assert texts(second, prompts(30)) == expected
    assert (second.usage.sent, second.usage.cached, len(server.bodies)) == (0, 30, 30)
    assert second.usage.cost == first.usage.cost
    assert second.usage.as_dict()["tokens_new"]["completion"] == 0


@pytest.mark.parametrize(
    "change",
    [
        {"decoding": Decoding(max_tokens=17)},
        {"decoding": Decoding(16, 0.5)},
        {"decoding": Decoding(16, 0.0, 0.5)},
        {"decoding": Decoding(16, stop=("x",))},
        {"decoding": Decoding(16, logprobs=True)},
        {"model": "another m"},
        {"api": "completions"},
        {"extra_body": {"top_k": 1}},
    ],
)
def test_whatever_decides_an_answer_is_in_the_key(start, ask, change):
    server = start()
    texts(ask(server), prompts(1))
    texts(ask(server, **change), prompts(1))
    assert len(server.bodies) == 2


def test_seed_number_and_draw_of_the_sample_are_in_the_key(start, ask):
    server = start()
    requests = [Request("q", seed=1), Request("q", 1, seed=1), Request("q", seed=2), Request("q")]
    texts(ask(server), [*requests, Request("another"), Request("q", draw=1)])
    assert len(server.bodies) == 6


# ---------------------------------------------------------------------------------- what passes


@pytest.mark.parametrize(
    "failure",
    [
        error(500),
        error(502),
        error(503),
        error(408),
        error(409),
        error(429),
        error(429, Retry_After="0"),
        Reply(reset=True),
        Reply({"choices": "a text that is cut"}, cut=9),
        Reply(b'{"id": "1", "choices": [{"mess'),
        Reply({"error": {"message": "overloaded"}}),
        Reply({"id": "1", "choices": []}),
        Reply({"id": "1", "choices": [{"index": 0}]}),
        Reply(said({"logprobs": {"content": 7}})),
        Reply(said({}, {"completion_tokens_details": {"reasoning_tokens": "q"}})),
        Reply(b""),
    ],
    ids=lambda reply: f"{reply.status}-{str(reply.content)[:12]}-{reply.reset}",
)
def test_a_failure_that_passes_is_tried_again(start, ask, failure):
    server = start(lambda number, body: failure if number < 2 else None)
    client = ask(server)
    assert texts(client, prompts(1)) == ["echo of question 0"]
    assert (client.usage.sent, client.usage.retried, client.usage.failed) == (3, 2, 0)


def test_no_answer_in_time_is_tried_again(start, ask):
    server = start(lambda number, body: Reply({}, after=1.0) if number == 0 else None)
    assert texts(ask(server, timeout=0.3), prompts(1)) == ["echo of question 0"]
    assert len(server.bodies) == 2


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_the_time_that_the_server_asks_for_is_waited(start, ask, form):
    asked = "1.2"
    if form == "date":  # whole seconds
        asked = format_datetime(datetime.now(UTC) + timedelta(seconds=3), usegmt=True)
    server = start(lambda number, body: error(429, Retry_After=asked) if number == 0 else None)
    begun = time.monotonic()
    client = ask(server, patience=0.1)  # waiting as asked is no impatience
    assert texts(client, prompts(1)) == ["echo of question 0"]
    assert time.monotonic() - begun > 1.1
    assert client.usage.seconds_waited > 1.1


@pytest.mark.parametrize(
    ("asked", "seconds"),
    [
        ("-3", 0),
        ("1e13", 86_400),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 86_400),
        *((text, None) for text in ("inf", "nan", "soon", "Fri, 31 Dec 9999 23:59:59 -2300")),
    ],
)
def test_what_a_server_asks_to_wait_is_at_most_a_day(start, asked, seconds):
    server = start(lambda number, body: error(429, Retry_After=asked))
    bare = openai.OpenAI(base_url=server.base_url, api_key=KEY, max_retries=0)
    with pytest.raises(openai.RateLimitError) as caught:
        bare.completions.create(model="m", prompt="q")
    assert retry_after(caught.value) == seconds


def test_back_off_doubles_from_a_second_to_a_minute():
    class State:
        attempt_number = 1

    for attempt, low in ((1, 1), (2, 2), (3, 4), (6, 32), (7, 60), (50, 60)):
        State.attempt_number = attempt
        assert low <= module.BACK_OFF(State()) <= min(60, low + 1)  # type: ignore[arg-type]


def test_patience_ends_and_what_has_arrived_stays(start, ask, tmp_path):
    server = start(lambda number, body: error(503, "down") if number >= 5 else None)
    client = ask(server, patience=0.2, concurrency=2)
    with pytest.raises(RunError, match=r"no answer for 0.2 s \(.*down.*same command, started"):
        texts(client, prompts(20))
    server.script = lambda number, body: None
    sent = len(server.bodies)
    again = ask(server)
    assert texts(again, prompts(20))[19] == "echo of question 19"
    assert len(server.bodies) - sent == 15 == 20 - again.usage.cached


def test_no_server_at_all(ask, start):
    server = start()
    server.close()
    with pytest.raises(RunError, match="Is the server running"):
        texts(ask(server, patience=0), prompts(1))


def test_too_many_requests_halve_those_in_flight(start, ask):
    server = start(
        lambda number, body: (
            error(429, Retry_After="0.05")
            if server.busy > 2
            else Reply(server.answer(body), after=0.01)
        )
    )
    client = ask(server, concurrency=8)
    assert len(texts(client, prompts(60))) == 60
    assert server.most_at_once > 2
    refused = len(server.bodies) - 60
    assert 0 < refused < 40  # eight at once throughout would be refused hundreds of times


# --------------------------------------------------------------------------- what does not pass


@pytest.mark.parametrize(
    ("failure", "says"),
    [
        (error(400, "bad"), "the request is refused .*bad.*temperature=null"),
        (error(401, "no key"), "environment variable OPENAI_API_KEY, is refused"),
        (error(403), "there is no such model"),
        (error(404), "there is no such model"),
        (error(422, "unknown field"), "unknown field"),
        (error(429, "pay", "insufficient_quota"), "the account has no credit"),
    ],
)
def test_what_cannot_succeed_ends_at_once(start, ask, failure, says):
    server = start(lambda number, body: failure)
    client = ask(server)
    with pytest.raises(RunError, match=says):
        texts(client, prompts(1))
    assert (len(server.bodies), client.usage.failed) == (1, 1)
    with pytest.raises(RunError, match=says):  # a failure is no answer
        texts(ask(server), prompts(1))
    assert len(server.bodies) == 2


def test_an_error_ends_the_requests_that_wait(start, ask):
    def script(number, body):
        refused = body["messages"][0]["content"].endswith("question 3")
        return error(400, "bad") if refused else error(503, Retry_After="30")

    begun = time.monotonic()
    with pytest.raises(RunError, match="bad"):
        texts(ask(start(script)), prompts(4))
    assert time.monotonic() - begun < 5


def test_the_key_is_nowhere(start, ask, tmp_path, caplog, capfd):
    caplog.set_level("DEBUG")

    def script(number, body):
        if number == 0:
            return None
        return error(401, f"bad header {server.authorizations[-1]}; try sk-another-key-9876")

    server = start(script)
    with pytest.raises(RunError) as caught:
        texts(ask(server, concurrency=1), prompts(2))
    said = capfd.readouterr()
    written = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert any(b"bad header" in content for content in written)  # the failure is kept, masked
    everything = [str(caught.value), caplog.text, said.out, said.err, *map(str, written)]
    assert not [text for text in everything if "secret" in text or "another-key" in text]
    assert "bad header Bearer ***; try sk-***" in str(caught.value)


@pytest.mark.parametrize(
    "url", ["http://me:pw@host/v1", "https://host/v1?api-key=1", "host/v1", "file:///etc"]
)
def test_an_address_holds_no_secret(url):
    with pytest.raises(ValueError, match="base_url"):
        EndpointOptions(base_url=url, model="m")


# ---------------------------------------------------------------- what is silently something else


def test_several_texts_are_one_request(start, ask):
    server = start(write=lambda prompt, choice: f"text {choice} of {prompt}")
    requests = [Request(f"q{i}", k) for i in range(2) for k in range(3)]
    client = ask(server, SAMPLED)
    assert texts(client, requests) == [f"text {k} of q{i}" for i in range(2) for k in range(3)]
    assert [body["n"] for body in server.bodies] == [3, 3]
    assert client.usage.new.prompt == 2  # once a request
    assert client.usage.new.completion == 24
    assert texts(ask(server, SAMPLED), requests[::-1])[0] == "text 2 of q1"
    assert len(server.bodies) == 2


def test_a_server_that_ignores_n_is_asked_one_at_a_time_and_it_is_said_once(start, ask, caplog):
    written = iter(range(100))

    def script(number, body):
        return Reply(server.answer({**body, "n": 1}))

    server = start(script, lambda prompt, choice: f"{prompt}, text {next(written)}")
    requests = [Request(f"q{i}", k) for i in range(4) for k in range(4)]
    found = texts(ask(server, SAMPLED, concurrency=1), requests)
    assert len(set(found)) == 16
    assert all(text.startswith(one.prompt) for text, one in zip(found, requests, strict=True))
    assert [body.get("n", 1) for body in server.bodies] == [4, *[1] * 15]
    assert caplog.text.count("The server gives 1 texts where it is asked for 4") == 1


def test_tokens_that_the_server_does_not_count_are_estimated(start, ask):
    counts = {"prompt_tokens": "x", "completion_tokens": [], "total_tokens": True}
    server = start(lambda number, body: Reply(said({}, counts)))
    for client in (ask(server), ask(server)):  # the second from the cache
        ((_, one),) = client.sample(prompts(1))
        assert (one.prompt_tokens, one.completion_tokens, one.is_estimate) == (0, 6, True)
        assert client.usage.as_dict()["cost"] is None
    assert len(server.bodies) == 1


@pytest.mark.parametrize("listed", [[None, None], [{"token": "a", "logprob": "?"}], []])
def test_log_probabilities_without_a_number_are_none(start, ask, listed):
    server = start(lambda number, body: Reply(said({"logprobs": {"content": listed}})))
    ((_, one),) = ask(server, Decoding(16, logprobs=True)).sample(prompts(1))
    assert (one.logprob, one.logprob_tokens) == (None, None)


def test_missing_log_probabilities_are_said_once(start, ask, caplog):
    server = start(lambda number, body: Reply(server.answer({**body, "logprobs": None})))
    found = dict(ask(server, Decoding(16, logprobs=True)).sample(prompts(3)))
    assert [found[i].logprob for i in range(3)] == [None] * 3
    assert caplog.text.count("The server sends texts without log-probabilities") == 1


def test_what_is_kept_elsewhere_is_not_asked_for(start, ask):
    server = start()
    client = ask(server)
    client.remember([(Request("question 1"), Completion("kept", "stop", 3, 4))])
    assert texts(client, prompts(3)) == ["echo of question 0", "kept", "echo of question 2"]
    client.remember([(Request("question 0"), Completion("another", "stop", 3, 4))])
    assert texts(ask(server), prompts(1)) == ["echo of question 0"]
    assert len(server.bodies) == 2


@pytest.mark.parametrize("reason", ["length", "content_filter"])
def test_a_text_that_is_cut_is_kept_as_such(start, ask, reason):
    server = start(lambda number, body: Reply(server.answer(body, finish_reason=reason)))
    for client in (ask(server), ask(server)):
        ((_, one),) = client.sample(prompts(1))
        assert (one.truncated, one.finish_reason) == (True, reason)
    assert len(server.bodies) == 1
    server.script = lambda number, body: Reply(server.answer(body, finish_reason=None))
    assert not dict(ask(server).sample(prompts(2)))[1].truncated


def test_a_stop_text_that_the_server_leaves_in(start, ask):
    server = start(
        lambda number, body: Reply(server.answer(body, finish_reason="length")),
        lambda prompt, choice: "the answer\n\nQ: and more",
    )
    ((_, one),) = ask(server, Decoding(16, stop=("Q:", "\n\n"))).sample(prompts(1))
    assert (one.text, one.finish_reason) == ("the answer", "stop")


def test_a_model_of_another_name_is_counted_and_said_once(start, ask, caplog):
    server = start(lambda number, body: Reply({**server.answer(body), "model": "cheap"}))
    client = ask(server)
    texts(client, prompts(5))
    assert client.usage.models == {"cheap": 5}
    assert caplog.text.count("names its model 'cheap'; it was asked for 'm'") == 1


def test_a_dated_name_of_the_same_model_is_no_other(start, ask, caplog):
    server = start(lambda number, body: Reply({**server.answer(body), "model": "gpt-4-0613"}))
    texts(ask(server, model="openai/gpt-4"), prompts(1))
    assert "names its model" not in caplog.text


def test_a_server_that_does_not_sample_is_found_out(start, ask):
    server = start()
    requests = [Request(f"q{i}", k) for i in range(40) for k in range(3)]
    with pytest.raises(RunError, match=r"each of 20 prompts are the same, although temperature=1"):
        texts(ask(server, SAMPLED), requests)
    assert len(server.bodies) < 40
    texts(ask(server, SAMPLED), [one for one in requests if one.sample == 0])  # nothing to compare
    texts(ask(server), requests)  # greedy is what was asked for


def test_one_other_text_shows_that_the_server_samples(start, ask):
    server = start(write=lambda prompt, choice: f"{prompt} {choice * (prompt == 'q0')}")
    requests = [Request(f"q{i}", k) for i in range(40) for k in range(3)]
    assert len(texts(ask(server, SAMPLED, concurrency=1), requests)) == 120


def test_texts_that_no_file_can_hold_are_made_holdable(start, ask):
    hostile = '"half \\ud800 zero \\u0000 right-to-left \\u202e"'
    server = start(
        lambda number, body: Reply(
            json.dumps(server.answer(body)).replace('"echo of question 0"', hostile).encode()
        )
    )
    (text,) = texts(ask(server), prompts(1))
    assert text == "half ? zero \0 right-to-left \u202e"
    assert texts(ask(server), prompts(1)) == [text]


# ------------------------------------------------------------------------- limits, speed, kills


def test_a_budget_is_not_passed_and_covers_earlier_commands(start, ask):
    server = start()
    most = 2 + 16  # a request's real prompt, and what it may write
    client = ask(server, budget=BudgetConfig(tokens=200))
    with pytest.raises(RunError, match=r"budget.tokens=200: the next request could pass it"):
        texts(client, prompts(1000))
    assert 200 - 64 - 16 - most <= client.usage.new.total <= 200
    done = len(server.bodies)
    with pytest.raises(RunError, match="budget"):
        texts(ask(server, budget=BudgetConfig(tokens=200)), prompts(1000))
    assert len(server.bodies) == done
    texts(ask(server, budget=BudgetConfig(tokens=200)), prompts(done))  # all in the cache


def test_a_budget_of_cost(start, ask):
    server = start()
    price = PriceConfig(prompt=0, completion=1e6)  # one a token that is written: 4 each
    client = ask(server, budget=BudgetConfig(cost=60), price_per_million=price)
    with pytest.raises(RunError, match=r"budget.cost=60"):
        texts(client, prompts(1000))
    assert 60 - 16 < client.usage.cost <= 60


def test_bounds_send_nothing(start, ask):
    server = start()
    client = ask(server, price_per_million=PriceConfig(prompt=1e6, completion=1e6))
    texts(client, prompts(2))
    bounds = client.bounds([*prompts(5), Request("several"), Request("several", 1)])
    assert (bounds.completions, bounds.cached, bounds.requests) == (7, 2, 4)
    assert bounds.tokens.completion == 5 * 16
    assert bounds.cost == bounds.tokens.total
    alone = client.bounds([Request("several"), Request("several", 1)], together=False)
    assert (alone.requests, alone.tokens.prompt) == (2, 2 * (len("several") + ENVELOPE))
    assert len(server.bodies) == 2


def test_only_a_lone_request_that_succeeds_at_once_is_timed(start, ask):
    server = start(lambda number, body: error(500) if number == 1 else None)
    timed = dict(ask(server).sample(prompts(3), one_at_a_time=True))
    assert server.most_at_once == 1
    assert [timed[i].seconds is not None for i in range(3)] == [True, False, True]
    others = dict(ask(server).sample(prompts(8)))
    assert others[0].seconds == timed[0].seconds  # of the first time
    assert all(others[i].seconds is None for i in range(3, 8))


def test_the_server_is_kept_busy(start, ask):
    server = start(lambda number, body: Reply(server.answer(body), after=0.2))
    begun = time.monotonic()
    texts(ask(server, concurrency=8), prompts(40))
    assert server.most_at_once == 8
    assert time.monotonic() - begun < 40 * 0.2 / 2  # the least is an eighth


def test_no_answer_is_lost_or_asked_for_twice_when_the_command_is_killed(start, tmp_path):
    server = start(lambda number, body: Reply(server.answer(body), after=0.01))
    program = textwrap.dedent(
        f"""
        from pathlib import Path
        from icot.config.endpoint_options import EndpointOptions
        from icot.inference.completions import Decoding, Request
        from icot.inference.endpoint import Endpoint
        from icot.inference.request_cache import RequestCache
        options = EndpointOptions(base_url={server.base_url!r}, model="m", concurrency=4)
        client = Endpoint(options, Decoding(16), RequestCache(Path("cache")))
        requests = [Request(f"question {{i}}") for i in range(200)]
        found = dict(client.sample(requests))
        print(len(found), client.usage.cached)
        """
    )
    command = [sys.executable, "-c", program]
    more = {"cwd": tmp_path, "env": {**os.environ, "PYTHONPATH": str(REPOSITORY)}}
    for _ in range(3):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, **more)
        before = len(server.bodies)
        while process.poll() is None and len(server.bodies) < before + 30:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
    done = subprocess.run(command, capture_output=True, text=True, check=True, **more)
    number, cached = map(int, done.stdout.split())
    assert number == 200
    assert cached >= 3 * (30 - 4)
    # What was in flight at a kill, four requests at most, is all that was asked for again.
    assert len(server.bodies) <= 200 + 3 * 4


def test_a_damaged_cache_is_named(start, ask, tmp_path):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / FILE).write_bytes(b"no database" * 1000)
    with pytest.raises(RunError, match=rf"{FILE}: .*move a damaged file away"):
        ask(start())
