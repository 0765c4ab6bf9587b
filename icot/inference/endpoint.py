"""Texts from an OpenAI-compatible server: hosted, vLLM, ``transformers serve``.

    server = Endpoint(options, Decoding(max_tokens=256, temperature=1.0), RequestCache(folder))
    for index, completion in server.sample([Request(prompt, sample) for sample in range(30)]):
        ...

Every answer is in the cache, on disk, before it is returned, and an answer in the cache is not
asked for again. What fails in passing is tried again until ``patience`` ends; what cannot succeed
ends the command. A server that silently does something else than it was asked for is found out.

The server's key comes from the environment, is in no file, and is masked in every message.
"""

import logging
import os
import time
from collections import deque
from collections.abc import Generator, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass
from threading import Event, Lock
from typing import Any

import openai
from tenacity import RetryCallState, Retrying, retry_if_exception, wait_exponential_jitter

from icot.config.endpoint_options import BudgetConfig, EndpointOptions
from icot.errors import PausedError, RunError
from icot.inference.completions import Completion, Decoding, Request
from icot.inference.endpoint_answers import AllAlike, Choice, choices_of, served_by
from icot.inference.endpoint_errors import GO_ON, explain, is_passing, mask, retry_after
from icot.inference.endpoint_requests import (
    Group,
    body,
    group_by_prompt,
    most_tokens,
    request_key,
)
from icot.inference.request_cache import RequestCache
from icot.inference.throttle import Throttle
from icot.inference.usage import Tokens, Usage

log = logging.getLogger(__name__)

BACK_OFF = wait_exponential_jitter(initial=1, max=60, jitter=1)  # seconds between two tries
LONG_WAIT = 60.0  # seconds: the user is told


class _GaveUpError(Exception):
    """Another request has ended the command."""


@dataclass(frozen=True)
class Bounds:
    """What some requests can use at most.

    Attributes:
        completions: asked for.
        cached: of these, in the cache already.
        requests: to send.
        tokens: of the requests to send.
        cost: of those; None without a price.
    """

    completions: int
    cached: int
    requests: int
    tokens: Tokens
    cost: float | None

    def __str__(self) -> str:
        cost = "no price is given" if self.cost is None else f"cost {self.cost:,.2f}"
        return (
            f"{self.requests:,} requests would be sent, {self.cached:,} answers are in the cache. "
            f"At most {self.tokens.prompt:,} prompt tokens (a token is at least a byte) and "
            f"{self.tokens.completion:,} completion tokens; {cost}."
        )


