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
    with tempfile.TemporaryDirectory() as folder:
        outputs = [Path(folder) / name for name in ("stdout", "stderr")]
        arguments = (module, list(overrides), str(cwd), variables, [str(o) for o in outputs])
        process = _server().Process(target=_run, args=arguments)
        process.start()
        process.join(SECONDS)
        if process.exitcode is None:
            os.killpg(process.pid, signal.SIGKILL)
            raise subprocess.TimeoutExpired([module, *overrides], SECONDS)
        printed = [path.read_text(encoding="utf-8") for path in outputs]
    return subprocess.CompletedProcess([module, *overrides], process.exitcode, *printed)


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
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
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
