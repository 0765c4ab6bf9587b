"""Small runs in processes of their own, and what of two runs is not the same."""

import csv
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tests.running import Forked, icot
from tests.small import SMALL

REPOSITORY = Path(__file__).resolve().parents[2]
# Dropout and offsets, so that random draws matter; every step in the metrics.
BASE = (
    *SMALL,
    "model.config.resid_pdrop=0.1",
    "model.config.embd_pdrop=0.1",
    "trainer.max_steps=-1",
    "trainer.max_epochs=4",
    "trainer.log_every_n_steps=1",
    "checkpoints.every_steps=3",
    "paths.cache_dir=cache",
)
LINEAR = ("schedule=icot_si", "schedule.tokens_per_epoch=4", "schedule.smoothing_lambda=0.5")
LONG = ("task.train_size=800", "trainer.max_epochs=150", "validation.examples=10")
SECONDS = 1800  # after which a process hangs


@dataclass
class Outcome:
    """What an experiment has tried and what went wrong.

    Attributes:
        name: for the table.
        tried: how often.
        lost: one line for each time that something was lost or not as it should be.
        note: figures worth telling.
    """

    name: str
    tried: int
    lost: list[str]
    note: str = ""


Process = subprocess.Popen[str] | Forked


def make_overrides(*overrides: str) -> tuple[str, ...]:
    """The overrides of a small run: linear removal, unless ``overrides`` choose a schedule."""
    linear = () if any(text.startswith("schedule=") for text in overrides) else LINEAR
    return (*BASE, *linear, *overrides)


def start(
    folder: Path,
    *overrides: str,
    command: str = "train",
    preexec: Callable[[], None] | None = None,
    forked: bool = True,
    **environment: str,
) -> Process:
    """``python -m icot.COMMAND`` in ``folder``, as the leader of a process group of its own.

    Args:
        preexec: called in the new process first; needs a new interpreter.
        forked: from the server of ``tests.running``. By a new interpreter where a command starts
            processes itself, or where the process as a whole is measured.
    """
    variables = {
        **os.environ,
        "PYTHONPATH": str(REPOSITORY),
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        **environment,
    }
    if forked and preexec is None and "trainer=ddp" not in overrides:
        return Forked(f"icot.{command}", overrides, folder, variables, merged=True)
    return subprocess.Popen(
        [sys.executable, "-m", f"icot.{command}", *overrides],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        preexec_fn=preexec,
        env=variables,
    )


def finish(process: Process, seconds: float = SECONDS) -> tuple[int, str]:
    """The exit code and all that was printed."""
    try:
        printed, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        kill(process)
        printed, _ = process.communicate()
        return -signal.SIGKILL, f"{printed}\n(did not end within {seconds} s)"
    assert process.returncode is not None
    return process.returncode, printed


def complete(
    folder: Path, *overrides: str, command: str = "train", **environment: str
) -> tuple[int, str]:
    """Run a command to the end."""
    return finish(start(folder, *overrides, command=command, **environment))


def kill(process: Process, number: int = signal.SIGKILL) -> None:
    """Send a signal to all processes of a run."""
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:  # it is gone, or has no group of its own yet
        with suppress(ProcessLookupError):
            process.send_signal(number)


def undisturbed(folder: Path, name: str, *overrides: str) -> Path:
    """A run to compare with, made once."""
    place = folder / name
    if not (place / "summary.json").is_file():
        code, printed = complete(folder, *make_overrides(*overrides), f"hydra.run.dir='{name}'")
        assert code == 0, printed
    return place


def assert_resumes_exactly(folder: Path, *overrides: str) -> None:
    """A run of 40 updates that goes on to 60 equals ``run``, which has 60 in one piece."""
    for steps, settings in (
        (40, (*overrides, "hydra.run.dir=two")),
        (60, ("paths.cache_dir=cache", "resume=two")),
    ):
        done = icot("train", *settings, f"trainer.max_steps={steps}", cwd=folder)
        assert done.returncode == 0, done.stderr
    assert differences(folder / "run", folder / "two") == []


def differences(one: Path, two: Path) -> list[str]:
    """Where two runs are not the same: weights, moments, stage, counters, metrics rows, stages.

    Wall time alone may differ.
    """
    found = []
    contents = [
        dict(_leaves(torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)))
        for run in (one, two)
    ]
    for key in sorted({*contents[0], *contents[1]}):
        a, b = (content.get(key) for content in contents)
        same = torch.equal(a, b) if torch.is_tensor(a) and torch.is_tensor(b) else a == b
        if not same and not key.endswith("seconds"):
            found.append(f"last.ckpt {key}")
    for name in ("metrics.csv", "predictions.jsonl"):  # an emulator predicts nothing
        if _bytes(one / name) != _bytes(two / name):
            found.append(name)
    if _stages(one) != _stages(two):
        found.append("stages.csv")
    return [f"{two.name}: {what} differs" for what in found]


def steps_logged(run: Path) -> int:
    """Rows of metrics.csv, 0 where there is none."""
    path = run / "metrics.csv"
    return path.read_bytes().count(b"\n") if path.is_file() else 0


def wait_for_training(process: Process, run: Path) -> None:
    """Until the run has logged something new."""
    deadline = time.monotonic() + 120
    path = run / "metrics.csv"
    begun = path.stat().st_mtime_ns if path.is_file() else 0
    rows = steps_logged(run)
    while process.poll() is None and time.monotonic() < deadline:
        if path.is_file() and path.stat().st_mtime_ns != begun and steps_logged(run) != rows:
            return
        time.sleep(0.02)


def _leaves(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, f"{prefix}/{key}")
    elif isinstance(value, list | tuple):
        for i, inner in enumerate(value):
            yield from _leaves(inner, f"{prefix}/{i}")
    else:
        yield prefix, value


def _bytes(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def _stages(run: Path) -> list[dict[str, str]]:
    with (run / "stages.csv").open() as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]
