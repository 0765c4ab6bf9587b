"""The base of the configuration's schema: a pydantic model whose fields describe themselves.

    class DataConfig(Section):
        batch_size: int = Field(32, ge=1)
        \"\"\"Training examples per device and micro-batch.\"\"\"

Annotations hold types, ranges and choices, and pydantic checks them; ``icot.config.checks`` turns
its errors into messages.
"""

from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field
from pydantic.fields import FieldInfo

TARGET = "_target_"  # the key that names a class
MISSING = "???"  # how Hydra and OmegaConf write a value that must be set


class Section(BaseModel):
    """A group of keys; any other key is an error."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        coerce_numbers_to_str=True,
        use_attribute_docstrings=True,
        validate_by_name=True,
        validate_by_alias=True,
        serialize_by_alias=True,
        protected_namespaces=(),
        allow_inf_nan=False,  # a field that inf suits says so
    )

    def as_dict(self, without_defaults: bool = False) -> dict[str, Any]:
        """The keys and values as plain containers.

        Args:
            without_defaults: leave out values that equal the schema's default.
        """
        return self.model_dump(exclude_defaults=without_defaults)


def key_of(name: str, field: FieldInfo) -> str:
    """The YAML key of a field; pydantic allows no field named ``_target_``."""
    return field.alias or name


def inner_section(field: FieldInfo) -> type[Section] | None:
    """The section that a field holds; None for a value or a choice of several sections."""
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, Section) else None


def only_value(field: FieldInfo) -> Any:
    """The only value of a field of type ``Literal["x"]``, else None."""
    allowed = get_args(field.annotation) if get_origin(field.annotation) is Literal else ()
    return allowed[0] if len(allowed) == 1 else None


def defaults_of(section: type[Section], without: tuple[str, ...] = ()) -> dict[str, Any]:
    """The section's keys with their defaults, as a node for Hydra.

    Args:
        section: the schema.
        without: fields that another node fills.
    """
    node: dict[str, Any] = {}
    for name, field in section.model_fields.items():
        inner = inner_section(field)
        if name in without:
            continue
        if inner is not None:
            node[key_of(name, field)] = defaults_of(inner)
        elif field.is_required():
            value = only_value(field)
            node[key_of(name, field)] = MISSING if value is None else value
        else:
            node[key_of(name, field)] = field.get_default(call_default_factory=True)
    return node


class OfAnotherPackage(Section):
    """An option of a user's package."""

    model_config = ConfigDict(extra="allow")

    target: str = Field(alias=TARGET)
    """Dotted name of the class."""

    def arguments(self) -> dict[str, Any]:
        """The arguments of the class: all keys that icot does not define."""
        return dict(self.model_extra or {})
