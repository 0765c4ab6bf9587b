"""docs/tutorial: the commands of each page are run one after the other, at small sizes.

What needs a cluster or several GPUs is run on one CPU, as one of its processes would be.
"""

import os
import re
import shlex
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY, icot

PAGES = sorted((REPOSITORY / "docs" / "tutorial").glob("[0-9]*.md"))
# A file with its name above it, or a block of commands or Python.
BLOCK = re.compile(r"(?:^`(\S+)`\n\n)?^```(bash|python)\n(.*?)^```", re.DOTALL | re.MULTILINE)
MODEL = ("model.pretrained=false", "model.tokenizer=symbol", "model.attn_implementation=eager")
MODEL += tuple(f"++model.config.{key}" for key in ("n_layer=1", "n_embd=32", "n_head=2"))
SMALLER = {
    "train": (
        *("task.train_size=200", "task.valid_size=60", "task.test_size=60", "data.batch_size=16"),
        *(*MODEL, "trainer.max_steps=20", "optimizer.decay_steps=0"),
    ),
    "evaluate": ("examples=20", "speed.examples=2", "accelerator=cpu"),
    "probe": ("test_share=0.5", "accelerator=cpu", "causal=10"),
}


def blocks(page: Path) -> list[tuple[str, str, str]]:
    """File name or nothing, language and content of each block that is not output."""
    return BLOCK.findall(page.read_text(encoding="utf-8"))


def run_icot(words: list[str], folder: Path) -> None:
    """A command of icot's, made smaller."""
    command, *overrides = words
    smaller = list(SMALLER.get(command, ()))
    if "trainer.devices=4" in overrides:
        overrides.remove("trainer=ddp")
        smaller += ["trainer.devices=1"]
    if "trainer=ddp" in overrides:
        smaller += ["trainer.precision=32-true"]
    elif command == "train":
        smaller += ["trainer=cpu"]
    if command == "train" and not any(o.startswith(("schedule=", "model=")) for o in overrides):
        smaller += ["schedule.patience=5"]  # the adaptive schedule goes through every stage
    if "layers=[2,3]" in overrides:
        smaller += ["layers=[1]"]  # of one
    if "dry_run=true" not in overrides:
        overrides = [o for o in overrides if o != "hydra/launcher=slurm"]
    done = icot(command, *overrides, *smaller, cwd=folder, forked="trainer=ddp" not in overrides)
    assert done.returncode == 0, f"{words}: {done.stderr}"


def run_line(line: str, folder: Path) -> None:
    words = shlex.split(line.removeprefix("srun "))
    if words[:2] == ["python", "-m"]:
        run_icot([words[2].removeprefix("icot."), *words[3:]], folder)
        return
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(
        ["bash", "-c", line], cwd=folder, env={**os.environ, "PATH": path}, check=True, timeout=60
    )


def follow(page: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a reader does with a page."""
    monkeypatch.chdir(folder)
    names: dict = {}
    for file, language, content in blocks(page):
        if language == "bash":
            for line in content.splitlines():
                if line and not line.startswith("#"):
                    run_line(line, folder)
        elif file:
            (folder / file).write_text(content, encoding="utf-8")
        else:
            exec(content, names)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder in which the first page has been followed."""
    folder = tmp_path_factory.mktemp("tutorial")
    with pytest.MonkeyPatch.context() as monkeypatch:
        follow(PAGES[0], folder, monkeypatch)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES[1:], ids=lambda page: page.stem)
def test_the_commands_of_a_page_run(page, place, monkeypatch):
    assert any(language == "bash" for _, language, _ in blocks(page))
    follow(page, place, monkeypatch)


def test_the_first_page_ends_without_a_chain(place, capsys):
    rows = (place / "outputs" / "first" / "stages.csv").read_text().splitlines()
    assert [row.split(",")[1] for row in rows] == ["tokens_removed", "0", "12", "24"]


def test_the_pages_are_listed_in_order():
    listed = re.findall(r"\((\d-[\w-]+\.md)\)", (PAGES[0].parent / "README.md").read_text())
    assert listed == [page.name for page in PAGES]
    for page, following in pairwise(PAGES):
        assert f"]({following.name}).\n" in page.read_text().partition("Next: [")[2]
