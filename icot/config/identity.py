"""Which keys may change when a run is resumed, and a digest of all others."""

import hashlib
from collections.abc import Mapping
from typing import Any

from icot.config.options import CHOSEN_BY
from icot.config.section import Section

# Keys and groups of keys that affect no result.
WITHOUT_EFFECT = (
    "resume",
    "trust",
    "paths",
    "logger",
    "paper",
    "checkpoints",
    "data.num_workers",
    "validation.shown",
    "trainer.log_every_n_steps",
    "trainer.requeue",
)
# Keys and groups of keys that may change when a run is resumed: also those that decide where it
# ends, and what it does when training goes wrong.
CHANGEABLE = (
    *WITHOUT_EFFECT,
    "on_nonfinite",
    "on_collapse",
    "collapse",
    "max_rollbacks",
    "trainer.max_epochs",
    "trainer.max_steps",
    "trainer.max_time",
    "trainer.finish_steps",
)
# A run directory from someone else must not decide where to write or what code to run.
COMMAND_LINE_ONLY = ("paths", "callbacks", "trust")


def digest(
    cfg: Section, without: tuple[str, ...] = (), changeable: tuple[str, ...] = CHANGEABLE
) -> str:
    """Eight hexadecimal digits of the values that change the result.

    Values that equal the schema's default do not count, so that a new key in a later version
    changes no digest.

    Args:
        cfg: the configuration.
        without: more keys that do not count.
        changeable: the keys that do not count otherwise.
    """
    chosen = {f"{group}.{key}" for group, key in CHOSEN_BY.items()}
    values = leaves(cfg.as_dict())
    own = leaves(cfg.as_dict(without_defaults=True))
    content = {
        key: str(value)
        for key, value in values.items()
        if (key in own or key in chosen) and not matches(key, (*changeable, *without))
    }
    return short_hash(sorted(content.items()))


def short_hash(content: Any) -> str:
    """Eight hexadecimal digits of plain values."""
    return hashlib.sha256(repr(content).encode()).hexdigest()[:8]


def leaves(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """All values by dotted key; lists and empty groups count as values."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict) and value:
            found |= leaves(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def matches(key: str, keys: tuple[str, ...]) -> bool:
    """Whether a dotted key is one of ``keys`` or inside one."""
    return any(key == k or key.startswith(f"{k}.") for k in keys)


def value_at(values: Mapping[str, Any], key: str) -> Any:
    """The value of a dotted key; None if it does not exist."""
    found: Any = values
    for part in key.split("."):
        if not isinstance(found, Mapping) or part not in found:
            return None
        found = found[part]
    return found


def put(values: dict[str, Any], key: str, value: Any) -> None:
    """Set the value of a dotted key; creates missing groups."""
    *groups, leaf = key.split(".")
    for group in groups:
        values = values.setdefault(group, {})
    values[leaf] = value
