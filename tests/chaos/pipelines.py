"""Kills of a whole pipeline, in all its steps; it goes on and ends as an undisturbed one."""

import random
import time
from pathlib import Path

from icot.runs.pipeline_index import read_steps
from tests.chaos.harness import SECONDS, Outcome, Process, differences, finish, kill, start
from tests.small import SMALL

STEPS = ("teacher", "student", "emulator", "coupled")
SMALL_PIPELINE = (
    "+pipeline=icot_kd",
    *SMALL,
    "model.config.n_layer=3",
    "paths.cache_dir=cache",
    "trainer.max_steps=24",
    "trainer.log_every_n_steps=1",
    "checkpoints.every_steps=3",
)


def begin(folder: Path, name: str, *overrides: str) -> Process:
    """Start the pipeline in the directory ``name``."""
    words = (*SMALL_PIPELINE, *overrides, f"out='{name}'")
    return start(folder, *words, command="pipeline", forked=False)


def kills_of_pipeline(folder: Path, count: int = 20) -> Outcome:
    """Kill the pipeline and its steps again and again, at random moments of its next steps."""
    name = "SIGKILL at random moments of icot.pipeline, started again each time"
    reference, killed = folder / "undisturbed pipeline", folder / "killed pipeline"
    begun = time.monotonic()
    code, printed = finish(begin(folder, reference.name))
    assert code == 0, printed
    seconds = time.monotonic() - begun
    rng = random.Random(0)
    struck: dict[str, int] = {}
    lost: list[str] = []
    for number in range(count):
        # Enough time to come further, so that the kills are spread over all steps.
        progress, needed = number * 4 // count, time.monotonic() + SECONDS
        process = begin(folder, killed.name)
        while process.poll() is None and time.monotonic() < needed:
            rows = read_steps(killed)
            if sum(row["state"] == "finished" for row in rows.values()) >= progress:
                break
            time.sleep(0.05)
        time.sleep(rng.uniform(0, seconds / 4))
        if process.poll() is not None:
            lost.append(f"{name}, {number}: ended by itself: {finish(process)[1][-500:]}")
            break
        kill(process)
        finish(process)
        at = [n for n, row in read_steps(killed).items() if row["state"] == "unfinished"]
        struck[" ".join(at)] = struck.get(" ".join(at), 0) + 1
    code, printed = finish(begin(folder, killed.name))
    if code != 0:
        lost.append(f"{name}: {code}: {printed[-500:]}")
    else:
        lost += [m for step in STEPS for m in differences(reference / step, killed / step)]
    note = ", ".join(f"{step or 'between steps'}: {n}" for step, n in struck.items())
    return Outcome(name, count, lost, note)
