"""What requests have used: numbers, tokens, cost, time."""

from collections import Counter
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

from icot.config.endpoint_options import BudgetConfig, PriceConfig
from icot.inference.completions import Completion

MILLION = 1_000_000


@dataclass
class Tokens:
    """Tokens, and how many of them the server has not counted."""

    prompt: int = 0
    completion: int = 0
    reasoning: int = 0
    estimated: int = 0

    @property
    def total(self) -> int:
        """Of prompts and completions."""
        return self.prompt + self.completion

    def add(self, one: Completion) -> None:
        """Count a completion."""
        prompt = 0 if one.shares_prompt else one.prompt_tokens
        self.prompt += prompt
        self.completion += one.completion_tokens
        self.reasoning += one.reasoning_tokens
        self.estimated += (prompt + one.completion_tokens) * one.is_estimate

    def cost(self, price: PriceConfig | None) -> float | None:
        """By ``price``; None without one."""
        if price is None:
            return None
        return (self.prompt * price.prompt + self.completion * price.completion) / MILLION


@dataclass
class Usage:
    """Counts of a command; any thread may add to them.

    Attributes:
        price: of the tokens.
        sent, answered, retried, failed: requests.
        cached: completions of earlier commands.
        seconds_waited: between tries.
        new, reused: tokens of this command's completions, and of the cached ones.
        models: completions by the name that the server gives its model.
    """

    price: PriceConfig | None = None
    sent: int = 0
    answered: int = 0
    retried: int = 0
    failed: int = 0
    cached: int = 0
    seconds_waited: float = 0.0
    new: Tokens = field(default_factory=Tokens)
    reused: Tokens = field(default_factory=Tokens)
    models: Counter[str] = field(default_factory=Counter)
    _lock: Lock = field(default_factory=Lock)

    def count(self, *, completion: Completion | None = None, **more: float) -> None:
        """Add a new completion, and to the counts of these names."""
        with self._lock:
            for name, number in more.items():
                setattr(self, name, getattr(self, name) + number)
            if completion is not None:
                self.new.add(completion)
                self.models[completion.model] += 1

    def count_cached(self, completion: Completion) -> None:
        """Add a completion of an earlier command."""
        with self._lock:
            self.cached += 1
            self.reused.add(completion)
            self.models[completion.model] += 1

    @property
    def cost(self) -> float | None:
        """Of all completions, cached ones included; None without a price."""
        new, reused = self.new.cost(self.price), self.reused.cost(self.price)
        return None if new is None or reused is None else new + reused

    def exceeded_by(self, reserved: Tokens, budget: BudgetConfig) -> str | None:
        """The limit that so many more tokens could pass, in words; None if there is none."""
        tokens = self.new.total + self.reused.total + reserved.total
        if budget.tokens is not None and tokens > budget.tokens:
            return f"budget.tokens={budget.tokens}"
        cost, more = self.cost, reserved.cost(self.price)
        if budget.cost is not None and cost is not None and more is not None:
            return f"budget.cost={budget.cost:g}" if cost + more > budget.cost else None
        return None

    def __str__(self) -> str:
        cost = "" if self.cost is None else f"; cost {self.cost:,.4f}, cached answers included"
        return (
            f"{self.sent:,} requests sent, {self.cached:,} answers from the cache, "
            f"{self.retried:,} retries; {self.new.total:,} tokens{cost}."
        )

    def as_dict(self) -> dict[str, Any]:
        """The content of usage.json."""
        return {
            "requests": {
                "sent": self.sent,
                "answered": self.answered,
                "retried": self.retried,
                "failed": self.failed,
            },
            "completions_cached": self.cached,
            "tokens_new": vars(self.new) | {"cost": self.new.cost(self.price)},
            "tokens_cached": vars(self.reused) | {"cost": self.reused.cost(self.price)},
            "cost": self.cost,
            "seconds_waited": round(self.seconds_waited, 3),
            "models": dict(self.models),
        }
