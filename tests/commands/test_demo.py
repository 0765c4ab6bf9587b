"""The page over HTTP: several visitors, wrong input, and what cannot be reached."""

import os
import re
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

pytest.importorskip("gradio")

import httpx
from gradio_client import Client

from tests.conftest import REPOSITORY, icot
from tests.demonstration.pages import free_port, served, service
from tests.running import assert_refused


@pytest.fixture(scope="module")
def page(small_run):
    with served(small_run, tally=10) as address:
        yield address


def ask(address: str, *typed: str, left: float = 4.0) -> str:
    """The columns at the end."""
    return Client(address, verbose=False).predict(*typed, left, api_name="/answer")[1]


def text(html: str) -> str:
    return re.sub("<[^>]*>", " ", html)


def test_three_stages_answer_and_stream(page):
    client = Client(page, verbose=False)
    steps = [step[1] for step in client.submit("12", "34", 4.0, api_name="/answer")]
    cards = re.findall("<article", steps[-1])
    assert len(cards) == 3  # the whole chain, half of it, nothing
    assert len(steps) > 1
    for left in (8, 4, 0):
        assert f"writes {left} of 8 chain tokens" in steps[-1]
    assert len(re.findall("right|wrong; correct is 408", text(steps[-1]))) == 3


def test_a_random_question_and_a_tally(page):
    client = Client(page, verbose=False)
    typed = client.predict(api_name="/random")
    assert all(number.isdigit() and len(number) == 2 for number in typed)
    for asked in (10, 20):
        table, _ = client.predict(4.0, api_name="/tally")
        assert len(re.findall(f"of {asked}<", table)) == 3


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (("", "34"), "First number: type a whole number"),
        (("12", "-4"), "Second number: a whole number has digits alone"),
        (("9" * 200, "12"), "200 characters are too many"),
        (("<script>", "12"), "digits alone"),
    ],
)
def test_wrong_input_is_answered_with_a_sentence(page, typed, said):
    sentence, columns, _ = Client(page, verbose=False).predict(*typed, 4.0, api_name="/answer")
    assert said in sentence
    assert columns == ""


def test_a_model_says_what_it_was_trained_on(page):
    columns = ask(page, "123", "45")
    assert columns.count("trained on numbers of exactly 2 digits; yours have 3 and 2") == 3


def test_two_visitors_at_once_get_their_own_answers(page):
    with ThreadPoolExecutor(2) as visitors:
        answers = list(visitors.map(lambda n: ask(page, n, "11"), ["12", "95"]))
    for answer, number in zip(answers, ("12", "95"), strict=True):
        assert answer.count(f"{number} × 11") >= 3


def test_only_the_page_can_be_reached(page, small_run):
    client = httpx.Client(base_url=page)
    assert client.get("/").status_code == 200
    secret = small_run / "config.yaml"
    for path in (
        f"gradio_api/file={secret}", f"file={secret}", f"gradio_api/file/{secret}",
        "gradio_api/file=README.md", "static/../../../../etc/passwd", "assets/%2e%2e/%2e%2e/app.py",
        "gradio_api/proxy=https://example.org", "monitoring/summary",
    ):  # fmt: skip
        answer = client.get(path)
        assert answer.status_code in (403, 404), path
    assert client.post("gradio_api/upload", files={"files": b"x"}).status_code == 403
    assert client.post("gradio_api/queue/join", content=b"x" * 70_000).status_code == 413
    assert "default-src 'self'" in client.get("/").headers["content-security-policy"]


def test_an_exported_folder_answers_as_its_run_does(small_run, tmp_path):
    done = icot("export", f"run_dir={small_run}", f"out={tmp_path / 'model'}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    exported, run = service(tmp_path / "model"), service(small_run)
    (writer,) = exported.writers
    assert (writer.left, writer.longest) == (0, 8)
    assert writer.accuracy is not None
    for typed in (["12", "34"], ["99", "98"], ["10", "77"]):
        (*_, (_, columns, _)) = exported.answer(*typed, 0.0)
        (*_, (_, of_run, _)) = run.answer(*typed, 0.0)
        written = re.findall("<code>(.*?)</code>", columns)
        assert written == re.findall("<code>(.*?)</code>", of_run)[-1:]


def test_the_command_says_where_the_page_is_and_ends_with_a_signal(small_run):
    port = free_port()
    words = [sys.executable, "-m", "icot.demo", f"run_dir={small_run}", f"port={port}"]
    place = {"cwd": small_run.parent, "env": {**os.environ, "PYTHONPATH": str(REPOSITORY)}}
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, **place) as process:
        watch = threading.Timer(120, process.kill)
        watch.start()
        said = next(line for line in process.stdout if line.startswith("Demo"))
        assert said.startswith(f"Demo: http://127.0.0.1:{port}/ (for this machine alone")
        second = subprocess.run(words, capture_output=True, text=True, timeout=120, **place)
        assert_refused(second, f"port={port} cannot be served")
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 128 + signal.SIGTERM
        watch.cancel()


def test_mistakes_are_told_before_anything_is_loaded(small_run, tmp_path):
    done = icot("demo", f"run_dir=[{small_run},{tmp_path}]", cwd=tmp_path)
    assert_refused(done, f"{tmp_path} is not a run directory")
    (tmp_path / "icot.json").write_text('{"task": {"_target_": "os.system"}}')
    done = icot("demo", f"run_dir={tmp_path}", cwd=tmp_path)
    assert_refused(done, "you trust")
    assert_refused(icot("demo", cwd=tmp_path), "run_dir")


@pytest.mark.slow
def test_ten_visitors_ask_two_hundred_questions_and_none_is_lost(page):
    """Loopback alone, and so many questions; memory may not grow with them."""
    ask(page, "12", "34")

    def visit(visitor: int) -> list[bool]:
        client = Client(page, verbose=False)
        numbers = [(10 + visitor * 9, 10 + (7 * i) % 90) for i in range(20)]
        return [
            client.predict(str(a), str(b), 4.0, api_name="/answer")[1].count(f"{a} × {b}") >= 3
            for a, b in numbers
        ]

    before = memory()
    with ThreadPoolExecutor(10) as visitors:
        answered = [found for part in visitors.map(visit, range(10)) for found in part]
    assert len(answered) == 200
    assert all(answered)
    assert memory() - before < 150  # MiB


def memory() -> int:
    """Resident memory of this process, in MiB."""
    (line,) = re.findall(r"VmRSS:\s*(\d+) kB", Path("/proc/self/status").read_text())
    return int(line) // 1024
