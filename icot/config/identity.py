"""What a configuration computes: what may change when a run goes on, and a digest of the rest."""

import hashlib
from collections.abc import Mapping
from typing import Any

from icot.config.options import CHOSEN_BY
from icot.config.section import Section

# Keys, or groups of keys, that do not change what a run computes.
FREE = (
    "resume",
    "trust",
    "paths",
    "logger",
    "paper",
    "checkpoints",
    "on_nonfinite",
    "on_collapse",
    "collapse",
    "max_rollbacks",
    "data.num_workers",
    "validation.shown",
    "trainer.max_epochs",
    "trainer.max_steps",
    "trainer.max_time",
    "trainer.finish_steps",
    "trainer.log_every_n_steps",
    "trainer.requeue",
)
# What a run directory from elsewhere may not decide: where is written, and what code is run.
COMMAND_LINE_ONLY = ("paths", "callbacks", "trust")


def digest(cfg: Section, without: tuple[str, ...] = ()) -> str:
    """Eight letters that depend on what a configuration computes alone.

    A value that is the schema's own default does not count, so that a key which a later version
    adds changes no digest.

    Args:
        cfg: the configuration.
        without: further keys that do not count.
    """
    chosen = {f"{group}.{key}" for group, key in CHOSEN_BY.items()}
    values = leaves(cfg.as_dict())
    own = leaves(cfg.as_dict(without_defaults=True))
    content = {
        key: str(value)
        for key, value in values.items()
        if (key in own or key in chosen) and not matches(key, (*FREE, *without))
    }
    return hashlib.sha256(repr(sorted(content.items())).encode()).hexdigest()[:8]


def leaves(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted names of all values, with lists and empty groups as values."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict) and value:
            found |= leaves(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def matches(key: str, keys: tuple[str, ...]) -> bool:
    """Whether a dotted key is one of ``keys`` or lies within one."""
    return any(key == k or key.startswith(f"{k}.") for k in keys)


def value_at(values: Mapping[str, Any], key: str) -> Any:
    """The value under a dotted key, None where there is none."""
    found: Any = values
    for part in key.split("."):
        if not isinstance(found, Mapping) or part not in found:
            return None
        found = found[part]
    return found


def put(values: dict[str, Any], key: str, value: Any) -> None:
    """Set the value under a dotted key, and make the groups above it."""
    *groups, leaf = key.split(".")
    for group in groups:
        values = values.setdefault(group, {})
    values[leaf] = value
