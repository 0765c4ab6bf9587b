"""Kills of a whole pipeline, in all its steps; it goes on and ends as an undisturbed one."""

import random
import signal
import time
from pathlib import Path

from icot.runs.pipeline_index import read_steps
from tests.chaos.harness import SECONDS, Outcome, Process, differences, finish, start
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
    """Kill pipelines and their steps, at random moments after each start.

    One that ends before it is killed is compared with an undisturbed one, and the next is begun.
    """
    name = "SIGKILL at random moments of icot.pipeline and its steps, started again each time"
    reference = folder / "undisturbed pipeline"
    begun = time.monotonic()
    code, printed = finish(begin(folder, reference.name))
    assert code == 0, printed
    seconds = time.monotonic() - begun
    rng = random.Random(0)
    struck: dict[str, int] = {}
    lost: list[str] = []
    kills = ended = 0
    while kills < count or (folder / f"killed {ended}").is_dir():
        killed = folder / f"killed {ended}"
        limit = rng.uniform(0, seconds / 2) if kills < count else SECONDS
        code, printed = finish(begin(folder, killed.name), limit)
        if code == -signal.SIGKILL and kills < count:
            kills += 1
            rows = read_steps(killed).items()
            at = " ".join(step for step, row in rows if row["state"] == "unfinished")
            struck[at] = struck.get(at, 0) + 1
            continue
        if code != 0:
            lost.append(f"{name}: {code}: {printed[-500:]}")
            break
        lost += [m for step in STEPS for m in differences(reference / step, killed / step)]
        ended += 1
    at_steps = ", ".join(
        f"{step or 'at the start or between steps'}: {struck[step]}" for step in struck
    )
    return Outcome(name, kills, lost, f"{ended} pipelines; {at_steps}")
