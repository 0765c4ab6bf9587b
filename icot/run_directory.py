"""What a run directory holds from the start: enough to know how to make it again."""

import json
import platform
import shlex
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

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
CONFIG, COMMAND, ENVIRONMENT = "config.yaml", "command.txt", "environment.json"
PREDICTIONS = "predictions.jsonl"
MODEL, CHECKPOINTS = "model", "checkpoints"  # folders


def describe(folder: Path, cfg: DictConfig, facts: dict[str, Any]) -> None:
    """Write the resolved configuration, the command line, and what it runs on."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG).write_text(OmegaConf.to_yaml(cfg, resolve=True))
    module = getattr(getattr(sys.modules["__main__"], "__spec__", None), "name", None)
    program = ["python", "-m", module] if module else ["python", sys.argv[0]]
    (folder / COMMAND).write_text(shlex.join([*program, *sys.argv[1:]]) + "\n")
    environment = {
        **facts,
        **machine(),
        "packages": {name: _version(name) for name in PACKAGES},
    }
    (folder / ENVIRONMENT).write_text(json.dumps(environment, indent=2) + "\n")


def machine() -> dict[str, Any]:
    """What a measurement was made with: the source's revision, the interpreter, the hardware."""
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
