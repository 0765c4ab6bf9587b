"""``docs/configuration.md``, generated from the schema: each key, its type, default and meaning.

python -m icot.config.reference > docs/configuration.md
"""

import types
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic.fields import FieldInfo

from icot.config.entry_points import SCHEMAS
from icot.config.options import CHOSEN_BY, OTHER, OTHERS, SECTIONS
from icot.config.schema import TrainConfig
from icot.config.section import Section, inner_section, key_of

HEAD = """# Configuration

Every key of every command, with its type, range and default. `python -m icot.config.reference`
generates this page from `icot/config`. Values come from the files under `conf/` and from the
command line (`key=value`). A key that the chosen option does not have, or a value out of range, is
an error; all errors are reported at once. `python -m icot.train --help` lists the options of each
group, and `--cfg job` prints what a command would run.
"""
SHARED = (
    "method",
    "model",
    "data",
    "validation",
    "trainer",
    "checkpoints",
    "logger",
    "collapse",
    "paper",
)
LIMITS = {Ge: "≥ {}", Gt: "> {}", Le: "≤ {}", Lt: "< {}"}


def reference() -> str:
    """The page."""
    parts = [HEAD, _section("icot.train", TrainConfig, "", skip_groups=True)]
    for group, key in CHOSEN_BY.items():
        chosen = f"`{group}.{key}` chooses one of these sets of keys."
        parts.append(f"## {group}\n\n{chosen}\n")
        options: dict[str, type[Section]] = dict(SECTIONS[group])
        if group in OTHERS:
            options[OTHER] = OTHERS[group]
        for name, option in options.items():
            title = "from your own package" if name == OTHER else name.rpartition(".")[2]
            parts.append(_section(f"{group}: {title}", option, f"{group}.", level=3))
    for name in SHARED:
        inner = inner_section(TrainConfig.model_fields[name])
        assert inner is not None
        parts.append(_section(name, inner, f"{name}."))
    parts.append(_section("paths", _inner(TrainConfig, "paths"), "paths."))
    for name, schema in SCHEMAS.items():
        if name != "train":
            without = TrainConfig.model_fields if issubclass(schema, TrainConfig) else ()
            parts.append(_section(f"icot.{name}", schema, "", without=tuple(without)))
    return "\n".join(parts).rstrip() + "\n"


def _inner(section: type[Section], name: str) -> type[Section]:
    inner = inner_section(section.model_fields[name])
    assert inner is not None
    return inner


def _section(
    title: str,
    section: type[Section],
    prefix: str,
    level: int = 2,
    skip_groups: bool = False,
    without: tuple[str, ...] = (),
) -> str:
    """One table with a row for each key of a section and of the groups in it."""
    doc = " ".join((section.__doc__ or "").split()).replace("``", "`")
    lines = [f"{'#' * level} {title}", "", doc, "", "| key | type | default | what it does |"]
    lines.append("| --- | --- | --- | --- |")
    for name, field in section.model_fields.items():
        inner = inner_section(field)
        is_group = inner is not None or name in CHOSEN_BY
        if name in without and name != "seed":
            continue
        if skip_groups and is_group:
            lines.append(f"| `{name}.*` | | | {_text(field)} See below. |")
        elif inner is not None and name not in ("paths", "paper"):  # of sections of their own
            lines += [_row(f"{prefix}{name}.", n, f) for n, f in inner.model_fields.items()]
        elif inner is None:
            lines.append(_row(prefix, name, field))
    return "\n".join(lines) + "\n"


def _row(prefix: str, name: str, field: FieldInfo) -> str:
    default = "" if field.is_required() else _value(field.get_default(call_default_factory=True))
    kind = _kind(field.annotation, tuple(field.metadata))
    return f"| `{prefix}{key_of(name, field)}` | {kind} | {default} | {_text(field)} |"


def _text(field: FieldInfo) -> str:
    return " ".join((field.description or "").split()).replace("``", "`").replace("|", "\\|")


def _value(value: Any) -> str:
    if isinstance(value, Section):  # the option of a group
        value = next(iter(value.as_dict().values()))
    if value is None:
        return "`null`"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, float):
        return f"`{value:g}`"
    return f"`{value}`" if value != "" else ""


def _kind(kind: Any, limits: tuple[Any, ...] = ()) -> str:
    """A type in words, with its limits."""
    origin, arguments = get_origin(kind), get_args(kind)
    bounds = [
        text.format(f"{getattr(limit, type(limit).__name__.lower()):.12g}")
        for limit in limits
        for known, text in LIMITS.items()
        if isinstance(limit, known)
    ]
    tail = f" {', '.join(bounds)}" if bounds else ""
    if origin is Annotated:
        return _kind(arguments[0], arguments[1:])
    if origin is Literal:
        return ", ".join(f"`{argument}`" for argument in arguments)
    if origin in (Union, types.UnionType):
        names = [_kind(argument) for argument in arguments if argument is not type(None)]
        return " or ".join(dict.fromkeys(names)) + tail
    if origin is list:
        return f"list of {_kind(arguments[0])}"
    if origin is dict:
        return "keys and values"
    if isinstance(kind, type) and issubclass(kind, Section):
        return "group of keys"
    names_of = {str: "text", int: "integer", float: "number", bool: "true or false"}
    return names_of.get(kind, str(kind)) + tail


if __name__ == "__main__":
    print(reference(), end="")
