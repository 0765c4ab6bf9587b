"""The real ``transformers serve`` with a model that icot has exported, and with a chat model."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from icot.config.endpoint_options import EndpointOptions
from icot.errors import RunError
from icot.inference.completions import Decoding, Request
from icot.inference.endpoint import Endpoint
from icot.inference.request_cache import RequestCache
from icot.methods.scotd.corpus import read_corpus
from tests.chat_model import save_chat_model
from tests.conftest import icot
from tests.methods.prompting.test_few_shot import MULT4

pytestmark = pytest.mark.slow
for needed in ("fastapi", "uvicorn", "accelerate"):
    pytest.importorskip(needed, reason="needs pip install 'transformers[serving]'")
SIZES = ("task=mult2", "task.train_size=200", "task.valid_size=40", "task.test_size=10")


@pytest.fixture(scope="module")
def place(small_run, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("serve")
    done = icot("export", f"run_dir={small_run}", "out=m", "paths.cache_dir=c", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


@contextmanager
def serve(folder: Path) -> Iterator[str]:
    """The address of a server with this model."""
    log_file = folder.with_suffix(".log")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", str(folder)]
    options = ["--host", "127.0.0.1", "--port", str(port), "--device", "cpu", "--default-seed", "1"]
    with log_file.open("w") as log:
        server = subprocess.Popen(
            [*command, *options], stdout=log, stderr=log, env={**os.environ, "HF_HUB_OFFLINE": "1"}
        )
    try:
        for _ in range(240):
            assert server.poll() is None, log_file.read_text()
            try:
                urlopen(f"http://127.0.0.1:{port}/health", timeout=5)
                break
            except (URLError, OSError):
                time.sleep(0.5)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.terminate()
        server.wait(30)


@pytest.fixture(scope="module")
def address(place):
    with serve(place / "m") as found:
        yield found


@pytest.fixture(scope="module")
def chat_address(place):
    save_chat_model(place / "chat")
    with serve(place / "chat") as found:
        yield found


def test_it_writes_what_icot_evaluate_says(place, address, small_run):
    """The demonstration of docs/prompting.md, text by text, and a rerun that sends nothing."""
    asked = (
        *("predictor=endpoint", f"predictor.base_url={address}", f"predictor.model={place / 'm'}"),
        *("predictor.api=completions", "predictor.concurrency=2", "prompt=native", *SIZES),
        *("max_new_tokens=12", "speed.examples=5", "paths.cache_dir=c"),
    )
    done = icot("evaluate", *asked, "out=e", cwd=place)
    assert done.returncode == 0, done.stderr
    own = ("speed.examples=0", "paths.cache_dir=c", "max_new_tokens=12", "out=own")
    assert icot("evaluate", f"run_dir={small_run}", *own, cwd=place).returncode == 0
    written, expected = (
        [json.loads(line) for line in (place / name / "predictions.jsonl").open()]
        for name in ("e", "own")
    )
    assert [" ".join(one["prediction"].split()) for one in written] == [
        one["prediction"] for one in expected
    ]
    assert [one["correct"] for one in written] == [one["correct"] for one in expected]
    again = icot("evaluate", *asked, "out=again", cwd=place)
    assert "0 requests sent, 40 answers from the cache" in again.stdout


def test_what_it_silently_leaves_out_is_found_out(place, address, tmp_path):
    options = EndpointOptions(base_url=address, model=str(place / "m"), api="completions")
    prompts = [f" {one.question} <eos><eos>" for one in next(MULT4.chunks("valid"))[:25]]
    requests = [Request(prompt, sample) for prompt in prompts for sample in range(2)]
    greedy = Endpoint(options, Decoding(8, temperature=1.0), RequestCache(tmp_path))
    with pytest.raises(RunError, match="the server decodes greedily"):
        list(greedy.sample(requests))
    logprobs = Endpoint(options, Decoding(8, logprobs=True), RequestCache(tmp_path))
    ((_, one),) = logprobs.sample(requests[:1])
    assert one.logprob is None


def test_a_chat_model_writes_what_it_writes_in_this_process(place, chat_address):
    server = (f"predictor.base_url={chat_address}", f"predictor.model={place / 'chat'}")
    asked = (
        *("prompt=no_cot", "prompt.max_truncated=1", "max_new_tokens=8", *SIZES, "examples=8"),
        *("speed.examples=0", "paths.cache_dir=c"),
    )
    for out, predictor in (
        ("served", ("predictor=endpoint", *server)),
        ("here", ("predictor=prompted", f"predictor.name_or_path={place / 'chat'}")),
    ):
        done = icot("evaluate", *predictor, *asked, f"out={out}", cwd=place)
        assert done.returncode == 0, done.stderr
    served, here = (
        [json.loads(line) for line in (place / name / "predictions.jsonl").open()]
        for name in ("served", "here")
    )
    for key in ("prediction", "prompt_tokens", "tokens", "finish_reason"):
        assert [one[key] for one in served] == [one[key] for one in here], key
    assert len({one["prediction"] for one in served}) > 1


def test_a_corpus_of_a_chat_model(place, chat_address):
    """Sampling is switched on by a request's own settings, in place of the folder's."""
    sampling = json.dumps(json.dumps({"do_sample": True, "top_k": 0, "max_new_tokens": 8}))
    asked = (
        *("teacher=endpoint", f"teacher.base_url={chat_address}"),
        *(
            f"teacher.model={place / 'chat'}",
            f"teacher.extra_body={{generation_config: {sampling}}}",
        ),
        *(*SIZES, "examples=5", "samples=3", "shots=1", "max_new_tokens=8", "max_truncated=1"),
        *("paths.cache_dir=c", "out=corpus"),
    )
    done = icot("sample", *asked, cwd=place)
    assert done.returncode == 0, done.stderr
    samples = read_corpus(place / "corpus")
    questions = {one.index for one in samples}
    assert [one.key for one in samples] == [(i, k) for i in sorted(questions) for k in range(3)]
    assert all(one.logprob is None for one in samples)
    texts = [{one.text for one in samples if one.index == i} for i in questions]
    assert max(map(len, texts)) > 1
    assert "0 requests sent" in icot("sample", *asked, cwd=place).stdout
