"""What a run directory holds from the start: enough to know how to make it again."""

import fcntl
import json
import os
import platform
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from icot.errors import RunError
from icot.runs.layout import COMMAND, CONFIG, ENVIRONMENT, LOCK, SUMMARY
from icot.system.files import explained, write_text

PACKAGES = (
    "icot",
    "torch",
    "lightning",
    "transformers",
    "tokenizers",
    "hydra-core",
    "omegaconf",
    "numpy",
)
ROOM = 2**16  # bytes that must be to be had before anything begins
added: list[str] = []  # by this program to its own command line


def describe(folder: Path, cfg: DictConfig, facts: dict[str, Any], step: int) -> None:
    """Write the resolved configuration, the command line, and what it runs on.

    A run that goes on at ``step`` keeps what it was begun with and adds to it.

    Raises:
        RunError: a file cannot be written.
    """
    command = shlex.join(_command()) + "\n"
    environment = {
        **facts,
        "begun": datetime.now().isoformat(timespec="seconds"),
        **machine(),
        "packages": {name: _version(name) for name in PACKAGES},
    }
    path = folder / ENVIRONMENT
    if step and path.is_file():
        begun = read_environment(folder)
        begun.setdefault("resumed", []).append({"step": step, **machine()})
        environment = begun
        command = (folder / COMMAND).read_text(encoding="utf-8") + command
    write_text(path, json.dumps(environment, indent=2) + "\n")
    write_text(folder / COMMAND, command)
    write_text(folder / CONFIG, OmegaConf.to_yaml(cfg, resolve=True))


def read_environment(folder: Path) -> dict[str, Any]:
    """What a run directory says of where it was begun, empty where it does not."""
    return _read_json(folder / ENVIRONMENT)


def read_summary(folder: Path) -> dict[str, Any]:
    """How a run ended, empty where it has not."""
    return _read_json(folder / SUMMARY)


def chosen_options(folder: Path) -> dict[str, str]:
    """The option of each configuration group that a run was begun with, empty where unknown."""
    found = read_environment(folder).get("choices")
    if not isinstance(found, dict) or not (folder / CONFIG).is_file():
        return {}
    return {str(key): str(option) for key, option in found.items()}


def _command() -> list[str]:
    """The command line that this process follows; a sweep's job has one of its own."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    if HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN:
        hydra = HydraConfig.get()
        place = f"hydra.run.dir={Path(hydra.sweep.dir) / hydra.sweep.subdir}"
        job = [str(text) for text in hydra.overrides.task]
        if any(text.startswith("+sweep=") for text in job):  # it chooses the experiment
            kept = [text for text in job if not text.startswith(("+sweep=", "experiment="))]
            job = [f"experiment={hydra.runtime.choices['experiment']}", *kept]
        return ["python", "-m", "icot.train", *job, place]
    module = getattr(getattr(sys.modules["__main__"], "__spec__", None), "name", None)
    program = ["python", "-m", module] if module else ["python", sys.argv[0]]
    return [*program, *sys.argv[1 : len(sys.argv) - len(added)]]


@contextmanager
def locked(folder: Path, wanted: bool = True) -> Iterator[None]:
    """Keep other processes out of a run directory, for as long as this one lives.

    Args:
        folder: the run directory, made if it is not there.
        wanted: False for the further processes of one run, which its first one lets in.

    Raises:
        RunError: another process is at work there, or nothing can be written.
    """
    if not wanted:
        yield
        return
    path = folder / LOCK
    with explained(path):
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
    with os.fdopen(descriptor, "r+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunError(
                f"{folder}: another process is training there ({file.read().strip()}). Wait for "
                "its end or stop it, or name another directory, hydra.run.dir=..."
            ) from None
        except OSError:  # a file system without locks
            pass
        file.truncate()
        file.write(f"process {os.getpid()} on {platform.node()}\n")
        file.flush()
        yield


def check_writable(folder: Path) -> None:
    """Whether files can be made in a folder, or where it would be made.

    Raises:
        RunError: they cannot.
    """
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    with explained(folder), tempfile.TemporaryFile(dir=place) as file:
        file.write(bytes(ROOM))
        file.flush()


def machine() -> dict[str, Any]:
    """What a measurement was made with: the source's revision, the interpreter, the hardware."""
    import torch

    return {
        "git_revision": _git("rev-parse", "HEAD"),
        "git_changes": bool(_git("status", "--porcelain")),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "platform": platform.platform(),
        "processor": _processor(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _git(*arguments: str) -> str | None:
    """What git says of the source tree, None where it is not a checkout."""
    try:
        answer = subprocess.run(
            ["git", *arguments],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
