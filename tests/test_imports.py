"""Imports: layers of the package, and imports at the top of files."""

import ast
import re
import subprocess
import sys

import pytest

from tests.conftest import REPOSITORY

FILES = sorted((REPOSITORY / "icot").rglob("*.py"))
OPTIONAL = {
    *("datasets", "openai", "peft", "sentence_transformers", "submitit", "wandb"),
    "wandb_workspaces",
}
MOST_LINES = 400


def test_a_layer_imports_only_layers_below_it():
    # In a process of its own: import-linter switches off the loggers of the one it runs in.
    code = (
        "from importlinter.cli import lint_imports; raise SystemExit(lint_imports(no_cache=True))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(REPOSITORY)))
def test_imports_stand_at_the_top_but_for_optional_packages(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inner = []
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            for node in ast.walk(function):
                if isinstance(node, ast.Import):
                    inner += [alias.name.split(".")[0] for alias in node.names]
                if isinstance(node, ast.ImportFrom):
                    inner.append((node.module or "").split(".")[0])
    # These bring the optional wandb_workspaces, openai and gradio.
    brings = ("dashboard.py", "build_endpoint.py", "demo.py")
    own = {"icot"} if path.name in brings else set()
    assert set(inner) <= OPTIONAL | own


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(REPOSITORY)))
def test_no_file_has_two_jobs(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MOST_LINES


def test_the_documented_tree_is_the_one_that_exists():
    page = (REPOSITORY / "docs" / "architecture.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"<!-- tree -->\n```\n(.*?)```", page, flags=re.DOTALL)
    documented = set(re.findall(r"^ {4}([\w/]+)/ ", block, flags=re.MULTILINE))
    exist = {
        str(path.parent.relative_to(REPOSITORY / "icot"))
        for path in (REPOSITORY / "icot").rglob("__init__.py")
        if path.parent != REPOSITORY / "icot"
    }
    assert documented == exist
