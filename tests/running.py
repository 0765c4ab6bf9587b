"""The program's commands in processes of their own that need not import everything anew.

A server imports the libraries once and forks for each command, as ``python -m icot.NAME`` would run
it from there on: its own directory, arguments, environment and exit code.
"""

import atexit
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
SECONDS = 300
# What a training or an evaluation imports before it does anything.
PRELOADED = (
    "hydra.main",
    "lightning",
    "rich.live",
    "torch",
    "transformers.models.gpt2.modeling_gpt2",
    "icot.evaluation.scoring",
    "icot.training.datamodule",
)


def icot(
    command: str, *overrides: str, cwd: Path, forked: bool = True, **environment: str
) -> subprocess.CompletedProcess[str]:
    """``python -m icot.COMMAND OVERRIDES`` in ``cwd``, to its end.

    Args:
        forked: from the server; else by a new interpreter, as what starts processes itself needs.
    """
    module = f"icot.{command}"
    variables = {**os.environ, "PYTHONPATH": str(REPOSITORY), "COLUMNS": "120", **environment}
    if not forked:
        return subprocess.run(
            [sys.executable, "-m", module, *overrides],
            cwd=cwd,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            env=variables,
        )
    process = Forked(module, overrides, cwd, variables)
    try:
        code = process.wait(SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    return subprocess.CompletedProcess(process.args, code, process.stdout, process.stderr)


def assert_refused(done: subprocess.CompletedProcess[str], said: str) -> None:
    """A command has ended with a message that tells the user what to do, and no traceback."""
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr


class Forked:
    """A command in a process of the server's; what of ``subprocess.Popen`` the tests use.

    Args:
        module: dotted name.
        overrides: the command line.
        cwd: the directory.
        variables: of the environment.
        merged: standard error is written where standard output is.
    """

    def __init__(
        self,
        module: str,
        overrides: Sequence[str],
        cwd: Path,
        variables: Mapping[str, str],
        merged: bool = False,
    ) -> None:
        self.args = [module, *overrides]
        self._folder = tempfile.TemporaryDirectory()
        names = ("stdout", "stdout" if merged else "stderr")
        self._outputs = [Path(self._folder.name) / name for name in names]
        arguments = (
            module, list(overrides), str(cwd), dict(variables), [str(o) for o in self._outputs]
        )  # fmt: skip
        self._process = _server().Process(target=_run, args=arguments)
        self._process.start()
        self.pid: int = self._process.pid

    def poll(self) -> int | None:
        """The exit code, minus the number of the signal that ended it; None before the end."""
        code: int | None = self._process.exitcode
        return code

    def wait(self, timeout: float | None = None) -> int:
        """The exit code at the end."""
        self._process.join(timeout)
        code = self.poll()
        if code is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return code

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """All that was printed, at the end."""
        self.wait(timeout)
        return self.stdout, self.stderr

    @property
    def returncode(self) -> int | None:
        """As of ``poll``."""
        return self.poll()

    @property
    def stdout(self) -> str:
        """What was printed so far."""
        return self._text(self._outputs[0])

    @property
    def stderr(self) -> str:
        """What was written to standard error so far."""
        return self._text(self._outputs[1])

    def send_signal(self, number: int) -> None:
        """Send a signal to the process alone."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)

    @staticmethod
    def _text(path: Path) -> str:
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""


@cache
def _server() -> Any:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, *PRELOADED])
    return context


def _run(
    module: str, arguments: list[str], cwd: str, variables: dict[str, str], outputs: list[str]
) -> None:
    """In the forked process: become the command."""
    os.setsid()
    for number, path in enumerate(outputs, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    sys.stdout, sys.stderr = (os.fdopen(n, "w", encoding="utf-8", buffering=1) for n in (1, 2))
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(variables)
    sys.argv = [module, *arguments]
    sys.path.insert(0, cwd)
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    finally:
        atexit._run_exitfuncs()


WITHOUT_ICOT = """
import json, sys
class Forbidden:
    def find_spec(self, name, path=None, target=None):
        assert name.split(".")[0] != "icot", "icot was imported"
sys.meta_path.insert(0, Forbidden())
"""


def alone(code: str, folder: Path) -> str:
    """Run ``code`` in ``folder`` with icot forbidden; what it prints."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_ICOT + code],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        env={**environment, "HF_HUB_OFFLINE": "1"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
