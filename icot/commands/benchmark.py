"""``python -m icot.benchmark``: time icot and a plain baseline alternately, in one process.

    python -m icot.benchmark what=step task=mult4 model=gpt2 model.pretrained=false
    python -m icot.benchmark what=validation run_dir=outputs/RUN
    python -m icot.benchmark what=data task=mult4 model=gpt2

The baseline is ``benchmarks/plain_loop.py``; each benchmark is a module beside it. Prints a
table and writes ``benchmark-WHAT.json``.
"""

import json
from importlib import import_module
from pathlib import Path

from rich.console import Console

from icot.commands.quiet import quiet_libraries
from icot.config.command_line import CommandLine
from icot.config.entry_points import BenchmarkConfig
from icot.errors import RunError
from icot.reporting.tables import print_benchmark
from icot.system.files import check_writable, write_text
from icot.system.hardware import keep_freed_memory
from icot.system.machine import machine


def run(cfg: BenchmarkConfig, command: CommandLine) -> None:
    """Measure what ``cfg.what`` names."""
    kind = import_module(f"icot.benchmarks.{cfg.what}")
    quiet_libraries()  # what has been imported by now
    keep_freed_memory()
    folder = Path(cfg.out or ".")
    check_writable(folder)  # before the measurement, which takes minutes
    measured = kind.measure(cfg, command)
    record = {"what": cfg.what, **measured, **machine()}
    path = folder / f"benchmark-{cfg.what}.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(record, indent=2) + "\n")
    except OSError as error:
        raise RunError(f"{path}: cannot be written ({error.strerror}).") from None
    console = Console()
    print_benchmark(console, record)
    console.print(f"Written: {path}", highlight=False, soft_wrap=True)
