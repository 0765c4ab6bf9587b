"""The real ``transformers serve`` with a model that icot has exported."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from icot.config.endpoint_options import EndpointOptions
from icot.errors import RunError
from icot.inference.completions import Decoding, Request
from icot.inference.endpoint import Endpoint
from icot.inference.request_cache import RequestCache
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


@pytest.fixture(scope="module")
def address(place):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", str(place / "m")]
    options = ["--host", "127.0.0.1", "--port", str(port), "--device", "cpu", "--default-seed", "1"]
    with (place / "serve.log").open("w") as log:
        server = subprocess.Popen(
            [*command, *options], stdout=log, stderr=log, env={**os.environ, "HF_HUB_OFFLINE": "1"}
        )
    try:
        for _ in range(240):
            assert server.poll() is None, (place / "serve.log").read_text()
            try:
                urlopen(f"http://127.0.0.1:{port}/health", timeout=5)
                break
            except (URLError, OSError):
                time.sleep(0.5)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.terminate()
        server.wait(30)


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
