"""docs/configuration.md is the page that the schema makes, and no key is without a description."""

import pytest

from icot.config.entry_points import SCHEMAS
from icot.config.options import SECTIONS
from icot.config.reference import reference
from icot.config.section import inner_section
from tests.conftest import REPOSITORY


def test_the_page_is_the_schemas():
    page = (REPOSITORY / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert page == reference(), "python -m icot.config.reference > docs/configuration.md"


def sections():
    waiting = [*SCHEMAS.values(), *(o for options in SECTIONS.values() for o in options.values())]
    while waiting:
        section = waiting.pop()
        yield section
        waiting += filter(None, map(inner_section, section.model_fields.values()))


@pytest.mark.parametrize("section", sorted(set(sections()), key=lambda s: s.__name__))
def test_every_key_is_described(section):
    assert section.__doc__
    missing = [name for name, field in section.model_fields.items() if not field.description]
    assert missing == []
    page = reference()
    for name, field in section.model_fields.items():
        if inner_section(field) is None and name not in ("task", "schedule", "optimizer"):
            key = field.alias or name
            assert f"{key}` |" in page
