"""An OpenAI-compatible server in the test process that fails in every way that it is told to."""

import json
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Reply:
    """What the server does with a request.

    Attributes:
        content: an object that is sent as JSON, or bytes that are sent as they are.
        cut: send only so many bytes of the announced ones, then close the connection.
        reset: close the connection without a word.
        after: seconds to wait before.
    """

    content: Any = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    cut: int | None = None
    reset: bool = False
    after: float = 0.0


Script = Callable[[int, dict[str, Any]], Reply | None]  # the request's number and body


class Server:
    """Speaks chat and completions at ``base_url``; by default it answers ``echo of PROMPT``.

    Args:
        script: what to do with a request; None answers it.
        write: the text for a prompt and the number of the choice.

    Attributes:
        bodies: of all requests, in the order in which they came.
        most_at_once: requests that were in work together.
    """

    def __init__(
        self,
        script: Script = lambda number, body: None,
        write: Callable[[str, int], str] = lambda prompt, choice: f"echo of {prompt}",
    ) -> None:
        self.script, self.write = script, write
        self.bodies: list[dict[str, Any]] = []
        self.authorizations: list[str] = []
        self.busy = self.most_at_once = 0
        self._lock = threading.Lock()
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle(self) -> None:
                with suppress(ConnectionResetError):  # the client was killed
                    super().handle()

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                with owner._lock:
                    number = len(owner.bodies)
                    owner.bodies.append(body)
                    owner.authorizations.append(self.headers.get("authorization", ""))
                    owner.busy += 1
                    owner.most_at_once = max(owner.most_at_once, owner.busy)
                try:
                    owner._reply(self, owner.script(number, body) or Reply(owner.answer(body)))
                finally:
                    with owner._lock:
                        owner.busy -= 1

            def log_message(self, *arguments: Any) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.base_url = f"http://127.0.0.1:{self._http.server_port}/v1"
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()

    def answer(self, body: dict[str, Any], **changes: Any) -> dict[str, Any]:
        """An answer as servers give it; ``changes`` are made to each of its choices."""
        is_chat = "messages" in body
        prompt = body["messages"][0]["content"] if is_chat else body["prompt"]
        choices = []
        for i in range(body.get("n", 1)):
            text = self.write(prompt, i)
            said = (
                {"message": {"role": "assistant", "content": text}} if is_chat else {"text": text}
            )
            logprobs: Any = None
            if body.get("logprobs"):
                values = [-0.5] * len(text.split())
                logprobs = {"token_logprobs": values}
                if is_chat:
                    logprobs = {"content": [{"token": "", "logprob": v} for v in values]}
            choices.append(
                {"index": i, "finish_reason": "stop", "logprobs": logprobs, **said, **changes}
            )
        written = sum(len(self.write(prompt, i).split()) for i in range(len(choices)))
        used = {"prompt_tokens": len(prompt.split()), "completion_tokens": written}
        kind = "chat.completion" if is_chat else "text_completion"
        return {
            **{"id": "1", "object": kind, "created": 1, "model": body["model"]},
            "choices": choices,
            "usage": {**used, "total_tokens": sum(used.values())},
        }

    def _reply(self, handler: BaseHTTPRequestHandler, reply: Reply) -> None:
        time.sleep(reply.after)
        if reply.reset:
            handler.close_connection = True
            handler.connection.close()
            return
        data = reply.content
        if not isinstance(data, bytes):
            data = json.dumps(data).encode()
        with suppress(OSError):  # the client has gone
            handler.send_response(reply.status)
            for name, value in {"Content-Type": "application/json", **reply.headers}.items():
                handler.send_header(name, value)
            handler.send_header("Content-Length", str(len(data)))
            handler.end_headers()
            handler.wfile.write(data[: reply.cut])
            if reply.cut is not None:
                handler.close_connection = True


def error(status: int, message: str = "no", code: str | None = None, **headers: str) -> Reply:
    """An error as servers send it."""
    content = {"error": {"message": message, "type": code, "code": code}}
    return Reply(content, status, {k.replace("_", "-"): v for k, v in headers.items()})
