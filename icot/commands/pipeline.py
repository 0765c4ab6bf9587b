"""``python -m icot.pipeline``: the steps of a method one after the other, each an ordinary run.

    python -m icot.pipeline +pipeline=icot_kd task=mult4 model=gpt2
    python -m icot.pipeline +pipeline=icot_kd task=mult4 model=gpt2 hydra/launcher=slurm

Checks the command lines of all steps, then runs each in a process of its own as soon as the steps
that it needs have finished. What is finished is skipped, so the same command goes on.
"""

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from rich.console import Console

from icot.commands.build_method import settle_method
from icot.commands.slurm_jobs import describe_job, submit_steps
from icot.config.command_line import PIPELINE, CommandLine, compose_config
from icot.config.entry_points import PipelineConfig
from icot.config.identity import digest, short_hash
from icot.config.schema import TrainConfig
from icot.config.section import Section
from icot.errors import ConfigError, ModelError, RunError
from icot.reporting.tables import print_pipeline
from icot.runs.layout import STEPS_INDEX, step_log
from icot.runs.pipeline_index import PipelineIndex, lock_pipeline
from icot.runs.pipelines import Step, plan_steps, raise_mistakes
from icot.system.signals import SIGNALS, exit_code

POLL_SECONDS = 0.2
HERE, SLURM = "BasicLauncher", "SlurmLauncher"
VISIBLE = "CUDA_VISIBLE_DEVICES"


def run(cfg: PipelineConfig, command: CommandLine) -> None:
    """Run the steps here, or give them to a cluster.

    Raises:
        UserError: a mistake in a command line, or a step has failed.
    """
    sources = HydraConfig.get().runtime.config_sources
    folders = [f"file://{s.path}" for s in sources if "command-line" in s.provider]
    steps = plan_steps(cfg.steps, command.for_steps, folders)
    configs = _compose(steps)
    launcher = HydraConfig.get().launcher
    kind = str(launcher["_target_"]).rpartition(".")[2]
    if kind not in (HERE, SLURM):
        raise ConfigError(
            [
                "hydra/launcher: a pipeline runs here, or with hydra/launcher=slurm; parallel=2 "
                "runs two steps side by side"
            ]
        )
    name = command.choices.get(PIPELINE, PIPELINE)
    own = [(s.name, s.command, digest(configs[s.name])) for s in steps]
    default = Path(cfg.paths.output_root) / "pipelines" / f"{name}_{short_hash(own)}"
    folder = default if cfg.out is None else Path(cfg.out)
    if cfg.dry_run:
        _show(folder, steps, launcher if kind == SLURM else None)
        return
    with lock_pipeline(folder):
        index = PipelineIndex(folder, steps, configs)
        try:
            if kind == SLURM:
                submit_steps(index, launcher, name)
            else:
                _run_here(
                    index, devices_side_by_side(cfg.parallel, torch.cuda.device_count(), configs)
                )
        finally:
            print_pipeline(Console(), list(index.rows.values()))
            print(f"Pipeline: {folder / STEPS_INDEX}", flush=True)


def _compose(steps: Sequence[Step]) -> dict[str, Section]:
    """The configuration of each step; a mistake would show only when the step begins, days later.

    Raises:
        ConfigError: a method refuses its keys, its schedule or the step that it builds on.
        UserError: what a step names cannot be read.
    """
    found: dict[str, list[str]] = {}
    configs: dict[str, Section] = {}
    for step in steps:
        overrides = step.words(Path())
        configs[step.name] = cfg = compose_config(step.command, overrides)
        if isinstance(cfg, TrainConfig):
            needed = {name: configs[name] for name in step.needs}
            planned = {n: c for n, c in needed.items() if isinstance(c, TrainConfig)}
            try:
                settle_method(cfg, overrides, planned)
            except ModelError:
                continue  # its tokenizer is not here; the first step says so, a dry run need not
            except ConfigError as error:
                for mistake in error.mistakes:
                    found.setdefault(mistake, []).append(step.name)
    raise_mistakes(found, len(steps))
    return configs


