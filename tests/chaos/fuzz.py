"""Coverage-guided fuzzing of the parsers with atheris (``pip install 'icot[fuzz]'``).

    python -m tests.chaos fuzz --seconds 600      each parser so long
    python -m tests.chaos.fuzz text FOLDER --seconds 600

A parser ends with a result or with one of icot's own errors; anything else is a finding. A process
fuzzes one parser until its time is over or it has found something.
"""

import argparse
import importlib
import re
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tests.chaos.harness import REPOSITORY, Outcome

PARSERS = {"text": "text files", "predictions": "predictions", "overrides": "overrides"}
# What is instrumented: new branches in these guide the search.
GUIDING = ("icot.tasks", "icot.evaluation.predictions", "icot.evaluation.failures", "icot.config")


def fuzz(folder: Path, seconds: int = 600) -> list[Outcome]:
    """Fuzz every parser, each in a process of its own."""
    if find_spec("atheris") is None:
        return [Outcome("coverage-guided fuzzing", 0, [], "atheris is not installed")]
    return [_fuzz(name, folder / name, seconds) for name in PARSERS]


def _fuzz(name: str, folder: Path, seconds: int) -> Outcome:
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-m", "tests.chaos.fuzz", name, str(folder), "--seconds", str(seconds)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        errors="replace",
    )
    printed = done.stdout + done.stderr
    progress = re.findall(r"^#(\d+)\s.*?cov: (\d+)", printed, flags=re.MULTILINE)
    tried, covered = map(int, progress[-1]) if progress else (0, 0)
    lost = (
        [] if done.returncode == 0 else [f"{name}, exit code {done.returncode}: {printed[-3000:]}"]
    )
    note = f"{seconds:,} s, {covered:,} branches reached"
    return Outcome(f"coverage-guided fuzzing (atheris): {PARSERS[name]}", tried, lost, note)


def _seeds(inputs: Any, name: str) -> list[bytes]:
    """Inputs to begin with."""
    if name == "text":
        return [b"1 2 * 3 4||5 6 #### 7 8\n", b"a b||<<1+1=2>> #### 1,000\r\n||\n", b"a\0b c\0d"]
    if name == "predictions":
        return list(inputs.PREDICTIONS)
    return [b"\0" + text.encode() for text in inputs.OVERRIDES]


def _checks(inputs: Any, name: str, folder: Path) -> Callable[[bytes], object]:
    """What is done with one input."""
    if name == "text":
        return lambda data: inputs.check_text_file(data, folder)
    if name == "predictions":
        return lambda data: inputs.check_predictions(data, folder)
    commands = tuple(inputs.SCHEMAS)

    def check(data: bytes) -> None:
        texts = data[1:].decode(errors="replace").split("\0")
        inputs.check_overrides(texts, commands[data[0] % len(commands)] if data else "train")

    return check


def main() -> None:
    """Fuzz one parser; exit code 0 if nothing was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=PARSERS)
    parser.add_argument("folder", type=Path, help="for the inputs that reach something new")
    parser.add_argument("--seconds", type=int, default=600)
    arguments = parser.parse_args()
    atheris: Any = importlib.import_module("atheris")
    with atheris.instrument_imports(include=list(GUIDING)):
        inputs = importlib.import_module("tests.chaos.inputs")
    corpus, work = arguments.folder / "corpus", arguments.folder / "work"
    for place in (corpus, work):
        place.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(_seeds(inputs, arguments.name)):
        (corpus / f"seed-{number}").write_bytes(seed)
    check = _checks(inputs, arguments.name, work)
    options = [
        f"-max_total_time={arguments.seconds}", f"-artifact_prefix={arguments.folder}/",
        "-seed=1", "-max_len=400", "-timeout=120", "-rss_limit_mb=4096",
    ]  # fmt: skip
    with inputs.hydra():
        atheris.Setup([sys.argv[0], *options, str(corpus)], check)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
