"""What the documentation tells people to type is valid, and the files it names exist."""

import re
import shlex

import pytest
from hydra import initialize_config_module

from icot.config.command_line import compose_config, mistakes_in, name_folders
from icot.config.entry_points import register_schemas
from icot.config.experiments import CONFIG_MODULE
from icot.reporting.paper import paper_rows
from icot.runs.pipelines import check_steps, plan_steps, split_overrides
from tests.conftest import REPOSITORY

PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
COMMAND = re.compile(r"python -m icot\.([a-z]+)([^\n`|&]*)")
# configuration.md is made from the schema; extending.md has a test that runs what it shows.
OTHERS = {"configuration.md", "extending.md"}
COMMANDS = sorted(
    {
        m.groups()
        for page in PAGES
        if page.name not in OTHERS
        for m in COMMAND.finditer(page.read_text())
    }
)


@pytest.mark.parametrize(("name", "arguments"), COMMANDS)
def test_every_command_composes(name, arguments):
    words = shlex.split(arguments)
    if name == "report":
        words = name_folders([word.strip(".") for word in words])
    overrides = [word for word in words if "=" in word and not word.startswith("-")]
    register_schemas()
    with initialize_config_module(CONFIG_MODULE, version_base="1.3"):
        for_steps = []
        if name == "pipeline":
            overrides, for_steps = split_overrides(overrides)
        assert mistakes_in(overrides, name, multirun="-m" in words) == []
        if name == "pipeline":
            check_steps(plan_steps(compose_config(name, overrides).steps, for_steps))


def test_every_number_of_the_paper_is_in_the_table_with_its_command():
    lines = (REPOSITORY / "docs" / "reproduce.md").read_text().splitlines()
    for row in paper_rows():
        (line,) = [line for line in lines if f"`{row.command}`" in line]
        _, name, number, _, ours, _ = (cell.strip() for cell in line.split("|"))
        assert name.startswith(row.row)
        assert number == row.number
        assert ours.startswith(("**", "not run yet: needs "))


def test_the_readme_has_its_two_commands_and_ci_runs_the_second():
    readme = (REPOSITORY / "README.md").read_text()
    first, second = re.findall(r"```bash\n(python3 -m venv .*)\n```", readme)
    assert first.endswith("pip install -c constraints.txt -e . && python -m icot.train")
    tests = second.partition(".venv/bin/activate && ")[2]
    assert tests in (REPOSITORY / ".ci" / "run").read_text().replace(" -q ", " ")


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\((?!https?://)([^)#]+)\)", page.read_text()):
        assert (page.parent / target).exists(), target
