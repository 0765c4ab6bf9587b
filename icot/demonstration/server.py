"""Serving the page: only what it needs can be reached, and a request has a size."""

from typing import Any

import gradio as gr
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from icot.demonstration.page import STYLE
from icot.errors import UserError

# Fonts of the visitor's machine; none is fetched.
FONT, MONO = ["system-ui", "sans-serif"], ["ui-monospace", "monospace"]
LARGEST = 65_536  # bytes of a request
# The paths of Gradio that the page uses; not among them are files, uploads and proxies.
API = "/gradio_api/"
READ = ("/config", "/static/", "/assets/", "/svelte/", "/theme.css", "/favicon.ico",
        "/manifest.json", "/robots.txt", f"{API}info", f"{API}queue/data", f"{API}heartbeat/",
        f"{API}startup-events", f"{API}theme.css", f"{API}app_id", f"{API}call/")  # fmt: skip
WRITTEN = (f"{API}queue/join", f"{API}call/", f"{API}cancel", f"{API}reset")
# The browser itself asks no other machine for anything.
POLICY = (
    "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; frame-ancestors 'self'; "
    "form-action 'self'; base-uri 'self'"
)


class OnlyThePage:
    """Refuses every request that the page does not make, before Gradio sees it."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or hand over."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["content-security-policy"] = POLICY
                headers["x-content-type-options"] = "nosniff"
            await send(message)

        refused = _refusal(scope["method"], scope["path"], Headers(scope=scope))
        await (refused or self.app)(scope, receive, send_with_policy)


def _refusal(method: str, path: str, headers: Headers) -> PlainTextResponse | None:
    if method in ("GET", "HEAD"):
        is_known = path == "/" or path.startswith(READ)
        return None if is_known else PlainTextResponse("There is no such page.\n", 404)
    if method != "POST" or not path.startswith(WRITTEN):
        return PlainTextResponse("The page takes questions, and nothing else.\n", 403)
    size = headers.get("content-length", "")
    if not size.isdecimal() or int(size) > LARGEST:
        return PlainTextResponse(f"A request has at most {LARGEST:,} bytes.\n", 413)
    return None


def start(page: gr.Blocks, host: str, port: int) -> str:
    """Serve the page in threads of its own; returns its address.

    Raises:
        UserError: the port is taken, or there is no such address.
    """
    options: dict[str, Any] = {
        "theme": gr.themes.Default(primary_hue="blue", font=FONT, font_mono=MONO).set(
            button_primary_background_fill="*primary_700",
            button_primary_background_fill_dark="*primary_700",
        ),
        "css_paths": STYLE,
        "footer_links": [],
        "app_kwargs": {"middleware": [Middleware(OnlyThePage)]},
    }
    try:
        _, address, _ = page.launch(
            server_name=host,
            server_port=port,
            share=False,
            quiet=True,
            prevent_thread_lock=True,
            ssr_mode=False,
            enable_monitoring=False,
            run_history=False,
            **options,
        )
    except OSError as error:
        raise UserError(
            f"host={host} port={port} cannot be served ({error}); set another port=."
        ) from None
    return str(address)
