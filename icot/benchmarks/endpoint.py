"""Whether the client of a server keeps it busy: icot's, and the bare library in as many threads.

The server is in this process and answers each request after half a second.
"""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock, Thread
from time import perf_counter, sleep
from typing import Any

from icot.benchmarks.timing import medians, time_alternately
from icot.commands.build_endpoint import build_endpoint
from icot.config.command_line import CommandLine
from icot.config.endpoint_options import BudgetConfig, EndpointOptions
from icot.config.entry_points import BenchmarkConfig
from icot.inference.completions import Decoding, Request

ANSWER_SECONDS = 0.5
TEXT = " ".join(["a"] * 100)
ANSWER = {
    "id": "1",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [
        {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": TEXT}}
    ],
    "usage": {"prompt_tokens": 1, "completion_tokens": 100, "total_tokens": 101},
}


class _Server:
    """Answers after a while, and sums up the seconds that requests were in work."""

    def __init__(self) -> None:
        self.busy_seconds = 0.0
        lock, content, owner = Lock(), json.dumps(ANSWER).encode(), self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                begun = perf_counter()
                self.rfile.read(int(self.headers["content-length"]))
                sleep(ANSWER_SECONDS)
                with lock:
                    owner.busy_seconds += perf_counter() - begun
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *arguments: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.base_url = f"http://127.0.0.1:{self.http.server_port}/v1"


@contextmanager
def _serve() -> Iterator[_Server]:
    server = _Server()
    Thread(target=server.http.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.http.shutdown()
        server.http.server_close()


def measure(cfg: BenchmarkConfig, command: CommandLine) -> dict[str, Any]:
    """Seconds for the same requests, and how many were in work at the server on average."""
    caches = Path(cfg.paths.cache_dir)
    caches.mkdir(parents=True, exist_ok=True)
    prompts = [f"question {i}" for i in range(cfg.examples)]
    in_work: dict[str, list[float]] = {"bare threads": [], "icot": []}
    with _serve() as server:
        options = EndpointOptions(base_url=server.base_url, model="m")
        decoding = Decoding(256, temperature=1.0)

        def ours() -> None:
            with TemporaryDirectory(dir=caches) as empty:
                paths = cfg.paths.model_copy(update={"cache_dir": empty})
                client = build_endpoint(options, decoding, paths, BudgetConfig())
                requests = [Request(prompt) for prompt in prompts]
                assert len(dict(client.sample(requests))) == len(prompts)
                client.cache.close()

        def bare() -> None:
            import openai  # of the extra "teachers", which build_endpoint asks for

            client = openai.OpenAI(api_key="none", base_url=server.base_url)
            with ThreadPoolExecutor(options.concurrency) as pool:
                answers = pool.map(
                    lambda prompt: client.chat.completions.create(
                        model="m",
                        messages=[{"role": "user", "content": prompt}],
                        max_tokens=decoding.max_tokens,
                        temperature=1.0,
                    ),
                    prompts,
                )
                assert len(list(answers)) == len(prompts)

        def counted(name: str) -> None:
            before, begun = server.busy_seconds, perf_counter()
            {"bare threads": bare, "icot": ours}[name]()
            in_work[name].append((server.busy_seconds - before) / (perf_counter() - begun))

        # The last is the first one to run: icot's says what is not installed.
        ways = {"bare threads": lambda: counted("bare threads"), "icot": lambda: counted("icot")}
        seconds = time_alternately(ways, cfg.repeats)
    middle = medians(seconds)
    least = len(prompts) * ANSWER_SECONDS / options.concurrency
    return {
        "requests": len(prompts),
        "concurrency": options.concurrency,
        "answer_seconds": ANSWER_SECONDS,
        "in_flight": medians(in_work),
        "seconds": seconds,
        "median_seconds": middle,
        "ratios": {
            "icot over bare threads": middle["icot"] / middle["bare threads"],
            "icot over the least time": middle["icot"] / least,
        },
    }