def _show(folder: Path, steps: Sequence[Step], launcher: Any) -> None:
    """Print what would be done."""
    for step in steps:
        after = f", after {' and '.join(step.needs)}" if step.needs else ""
        print(f"# {step.name}{after}")
        if launcher is not None:
            print(describe_job(launcher, step))
        print(step.program(folder))


def devices_side_by_side(
    parallel: int | None, count: int, configs: Mapping[str, Section]
) -> list[str | None]:
    """The GPU of each step that may run at a time; None leaves a step all that there are.

    Args:
        parallel: steps at a time; None is one for each GPU where each step uses one.
        count: GPUs that this process sees.
        configs: of the steps.
    """
    alone = all(c.trainer.devices == 1 for c in configs.values() if isinstance(c, TrainConfig))
    side_by_side = parallel or (max(1, count) if alone else 1)
    if side_by_side == 1 or not count or not alone:
        return [None] * side_by_side
    gpus = (os.environ.get(VISIBLE) or ",".join(map(str, range(count)))).split(",")
    return [gpus[i % count] for i in range(side_by_side)]


def _run_here(index: PipelineIndex, devices: list[str | None]) -> None:
    """Run the steps that have not finished, side by side where there are several devices.

    Raises:
        RunError: one has failed; those beside it have been waited for.
    """
    for name in index.steps:
        if index.is_finished(name):
            _tell(index, name)
    waiting = [name for name in index.steps if not index.is_finished(name)]
    running: dict[str, tuple[subprocess.Popen[bytes], str | None]] = {}
    failure = ""
    try:
        while running or (waiting and not failure):
            for name in list(waiting):
                open_ = {*waiting, *running}
                if devices and not failure and not open_ & set(index.steps[name].needs):
                    waiting.remove(name)
                    device = devices.pop(0)
                    running[name] = _start(index, name, device), device
            time.sleep(POLL_SECONDS)
            for name, (process, device) in list(running.items()):
                if (code := process.poll()) is not None:
                    del running[name]
                    devices.append(device)
                    failure = failure or _end(index, name, code)
    finally:  # a signal ends this process; its steps save what they have
        for process, _ in running.values():
            process.terminate()
        for process, _ in running.values():
            process.wait()
    if failure:
        raise RunError(failure)


def _start(index: PipelineIndex, name: str, device: str | None) -> "subprocess.Popen[bytes]":
    """Start a step, its output at the end of its log."""
    step, log = index.steps[name], step_log(index.folder, name)
    print(f"{name}: begins; its output is in {log}", flush=True)
    index.begin(name)
    variables = {**os.environ, "HYDRA_FULL_ERROR": "1"}  # the log is to name the exception last
    if device is not None:
        variables[VISIBLE] = device
    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", f"icot.{step.command}", *step.words(index.folder)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=variables,
        )


def _end(index: PipelineIndex, name: str, code: int) -> str:
    """Write down that a step has ended; what has gone wrong, or ""."""
    log = step_log(index.folder, name)
    if code in {exit_code(number) for number in SIGNALS}:
        index.begin(name)
        return f"the step {name} was interrupted; the same command goes on. Its log: {log}"
    error = ""
    if code:
        how = f"killed by signal {-code}" if code < 0 else f"exit code {code}"
        error = f"{_last_line(log)} ({how})"
    elif not index.steps[name].is_finished(index.folder):
        error = "it ended without its result"
    index.end(name, error)
    _tell(index, name)
    return error and f"the step {name} has failed: {error}\nIts log: {log}"


def _tell(index: PipelineIndex, name: str) -> None:
    row = index.rows[name]
    print(f"{name}: {row['state']}{row['result'] and ', ' + row['result']}", flush=True)


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "nothing was printed")