class Endpoint:
    """A model on a server.

    Args:
        options: the server and how to speak to it.
        decoding: how texts are written.
        cache: of answers.
        budget: the most to spend.

    Attributes:
        usage: what the requests have used.
    """

    def __init__(
        self,
        options: EndpointOptions,
        decoding: Decoding,
        cache: RequestCache,
        budget: BudgetConfig | None = None,
    ) -> None:
        for library in ("openai", "httpx", "httpx2"):  # a line for each request
            logging.getLogger(library).setLevel(logging.WARNING)
        self.options, self.decoding, self.cache = options, decoding, cache
        self.budget = budget or BudgetConfig()
        self.usage = Usage(options.price_per_million)
        self._key = os.environ.get(options.api_key_env, "").strip()
        self._client = openai.OpenAI(
            api_key=self._key or "none",  # the client insists; a server of one's own ignores it
            base_url=options.base_url,
            timeout=options.timeout,
            max_retries=0,
        )
        self._throttle = Throttle(options.concurrency)
        self._together = True  # ask for several texts at once
        self._stopping = Event()
        self._lock = Lock()
        self._failing_since: float | None = None
        self._said: set[str] = set()

    def bounds(self, requests: Sequence[Request], together: bool = True) -> Bounds:
        """What ``sample`` would send; nothing is sent.

        Args:
            requests: as of ``sample``.
            together: whether the server gives several texts at once.
        """
        wanted = [i for i, request in enumerate(requests) if self._cached(request) is None]
        groups = group_by_prompt(requests, wanted, together)
        tokens = most_tokens(groups, self.decoding)
        cost = tokens.cost(self.options.price_per_million)
        return Bounds(len(requests), len(requests) - len(wanted), len(groups), tokens, cost)

    def remember(self, answers: Iterable[tuple[Request, Completion]]) -> None:
        """Put answers that are kept elsewhere into the cache, where it lacks them."""
        keys = ((request_key(self.options, self.decoding, one), text) for one, text in answers)
        self.cache.put(dict(keys))

    def sample(
        self, requests: Sequence[Request], one_at_a_time: bool = False
    ) -> Generator[tuple[int, Completion]]:
        """Each request's index and completion: those in the cache first, then as they arrive.

        Args:
            requests: any number. Neighbours with the same prompt and no seed are asked for together
                (``n``), or one at a time where the server gives fewer than it was asked for.
            one_at_a_time: one request in flight, for timing (``Completion.seconds``).

        Raises:
            PausedError: the server does not answer within ``patience``, the account has no credit,
                or the budget would be passed.
            RunError: the server refuses, or does not sample although it was asked to. What has
                arrived by then is in the cache, after any error.
        """
        alike = None if self.decoding.temperature == 0 else AllAlike(requests)
        wanted = []
        for index, request in enumerate(requests):
            completion = self._cached(request)
            if completion is None:
                wanted.append(index)
                continue
            self.usage.count_cached(completion)
            self._check(request, completion, alike)
            yield index, completion
        groups = deque(group_by_prompt(requests, wanted, self._together))
        with closing(self._send(groups, one_at_a_time)) as arriving:
            for index, completion in arriving:
                self._check(requests[index], completion, alike)
                yield index, completion

    def _cached(self, request: Request) -> Completion | None:
        return self.cache.get(request_key(self.options, self.decoding, request))

    def _send(self, waiting: deque[Group], alone: bool) -> Generator[tuple[int, Completion]]:
        """Send the groups, several at once; when this ends, nothing is in flight."""
        self._stopping.clear()
        self._failing_since = None
        width = 1 if alone else self.options.concurrency
        running: dict[Future[dict[int, Completion]], Group] = {}
        with ThreadPoolExecutor(width) as pool:
            try:
                while waiting or running:
                    while waiting and len(running) < width:
                        if not self._together and len(waiting[0]) > 1:
                            waiting.extendleft([one] for one in reversed(waiting.popleft()))
                        if not self._may_send(waiting[0], list(running.values())):
                            break
                        group = waiting.popleft()
                        running[pool.submit(self._ask, group, alone)] = group
                    done, _ = wait(running, return_when=FIRST_COMPLETED)
                    for future in done:
                        group, answered = running.pop(future), future.result()
                        left = [one for one in group if one[0] not in answered]
                        if left:
                            waiting.appendleft(left)
                        yield from answered.items()
            finally:
                self._stopping.set()
                if in_flight := sum(future.running() for future in running):
                    log.info("Ending; %d requests are still waited for.", in_flight)

    def _may_send(self, group: Group, running: Sequence[Group]) -> bool:
        """Whether the budget has room beside what is in flight.

        Raises:
            PausedError: nor has it when nothing is in flight.
        """
        reserved = most_tokens([group, *running], self.decoding)
        passed = self.usage.exceeded_by(reserved, self.budget)
        if passed and not running:
            raise PausedError(
                f"{passed}: the next request could pass it, so it was not sent. Raise it to go on. "
                f"{GO_ON}"
            )
        return passed is None

    def _ask(self, group: Group, alone: bool) -> dict[int, Completion]:
        """The completions of a group by index, in the cache; some may be missing."""
        keys = {index: request_key(self.options, self.decoding, one) for index, one in group}
        retrying = Retrying(
            retry=retry_if_exception(self._is_passing),
            wait=self._seconds_to_wait,
            stop=self._is_out_of_patience,
            sleep=self._sleep,
            reraise=True,
        )
        begun = time.perf_counter()
        try:
            model, found = retrying(self._try, body(self.options, self.decoding, group))
        except _GaveUpError:
            raise
        except Exception as error:
            stopped = explain(error, self.options, self.decoding, self._key)
            self.cache.put_failure(keys[group[0][0]], str(stopped))
            self.usage.count(failed=1)
            raise stopped from None
        seconds = time.perf_counter() - begun
        timed = alone and retrying.statistics["attempt_number"] == 1
        self._note(model, len(found), len(group))
        completions = {
            index: choice.completion(
                self.decoding.stop,
                model=model,
                request_key=keys[index],
                seconds=seconds if timed else None,
            )
            for (index, _), choice in zip(group, found, strict=False)
        }
        self.cache.put({keys[index]: one for index, one in completions.items()})
        for one in completions.values():
            self.usage.count(completion=one)
        return completions

    def _try(self, arguments: Mapping[str, Any]) -> tuple[str, list[Choice]]:
        """One request; returns the model's name and the texts."""
        client, api = self._client, self.options.api
        interface: Any = client.chat.completions if api == "chat" else client.completions
        with self._throttle.slot(self._stopping) as number:
            if self._stopping.is_set():
                raise _GaveUpError
            self.usage.count(sent=1)
            try:
                answer = interface.create(**arguments)
                found = choices_of(answer, api)
            except openai.RateLimitError:
                self._throttle.halve(number)
                raise
        self._throttle.widen()
        self.usage.count(answered=1)
        with self._lock:
            self._failing_since = None
        return served_by(answer), found

    def _is_passing(self, error: BaseException) -> bool:
        passes = is_passing(error)
        with self._lock:
            if passes and self._failing_since is None:
                self._failing_since = time.monotonic()
        return passes

    def _is_out_of_patience(self, state: RetryCallState) -> bool:
        with self._lock:
            since = self._failing_since
        return since is not None and time.monotonic() - since > self.options.patience

    def _seconds_to_wait(self, state: RetryCallState) -> float:
        """What the server asks for, up to a day; else longer each time."""
        asked = retry_after(state.outcome.exception() if state.outcome else None)
        if asked is not None and asked > LONG_WAIT:
            self._say_once(f"The server asks to wait for {asked:,.0f} s.")
        return BACK_OFF(state) if asked is None else asked

    def _sleep(self, seconds: float) -> None:
        self.usage.count(retried=1, seconds_waited=seconds)
        if self._stopping.wait(seconds):
            raise _GaveUpError

    def _check(self, request: Request, completion: Completion, alike: AllAlike | None) -> None:
        """Find out a server that silently does something else than it was asked for.

        Raises:
            RunError: it does.
        """
        if self.decoding.logprobs and completion.logprob is None:
            self._say_once("The server sends texts without log-probabilities.")
        if alike is not None and alike.after(request, completion.text):
            asked = self.decoding.temperature
            raise RunError(
                f"{self.options.base_url}, model {self.options.model}: all texts for each of "
                f"{alike.prompts} prompts are the same, although "
                f"temperature={'null' if asked is None else asked}: the server decodes greedily. "
                "Switch sampling on there (transformers serve: do_sample=true and top_k=0 in the "
                "model's generation settings), or ask for one text with temperature=0."
            )

    def _note(self, model: str, given: int, wanted: int) -> None:
        """Say what differs from what was asked for."""
        asked = self.options.model
        if asked.rpartition("/")[2] not in model:
            self._say_once(f"The server names its model {model!r}; it was asked for {asked!r}.")
        if given < wanted:
            self._together = False
            self._say_once(
                f"The server gives {given} texts where it is asked for {wanted}; each is asked for "
                "with a request of its own."
            )

    def _say_once(self, text: str) -> None:
        with self._lock:
            new = text not in self._said
            self._said.add(text)
        if new:
            log.warning("%s", mask(text, self._key))
