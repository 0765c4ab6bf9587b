"""A long run of tiny steps must not grow."""

import statistics
import time
from pathlib import Path

from tests.chaos.harness import Outcome, finish, make_overrides, start, steps_logged

EVERY = 100  # steps between two rows of the metrics
MOST = 0.05  # growth that is allowed


def memory(folder: Path, steps: int = 20_000, first: int = 2_000) -> Outcome:
    """Resident memory at the end against that after ``first`` steps."""
    process = start(
        folder,
        *make_overrides("schedule=explicit"),
        "trainer.max_epochs=-1",
        f"trainer.max_steps={steps}",
        f"trainer.log_every_n_steps={EVERY}",
        "checkpoints.every_steps=500",
        "hydra.run.dir=long",
        forked=False,
    )
    samples: list[tuple[int, float]] = []
    while process.poll() is None:
        try:
            status = Path(f"/proc/{process.pid}/status").read_text()
        except OSError:
            break
        resident = [line.split()[1] for line in status.splitlines() if line.startswith("VmRSS")]
        if resident:
            samples.append((_step(folder / "long"), int(resident[0]) / 1024))
        time.sleep(0.1)
    code, printed = finish(process)
    if code != 0:
        return Outcome("resident memory", 1, [printed[-500:]])
    early = statistics.median(mb for step, mb in samples if first <= step < 1.2 * first)
    late = statistics.median(mb for step, mb in samples if step >= 0.98 * steps)
    note = f"{early:.1f} MB after {first:,} steps, {late:.1f} MB after {steps:,}"
    grown = [note] if late > (1 + MOST) * early else []
    return Outcome(f"resident memory over {steps:,} steps", 1, grown, note)


def _step(run: Path) -> int:
    """The newest step that the metrics know."""
    if not steps_logged(run):
        return 0
    last = (run / "metrics.csv").read_text().splitlines()[-1].split(",")[0]
    return int(last) if last.isdecimal() else 0
