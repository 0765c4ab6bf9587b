"""Methods are found by name, also in a package of one's own."""

from dataclasses import replace

import pytest

from icot.commands import build_method
from icot.config.options import MethodConfig
from icot.errors import ConfigError
from icot.methods.base import Method, method_named
from icot.methods.icot_si.record import METHOD


def test_a_method_is_found_by_its_folder_or_by_a_dotted_name(tmp_path, monkeypatch):
    assert method_named("icot_si") is METHOD
    assert method_named("icot.methods.icot_si.record.METHOD") is METHOD
    (tmp_path / "my_method.py").write_text(
        "from dataclasses import replace\n"
        "from icot.methods.icot_si.record import METHOD as BASE\n"
        "METHOD = replace(BASE, name='mine', ignores=('schedule',))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    mine = method_named("my_method.METHOD")
    assert isinstance(mine, Method)
    assert (mine.name, mine.ignores) == ("mine", ("schedule",))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("icot_so", "there is no module icot.methods.icot_so.record"),
        ("icot.methods.icot_si.record.NOTHING", "has no NOTHING"),
        (
            "icot.methods.icot_si.record.Options",
            "is not a record, an object of icot.methods.base.Method",
        ),
    ],
)
def test_a_wrong_name_is_one_clear_error(name, said):
    with pytest.raises(ConfigError, match=said):
        method_named(name)


def test_what_a_method_does_not_heed_may_not_be_set(monkeypatch):
    deaf = replace(METHOD, name="deaf", ignores=("schedule",))
    monkeypatch.setattr(build_method, "method_named", lambda name: deaf)
    for override in ("schedule=no_cot", "schedule.side=right", "+schedule.side=right"):
        with pytest.raises(ConfigError, match="method deaf does not use schedule"):
            build_method.build_method(MethodConfig(), [override])
    assert build_method.build_method(MethodConfig(), ["seed=1"])[0] is deaf
    with pytest.raises(ConfigError, match=r"there is no method\.share"):
        build_method.build_method(MethodConfig(share=1), [])
